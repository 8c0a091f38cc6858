"""What is checked of task=elicitation beyond its types, as `config.checks` does for what all jobs have."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from debiasdpo.config.elicitation import NoJudge, PromptsConfig, names_translation

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


def _judge_of_the_task(
    task: "Task", judge: "AnyJudgeConfig", elicitation: "ElicitationConfig"
) -> Iterable[str]:
    if task == "rubric_rating" and elicitation.data is None and not isinstance(judge, NoJudge):
        yield "judge: only task=elicitation has one; set task=elicitation, or judge=none"


def _carried_over(
    task: "Task", method: "MethodConfig", elicitation: "ElicitationConfig"
) -> Iterable[str]:
    """Of a job that rates documents and asks prompts that elicit, before and after its method."""
    if elicitation.data is None:
        return
    if task == "elicitation":
        yield "elicitation.data: task=elicitation has its prompts from data=; set elicitation.data=null"
    elif not method.trains_weights:
        yield (
            f"elicitation.data: method={method.name} leaves the model as it is, so that it elicits the same"
            " before and after; set method=debiasing_dpo or another that trains weights, or task=elicitation"
        )


def _trained_on(
    task: "Task", method: "MethodConfig", elicitation: "ElicitationConfig"
) -> Iterable[str]:
    """Of a job of the task whose method trains on prompts that elicit."""
    if task != "elicitation":
        return
    preferring = method.chosen == "reasoning" and set(method.terms) <= {"dpo", "imitation"}
    if method.name != "none" and not (preferring and method.rounds == 1):
        yield (
            f"method: {method.name} is about ratings, which replies to prompts that elicit are not; set"
            " method=none, or method=dpo_only or bct, which train on the model's own replies"
        )
    elif method.trains_weights and elicitation.train_categories is None:
        yield (
            f"elicitation.train_categories: method={method.name} trains on the prompts of some categories,"
            " and those of the others are assessed; set them, or method=none"
        )
    if method.weigh_by_shift or method.min_shift > 0:
        yield (
            "method: weigh_by_shift and min_shift are about shifts of ratings, which replies to prompts that"
            " elicit have none of; set method.weigh_by_shift=false and method.min_shift=0"
        )
    if names_translation(elicitation.train_attacks):
        yield (
            "elicitation.train_attacks: machine_translation is not learnt from: prompts are translated for"
            " the assessment alone; leave it out"
        )
    if not method.trains_weights and (elicitation.train_categories or elicitation.train_attacks):
        yield (
            "elicitation.train_categories: nothing is trained with"
            f" method={method.name}; set method=dpo_only, or elicitation.train_categories=null and"
            " elicitation.train_attacks=[]"
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


def _judge_temperature(
    judge: "AnyJudgeConfig", model: "AnyModelConfig", elicitation: "ElicitationConfig"
) -> Iterable[str]:
    kind = model.kind if judge.kind == "self" else judge.kind
    if elicitation.judge_temperature is None and kind not in ("none", "endpoint"):
        yield (
            "elicitation.judge_temperature: null leaves it to an endpoint, and a judge of local weights has"
            " none of its own; set elicitation.judge_temperature=0"
        )


def _attacks(
    task: "Task",
    data: "AnyDataConfig | AnyPromptsConfig",
    judge: "AnyJudgeConfig",
    elicitation: "ElicitationConfig",
) -> Iterable[str]:
    prompts = data if task == "elicitation" else elicitation.data
    if prompts is None:
        return
    if elicitation.attacks == "none" and elicitation.variants is not None:
        yield (
            "elicitation.variants: names attacks, and elicitation.attacks=none makes none; set"
            " elicitation.attacks=generated or published, or elicitation.variants=null"
        )
    if elicitation.attacks == "published" and prompts.source != "clearbias":
        yield (
            f"elicitation.attacks: published ones are those of data=clearbias, and data={prompts.source} has"
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
        and names_translation(elicitation.variants or ())
    ):
        yield "elicitation.variants: machine_translation is by the judge, and there is none; name one"
    if elicitation.min_kappa is not None and (
        isinstance(judge, NoJudge) or prompts.source != "clearbias"
    ):
        yield (
            "elicitation.min_kappa: is of a judge on the control set, which is part of data=clearbias; name a"
            " judge and set data=clearbias, or set elicitation.min_kappa=null"
        )


ELICITATION_CHECKS: tuple[Callable[..., Iterable[str]], ...] = (
    _data_of_the_task,
    _judge_of_the_task,
    _carried_over,
    _trained_on,
    _replies,
    _read_somehow,
    _judge_temperature,
    _attacks,
)
