"""The transfer matrix as a figure: bias reduction by what was trained on and what was audited."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasdpo.report.drawing import (
    BLACK,
    MARGIN,
    WIDTH,
    Drawing,
    canvas,
    draw,
    room,
    style,
    wrapped,
)
from debiasdpo.report.formats import text
from debiasdpo.report.groups import Group
from debiasdpo.report.names import file_name, shortened, shorter
from debiasdpo.report.tables import audited, reduction_on
from debiasdpo.report.values import Value, notes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 7  # points of a number that can be read
_MOST_ROWS = 15  # of transfer matrices in one figure
_COLOURS = "BrBG"  # brown to green: apart for any kind of colour blindness, pale at 0


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
    trained_on = [row.shown_on for row in rows if isinstance(row, Group)]
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
        if not all(row.shown_in_training for row in rows if isinstance(row, Group)):
            caption += (
                " In brackets: the context of a run whose training showed no statement of it."
            )
        if size < _SMALLEST:
            caption += " The numbers, for which there is no room here, are in the table."
        notes = notes_of(
            (f"{row.label} trained on {row.shown_on}, audited on {c}", reduction_on(row, c))
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
            if category in row.shown_in_training:
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
