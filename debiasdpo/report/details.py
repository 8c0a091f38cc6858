"""Figures of one group: shifts by context and polarity, and training curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from debiasdpo.config.shown import counted
from debiasdpo.report import names
from debiasdpo.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Drawing,
    canvas,
    draw,
    legend,
    legend_room,
    room,
    style,
    wrapped,
)  # fmt: skip
from debiasdpo.report.groups import SIDES, Group
from debiasdpo.report.values import Value, notes_of
from debiasdpo.storage.reading import Types, number, read_mapping, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour, marker, and how far above the middle of a category's row.
_SIDES = {
    "flattering": (VERMILLION, "^", -0.27),
    "unflattering": (BLUE, "v", 0.1),
    "placebo": (GREY, "o", -0.08),
}


def file_name(kind: str, group: Group) -> str:
    return names.file_name(kind, group.model, group.data, group.trained_on, group.label)


def shifts(group: Group) -> Drawing | None:
    """Mean shift under flattering and unflattering statements of each category, before and after."""
    values = {
        (category, side, model): value
        for category, side, key in group.sides()
        for model in group.models
        if (value := group.value(str(key._replace(of=model)))) is not None
    }
    categories = list(dict.fromkeys(category for category, _, _ in values))
    if not categories:
        return None
    name = file_name("shifts", group)
    with style(name):
        labels = names.shortened([_starred(c, group) for c in categories], wrapped)
        hollow, filled = "hollow: base model", f"filled: {group.method}"
        below = 0.47 + legend_room([*SIDES, hollow, *([filled] if len(group.models) > 1 else [])])
        drawn = canvas(0.56 * len(categories), left=room(labels), bottom=below)
        axes = drawn.add_subplot()
        for (category, side, model), value in values.items():
            colour, marker, offset = _SIDES[side]
            y = categories.index(category) + offset + (0.17 if model == "tuned" else 0)
            _dot(axes, value, y, colour, marker, hollow=model == "base")
        for side in SIDES:
            if any(side == known for _, known, _ in values):
                axes.plot([], [], _SIDES[side][1], color=_SIDES[side][0], label=side)
        axes.plot([], [], "s", color=BLACK, markerfacecolor="white", label=hollow)
        if len(group.models) > 1:
            axes.plot([], [], "s", color=BLACK, label=filled)
        axes.axvline(0, color=BLACK, linewidth=1)
        axes.set_yticks(range(len(categories)), labels)
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        for row in range(1, len(categories)):
            axes.axhline(row - 0.5, color="#e3e3e3", linewidth=0.7)
        axes.set_xlabel("mean shift: rating with − without (points)")
        legend(drawn, axes)
        trained = " * trained on." if set(group.shown_in_training) & set(categories) else ""
        caption = (
            f"0: the statement did not move ratings on average.{trained} Bars: 95 % intervals;"
            f" {seeds(group)}."
        )
        notes = notes_of((f"{c}, {s}, {m}", value) for (c, s, m), value in values.items())
        title = f"{group.title}: shift by context and polarity"
        return draw(drawn, name, title, caption, notes)


def _dot(axes: "Axes", value: Value, y: float, colour: str, marker: str, *, hollow: bool) -> None:
    if value.mean is None:
        return
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [y, y], color=colour, linewidth=1.2 if hollow else 2)
    axes.plot(
        [value.mean], [y], marker, color=colour, markersize=6.5, markeredgewidth=1.3,
        markerfacecolor="white" if hollow else colour,
    )  # fmt: skip


def _starred(category: str, group: Group) -> str:
    return f"{category} *" if category in group.shown_in_training else category


def seeds(group: Group) -> str:
    return counted(group.seeds, "seed", "seeds")


# --- training curves

_PANELS: tuple[tuple[str, str, tuple[tuple[str, str, str, Any], ...]], ...] = (
    ("validation", "bias (points)", (
        ("bias_trained", "trained", BLUE, "-"),
        ("bias_unseen", "unseen", VERMILLION, (0, (5, 2))),
        ("bias_placebo", "placebo", GREY, (0, (1, 1.5))),
    )),
    ("validation", "bias / spread", (
        ("relative_bias_trained", "trained", BLUE, "-"),
        ("relative_bias_unseen", "unseen", VERMILLION, (0, (5, 2))),
        ("relative_bias_placebo", "placebo", GREY, (0, (1, 1.5))),
    )),
    ("validation", "Spearman", (
        ("spearman", "all prompts", BLACK, "-"),
        ("spearman_neutral", "neutral ones", GREEN, (0, (5, 2))),
    )),
    ("steps", "loss", (
        ("train/loss", "total", BLACK, "-"),
        ("train/dpo", "DPO", BLUE, (0, (5, 2))),
        ("train/sft", "SFT", ORANGE, (0, (1, 1.5))),
        ("train/consistency", "consistency", PURPLE, (0, (4, 1, 1, 1))),
    )),
)  # fmt: skip


def training_curves(group: Group) -> Drawing | None:
    """What validation and the loss did over the steps, a line a seed, and which step was kept."""
    histories = [h for run in group.runs if (h := _history(run)) is not None]
    if not histories:
        return None
    name = file_name("training", group)
    panels = [p for p in _PANELS if any(_series(h[p[0]], s[0])[0] for h in histories for s in p[2])]
    if not panels:
        return None
    with style(name):
        figure = canvas(1.6 * len(panels), left=0.55, bottom=0.45, top=0.28)
        figure.subplots_adjust(hspace=0.32)
        all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (source, title, series) in zip(all_axes, panels, strict=True):
            for key, label, colour, dashes in series:
                for number_of, history in enumerate(histories):
                    x, y = _series(history[source], key)
                    if not x:
                        continue
                    axes.plot(
                        x, y, color=colour, linestyle=dashes, linewidth=1.5,
                        alpha=1 if len(histories) == 1 else 0.75,
                        marker="o" if len(x) < 3 else "", markersize=3.5,
                        label="_" if number_of else label,
                    )  # fmt: skip
            axes.set_title(title)
            if source == "validation":
                for history in histories:
                    if history["kept"] is not None:
                        axes.axvline(history["kept"], color=GREY, linewidth=1, zorder=0)
            if title.startswith("bias"):
                axes.set_ylim(bottom=0)
            axes.legend(
                loc="lower right",
                bbox_to_anchor=(1.02, 0.98),
                ncols=4,
                borderaxespad=0,
                handlelength=2,
                columnspacing=1,
                handletextpad=0.4,
            )
        all_axes[-1].set_xlabel("optimiser step")
        all_axes[-1].xaxis.get_major_locator().set_params(integer=True)
        caption = (
            f"Bias, bias / spread and Spearman on validation documents; {seeds(group)}, a line each. Vertical"
            " lines: the steps whose weights were kept, of those with little enough of both biases the most"
            " accurate; best_step.json of a run says why."
        )
        return draw(figure, name, "Training curves", caption)


_STEP: Types = {"step": int}


def _history(run: Any) -> dict[str, Any] | None:
    folder = run.folder / "training"
    if not folder.is_dir() or (folder / "head.json").exists():  # a head is fitted in one step
        return None
    read = {
        n: read_rows(folder / f"{n}.jsonl", _STEP, run.notes)[0] for n in ("steps", "validation")
    }
    choice = read_mapping(folder / "best_step.json", run.notes)
    return {**read, "kept": number(choice.get("step"))}


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one curve, of the rows in which it is defined."""
    points = [(number(r["step"]), number(r.get(key))) for r in rows]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]
