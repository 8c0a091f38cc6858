"""Figures of all groups together: bias by method, bias against accuracy, and the transfer matrix."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.report.drawing import (
    BLACK,
    GREY,
    MARGIN,
    WIDTH,
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
from debiasdpo.report.formats import text
from debiasdpo.report.groups import Group, base_groups
from debiasdpo.report.names import file_name, shortened, shorter
from debiasdpo.report.tables import audited, reduction_on
from debiasdpo.report.values import Value, notes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 7  # points of a number that can be read
_MOST_ROWS = 15  # of transfer matrices in one figure
_COLOURS = "BrBG"  # brown to green: apart for any kind of colour blindness, pale at 0
Point = tuple[Group, Value, Value]  # a group with its bias and its Spearman


def by_data(groups: Sequence[Group]) -> Iterator[tuple[str, str, list[Group]]]:
    """Groups of each model and data set."""
    for (model, data), found in groupby(groups, lambda g: (g.model, g.data)):
        yield model, data, list(found)


def bias_and_accuracy(model: str, data: str, groups: Sequence[Group]) -> Drawing | None:
    """Bias against accuracy, a point a group, and the Pareto front."""
    points, notes = _points(groups)
    if not points:
        return None
    name = file_name("pareto", model, data)
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
        axes.set_xlabel("bias, all social categories (points); ← better")
        axes.set_ylabel("Spearman with experts' scores; → better")
        axes.set_xlim(left=0)
        legend(figure, axes)
        best = "; ".join(_point_name(points[i][0]) for i in front)
        caption = (
            f"{model}, {data}. Lower right to upper left is better. On the front, where no other has"
            f" both less bias and a higher Spearman: {best}. Bars: 95 % intervals."
        )
        return draw(figure, name, f"Bias against accuracy: {model}, {data}", caption, notes)


def _points(groups: Sequence[Group]) -> tuple[list[Point], list[str]]:
    """Groups with a defined bias and Spearman, the base model once for each way it was rated; and what is to
    be known of them, and of those that are left out."""
    tuned = [(g, "tuned") for g in groups if g.after == "tuned"]
    base = [(g, "base") for g in base_groups(groups)]
    points, notes = [], []
    for group, model in [*base, *tuned]:
        bias, rho = group.value(f"bias/{model}"), group.value(f"accuracy/spearman/{model}")
        if bias is None or rho is None:
            continue
        known = bias.mean is not None and rho.mean is not None
        if known:
            points.append((group, bias, rho))
        about = _point_name(group) if known else f"{_point_name(group)} (not shown)"
        notes += [(f"{about}, bias", bias), (f"{about}, Spearman", rho)]
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
    trained = "" if group.base else f" trained on {group.trained_on}"
    return f"{group.label}{trained}"


def transfer(model: str, data: str, groups: Sequence[Group]) -> list[Drawing]:
    """Bias reduction by what was trained on (rows) and audited on (columns), a matrix a method."""
    tuned = [g for g in groups if g.after == "tuned"]
    drawings: list[Drawing] = []
    part: list[list[Group]] = []
    methods = [list(found) for _, found in groupby(tuned, lambda g: g.label)]
    methods.sort(key=lambda found: tuned.index(found[0]))
    for found in methods:
        if part and sum(map(len, part)) + len(found) > _MOST_ROWS:
            drawings.append(_transfer(model, data, part, len(drawings)))
            part = []
        part.append(found)
    return [*drawings, *([_transfer(model, data, part, len(drawings))] if part else [])]


def _transfer(model: str, data: str, methods: Sequence[Sequence[Group]], number: int) -> Drawing:
    categories = audited(g for groups in methods for g in groups)
    rows: list[Group | str] = []  # a matrix a method, with the method's name above it
    for groups in methods:
        rows += [groups[0].label, *groups]
    heads = shortened([groups[0].label for groups in methods], lambda label: shorter(label, 30))
    trained_on = [row.trained_on for row in rows if isinstance(row, Group)]
    labels = shortened(trained_on, _contexts)
    name = file_name(f"transfer-{number + 1}" if number else "transfer", model, data)
    with style(name):
        names = shortened(categories, lambda name: shorter(name, 20))
        below = 0.57 * room(names) + 0.42
        left = room(labels) + 0.27
        figure = canvas(0.27 * len(rows), left=left, bottom=below, top=0.62)
        axes = figure.add_subplot()
        size = _font_size(rows, categories, left)
        _matrices(axes, rows, labels, heads, categories, size)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_ylabel("trained on")
        axes.set_xlabel("audited on")
        _colour_bar(figure, axes)
        caption = (
            f"{model}, {data}, on held-out documents and wordings. Outlined: categories trained on; all"
            " others were never seen in training. Where the placebo loses too, ratings vary less."
        )
        if size < _SMALLEST:
            caption += " The numbers, for which there is no room here, are in the table."
        notes = notes_of(
            (f"{row.label} trained on {row.trained_on}, audited on {c}", reduction_on(row, c))
            for groups in methods for row in groups for c in categories
        )  # fmt: skip
        return draw(figure, name, f"Transfer of bias reduction: {model}, {data}", caption, notes)


def _font_size(rows: Sequence[Group | str], categories: Sequence[str], left: float) -> float:
    """Points in which every number fits its cell."""
    groups = [row for row in rows if isinstance(row, Group)]
    longest = max(len(_percent(reduction_on(row, c))) for row in groups for c in categories)
    width = (WIDTH - left - MARGIN) / len(categories)
    return min(9.0, 0.9 * width / (0.0089 * max(longest, 1)))  # inches a digit takes, at a point


def _matrices(
    axes: "Axes", rows: Sequence[Group | str], labels: Sequence[str], heads: Sequence[str],
    categories: Sequence[str], size: float,
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    head = iter(heads)
    means = np.full((len(rows), len(categories)), np.nan)
    for y, row in enumerate(rows):
        if isinstance(row, str):
            axes.text(-0.5, y + 0.42, next(head), va="bottom", fontweight="bold", fontsize=9)
            continue
        for x, category in enumerate(categories):
            value = reduction_on(row, category)
            if value is not None and value.mean is not None:
                means[y, x] = value.mean
            colour = "white" if abs(means[y, x]) > 0.6 else BLACK
            if size >= _SMALLEST:
                axes.text(
                    x, y, _percent(value), ha="center", va="center", fontsize=size, color=colour
                )
            if category in row.trained:
                axes.add_patch(
                    Rectangle(
                        (x - 0.45, y - 0.43), 0.9, 0.86, fill=False, lw=1.7, ec=BLACK, zorder=3
                    )
                )
    axes.pcolormesh(
        np.arange(len(categories)), np.arange(len(rows)), np.ma.masked_invalid(means),
        cmap=_COLOURS, vmin=-1, vmax=1, edgecolors="white", linewidth=1,
    )  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    known = [y for y, row in enumerate(rows) if isinstance(row, Group)]
    axes.set_yticks(known, labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _contexts(trained_on: str) -> str:
    return wrapped(trained_on.replace("+", "+ ")).replace("+ ", "+")


def _percent(value: Value | None) -> str:
    return text(value, "percent").rstrip("%")


def _colour_bar(figure: Any, axes: "Axes") -> None:
    box, height = axes.get_position(), figure.get_size_inches()[1]
    bar = figure.add_axes((box.x0, box.y1 + 0.06 / height, box.width, 0.11 / height))
    steps = np.linspace(-1, 1, 41)
    middles = (steps[None, :-1] + steps[None, 1:]) / 2
    bar.pcolormesh(steps, [0, 1], middles, cmap=_COLOURS, vmin=-1, vmax=1, edgecolors="face")
    bar.set_xticks([-1, -0.5, 0, 0.5, 1], ["≤ −100", "−50", "0", "50", "100"])
    bar.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=2)
    bar.set(yticks=[], xlim=(-1, 1), ylim=(0, 1))
    bar.set_title("bias reduction, %", pad=2)
    bar.grid(visible=False)
    bar.spines[:].set_visible(False)


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
        figure = canvas(0.4 * len(rows), left=room(labels), bottom=below)
        axes = figure.add_subplot()
        notes: list[tuple[str, Value | None]] = []
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
            f"{model}, {data}, trained on {trained}. Bars: 95 % intervals."
            f" Seeds: {'–'.join(map(str, {seeds[0]: 0, seeds[-1]: 0}))}. Where trained, unseen and"
            " placebo fall together, the rater may only use less of the scale: see spread."
        )
        title = f"Bias by method: {model}, {data}, trained on {trained}"
        return draw(figure, name, title, caption, notes_of(notes))
