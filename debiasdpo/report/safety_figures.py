"""Heat maps of elicitation, a row a model: safety by category, effectiveness by attack; shares of labels."""

from collections.abc import Sequence

import numpy as np

from debiasdpo.elicitation.cells import COUNTED
from debiasdpo.evaluation.safety_table import names_after
from debiasdpo.report.collect import Run
from debiasdpo.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    Drawing,
    canvas,
    draw,
    legend,
    legend_room,
    room,
    style,
)
from debiasdpo.report.formats import text
from debiasdpo.report.names import shortened, shorter
from debiasdpo.report.safety import elicited
from debiasdpo.report.safety_versus import judge_of
from debiasdpo.report.values import Value, notes_of

_MOST_ROWS = 20  # runs in one figure; all are in the tables
_LABEL_COLOURS = dict(zip(COUNTED, (VERMILLION, BLUE, GREEN, GREY), strict=True))
_CALLED = {"S": "stereotyped", "CS": "counter-stereotyped", "D": "debiased", "R": "refused"}


def safety_map(runs: Sequence[Run]) -> Drawing | None:
    """Safety of each model by category."""
    return _map(
        runs, "category", "safety", "safety-by-category", "Safety by category", (0.0, 1.0),
        "Safety of base prompts by category: the mean of robustness and fairness. Above 0.5 (green) a"
        " category counts as safe, unless the run says otherwise.",
    )  # fmt: skip


def attack_map(runs: Sequence[Run]) -> Drawing | None:
    """What each attack takes from each model's safety."""
    return _map(
        runs, "attack", "effectiveness", "effectiveness-by-attack", "Attacks and models", (1.0, -1.0),
        "The share of safety that an attack takes, mean over attacked categories: brown is a model that gives"
        " way, green one that became safer.",
    )  # fmt: skip


def _map(
    runs: Sequence[Run], each: str, figure: str, name: str, title: str,
    ends: tuple[float, float], caption: str,
) -> Drawing | None:  # fmt: skip
    """A row a run, a column a category or an attack. `ends`: values of the worst colour and of the best."""
    found: list[tuple[Run, dict[str, Value]]] = []
    for run in elicited(runs):
        values = {
            n: run.value(f"{each}/{n}/{figure}")
            for n in names_after(run.metrics, each)
            if f"{each}/{n}/{figure}" in run.metrics
        }
        if values:
            found.append((run, values))
    found = found[:_MOST_ROWS]
    if not found:
        return None
    columns = list(dict.fromkeys(n for _, values in found for n in values))
    means = np.full((len(found), len(columns)), np.nan)
    with style(name):
        titles = _titles([run for run, _ in found])
        labels = shortened(titles, _cut)
        shown = shortened([n.replace("_", " ") for n in columns], lambda t: shorter(t, 24))
        drawn = canvas(
            _row_height(labels) * len(found),
            left=room(labels) + 0.1,
            bottom=0.62 * room(shown) + 0.1,
            top=0.1,
        )
        axes = drawn.add_subplot()
        for y, (_, values) in enumerate(found):
            for x, column in enumerate(columns):
                value = values.get(column)
                if value is not None and value.mean is not None:
                    means[y, x] = value.mean
                    at = abs((value.mean - ends[0]) / (ends[1] - ends[0]) - 0.5)
                    said = f"{value.mean:.2f}".removeprefix("0")
                    if each == "attack":
                        said = text(value, "percent").rstrip("%")
                    axes.text(
                        x, y, said, ha="center", va="center", fontsize=7.5,
                        color="white" if at > 0.35 else BLACK,
                    )  # fmt: skip
        low, high = sorted(ends)
        axes.pcolormesh(
            np.arange(len(columns) + 1) - 0.5, np.arange(len(found) + 1) - 0.5, np.ma.masked_invalid(means),
            cmap="BrBG" if ends[1] > ends[0] else "BrBG_r", vmin=low, vmax=high,
            edgecolors="white", linewidth=1,
        )  # fmt: skip
        axes.set_xticks(range(len(shown)), shown, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        notes = notes_of(
            (", ".join([*title.split("\n"), n]), v)
            for title, (_, values) in zip(titles, found, strict=True)
            for n, v in values.items()
        )
        return draw(drawn, name, title, caption, notes)


def shares(runs: Sequence[Run]) -> Drawing | None:
    """What replies to base prompts were labelled, a bar a run."""
    found = [run for run in elicited(runs) if "share/S" in run.metrics][:_MOST_ROWS]
    if not found:
        return None
    name = "label-shares"
    with style(name):
        labels = shortened(_titles(found), _cut)
        called = [_CALLED[label] for label in COUNTED]
        drawn = canvas(
            _row_height(labels) * len(found),
            left=room(labels),
            bottom=0.5 + legend_room(called),
            top=0.1,
        )
        axes = drawn.add_subplot()
        left = np.zeros(len(found))
        for label in COUNTED:
            widths = np.array([run.metric(f"share/{label}") or 0.0 for run in found])
            axes.barh(
                range(len(found)), widths, left=left, color=_LABEL_COLOURS[label],
                label=_CALLED[label], edgecolor="white",
            )  # fmt: skip
            left += widths
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of labelled replies")
        axes.grid(visible=False, axis="y")
        legend(drawn, axes)
        return draw(
            drawn, name, "What replies were labelled",
            "Base prompts, without attacks. Safety counts refused and debiased alike.",
        )  # fmt: skip


def _titles(runs: Sequence[Run]) -> list[str]:
    """Model and judge of each run; on a line below, the data, the settings and the seed by which it differs
    from others of the same model and judge."""
    names = [f"{run.model}, by {judge_of(run)}" for run in runs]
    found = []
    for run, name in zip(runs, names, strict=True):
        same = [other for other, own in zip(runs, names, strict=True) if own == name]
        data = run.data if len({other.data for other in same}) > 1 else ""
        seed = f"seed {run.seed}" if len({other.seed for other in same}) > 1 else ""
        below = ", ".join(filter(None, (data, run.apart, seed)))
        found.append(f"{name}\n{below}" if below else name)
    return found


def _cut(title: str) -> str:
    return "\n".join(shorter(line, 28) for line in title.split("\n"))


def _row_height(labels: Sequence[str]) -> float:
    """Inches that the highest label takes."""
    return 0.42 if any("\n" in label for label in labels) else 0.3
