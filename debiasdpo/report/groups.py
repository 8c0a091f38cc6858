"""Runs that differ in nothing but the seed, and their metrics over seeds."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debiasdpo.config.context import PLACEBO
from debiasdpo.evaluation.keys import Key, names
from debiasdpo.metrics import mean_sd_over_seeds
from debiasdpo.report.collect import Run, method_order, note_duplicate

# What may differ between the seeds of one group: none of it changes what is measured.
_FREE = ("seed", "output_dir", "tracker")
SIDES = ("flattering", "unflattering", PLACEBO)
_LONGEST = 28  # characters of a setting's value in a label


@dataclass(frozen=True)
class Value:
    """A metric over the seeds of a group, in its own unit.

    mean: None where it is undefined in any seed, since a mean over the seeds in which it happens to
    be defined would flatter. low, high: its interval, None where any seed's is undefined. sd: over
    seeds, None with fewer than two.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Group:
    """Finished runs of one model, data set, method and training context, one a seed.

    `variant` says which other settings set it apart from its neighbours, as `loss.w_sft=0.1`.
    """

    model: str
    data: str
    method: str
    trained: tuple[str, ...]  # empty where nothing was trained
    variant: str
    runs: tuple[Run, ...]

    @property
    def trained_on(self) -> str:
        return "+".join(self.trained) or "nothing"

    @property
    def label(self) -> str:
        """Method and variant: what tells groups of one model, data set and context apart."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def title(self) -> str:
        return f"{self.model}, {self.data}: {self.label}, trained on {self.trained_on}"

    @property
    def seeds(self) -> int:
        return len(self.runs)

    def value(self, key: str) -> Value | None:
        """A metric of metrics.json over the seeds; None where no run has it."""
        having = [run for run in self.runs if key in run.metrics]
        if not having:
            return None
        values = [run.metric(key) for run in having]
        return pool(values, [run.interval(key) for run in having], self.shares_documents)

    @property
    def shares_documents(self) -> bool:
        """Whether seeds draw from the same documents. Simulated ones are made anew by each seed."""
        return all(run.source != "simulated" for run in self.runs)

    def categories(self) -> tuple[str, ...]:
        """Audited categories, without the placebo."""
        found = (name for run in self.runs for name in names(run.metrics, "category"))
        return tuple(sorted(set(found)))

    @property
    def has_placebo(self) -> bool:
        return any("bias/placebo/base" in run.metrics for run in self.runs)

    def sides(self) -> list[tuple[str, str, Key]]:
        """Each category and side of its statements, with the key of the base model's mean shift; the
        placebo last."""
        found = [
            (category, side, Key(f"shift_{side}", "base", "category", category))
            for category in self.categories()
            for side in SIDES[:2]
        ]
        if self.has_placebo:
            found.append((PLACEBO, PLACEBO, Key("bias/placebo/shift", "base")))
        return found

    def count(self, key: str, what: str) -> str | None:
        """Of how many documents, groups or prompts a metric is, in each seed: `12`, or `11–12`."""
        known = [count for run in self.runs if (count := run.count(key, what)) is not None]
        if not known:
            return None
        low, high = min(known), max(known)
        return str(low) if low == high else f"{low}–{high}"

    @property
    def after(self) -> str:
        """Which model its own metrics are of: `tuned`, or `base` where only the base model was rated."""
        return "tuned" if any("bias/tuned" in run.metrics for run in self.runs) else "base"


def pool(
    values: Sequence[float | None],
    intervals: Sequence[tuple[float, float] | None] = (),
    shared: bool = True,
) -> Value:
    """A metric over seeds, from each seed's value and interval; one seed keeps its own interval.

    The interval speaks of other documents, not of other trainings, for which there is the sd.
    `shared`: the seeds' test parts come from the same groups of documents.
    """
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return Value(None)
    over = mean_sd_over_seeds(known)
    sd = over.sd if len(known) > 1 else None
    bounds = [ci for ci in intervals if ci]
    if len(bounds) < len(known):
        return Value(over.mean, sd=sd)
    if len(bounds) == 1:
        return Value(known[0], *bounds[0])
    below = [v - low for v, (low, _) in zip(known, bounds, strict=True)]
    above = [high - v for v, (_, high) in zip(known, bounds, strict=True)]
    # Never beyond what any single seed allows, so that a share stays between 0 and 1.
    low = max(over.mean - _width(below, shared), min(low for low, _ in bounds))
    high = min(over.mean + _width(above, shared), max(high for _, high in bounds))
    return Value(over.mean, low, high, sd)


def _width(widths: Sequence[float], shared: bool) -> float:
    """Of the interval of a mean over seeds, on one side, from the seeds' own widths w_s.

    shared documents: sqrt(mean_s w_s^2), as if all seeds erred alike;
    documents of their own: sqrt(mean_s w_s^2 / n)
    """
    square = sum(w * w for w in widths) / len(widths)
    return math.sqrt(square if shared else square / len(widths))


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """The groups of all finished runs, in the order that tables show them."""
    families: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        if run.state == "finished" and run.metrics:
            trained = () if run.method == "none" else run.trained
            families[run.model, run.data, method_order(run.method), trained].append(run)
    groups = []
    for (model, data, (_, method), trained), members in sorted(families.items()):
        for variant, same in _variants(members):
            groups.append(Group(model, data, method, trained, variant, tuple(_one_a_seed(same))))
    return groups


def _one_a_seed(runs: Sequence[Run]) -> Iterator[Run]:
    """The same configuration and seed in two places is one run, not two seeds."""
    seen: dict[int | None, Run] = {}
    for run in runs:
        if run.seed in seen:
            note_duplicate(run, seen[run.seed])
        else:
            seen[run.seed] = run
            yield run


def _variants(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs apart by the settings in which they differ, each with a label that names those."""
    flat = [dict(_settings(run.config)) for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    differing = [k for k in keys if len({settings.get(k) for settings in flat}) > 1]
    if runs[0].method == "none":  # nothing was trained: these have no effect
        differing = [k for k in differing if not k.startswith(("loss.", "train.", "context.train"))]
    found: dict[tuple[str | None, ...], list[Run]] = defaultdict(list)
    for run, settings in zip(runs, flat, strict=True):
        found[tuple(settings.get(k) for k in differing)].append(run)
    labels: dict[str, int] = {}
    named = []
    for values, members in sorted(found.items(), key=lambda item: str(item[0])):
        label = ", ".join(f"{k}={_short(v)}" for k, v in zip(differing[:3], values, strict=False))
        if len(differing) > 3:
            label += f", and {len(differing) - 3} more"
        labels[label] = labels.get(label, 0) + 1
        named.append((label if labels[label] == 1 else f"{label} #{labels[label]}", members))
    return named


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a configuration as text, by its full key."""
    for key, value in config.items():
        if not prefix and key in _FREE:
            continue
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str, ensure_ascii=False)


def _short(value: str | None) -> str:
    text = "-" if value is None else value.strip('"')
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
