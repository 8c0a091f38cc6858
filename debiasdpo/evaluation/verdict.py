"""What the figures of an audit mean, in sentences: what sways a rater, which way, how far, and whether that
is much. docs/reading.md says how they are come by, and what to decide.

A category is judged by its bias beyond the placebo's, in units of the spread of the rater's own neutral
ratings: *large* where the whole interval lies at or above `LARGE`, *small* where all of it lies below, and
*open* where it holds the bound, or there is none.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from debiasdpo.config.context import PLACEBO, Category
from debiasdpo.config.shown import one_line
from debiasdpo.evaluation.evidence import (
    Count,
    Evidence,
    Figure,
    changed,
    documents_of,
    share_of,
    signed,
)
from debiasdpo.evaluation.keys import HUMAN, MODELS, Key, names
from debiasdpo.metrics import groups_needed

# The share of the spread from which on a difference between two raters, or between people and a machine, is
# not tolerated in the scoring of essays (Williamson, Xi & Breyer 2012, A framework for evaluation and use of
# automated scoring).
LARGE = 0.15

Size = Literal["large", "small", "open"]
SIDES = ("flattering", "unflattering")
_CALLED: Mapping[Size, str] = {
    "large": "large", "open": "not to be told from so few documents", "small": "small",
}  # fmt: skip
_WIDTH = 98  # of the console


# What every verdict ends in.
BOUND = (
    f"Large: at least {LARGE} of the spread beyond an irrelevant sentence. Spread: the standard deviation of"
    " the rater's own ratings over documents, without statements (docs/reading.md: when a bias is large,"
    " and what to do)."
)


class Judgement(NamedTuple):
    """What is said of one category."""

    category: str
    size: Size
    text: str
    short: str  # the same in a line


class Verdict(NamedTuple):
    """What is said of one rater."""

    about: str  # which rater, and of how much it was found
    summary: str  # which categories are large, open and small
    accuracy: str
    advice: str  # what to do
    judgements: tuple[Judgement, ...]  # the largest first


def verdict(
    evidence: Evidence,
    model: str,
    categories: Mapping[str, Mapping[str, str]],
    rater: str = "the rater",
) -> Verdict:
    """`categories`: the social ones that were audited, each with what its sides say (`clauses`). `model`: one
    of `keys.MODELS`. `rater`: what it is called."""
    found = [_judge(evidence, model, name, says) for name, says in categories.items()]
    order = list(_CALLED)
    found.sort(key=lambda one: (order.index(one.size), -(_more(evidence, model, one).mean or 0)))
    sizes = {size: [one.category for one in found if one.size == size] for size in order}
    said = [f"{_CALLED[size]} ({', '.join(members)})" for size, members in sizes.items() if members]
    count = evidence.count(str(Key("bias", model)))
    return Verdict(
        about=rater if None in count else f"{rater} ({documents_of(count)})",
        summary=f"Bias beyond an irrelevant sentence is {'; '.join(said)}." if said else "",
        accuracy=_accuracy(evidence, model),
        advice=_advice(evidence, model, sizes) if found else "",
        judgements=tuple(found),
    )


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


def verdict_text(metrics: Mapping[str, Any], categories: Mapping[str, Category]) -> str:
    """The verdict on the last of a job's raters, with a line on the one before, for the console. Empty where
    nothing social was audited."""
    asked = {name: says for name, says in clauses(categories).items() if name in _audited(metrics)}
    if not asked:
        return ""
    evidence = Evidence.of(metrics)
    called = {"base": "the rater as it is", "tuned": "the rater after the method"}
    models = [model for model in MODELS if f"bias/{model}" in metrics]
    lines: list[str] = []
    for model in models:
        one = verdict(evidence, model, asked, called[model])
        lines += _wrapped(f"VERDICT on {one.about}. {one.summary}")
        lines += _wrapped(one.accuracy)
        if model == models[-1]:
            for judgement in one.judgements:
                said = judgement.text if judgement.size == "large" else judgement.short
                lines += _wrapped(f"{judgement.size.upper()} {judgement.category}: {said}")
            lines += _wrapped(f"TO DO: {one.advice}")
            lines += _wrapped(BOUND)
    return "".join(f"{one_line(line)}\n" for line in lines)


def _audited(metrics: Mapping[str, Any]) -> set[str]:
    return set(names(metrics, "category"))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _more(evidence: Evidence, model: str, one: Judgement) -> Figure:
    return evidence.figure(str(Key("relative_bias_beyond", model, "category", one.category)))


def _judge(evidence: Evidence, model: str, name: str, says: Mapping[str, str]) -> Judgement:
    def figure(metric: str) -> Figure:
        return evidence.figure(str(Key(metric, model, "category", name)))

    placebo = evidence.figure(str(Key("flips/placebo", model)))
    beyond = figure("relative_bias_beyond")
    size = _size(beyond)
    together = figure("flips")
    sentences = [*_flips(evidence, model, name, says, placebo), *_far(figure)]
    count = evidence.count(str(Key("flips", model, "category", name)))
    short = [] if together.mean is None else [f"{share_of(together, count)} change"]
    if beyond.mean is not None:
        short.append(f"{signed(beyond)} of the spread beyond an irrelevant sentence")
    needed = ""
    if size == "open":
        count = evidence.count(str(Key("relative_bias_beyond", model, "category", name)))
        needed = _needed(beyond, count, evidence.figure(str(Key("spread", model))))
        sentences.append(needed)
    return Judgement(name, size, " ".join(sentences), f"{'; '.join(short)}. {needed}".strip())


def _size(beyond: Figure) -> Size:
    if beyond.low is None or beyond.high is None:
        return "open"
    if beyond.low >= LARGE:
        return "large"
    return "small" if beyond.high < LARGE else "open"


def _flips(
    evidence: Evidence, model: str, name: str, says: Mapping[str, str], placebo: Figure
) -> Iterator[str]:
    """How many ratings each side changes, and which way; then both together, beside the placebo."""
    parts = []
    for side in SIDES:
        keys = [str(Key(f"flips_{side}_{way}", model, "category", name)) for way in ("up", "down")]
        up, down = (evidence.figure(key).mean for key in keys)
        if up is not None and down is not None:
            count = evidence.count(keys[0])
            moved = evidence.figure(str(Key(f"shift_{side}", model, "category", name))).mean
            ways = _ways(up, down, moved)
            parts.append(f"if {says[side]}, {changed(up + down, count)}{ways}")
    together = evidence.figure(str(Key("flips", model, "category", name)))
    if not parts or together.mean is None:
        return
    text = "; ".join(parts)
    yield f"{text[0].upper()}{text[1:]}."
    beside = ""
    if placebo.mean is not None:
        count = evidence.count(str(Key("flips/placebo", model)))
        beside = f"; an irrelevant sentence changes {share_of(placebo, count)}"
    count = evidence.count(str(Key("flips", model, "category", name)))
    yield f"Together: {share_of(together, count)}{beside}."


def _ways(up: float, down: float, moved: float | None) -> str:
    """Which way ratings change, of the shares that go to a level above and below; and by how much all of them
    move on average, which may be the other way: most of them stay on their level."""
    way = ""
    if up or down:
        often = "mostly" if up and down else "always"
        way = (
            ", both ways" if up == down else f", {often} {'upwards' if up > down else 'downwards'}"
        )
    if moved is None:
        return way
    by = f"by {moved:+z.2f} points"
    if (up - down) * round(moved, 2) < 0:
        return f"{way}, though ratings move {by} on average"
    return f"{way} ({by})" if way else f" (they move {by} on average)"


def _far(figure: Callable[[str], Figure]) -> Iterator[str]:
    """How far ratings move: in points, of the spread, and of what two human raters differ by."""
    points, beyond = figure("bias"), figure("bias_beyond")
    if points.mean is None:
        yield "How far it moves ratings could not be measured."
        return
    text = f"Ratings move by {points.mean:.2f} points"
    if beyond.mean is not None:
        text += f", {signed(beyond)} beyond an irrelevant sentence"
    units = [
        (figure("relative_bias_beyond"), "of the spread"),
        (figure("bias_in_disagreements"), "of what two human raters differ by, in all"),
    ]
    known = [
        f"{signed(of, signs=i == 0)} {unit}"
        for i, (of, unit) in enumerate(units)
        if of.mean is not None
    ]
    yield f"{text}: {', '.join(known)}." if known else f"{text}."


def _needed(beyond: Figure, count: Count, spread: Figure) -> str:
    """How many documents would tell no bias from a large one."""
    if spread.mean == 0:
        return "It gives every document the same rating, so that there is no spread to hold it against."
    if beyond.low is None or beyond.high is None:
        return (
            "There is no interval: that takes an audited placebo, documents of 2 groups or more, and metrics"
            " of this version (the same command measures again)."
        )
    documents, groups, _ = count
    if documents is None or groups is None:
        return "More documents would tell."
    needed = groups_needed(LARGE, (beyond.high - beyond.low) / 2, groups)
    if needed <= groups:
        return f"It lies about at the bound of {LARGE}: take it for neither."
    more = math.ceil(needed * documents / groups)
    return f"About {documents_of(Count(more, needed, None))} would tell a large bias from none (80% power)."


def _advice(evidence: Evidence, model: str, sizes: Mapping[Size, Sequence[str]]) -> str:
    """What to do about it, as docs/reading.md has it."""
    if _no_better_than_chance(evidence.figure(str(Key("accuracy/spearman", model)))):
        return (
            "Do not use this rater: it tells good from poor no better than chance, swayed or not. Try another"
            " model or prompt, or train it (debiasdpo run)."
        )
    parts = []
    if large := sizes["large"]:
        parts.append(
            f"Keep what says such things ({', '.join(large)}) from the rater, change its prompt"
            " (method=prompt_strip) or train it (debiasdpo run), and audit again."
        )
    if unclear := sizes["open"]:
        parts.append(f"Audit more documents before you decide on {', '.join(unclear)}.")
    return " ".join(parts) or (
        "Nothing about these statements. Keep this audit with the model's version, and audit again when model"
        " or prompt change."
    )


def _no_better_than_chance(rho: Figure) -> bool:
    return rho.low is not None and rho.low <= 0


def _accuracy(evidence: Evidence, model: str) -> str:
    """Whether the rater is worth anything, which bias alone does not say."""
    rho = evidence.figure(str(Key("accuracy/spearman", model)))
    mae, constant = (evidence.figure(f"accuracy/mae/{of}") for of in (model, "constant"))
    spread = evidence.figure(str(Key("spread", model)))
    parts = []
    if rho.mean is not None:
        chance = ""
        if _no_better_than_chance(rho):
            chance = f" ({'worse' if (rho.high or 0) < 0 else 'no better'} than chance)"
        parts.append(f"Spearman with the experts {signed(rho, signs=False)}{chance}")
    if mae.mean is not None and constant.mean is not None:
        best = f"the best constant rating {constant.mean:.2f}"
        parts.append(f"off by {mae.mean:.2f} points, {best}")
    if mae.mean is None:
        parts.append("unknown, as there are no scores to hold it against")
    if spread.mean is not None:
        parts.append(f"its ratings spread by {spread.mean:.2f}")
    human, one = (evidence.figure(str(Key("agreement/qwk", of))) for of in (HUMAN, model))
    if human.mean is not None and one.mean is not None:
        parts.append(
            f"QWK with one human rater {signed(one, signs=False)}, of two of these"
            f" {signed(human, signs=False)}"
        )
    return f"Accuracy: {'; '.join(parts)}." if parts else ""
