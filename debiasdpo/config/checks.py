"""What is checked of a configuration beyond its types: its keys against each other.

Each check takes the sections it needs, by name, and runs where those are valid; `documents` is the section of
`data` where that is a source of documents. It needs nothing but the
configuration: what also needs a look at the machine is in `jobs.checks`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from debiasdpo.config.context import PLACEBO, statement_problems
from debiasdpo.config.grammar import problems
from debiasdpo.config.model_checks import MODEL_CHECKS
from debiasdpo.config.names import name_problems
from debiasdpo.config.placeholders import of_prompts, of_statements
from debiasdpo.config.rate import JSON_KEYS

if TYPE_CHECKING:
    from debiasdpo.config.context import ContextConfig
    from debiasdpo.config.data import AnyDataConfig
    from debiasdpo.config.job import AuditConfig, Task
    from debiasdpo.config.method import LossConfig, MethodConfig
    from debiasdpo.config.rate import PromptConfig, RateConfig
    from debiasdpo.config.train import TrainConfig

# In levels: what a further level has beside the nearest, e^(-1 / 2w^2), is 0 as a float from here down.
_LEAST_WIDTH = 0.01


def _names(context: "ContextConfig", documents: "AnyDataConfig") -> Iterable[str]:
    for key, names in (
        ("context.categories", context.categories),
        ("data.rubrics", documents.rubrics),
    ):
        yield from (f"{key}: {problem}" for problem in name_problems(names))


def _sides(context: "ContextConfig") -> Iterable[str]:
    """What has no polarity is no social bias, and the placebo is what others are held against."""
    for name, category in context.categories.items():
        placebo = name == PLACEBO
        needed = ("neutral",) if placebo else ("flattering", "unflattering")
        if category.sides != needed:
            needs, has = (" and ".join(f"{s}:" for s in c) for c in (needed, category.sides))
            yield (
                f"context.categories.{name}: {'the placebo' if placebo else 'a category'} needs {needs}"
                f" statements and no others, but has {has or 'none'}"
                + ("" if placebo else f"; neutral: ones belong to the category {PLACEBO}")
            )


def _columns_of_statements(context: "ContextConfig", documents: "AnyDataConfig") -> Iterable[str]:
    """Statements that are made from a column need it, and a place for its value."""
    known = getattr(documents, "group_columns", ())
    for name, category in context.categories.items():
        key = f"context.categories.{name}"
        if category.column is not None and category.column not in known:
            yield (
                f"{key}.column: {category.column!r} is not among data.group_columns; add it there, or remove"
                " the category"
            )
            continue
        for side in category.sides:
            texts = getattr(category, side)
            for text in (*texts.train, *texts.test):
                if ("{value}" in text) != (category.column is not None):
                    what = "has no {value}" if category.column else "has a {value} and no column"
                    yield f"{key}.{side}: {text!r} {what}; write {{value}} exactly where {key}.column is set"


def grammar_problems(context: "ContextConfig") -> Iterable[str]:
    """What keeps grammars from making statements; of the frames, which all share, once."""
    told: set[str] = set()
    for name, category in context.categories.items():
        if category.grammar is None:
            if context.generated and name in context.train_categories:
                yield (
                    f"context.generated: the category {name} is trained on and has no grammar; write"
                    f" context.categories.{name}.grammar, or set context.generated=0"
                )
            continue
        for side in category.sides:
            for problem in problems(category.grammar.rules(context.frames, side), side):
                if problem not in told:
                    told.add(problem)
                    yield f"context.categories.{name}.grammar, {side}: {problem}"


def _audit_categories(audit: "AuditConfig", context: "ContextConfig") -> Iterable[str]:
    unknown = sorted(set(audit.categories or ()) - set(context.categories))
    if unknown:
        yield (
            f"audit.categories: no such category: {', '.join(unknown)};"
            f" there are: {', '.join(sorted(context.categories))}"
        )


def _one_way(method: "MethodConfig") -> Iterable[str]:
    if method.trains and method.changes_prompts:
        yield (
            "method: trains and changes prompts at once, so that no one could tell which of the two did"
            " what; choose one"
        )
    if method.min_shift > 0 and not method.prefers:
        yield (
            f"method.min_shift: filters preference pairs, which method={method.name} does not make;"
            " set method.min_shift=0"
        )
    alone = method.scores_alone.terms
    if method.rounds == 2 and not (alone and len(alone) < len(method.terms)):
        yield (
            "method.rounds: 2 fits scores first, and trains on what comes of it: a method needs terms of"
            " scores (sft, ranking) and others (chosen, consistency, activation); set method.rounds=1"
        )
    if method.weigh_by_shift and not method.prefers:
        yield (
            f"method.weigh_by_shift: weighs preference pairs, which method={method.name} does not make;"
            " set method.weigh_by_shift=false"
        )
    if not method.rejects and method.chosen not in ("reasoning", "rating"):
        yield (
            "method.rejects: false fits what the model said without context, which"
            f" method.chosen={method.chosen or 'null'} is not; set method.chosen=reasoning"
        )
    for key, names in (("sft", method.sft), ("fit", method.fit)):
        if len({*names}) < len(names):
            yield f"method.{key}: names {', '.join(names)}; name each once"
    if method.balanced and not method.sft:
        yield "method.balanced: weighs the SFT term, which method.sft=[] leaves out; set method.sft=[neutral]"
    if method.fit != ("cross_entropy",) and not method.sft:
        yield "method.fit: is about the SFT term, which method.sft=[] leaves out; set method.sft=[neutral]"
    if method.width > 0 and not (method.sft and "cross_entropy" in method.fit):
        yield (
            "method.width: spreads the target of the SFT term's cross-entropy, which this method does not"
            " have; set method.width=0"
        )
    elif 0 < method.width < _LEAST_WIDTH:
        yield (
            f"method.width: {method.width:g} is no width that shows: below {_LEAST_WIDTH:g} levels a target"
            " has no other shares than with 0; set method.width=0, or a larger one"
        )


def _weights(method: "MethodConfig", loss: "LossConfig") -> Iterable[str]:
    names = [f"w_{term}" for term in method.terms]
    if names and not any(getattr(loss, name) for name in names):
        are = {1: "is", 2: "are both"}.get(len(names), "are all")
        yield f"loss: {' and '.join(names)} {are} 0: nothing would be trained; use method=none"
    first = [f"w_{term}" for term in method.scores_alone.terms] if method.rounds == 2 else []
    if first and not any(getattr(loss, name) for name in first):
        yield (
            f"loss: {' and '.join(first)} must be above 0: the first of two rounds (method.rounds) trains"
            " with nothing else; set method.rounds=1"
        )


def _training_categories(method: "MethodConfig", context: "ContextConfig") -> Iterable[str]:
    if method.trains and not context.train_categories:
        yield "context.train: no category to train on; set context=experience, or method=none"


def _training_parts(method: "MethodConfig", documents: "AnyDataConfig") -> Iterable[str]:
    if not method.trains:
        return
    for part in ("train", "validation"):
        if getattr(documents.split, part) == 0:
            yield (
                f"data.split.{part}: must be above 0 for training, got 0"
                " (method=none only audits and needs the test part alone)"
            )


def _needs_scores(
    method: "MethodConfig", rate: "RateConfig", audit: "AuditConfig", documents: "AnyDataConfig"
) -> Iterable[str]:
    """What is fitted on experts' scores, or measured with them."""
    if not documents.unscored:
        return
    uses = {
        f"method={method.name}": method.trains,
        f"rate.calibration={rate.calibration}": rate.calibration != "none",
        "audit.skill_matched=true": audit.skill_matched,
    }
    for what, used in uses.items():
        if used:
            yield (
                f"data.score_columns: says that nobody scored the documents, and {what} needs scores; name"
                " their columns, or only audit (debiasdpo audit)"
            )


def _batches(train: "TrainConfig", method: "MethodConfig") -> Iterable[str]:
    if method.ranking and train.batch_documents == 1:
        yield (
            "train.batch_documents: method.ranking compares the documents of a step, of which there must be"
            " at least 2; set train.batch_documents=2 or more"
        )
    if train.batch_documents > train.batch_pairs:
        yield (
            f"train.batch_documents: {train.batch_pairs} pairs (train.batch_pairs) cannot come from"
            f" {train.batch_documents} documents; set train.batch_documents={train.batch_pairs} or less"
        )


def _sampling(method: "MethodConfig", rate: "RateConfig") -> Iterable[str]:
    if rate.temperature and not method.generates(rate.readout):
        yield (
            f"rate.temperature: nothing is sampled with rate.readout=expected and method={method.name};"
            " set rate.temperature=0"
        )


def _calibration(
    rate: "RateConfig", method: "MethodConfig", documents: "AnyDataConfig"
) -> Iterable[str]:
    if rate.calibration == "none":
        return
    if rate.readout != "expected":
        yield (
            "rate.calibration: only expected ratings are calibrated, since a text goes on saying what it"
            " says; set rate=expected, or rate.calibration=none"
        )
    if method.head is not None and not method.trains_weights:
        yield (
            "rate.calibration: a head is fitted on the scores of the training documents itself, and would be"
            " calibrated on what it has learnt by heart; set rate.calibration=none"
        )
    if documents.split.train == 0:
        yield (
            "rate.calibration: is fitted on the train part, and data.split.train is 0; raise it, or set"
            " rate.calibration=none"
        )


def _skill_matched(audit: "AuditConfig", documents: "AnyDataConfig") -> Iterable[str]:
    if audit.skill_matched and documents.split.validation == 0:
        yield (
            "audit.skill_matched: needs documents of the validation part, and data.split.validation is 0;"
            " raise it, or set audit.skill_matched=false"
        )


def _head(task: "Task", method: "MethodConfig", rate: "RateConfig") -> Iterable[str]:
    if task == "rubric_rating" and method.head is not None and rate.readout != "expected":
        yield (
            "rate.readout: a head rates before anything is written, so that it can be compared with expected"
            " ratings only; set rate=expected"
        )
    reads_scores = method.sft or method.ranking or method.chosen == "score"
    if method.head is not None and method.trains_weights and not reads_scores:
        yield (
            f"method.head: teaches by standing in place of the experts' scores, and none of the terms of"
            f" method={method.name} ({', '.join(method.terms)}) reads scores; set method.sft=[neutral], or"
            " method.head=null"
        )


def _closing(method: "MethodConfig", rate: "RateConfig") -> Iterable[str]:
    if method.closing == "drawn" and method.chosen != "reasoning":
        yield (
            "method.closing: closes the reasoning that is preferred or fitted, and"
            f" method.chosen={method.chosen or 'null'} has none; set method.closing=nearest"
        )
    if method.closing == "drawn" and rate.readout == "text":
        yield (
            "method.closing: with rate.readout=text the model writes the rating itself;"
            " set method.closing=nearest"
        )


def _format(prompt: "PromptConfig", rate: "RateConfig", method: "MethodConfig") -> Iterable[str]:
    instruction = prompt.instruction_for(rate.format)
    if instruction is None:
        yield (
            f"prompt.instruction: has none for rate.format={rate.format};"
            f" set prompt.instruction.{rate.format}"
        )
    if rate.format != "json":
        return
    if rate.readout == "expected":
        yield "rate.format: nothing is written with rate.readout=expected; set rate=text, or rate.format=text"
    elif instruction is not None and not all(f'"{key}"' in instruction for key in JSON_KEYS):
        yield (
            "prompt.instruction: rate.format=json needs one that asks for a JSON object with the keys"
            ' "reasoning" and "rating", by these names'
        )
    if method.trains:
        yield (
            f"rate.format: method={method.name} trains on answers of the form 'Rating: <number>', and cannot"
            " on JSON objects; set rate.format=text, or a method that does not train"
        )


CHECKS: tuple[Callable[..., Iterable[str]], ...] = (
    _names,
    _sides,
    of_statements,
    statement_problems,
    of_prompts,
    _columns_of_statements,
    grammar_problems,
    _audit_categories,
    _one_way,
    _weights,
    _training_categories,
    _training_parts,
    _needs_scores,
    _batches,
    _sampling,
    *MODEL_CHECKS,
    _calibration,
    _skill_matched,
    _head,
    _closing,
    _format,
)
