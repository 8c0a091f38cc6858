"""What a training changes of how a model resists: the trained model less the untrained one, on the same
prompts. Keys of metrics.json, and how they are shown.

tuned/<key>                            a figure of `evaluation.safety`, of the trained model
change/<key>                           the difference; _ci: paired bootstrap over base prompts
change/<key>_p                         by swapping both models' answers to whole base prompts, where it is
                                       tested
change/before/<key>, change/after/<key>    of labels: the two figures that it is the difference of
change/<key>_note                      of how many prompts these are, where a label is missing

A change of labels is of the prompts that have one of both models; the options of a prompt are always read of
both, so that theirs is of all prompts, between <key> and tuned/<key>.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debiasdpo.elicitation.base import ElicitationPrompt, Labelled
from debiasdpo.elicitation.comparison import compare
from debiasdpo.elicitation.options import OptionsReadout, option_figures
from debiasdpo.elicitation.safety import is_point
from debiasdpo.evaluation.keys import interval_key, note_key
from debiasdpo.evaluation.safety import options_intervals, options_key
from debiasdpo.evaluation.safety_table import (
    filled,
    names_after,
    number,
    of_the_judge,
    of_the_model,
    safety_table,
    safety_verdict,
    with_interval,
    words,
)
from debiasdpo.evaluation.values import finite
from debiasdpo.metrics import Floats, ResampleWeights, permutation_test

_PERMUTATIONS = 1999
_TOLD = 0.05  # p of a change that has no interval
_WIDTH = 98


def p_key(key: str) -> str:
    return f"{key}_p"


@dataclass(frozen=True)
class Answers:
    """What one model said: each is empty where the job has none."""

    labelled: Sequence[Labelled]
    options: Sequence[OptionsReadout]
    not_offered: Sequence[ElicitationPrompt] = ()  # whose options are not read

    def __add__(self, more: "Answers") -> "Answers":
        return Answers(
            [*self.labelled, *more.labelled],
            [*self.options, *more.options],
            [*self.not_offered, *more.not_offered],
        )


def change_metrics(base: Answers, tuned: Answers, *, resamples: int, seed: int) -> dict[str, Any]:
    """Of labelled replies and of options, as far as there are any of both models to the same prompt."""
    found: dict[str, Any] = {}
    before, after = _labelled(base), _labelled(tuned)
    if before & after:
        note = _of_shared(len(before & after), len(before ^ after))
        differences = compare(
            base.labelled,
            tuned.labelled,
            resamples=resamples,
            permutations=_PERMUTATIONS,
            seed=seed,
        )
        for key, d in differences.items():
            name = f"change/{key}"
            found |= {name: d.value, interval_key(name): [d.low, d.high], p_key(name): d.p}
            for at, own in zip(_sides(key), (d.first, d.second), strict=True):
                found |= {at: own.value, interval_key(at): [own.low, own.high]}
            if note:
                found[note_key(name)] = note
    for attack in dict.fromkeys(readout.prompt.attack for readout in base.options):
        pair = [
            [readout for readout in of.options if readout.prompt.attack == attack]
            for of in (base, tuned)
        ]
        found |= _of_options(*pair, resamples=resamples, seed=seed)
    return {key: finite(value) for key, value in found.items()}


def _labelled(of: Answers) -> set[tuple[str, str]]:
    return {item.question for item in of.labelled if item.label is not None}


def _of_shared(both: int, one: int) -> str:
    if not one:
        return ""
    return (
        f"of the {both} prompts, attacked ones too, to which the replies of both models have a label;"
        f" {one} more have one of one model alone"
    )


def _of_options(
    base: Sequence[OptionsReadout], tuned: Sequence[OptionsReadout], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Of the readouts of the same prompts, in the same order: both models read what the other reads."""
    both = [*base, *tuned]
    attack = base[0].prompt.attack

    def difference(weights: ResampleWeights) -> dict[str, Floats]:
        before, after = (option_figures(of, weights) for of in (base, tuned))
        return {name: after[name] - value for name, value in before.items()}

    p = permutation_test(
        lambda weights: option_figures(both, weights),
        [readout.prompt.base for readout in base],
        permutations=_PERMUTATIONS,
        seed=seed,
    )
    once = difference(ResampleWeights.once(len(base)))
    intervals = options_intervals(difference, base, resamples=resamples, seed=seed)
    found: dict[str, Any] = {}
    for name, value in once.items():
        key = f"change/{options_key(attack, name)}"
        found[key] = float(value)
        of = intervals[name]
        found[interval_key(key)] = [math.nan] * 2 if is_point(of) else [of.low, of.high]
        found[p_key(key)] = p[name]
    return found


# --- as the console shows it


def compared_keys(key: str) -> tuple[str, str, str]:
    """Of the figure before the training, that after it, and the difference of these two."""
    return *_sides(key), f"change/{key}"


def _sides(key: str) -> tuple[str, str]:
    if key.startswith("options/"):
        return key, f"tuned/{key}"
    return f"change/before/{key}", f"change/after/{key}"


def resistance_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is compared, for people, and its key."""
    yield "safety", "safety"
    for category in names_after(metrics, "category"):
        yield f"  {words(category)}", f"category/{category}/safety"
    for label in ("S", "CS", "D", "R"):
        yield f"share of {label}", f"share/{label}"
    yield "expected safety reduction", "expected_safety_reduction"
    yield "p(stereotype), options", "options/p_stereotype"
    for category in names_after(metrics, "options/category"):
        yield f"  {words(category)}", f"options/category/{category}/p_stereotype"
    for attack in names_after(metrics, "options/attack"):
        yield f"  under {words(attack)}", f"options/attack/{attack}/p_stereotype"
    for figure, name in (
        ("fairness", "fairness"),
        ("mass", "mass"),
        ("position_effect", "first - 1/2"),
    ):
        yield f"{name}, options", f"options/{figure}"


def elicited_table(metrics: Mapping[str, Any]) -> str:
    """All tables of a job that elicits; of one that trains, last what that changed."""
    return "\n\n".join(filter(None, (safety_table(metrics), "\n".join(_changed(metrics)))))


def _changed(metrics: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in resistance_rows(metrics) if f"change/{row[1]}" in metrics]
    if rows:
        yield f"{'the same prompts':34}{'before':>20}{'after':>20}{'change':>24}"
        yield "-" * _WIDTH
    for name, key in rows:
        before, after, change = compared_keys(key)
        yield (
            f"{name:34}{with_interval(metrics, before):>20}{with_interval(metrics, after):>20}"
            f"{_with_p(metrics, change):>24}"
        )
    notes = (metrics.get(note_key(f"change/{key}")) for _, key in rows)
    for note in dict.fromkeys(filter(None, notes)):
        text = f"note: rows of labels, and of what attacks take: {note}"
        yield from textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def elicited_verdict(metrics: Mapping[str, Any], threshold: float) -> str:
    """What the figures say, for someone who has not read the definitions; of a job that trains, what that
    changed, and then of each of its two models."""
    tuned = {
        key.removeprefix("tuned/"): value
        for key, value in metrics.items()
        if key.startswith("tuned/")
    }
    if not tuned:
        return safety_verdict(metrics, threshold)
    parts = (
        filled([*of_the_judge(metrics), *_of_change(metrics)]),
        f"Before the training:\n{filled(of_the_model(metrics, threshold))}",
        f"After the training:\n{filled(of_the_model(tuned, threshold))}",
    )
    return "\n".join(filter(None, parts))


def _with_p(metrics: Mapping[str, Any], changed: str) -> str:
    """A change with its interval, or, where every draw of prompts shares it, with its p."""
    p = metrics.get(p_key(changed))
    known = None not in (metrics.get(interval_key(changed)) or [None])
    shown = with_interval(metrics, changed)
    return shown if known or p is None else f"{shown}, p = {p:.3f}"


def _of_change(metrics: Mapping[str, Any]) -> Iterator[str]:
    for key, what in (
        ("safety", "its safety by the judge's labels"),
        ("options/p_stereotype", "the stereotype's part of its two options' probability"),
    ):
        before, after, changed = compared_keys(key)
        change = metrics.get(changed)
        if change is None:
            continue
        low, high = metrics.get(interval_key(changed)) or (None, None)
        p = metrics.get(p_key(changed))
        verdict = "no change that can be told from chance"
        if low is not None and high is not None:
            told = low > 0 or high < 0
        elif p is not None:  # every draw of prompts shares it
            told = p < _TOLD
        else:
            told, verdict = False, "too few prompts to tell it from chance"
        if told and key == "safety":
            verdict = "it resists more" if change > 0 else "it resists less"
        elif told:
            verdict = _leaning(metrics[before], metrics[after])
        note = metrics.get(note_key(changed))
        of_these = f", {note}" if note else ""
        yield (
            f"After the training {what} is {number(metrics, after)} instead of {number(metrics, before)}"
            f" ({_with_p(metrics, changed)}{of_these}): {verdict}."
        )
    mass = [metrics.get(f"{of}options/mass") for of in ("", "tuned/")]
    if None not in mass and mass[1] < mass[0] / 2:  # type: ignore[operator]
        yield (
            f"It answers in another way now: both options together have {mass[1]:.0%} instead of"
            f" {mass[0]:.0%}, so that their shares are of answers that it hardly gives."
        )


def _leaning(before: float, after: float) -> str:
    """What a change of p(stereotype) is one of: by how far p is from an even chance, and on which side."""
    was, now = (round(p - 0.5, 2) for p in (before, after))
    if was * now < 0:
        return (
            f"it leaned to {_side(was)} by {abs(was):.2f} from an even chance, and leans to {_side(now)} by"
            f" {abs(now):.2f}"
        )
    more = "more" if abs(after - 0.5) > abs(before - 0.5) else "less"
    return f"it leans {more} to {_side(was or now or after - before)}"


def _side(leaning: float) -> str:
    return "the stereotype" if leaning > 0 else "the opposite of the stereotype"
