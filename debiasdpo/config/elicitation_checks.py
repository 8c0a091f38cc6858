"""What is checked of task=elicitation beyond its types, as `config.checks` does for what all jobs have."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from debiasdpo.config.elicitation import NoJudge, PromptsConfig

if TYPE_CHECKING:
    from debiasdpo.config.data import AnyDataConfig
    from debiasdpo.config.elicitation import AnyJudgeConfig, AnyPromptsConfig, ElicitationConfig
    from debiasdpo.config.job import Task
    from debiasdpo.config.method import MethodConfig
    from debiasdpo.config.model import AnyModelConfig
    from debiasdpo.config.rate import RateConfig


def _data_of_the_task(task: "Task", data: "AnyDataConfig | AnyPromptsConfig") -> Iterable[str]:
    prompts = isinstance(data, PromptsConfig)
    if task == "elicitation" and not prompts:
        yield (
            f"data: {data.source} holds documents to rate, and task=elicitation asks prompts; set"
            " data=stereotypes, data=clearbias or data=prompts"
        )
    if task == "rubric_rating" and prompts:
        yield (
            f"data: {data.source} holds prompts that elicit, and task=rubric_rating rates documents; set"
            " task=elicitation, or data=simulated"
        )


def _judge_of_the_task(task: "Task", judge: "AnyJudgeConfig") -> Iterable[str]:
    if task == "rubric_rating" and not isinstance(judge, NoJudge):
        yield "judge: only task=elicitation has one; set task=elicitation, or judge=none"


def _only_measured(task: "Task", method: "MethodConfig") -> Iterable[str]:
    if task == "elicitation" and method.name != "none":
        yield (
            f"method: {method.name} is about ratings, and task=elicitation measures a model as it is; set"
            " method=none"
        )


def _replies(task: "Task", rate: "RateConfig") -> Iterable[str]:
    if task == "elicitation" and (rate.readout, rate.format) != ("text", "text"):
        yield "rate: a reply to an eliciting prompt is a text; set rate=text and rate.format=text"


def _read_somehow(task: "Task", judge: "AnyJudgeConfig", model: "AnyModelConfig") -> Iterable[str]:
    if task == "elicitation" and isinstance(judge, NoJudge) and model.kind != "local":
        yield (
            f"judge: none labels no reply, and of model.kind={model.kind} the probabilities of options cannot"
            " be read; name a judge, such as judge=openai or judge=self"
        )


def _attacks(
    task: "Task",
    data: "AnyDataConfig | AnyPromptsConfig",
    judge: "AnyJudgeConfig",
    elicitation: "ElicitationConfig",
) -> Iterable[str]:
    if task != "elicitation":
        return
    if elicitation.attacks == "none" and elicitation.variants is not None:
        yield (
            "elicitation.variants: names attacks, and elicitation.attacks=none makes none; set"
            " elicitation.attacks=generated or published, or elicitation.variants=null"
        )
    if elicitation.attacks == "published" and data.source != "clearbias":
        yield (
            f"elicitation.attacks: published ones are those of data=clearbias, and data={data.source} has"
            " none; set elicitation.attacks=generated"
        )
    if elicitation.attacks != "none" and isinstance(judge, NoJudge) and not elicitation.attack_all:
        yield (
            "elicitation.attack_all: which categories are safe only a judge tells; set"
            " elicitation.attack_all=true, or name a judge"
        )
    if (
        elicitation.attacks == "generated"
        and isinstance(judge, NoJudge)
        and any(name.startswith("machine_translation") for name in elicitation.variants or ())
    ):
        yield "elicitation.variants: machine_translation is by the judge, and there is none; name one"
    if elicitation.min_kappa is not None and (
        isinstance(judge, NoJudge) or data.source != "clearbias"
    ):
        yield (
            "elicitation.min_kappa: is of a judge on the control set, which is part of data=clearbias; name a"
            " judge and set data=clearbias, or set elicitation.min_kappa=null"
        )


ELICITATION_CHECKS: tuple[Callable[..., Iterable[str]], ...] = (
    _data_of_the_task,
    _judge_of_the_task,
    _only_measured,
    _replies,
    _read_somehow,
    _attacks,
)
