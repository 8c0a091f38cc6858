"""Figures of all groups together: bias by method, and bias against accuracy."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.report.alike import differing
from debiasdpo.report.drawing import (
    BLACK,
    GREY,
    Drawing,
    canvas,
    draw,
    legend,
    legend_room,
    mark,
    room,
    style,
    wrapped,
)  # fmt: skip
from debiasdpo.report.groups import Group, after_training, base_groups
from debiasdpo.report.names import file_name, shortened
from debiasdpo.report.tables import seeds_cell
from debiasdpo.report.values import Value, notes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[Group, Value, Value]  # a group with its bias and its Spearman

# What a Pareto figure holds against accuracy: the metric, how its file and its title begin, and its axis.
BIASES = (
    ("bias", "pareto", "Bias", "bias, all social categories (points)"),
    ("relative_bias", "pareto-relative", "Relative bias",
     "bias / spread of the ratings, all social categories"),
)  # fmt: skip


def by_data(groups: Sequence[Group]) -> Iterator[tuple[str, str, list[Group]]]:
    """Groups of each model and data set."""
    for (model, data), found in groupby(groups, lambda g: (g.model, g.data)):
        yield model, data, list(found)


def biases_and_accuracy(model: str, data: str, groups: Sequence[Group]) -> Iterator[Drawing]:
    """Bias, and relative bias, against accuracy: a point a group, and the Pareto front."""
    for key, kind, title, axis in BIASES:
        points, notes = _points(groups, key)
        if points:
            name = file_name(kind, model, data)
            yield _bias_and_accuracy(
                name, f"{title} against accuracy", axis, model, data, points, notes
            )


def _bias_and_accuracy(
    name: str,
    title: str,
    axis: str,
    model: str,
    data: str,
    points: Sequence[Point],
    notes: Sequence[str],
) -> Drawing:
    front = pareto_front([(bias.mean or 0, rho.mean or 0) for _, bias, rho in points])
    with style(name):
        entries = [*(g.name for g, _, _ in points), "Pareto front"]
        figure = canvas(2.9, left=0.66, bottom=0.47 + legend_room(entries))
        axes = figure.add_subplot()
        for group, bias, rho in points:
            _point(axes, group, bias, rho, faint=len(points) > 12)
        x, y = zip(*((points[i][1].mean, points[i][2].mean) for i in front), strict=True)
        axes.plot(
            x, y, color=BLACK, linewidth=1, linestyle=(0, (4, 2)), zorder=1, label="Pareto front"
        )
        axes.set_xlabel(f"{axis}; ← better")
        axes.set_ylabel("Spearman with experts' scores; → better")
        axes.set_xlim(left=0)
        legend(figure, axes)
        best = "; ".join(_point_name(points[i][0]) for i in front)
        caption = (
            f"{model}, {data}. Best is upper left. On the front, where no other has as little of this bias"
            f" and as high a Spearman: {best}. Bars: 95 % intervals."
        )
        apart = differing([g.runs[0].settings for g, _, _ in points], in_training=False)
        if apart:
            keys = ", ".join(sorted(".".join(key) for key in apart))
            caption += f" Not all were rated alike: they differ in {keys}."
        return draw(figure, name, f"{title}: {model}, {data}", caption, notes)


def _points(groups: Sequence[Group], key: str) -> tuple[list[Point], list[str]]:
    """Groups with a defined bias of this key and Spearman, the base model once for each way it was rated; and
    what is to be known of them, and of those that are left out."""
    tuned = [(g, "tuned") for g in groups if g.after == "tuned"]
    base = [(g, "base") for g in base_groups(groups)]
    points, notes = [], []
    for group, model in [*base, *tuned]:
        bias, rho = group.value(f"{key}/{model}"), group.value(f"accuracy/spearman/{model}")
        if bias is None or rho is None:
            continue
        known = bias.mean is not None and rho.mean is not None
        if known:
            points.append((group, bias, rho))
        about = _point_name(group) if known else f"{_point_name(group)} (not shown)"
        notes += [(f"{about}, bias", bias), (f"{about}, Spearman", rho)]
        notes.append((about, seeds_cell(group, groups)))
    return points, notes_of(notes)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of (bias, accuracy) that no other point beats in one and equals in the other, by bias."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def _point(axes: "Axes", group: Group, bias: Value, rho: Value, *, faint: bool) -> None:
    colour, marker = mark(group.name)
    base = group.base
    axes.errorbar(
        [bias.mean or 0], [rho.mean or 0], xerr=_bars(bias), yerr=_bars(rho), fmt="none",
        ecolor=colour, elinewidth=0.8, alpha=0.25 if faint else 0.6, zorder=2,
    )  # fmt: skip
    axes.plot(
        [bias.mean or 0], [rho.mean or 0], marker, color=colour, markersize=7.5, zorder=3,
        markerfacecolor="white" if base else colour, markeredgecolor=colour if base else "white",
        markeredgewidth=1.4 if base else 0.6, label=group.name,
    )  # fmt: skip


def _bars(value: Value) -> Any:
    """Lengths of an error bar below and above, (2, 1); None where there is no interval."""
    if value.mean is None or value.low is None or value.high is None:
        return None
    return np.array([[max(value.mean - value.low, 0)], [max(value.high - value.mean, 0)]])


def _point_name(group: Group) -> str:
    trained = "" if group.base else f" trained on {group.shown_on}"
    return f"{group.label}{trained}"


def bias_by_method(model: str, data: str, trained: str, groups: Sequence[Group]) -> Drawing | None:
    """Bias on trained and unseen categories, a row a method, with what a bias of nothing looks like:
    the placebo."""
    rows = [(g, "base") for g in base_groups(groups)]
    rows += [(g, "tuned") for g in groups if g.after == "tuned"]
    rows = [(g, m) for g, m in rows if g.value(f"bias/trained/{m}")]
    if not rows:
        return None
    name = file_name("bias", model, data, trained)
    kinds = (("trained", "o", BLACK, -0.2), ("unseen", "D", GREY, 0.0), ("placebo", "|", GREY, 0.2))
    with style(name):
        labels = shortened([g.label for g, _ in rows], wrapped)
        below = 0.47 + legend_room(["trained on", "unseen", "placebo"])
        high = max(0.4, 0.18 * max(label.count("\n") + 1 for label in labels))
        figure = canvas(high * len(rows), left=room(labels), bottom=below)
        axes = figure.add_subplot()
        notes: list[tuple[str, Value | None]] = [(g.label, seeds_cell(g, groups)) for g, _ in rows]
        for kind, marker, grey, offset in kinds:
            for row, (group, which) in enumerate(rows):
                value = group.value(f"bias/{kind}/{which}")
                notes.append((f"{group.label}, {kind}", value))
                if value is None or value.mean is None:
                    continue
                colour = mark(group.name)[0] if kind == "trained" else grey
                axes.errorbar(
                    [value.mean], [row + offset], xerr=_bars(value), fmt=marker, color=colour,
                    markersize=9 if marker == "|" else 6, elinewidth=1.4, markeredgewidth=1.4,
                    markerfacecolor=colour if kind == "trained" else "white",
                )  # fmt: skip
            axes.plot(
                [], [], marker, color=grey, markerfacecolor=grey if kind == "trained" else "white",
                label="trained on" if kind == "trained" else kind,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("bias: mean |shift| (points)")
        legend(figure, axes)
        seeds = sorted({g.seeds for g, _ in rows})
        caption = (
            f"{model}, {data}{after_training(trained)}. Bars: 95 % intervals."
            f" Seeds: {'–'.join(map(str, {seeds[0]: 0, seeds[-1]: 0}))}. Where trained, unseen and"
            " placebo fall together, the rater may only use less of the scale: see spread."
        )
        title = f"Bias by method: {model}, {data}{after_training(trained)}"
        return draw(figure, name, title, caption, notes_of(notes))
