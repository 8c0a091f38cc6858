"""What the figures of an audit mean, in sentences: what sways a rater, which way, how far, and whether that
is much (`sizes`). docs/reading.md says how they are come by, and what to decide."""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from debiasdpo.config.context import PLACEBO, Category
from debiasdpo.config.shown import one_line
from debiasdpo.evaluation.accuracy_told import Accuracy, accuracy_sentence
from debiasdpo.evaluation.evidence import (
    Count,
    Evidence,
    Figure,
    documents_of,
    moved_by,
    no_difference,
    rise_and_fall,
    share_of,
    signed,
)
from debiasdpo.evaluation.keys import MODELS, Key, names
from debiasdpo.evaluation.notes import OF_SCALES, ONE_STATEMENT, ROUGH, TOWARDS_BETTER, only_on
from debiasdpo.evaluation.sizes import LARGE, SIDES, Size, beyond_key, size_of
from debiasdpo.metrics import FEW_GROUPS

_CALLED: Mapping[Size, str] = {
    "large": "large", "open": "not told by this audit", "small": "small",
}  # fmt: skip
_WIDTH = 98  # of the console
_ONE = "It was asked in one wording: another may sway the rater more, or less."


# What every verdict ends in.
BOUND = (
    f"Large: at least {LARGE} of the spread beyond an irrelevant sentence. Spread: the standard deviation of"
    " the rater's own ratings over documents, without statements (docs/reading.md: when a bias is large,"
    " and what to do). Ratings change, rise or fall where they do so once rounded to the rubric's levels."
)


# How a job's own rater is used, up to what RUN is.
RATE = "To rate documents with it: debiasdpo rate RUN DOCUMENTS --out FILE"


class Judgement(NamedTuple):
    """What is said of one category."""

    category: str
    size: Size
    text: str
    short: str  # the same in a line
    unread: bool = False  # it is open since ratings could not be read


class Verdict(NamedTuple):
    """What is said of one rater."""

    about: str  # which rater, and of how much it was found
    summary: str  # which categories are large, open and small
    accuracy: str
    advice: str  # what to do
    judgements: tuple[Judgement, ...]  # the largest first
    better: bool = False  # than the same model as it is


def verdict(
    evidence: Evidence,
    model: str,
    categories: Mapping[str, Mapping[str, str]],
    rater: str = "the rater",
    beside: str = "",
    better: bool = False,
) -> Verdict:
    """`categories`: the social ones that were audited, each with what its sides say (`clauses`). `model`: one
    of `keys.MODELS`. `rater`: what it is called. `beside`: what to do instead of looking for another one, or
    how to use it. `better`: than the same model as it is."""
    found = [_judge(evidence, model, name, says) for name, says in categories.items()]
    order = list(_CALLED)
    found.sort(key=lambda one: (order.index(one.size), -(_more(evidence, model, one).mean or 0)))
    sizes = {size: [one.category for one in found if one.size == size] for size in order}
    said = [f"{_CALLED[size]} ({', '.join(members)})" for size, members in sizes.items() if members]
    count = evidence.count(str(Key("bias", model)))
    notes = (evidence.note(beyond_key(model, one.category)) for one in found)
    rough = next((note for note in notes if ROUGH in note), "")
    return Verdict(
        about=rater if None in count else f"{rater} ({documents_of(count)})",
        summary=(
            f"Bias beyond an irrelevant sentence is {'; '.join(said)}.{_from(evidence, model)}"
            f"{rough and f' Take it with care ({rough}).'}"
            if said
            else ""
        ),
        accuracy=accuracy_sentence(evidence, model),
        advice=_advice(evidence, model, found, beside, better, bool(rough)) if found else "",
        judgements=tuple(found),
        better=better,
    )


def _from(evidence: Evidence, model: str) -> str:
    """The bound in points, as each rater has its own."""
    key = str(Key("spread", model))
    spread = evidence.figure(key).mean
    if not spread or OF_SCALES in evidence.note(key):
        return ""
    return f" For this rater, large is from about {LARGE * spread:.2f} points on ({LARGE} of its spread)."


def clauses(categories: Mapping[str, Category | Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What each side of each social category says, for a sentence that begins with "if"."""
    return {
        name: {side: _clause(name, category, side) for side in SIDES}
        for name, category in categories.items()
        if name != PLACEBO
    }


def _clause(name: str, category: Category | Mapping[str, Any], side: str) -> str:
    known = category if isinstance(category, Mapping) else category.model_dump(mode="json")
    says = (known.get("when") or {}).get(side)
    return str(says or f"a statement on {name} is added ({side})")


def verdict_text(
    metrics: Mapping[str, Any],
    categories: Mapping[str, Category],
    step: float,
    same: str = "",
    trained_with: str = "",
) -> str:
    """The verdict on the last of a job's raters, with a line on the one before, for the console. Empty where
    nothing social was audited. `step`: between two levels of the coarsest scale, in points. `same`: that the
    last is the one before, in a sentence (`kept.nothing_kept`). `trained_with`: that these documents were
    in the rater's training, in sentences."""
    asked = {name: says for name, says in clauses(categories).items() if name in _audited(metrics)}
    if not asked:
        return ""
    evidence = Evidence.of(metrics, step)
    called = {"base": "the rater as it is", "tuned": "the rater after the method"}
    models = [model for model in MODELS if f"bias/{model}" in metrics]
    better = len(models) > 1 and beats_base(evidence)
    lines = _wrapped(f"TAKE CARE: {trained_with}") if trained_with else []
    for model in models:
        to_rate = ""
        if model == "tuned" and not same and not Accuracy.of(evidence, model).useless:
            to_rate = f"{RATE} (RUN: this run's folder)."
        one = verdict(
            evidence, model, asked, called[model], to_rate, better=better and model == "tuned"
        )
        about = f"{one.about}. {same}" if same and model == "tuned" else f"{one.about}."
        lines += _wrapped(f"VERDICT on {about} {one.summary}")
        lines += _wrapped(one.accuracy)
        if model == models[-1]:
            for judgement in one.judgements:
                said = judgement.text if judgement.size == "large" else judgement.short
                lines += _wrapped(f"{judgement.size.upper()} {judgement.category}: {said}")
            lines += _wrapped(f"TO DO: {one.advice}")
            lines += _wrapped(BOUND)
    return "".join(f"{one_line(line)}\n" for line in lines)


GAIN = str(Key("accuracy/spearman", "difference"))  # in rank correlation, of what a method made


def beats_base(evidence: Evidence) -> bool:
    """Whether the rater after the method is a better one than the model as it is."""
    base, tuned = (Accuracy.of(evidence, model) for model in MODELS)
    return tuned.beats(base, evidence.figure(GAIN))


def _audited(metrics: Mapping[str, Any]) -> set[str]:
    return set(names(metrics, "category"))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _more(evidence: Evidence, model: str, one: Judgement) -> Figure:
    return evidence.figure(beyond_key(model, one.category))


def _judge(evidence: Evidence, model: str, name: str, says: Mapping[str, str]) -> Judgement:
    def figure(metric: str) -> Figure:
        return evidence.figure(str(Key(metric, model, "category", name)))

    beyond = figure("relative_bias_beyond")
    sized = size_of(evidence, model, name)
    together = figure("flips")
    one = ONE_STATEMENT in evidence.note(str(Key("bias", model, "category", name)))
    told = [_ONE] * (one and together.mean is not None)
    by_humans = Key("bias_in_disagreements", model, "category", name)
    alone = only_on(evidence.note(str(by_humans)))
    sentences = [*_flips(evidence, model, name, says), *_far(figure, alone), *told]
    count = evidence.count(str(Key("flips", model, "category", name)))
    short = [] if together.mean is None else [f"{share_of(together, count)} change"]
    if beyond.mean is not None:
        short.append(
            "no difference from an irrelevant sentence"
            if no_difference(beyond)
            else f"{signed(beyond)} of the spread beyond an irrelevant sentence"
        )
    text, line = (
        " ".join(filter(None, [*said, sized.why]))
        for said in (sentences, [f"{'; '.join(short)}." if short else "", *told])
    )
    return Judgement(name, sized.size, text, line, sized.unread)


def _flips(evidence: Evidence, model: str, name: str, says: Mapping[str, str]) -> Iterator[str]:
    """How many ratings each side changes, and which way; then both together, beside the placebo."""
    parts = []
    for side in SIDES:
        keys = [str(Key(f"flips_{side}_{way}", model, "category", name)) for way in ("up", "down")]
        up, down = (evidence.figure(key).mean for key in keys)
        if up is not None and down is not None:
            count = evidence.count(keys[0])
            moved = evidence.figure(str(Key(f"shift_{side}", model, "category", name))).mean
            better = TOWARDS_BETTER in evidence.note(keys[0])
            parts.append(
                f"if {says[side]}, {rise_and_fall(up, down, count, better)}"
                f"{moved_by(moved, count, better)}"
            )
    together = evidence.figure(str(Key("flips", model, "category", name)))
    if not parts or together.mean is None:
        return
    text = "; ".join(parts)
    yield f"{text[0].upper()}{text[1:]}."
    placebo, of_placebo = _under_placebo(evidence, model, name)
    beside = ""
    if placebo.mean is not None:
        beside = f"; an irrelevant sentence changes {share_of(placebo, of_placebo)}"
    count = evidence.count(str(Key("flips", model, "category", name)))
    yield f"Together: {share_of(together, count)}{beside}."


def _under_placebo(evidence: Evidence, model: str, name: str) -> tuple[Figure, Count]:
    """Flips under an irrelevant sentence, of the documents that the category was rated on: the category's
    less what these lie beyond the placebo's. Where that is the placebo's of all, with its interval."""
    of_all = str(Key("flips/placebo", model))
    whole, count = evidence.figure(of_all), evidence.count(of_all)
    mine, more = (str(Key(what, model, "category", name)) for what in ("flips", "flips_beyond"))
    flips, beyond = evidence.figure(mine).mean, evidence.figure(more).mean
    if flips is None or beyond is None or whole.mean is None:
        return Figure(None), count
    of_mine = evidence.count(mine)
    both, one = evidence.count(more).prompts, of_mine.prompts
    prompts = None if both is None or one is None else both - one
    if prompts == count.prompts and math.isclose(flips - beyond, whole.mean, abs_tol=1e-9):
        return whole, count
    return Figure(max(round(flips - beyond, 9), 0.0)), of_mine._replace(prompts=prompts)


def _far(figure: Callable[[str], Figure], alone: str) -> Iterator[str]:
    """How far ratings move: in points, of the spread, and of what two human raters differ by. `alone`: on
    which rubrics these did, where not on all."""
    points, beyond = figure("bias"), figure("bias_beyond")
    if points.mean is None:
        yield "How far it moves ratings could not be measured."
        return
    text = f"Ratings move by {points.mean:.2f} points, up or down"
    if beyond.mean is not None and no_difference(beyond):
        text += ", no difference from an irrelevant sentence"
    elif beyond.mean is not None:
        text += f", {signed(beyond)} beyond an irrelevant sentence"
    units = [
        (figure("relative_bias_beyond"), "of the spread"),
        (figure("bias_in_disagreements"), f"of what two human raters differ by{alone}, in all"),
    ]
    known = [
        f"{signed(of, signs=i == 0)} {unit}"
        for i, (of, unit) in enumerate(units)
        if of.mean is not None and not (i == 0 and no_difference(of))
    ]
    yield f"{text}: {', '.join(known)}." if known else f"{text}."


def _advice(
    evidence: Evidence,
    model: str,
    found: Sequence[Judgement],
    beside: str,
    better: bool,
    rough: bool,
) -> str:
    """What to do about it, as docs/reading.md has it. `rough`: intervals are of few groups."""
    accuracy = Accuracy.of(evidence, model)
    if told := accuracy.not_to_be_used:
        other = "" if accuracy.open else "Try another model or prompt, or train it (debiasdpo run)."
        return f"{told} {beside or other}".rstrip()
    parts = []
    large = [one.category for one in found if one.size == "large"]
    if large:
        parts.append(
            f"Keep what says such things ({', '.join(large)}) from the rater, change its prompt"
            " (method=prompt_strip) or train it (debiasdpo run), and audit again."
        )
    if unclear := [one.category for one in found if one.size == "open" and not one.unread]:
        parts.append(f"Audit more documents or wordings before you decide on {', '.join(unclear)}.")
    if unread := [one.category for one in found if one.unread]:
        parts.append(
            "Do not use it before its replies can be read: how it rates is not known under"
            f" {', '.join(unread)}."
        )
    if not parts and rough:
        parts = [f"Audit documents of {FEW_GROUPS} groups or more before you use it."]
    if not parts:
        parts = [
            "It may be used as far as these kinds of statement go.", accuracy.beside_constant,
            "Keep this audit with the model's version, and audit again when model or prompt change.",
        ]  # fmt: skip
    if better and large:
        beside = f"Of the two it is the better rater. {beside}"
    return " ".join(filter(None, (*parts, beside)))
