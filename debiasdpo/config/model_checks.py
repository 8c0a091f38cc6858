"""What is checked of who is asked, beyond the types: the model, its endpoint, and its writer."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from debiasdpo.config.cluster import ClusterConfig
    from debiasdpo.config.job import Task
    from debiasdpo.config.method import MethodConfig
    from debiasdpo.config.model import AnyModelConfig, AnyWriterConfig
    from debiasdpo.config.rate import RateConfig
    from debiasdpo.config.train import TrainConfig


def _trainable_model(
    method: "MethodConfig", train: "TrainConfig", model: "AnyModelConfig"
) -> Iterable[str]:
    if not method.trains:
        return
    if model.kind != "local":
        yield (
            f"method: {method.name} trains weights, and model.kind={model.kind} has none; set method=none"
        )
    elif method.trains_weights and train.adapter == "full" and model.nf4:
        yield (
            "model.nf4: full fine-tuning cannot train 4-bit weights;"
            " set model.nf4=false, or train=qlora"
        )


def _precision(
    model: "AnyModelConfig", method: "MethodConfig", cluster: "ClusterConfig"
) -> Iterable[str]:
    if model.kind != "local":
        return
    cure = "set model.dtype=bfloat16, or float32 for GPUs and CPUs without bfloat16"
    if model.dtype == "auto" and cluster.kind != "local":
        yield (
            "model.dtype: auto asks the machine at which the job begins, and with"
            f" cluster={cluster.kind} that is not the one where it runs; {cure}"
            " (docs/cluster.md, Which GPU)"
        )
    if model.dtype == "float16" and method.trains_weights:
        yield (
            "model.dtype: float16 is too narrow to train in: losses are not scaled, and small gradients"
            f" would be lost; {cure}"
        )


def _writer(
    writer: "AnyWriterConfig",
    model: "AnyModelConfig",
    method: "MethodConfig",
    rate: "RateConfig",
    train: "TrainConfig",
    task: "Task",
) -> Iterable[str]:
    """A server writes the reasoning of pairs, of the weights that are trained here."""
    if writer.kind == "self":
        return
    without = None
    if task == "elicitation":
        without = "task=elicitation has none"
    elif model.kind != "local":
        without = f"model.kind={model.kind} trains on none"
    elif not (method.trains and method.needs_reasoning(rate.readout)):
        without = f"method={method.name} has none with rate.readout={rate.readout}"
    if without is not None:
        yield f"writer: a server writes the reasoning of training pairs, and {without}; set writer=self"
    if method.rounds == 2 and train.adapter == "full":
        yield (
            "writer: the reasoning is of what the first round makes, of which a server takes adapters only;"
            " set writer=self, or train=qlora"
        )
    if writer.adapter is not None:
        yield "writer.adapter: the job sets it where there is one; leave it null"


def _asked_of_endpoints(
    task: "Task", rate: "RateConfig", model: "AnyModelConfig", method: "MethodConfig"
) -> Iterable[str]:
    """What only endpoints do, and what they do not."""
    if model.kind == "local":
        if rate.readout == "samples" and task == "rubric_rating":
            yield (
                "rate.readout: samples is for endpoints; with local weights set rate=expected, which needs no"
                " sampling"
            )
        if rate.temperature is None:
            yield (
                "rate.temperature: null leaves it to an endpoint, and local weights have none of their own;"
                " set rate.temperature=0"
            )
    if rate.readout == "samples" and not rate.draws:
        yield (
            "rate.temperature: at 0 all replies are meant to be one, and rate.readout=samples pays for"
            f" {rate.samples}; set rate.temperature=1, or rate=text"
        )
    if model.kind != "endpoint":
        return
    if rate.readout == "expected" and method.think:
        yield (
            f"rate.readout: method={method.name} has the model reason before it rates, which endpoints do in"
            " text only; set rate=text"
        )
    for name in sorted({"messages", "model", "n", "stream"} & set(model.extra_body)):
        yield f"model.extra_body.{name}: is not yours to set; leave it out"


MODEL_CHECKS: tuple[Callable[..., Iterable[str]], ...] = (
    _trainable_model,
    _precision,
    _writer,
    _asked_of_endpoints,
)
