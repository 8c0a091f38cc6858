"""Dose and response: what a student's figures do as it is trained for longer, as tables and a figure."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.config.study import Condition, Learns
from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.duration import FIGURES, Durations, Estimate
from debiasdpo.elicitation.fitted_judge import Tried
from debiasdpo.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    style,
)
from debiasdpo.storage.files import written_whole

_COLOURS = (BLUE, ORANGE, VERMILLION, GREEN, PURPLE, SKY, GREY)


class Point(NamedTuple):
    """A figure after so many steps, with its interval; NaN where undefined."""

    step: int
    value: float
    low: float
    high: float


class Line(NamedTuple):
    """A condition: a colour for each depth, a mark for what it learns from."""

    points: Sequence[Point]
    layers: int
    learns: Learns


class Panel(NamedTuple):
    """One figure, of each condition, and of the teacher."""

    title: str
    lines: Mapping[str, Line]
    teacher: float
    log: bool = False


_MARKS: Mapping[Learns, str] = {"soft": "o", "hard": "s", "random": "^"}


def draw_dose_response(panels: Sequence[Panel], file: Path) -> None:
    """A PNG with a panel a figure, over the steps on a logarithmic axis, left of it the untrained student.

    Controls are hollow, and joined by dashes from their first duration on: untrained they are the student
    whose soft labels they do without, and so not drawn again where that stands there.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    depths = sorted({line.layers for panel in panels for line in panel.lines.values()})
    with style("dose response"):
        columns = 3
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(3.3 * columns, 2.6 * rows), layout="constrained")
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            steps = sorted({point.step for line in panel.lines.values() for point in line.points})
            left = next(step for step in steps if step) / 2  # where the untrained student stands
            untrained = {line.layers for line in panel.lines.values() if line.learns == "soft"}
            for i, (name, line) in enumerate(panel.lines.items()):
                control = line.learns != "soft"
                again = control and line.layers in untrained
                points = [point for point in line.points if point.step or not again]
                below = [p.value - p.low for p in points]
                above = [p.high - p.value for p in points]
                colour = _COLOURS[depths.index(line.layers) % len(_COLOURS)]
                axes.errorbar(
                    [(p.step or left) * 1.03**i for p in points],
                    [p.value for p in points],
                    # A quantile of resamples may lie on the other side of the value itself.
                    yerr=[[max(0, e) for e in side] for side in (below, above)],
                    color=colour, marker=_MARKS[line.learns], markersize=5 if control else 4,
                    markerfacecolor="white" if control else colour,
                    linestyle="--" if control else "-", linewidth=1.2, elinewidth=0.8, label=name,
                )  # fmt: skip
            axes.axhline(panel.teacher, color=BLACK, linestyle=":", linewidth=1, label="teacher")
            axes.set_xscale("log", base=2)
            axes.set_xticks([step or left for step in steps], [str(step) for step in steps])
            axes.minorticks_off()
            if panel.log:
                axes.set_yscale("log")
                low, high = axes.get_ylim()
                subs = (
                    (1, 2, 5) if high < 1000 * low else (1,)
                )  # labels of many decades would overlap
                axes.yaxis.set_major_locator(LogLocator(subs=subs))
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_title(panel.title)
            axes.set_xlabel("steps")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)


# Of a page: a figure's title, and whether its axis is logarithmic.
_PANELS = {
    "p_stereotype": ("p(stereotype), two options", False),
    "attack_shift": ("its shift under attack", False),
    "fairness": ("fairness of hard labels", False),
    "mass": ("mass on the two options", True),
    "misunderstood": ("neither option nor refusal", False),
    "perplexity_synthetic": ("perplexity, synthetic text", True),
}
# With what a student says that speaks no sense: a judge has a label for it too.
_JUDGED_PANELS = {
    "judged_safety": ("safety, by the judge", False),
    "judged_S": ("stereotyped (S)", False),
    "judged_CS": ("counter-stereotyped (CS)", False),
    "judged_D": ("debiased (D)", False),
    "judged_R": ("refused (R)", False),
    "misunderstood": ("neither option nor refusal, by a rule", False),
}


def write_results(
    rows: Sequence[Mapping[str, Any]],
    prompts: Sequence[ElicitationPrompt],
    conditions: Mapping[str, Condition],
    folder: Path,
    judges: Sequence[Tried] = (),
) -> None:
    """`figures.csv`, `seeds.csv`, `correlations.csv` and `dose_response.png`; of `judges` that were tried,
    the best first, `judges.csv`, and `judged.png` of the labels. `prompts`: at least those that were asked;
    `conditions`: of the study, at least those of the rows."""
    asked = {row["base"] for row in rows[0]["options"]}
    study = Durations(rows, [prompt for prompt in prompts if prompt.id in asked])
    students = [name for name in study.conditions if name != "teacher"]
    table, by_seed, correlations = [], [], []
    for condition in study.conditions:
        for step in study.steps(condition):
            cells: dict[str, Any] = {"condition": condition, "step": step}
            for figure in FIGURES:
                found = study.estimate(condition, step, figure)
                cells |= {
                    figure: found.value,
                    f"{figure}_low": found.low,
                    f"{figure}_high": found.high,
                }
            table.append(cells)
            by_seed += [
                {"condition": condition, "step": step, "seed": seed}
                | {f: float(study.values[condition, seed, step][f][0]) for f in FIGURES}
                for seed in study.seeds(condition)
            ]
    for condition in students:
        if sum(step > 0 for step in study.steps(condition)) < 3:
            continue  # a control's end points say nothing of a dose
        for figure in FIGURES:
            found_with = study.correlation(condition, figure)
            cells = {"condition": condition, "figure": figure, "points": found_with.points}
            for name in ("spearman", "pearson"):
                e: Estimate = getattr(found_with, name)
                cells |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
            correlations.append(cells)
    kappas = [
        {
            "layer": one.layer, "penalty": one.penalty, "kappa": one.found.kappa,
            "kappa_low": one.found.interval()[0], "kappa_high": one.found.interval()[1],
            "macro_f1": one.found.macro_f1, "replies": one.found.n,
        }
        for one in judges
    ]  # fmt: skip
    tables = {"figures": table, "seeds": by_seed, "correlations": correlations, "judges": kappas}
    for name, lines in ((name, lines) for name, lines in tables.items() if lines):
        with written_whole(folder / f"{name}.csv", newline="") as stream:
            writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in line.items()} for line in lines)
    pages = {"dose_response": _PANELS, **({"judged": _JUDGED_PANELS} if judges else {})}
    for page, figures in pages.items():
        panels = [
            Panel(
                title,
                {
                    name: Line(
                        [Point(t, *study.estimate(name, t, figure)) for t in study.steps(name)],
                        conditions[name].layers,
                        conditions[name].learns,
                    )
                    for name in students
                },
                study.estimate("teacher", 0, figure).value,
                log,
            )
            for figure, (title, log) in figures.items()
        ]
        draw_dose_response(panels, folder / f"{page}.png")


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
