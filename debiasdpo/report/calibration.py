"""Calibration: the mean rating of documents with the same score, before and after."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.report.details import file_name, seeds
from debiasdpo.report.drawing import (
    BLACK,
    GREY,
    Drawing,
    canvas,
    draw,
    legend,
    legend_room,
    mark,
    style,
)  # fmt: skip
from debiasdpo.report.groups import Group
from debiasdpo.report.names import shortened, shorter
from debiasdpo.report.rows import document_rows, rating_rows
from debiasdpo.storage.reading import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_TICKS = 8  # whose labels do not touch

Cells = Mapping[float, Sequence[float]]  # score level -> ratings of documents with that score


def calibration(group: Group) -> Drawing | None:
    """Mean neutral rating by the experts' score, before and after, a panel a rubric."""
    scales = _scales(group)
    found = {model: _by_score(group, model, scales) for model in group.models}
    rubrics = sorted({rubric for cells in found.values() for rubric in cells})
    if not rubrics:
        return None
    name = file_name("calibration", group)
    lines = math.ceil(len(rubrics) / 2)
    with style(name):
        figure = canvas(
            2.25 * lines - 0.45, left=0.48, bottom=0.47 + legend_room(["base model", group.method]),
            top=0.26,
        )  # fmt: skip
        figure.subplots_adjust(hspace=0.4, wspace=0.2)
        panels = figure.subplots(lines, min(2, len(rubrics)), squeeze=False).flatten()
        for axes in panels[len(rubrics) :]:
            axes.set_axis_off()
        titles = shortened(rubrics, lambda name: shorter(name, 28))
        for axes, rubric, title in zip(panels, rubrics, titles, strict=False):
            for model in group.models:
                _calibrated(axes, found[model].get(rubric, {}), model, group)
            scale = scales[rubric]
            low, high = scale.low, scale.high
            axes.plot(
                [low, high], [low, high], color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=0
            )
            ticks = _ticks(scale)
            line = (
                high - low
            ) / 18  # a line of counts, of which there are two where there are many
            two = len(scale.levels) > len(ticks)
            for i, (level, ratings) in enumerate(sorted(found["base"].get(rubric, {}).items())):
                axes.text(
                    level, low - (2.8 if two and i % 2 else 1.2) * line, str(len(ratings)),
                    ha="center", color=GREY, fontsize=7.5,
                )  # fmt: skip
            below = (3.4 if two else 1.8) * line
            axes.set(xlim=(low - 1.5 * line, high + 1.5 * line), aspect="equal",
                     ylim=(low - below, high + 1.5 * line))  # fmt: skip
            axes.set_xticks(ticks, [points(tick) for tick in ticks])
            axes.set_yticks(ticks, [points(tick) for tick in ticks])
            axes.set_title(title)
            axes.set_xlabel("score (points)")
        for axes in panels[::2]:
            axes.set_ylabel("mean rating (points)")
        legend(figure, panels[0])
        caption = (
            "Ratings of neutral prompts by the experts' scores; below, how many ratings of the base model are"
            f" of documents with that score, over {seeds(group)}. Dotted: ratings equal to scores. A flat"
            " line is a rater that hardly tells good from poor. Bars: 95 % of the mean, as if all ratings"
            " were independent; none for a single one."
        )
        return draw(figure, name, "Calibration of ratings against scores", caption)


def _ticks(scale: Scale) -> tuple[float, ...]:
    """Levels that are evenly far from each other, both ends among them if there are few enough."""
    levels = scale.levels
    steps = [k for k in range(1, len(levels)) if (len(levels) - 1) % k == 0]
    return levels[:: next(k for k in steps if (len(levels) - 1) // k < _MOST_TICKS)]


def _by_score(
    group: Group, model: str, scales: Mapping[str, Scale]
) -> dict[str, dict[float, list[float]]]:
    """Rubric -> level nearest to the score -> neutral ratings, of all seeds."""
    cells: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in group.runs:
        scores = {d["id"]: d["scores"] for d in document_rows(run)}
        for row in rating_rows(run, model):
            score = number(scores.get(row["document"], {}).get(row["rubric"]))
            rating = number(row["rating"])
            if (
                row["rubric"] in scales
                and row["category"] is None
                and not row["repeat"]
                and rating is not None
                and score is not None
            ):
                cells[row["rubric"]][scales[row["rubric"]].nearest(score)].append(rating)
    return cells


def _scales(group: Group) -> dict[str, Scale]:
    """The scale of each rubric that the configuration tells."""
    found = {}
    for name, rubric in group.runs[0].rubrics.items():
        low, high = number(rubric.get("low")), number(rubric.get("high"))
        step = number(rubric.get("step", 1))
        if low is not None and high is not None and step and low < high:
            found[name] = Scale(low, high, step)
    return found


def _calibrated(axes: "Axes", cells: Cells, model: str, group: Group) -> None:
    levels = sorted(cells)
    means = [float(np.mean(cells[level])) for level in levels]
    errors = [_half_width(cells[level]) for level in levels]
    base = model == "base"
    colour, marker = (BLACK, "o") if base else mark(group.method)
    axes.errorbar(
        [level + (-0.06 if base else 0.06) for level in levels], means, yerr=errors, color=colour,
        marker="o" if base else marker, markersize=5, linewidth=1.2, elinewidth=1,
        linestyle=(0, (4, 2)) if base else "-", markerfacecolor="white" if base else colour,
        label="base model" if base else group.method,
    )  # fmt: skip


def _half_width(ratings: Sequence[float]) -> float:
    """Of the 95 % interval of their mean, by Student; 0 for a single one, which has none."""
    count = len(ratings)
    if count < 2:
        return 0.0
    return float(-stdtrit(count - 1, 0.025) * np.std(ratings, ddof=1)) / math.sqrt(count)
