"""Elicitation of several models and by several judges: each two on the same prompts, and the judges."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from debiasdpo.config.elicitation import ITSELF
from debiasdpo.elicitation.base import Labelled
from debiasdpo.elicitation.cells import Rates
from debiasdpo.elicitation.comparison import assess_class, compare
from debiasdpo.elicitation.judge import KINDS, agreement_of_judges, best_judge
from debiasdpo.evaluation.resistance import compared_keys, p_key, resistance_rows
from debiasdpo.metrics import holm
from debiasdpo.metrics.agreement import Agreement, agreement_of
from debiasdpo.report import alike
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.labelled import labelled_of
from debiasdpo.report.values import Value
from debiasdpo.storage.reading import note

_RESAMPLES, _PERMUTATIONS = 1000, 1999
_FOLD = 20  # rows
_SEED = Column("seed", "seed", "count")
_FIGURES = {
    "safety": better("safety", "more"), "share/R": "refused", "share/D": "debiased",
    "share/S": better("stereotyped", "less"),
    "expected_safety_reduction": better("expected safety reduction", "less"),
}  # fmt: skip


_CLASS_FIGURES = {**{name: better(name, "more") for name in Rates._fields}, **_FIGURES}


class _Same(NamedTuple):
    """What models of a class have in common."""

    data: str
    judge: str
    seed: int | None
    prompts: frozenset[tuple[str, str]]
    asked: frozenset[tuple[alike.Setting, str]]


def models_table(runs: Sequence[Run]) -> Table:
    """Each two models with the same prompts, judge and seed, asked and judged alike: the second less the
    first."""
    compared = [
        (one, two, compare(*both, resamples=_RESAMPLES, permutations=_PERMUTATIONS))
        for one, two in _pairs(runs)
        if one.model != two.model and judge_of(one) == judge_of(two)
        if _share_prompts(both := (labelled_of(one), labelled_of(two)))
        if _asked_alike(one, two)
    ]
    adjusted = holm([found["safety"].p for _, _, found in compared])
    rows: list[tuple[Cell, ...]] = []
    for (one, two, found), p in zip(compared, adjusted.tolist(), strict=True):
        safety = found["safety"]
        head = two.data, judge_of(two), two.seed, two.named, one.named
        cells: list[Cell] = [*head, Value(safety.prompts)]
        for key in _FIGURES:
            d = found.get(key)
            cells.append(None if d is None else _value(d.value, d.low, d.high))
        rows.append((*cells, _value(safety.p), _value(p)))
    return Table(
        "safety_versus", "Two models on the same prompts",
        "The one model less the other, on the prompts to which both have a labelled reply. Intervals (95 %)"
        " are over base prompts, which are drawn for both together; p (two-sided) of safety by swapping the"
        f" replies to whole base prompts. Holm: adjusted for the {len(rows)} comparisons of this table.",
        (
            Column("data", "data", "text"), Column("judge", "judge", "text"), _SEED,
            Column("model", "model", "text"), Column("against", "less", "text"),
            Column("prompts", "base prompts", "count"),
            *(Column(key.replace("/", "_"), title, "signed") for key, title in _FIGURES.items()),
            Column("p", "p", "p"), Column("p_holm", "p (Holm)", "p"),
        ),
        tuple(rows), section=2, folded=len(rows) > _FOLD, compete=False,
    )  # fmt: skip


def changes_table(runs: Sequence[Run]) -> Table:
    """What a training changed of how a model resists, in the run that trained it."""
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        prefix = "" if run.elicits else "elicitation/"
        metrics = {
            key.removeprefix(prefix): value
            for key, value in run.metrics.items()
            if key.startswith(prefix)
        }
        for name, key in resistance_rows(metrics):
            if f"change/{key}" in metrics:
                cells = (run.value(f"{prefix}{of}") for of in compared_keys(key))
                p = run.metric(p_key(f"{prefix}change/{key}"))
                head = run.named, run.data, run.method, run.seed
                rows.append((*head, name.strip(), *cells, None if p is None else _value(p)))
    return Table(
        "resistance", "What a training changes",
        "The same prompts to the model as it is and as trained; figures of labels are of the prompts that"
        " have one of both. Intervals (95 %) are over base prompts, which"
        " are drawn for both together; p (two-sided) by swapping both models' answers to whole base prompts,"
        " not adjusted, but for the safety of categories, whose p are adjusted for their number (Holm).",
        (
            Column("model", "model", "text"), Column("data", "data", "text"),
            Column("method", "method", "text"), _SEED,
            Column("figure", "figure", "text"), Column("before", "before"), Column("after", "after"),
            Column("change", "change", "signed"), Column("p", "p", "p"),
        ),
        tuple(rows), section=4, folded=len(rows) > _FOLD,
    )  # fmt: skip


def classes_table(runs: Sequence[Run], classes: Mapping[str, Sequence[str]]) -> Table:
    """Each class of models, by the models' names: means of the figures of those that ran with the same
    prompts, judge and seed, asked and judged alike."""
    found: dict[_Same, dict[str, list[Labelled]]] = {}
    wanted = {model for models in classes.values() for model in models}
    for run in _judged(runs):
        labelled = labelled_of(run)
        prompts = frozenset(item.question for item in labelled if item.prompt.attack is None)
        asked = frozenset({**alike.elicited(run.settings), **alike.attacked(run.settings)}.items())
        same = _Same(run.data, judge_of(run), run.seed, prompts, asked)
        by_model = found.setdefault(same, {})
        if run.model in by_model and run.model in wanted:
            note(run.notes, f"not in --class: another run of {run.model} with these prompts is")
        by_model.setdefault(run.model, labelled)
    rows: list[tuple[Cell, ...]] = []
    ways: dict[_Same, str] = {}
    for judge in {same.judge for same in found}:
        mine = [same for same in found if same.judge == judge]
        ways |= zip(mine, alike.apart([dict(same.asked) for same in mine]), strict=True)
    for same, by_model in found.items():
        for name, models in classes.items():
            there = [model for model in models if model in by_model]
            if not there:
                continue
            figures = assess_class({m: by_model[m] for m in there}, resamples=_RESAMPLES)
            cells = [
                _value(*figures[key][:3]) if key in figures else None for key in _CLASS_FIGURES
            ]
            label = f"{name} ({ways[same]})" if ways[same] else name
            rows.append((same.data, same.judge, same.seed, label, ", ".join(there), *cells))
    return Table(
        "safety_classes", "Classes of models",
        "Means of the models' figures; intervals (95 %) are over base prompts, each drawn for all models of"
        " the class together: they speak of other prompts, not of other models.",
        (
            Column("data", "data", "text"), Column("judge", "judge", "text"), _SEED,
            Column("class", "class", "text"), Column("models", "models", "text"),
            *(Column(key.replace("/", "_"), title) for key, title in _CLASS_FIGURES.items()),
        ),
        tuple(rows), section=2,
    )  # fmt: skip


def judges_table(runs: Sequence[Run]) -> Table:
    """Each judge on the control set: the one with the highest kappa is set apart."""
    found = _judges(runs)
    best = best_judge(found) if found else None
    rows: list[tuple[Cell, ...]] = []
    for name, a in sorted(found.items(), key=lambda item: -item[1].kappa):
        unread = sum(row[-1] for row in a.confusion) / a.n
        rows.append((
            name, Value(a.n), _value(a.kappa, *a.interval()), _value(a.standard_error), _value(a.z),
            _value(a.p), _value(a.macro_f1), _value(a.observed), _value(unread),
        ))  # fmt: skip
    return Table(
        "judges", "Judges on the control set",
        "Cohen's kappa with people's labels, its standard error, and z and p of no agreement beyond chance"
        " (Fleiss, Cohen & Everitt 1969). What a judge left without a label counts against it. The judge with"
        " the highest kappa is set apart.",
        (
            Column("judge", "judge", "text"), Column("replies", "replies", "count"),
            Column("kappa", better("kappa", "more")), Column("se", "standard error"), Column("z", "z"),
            Column("p", "p", "p"), Column("macro_f1", better("macro-F1", "more")),
            Column("observed", "same label", "percent"), Column("unread", "unread", "percent"),
        ),
        tuple(rows), strong=frozenset(n for n, row in enumerate(rows) if row[0] == best),
    )  # fmt: skip


def judges_agree_table(runs: Sequence[Run]) -> Table:
    """Each two judges of the same model's replies."""
    rows: list[tuple[Cell, ...]] = []
    for one, two in _pairs(runs):
        if one.model != two.model or judge_of(one) == judge_of(two):
            continue
        a = _between(labelled_of(one), labelled_of(two))
        if a.n:
            cells = Value(a.n), _value(a.kappa, *a.interval()), _value(a.observed)
            head = one.named, one.data, one.seed, judge_of(one), judge_of(two)
            rows.append((*head, *cells))
    return Table(
        "judges_agree", "Two judges of the same replies",
        "Cohen's kappa of the two judges' labels, of the replies that both could label.",
        (
            Column("model", "model", "text"), Column("data", "data", "text"), _SEED,
            Column("judge", "judge", "text"), Column("other", "and", "text"),
            Column("replies", "replies", "count"), Column("kappa", "kappa"),
            Column("observed", "same label", "percent"),
        ),
        tuple(rows), folded=len(rows) > _FOLD,
    )  # fmt: skip


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    """Each two runs with labels of the same data and seed."""
    return (
        (one, two) for one, two in combinations(_judged(runs), 2)
        if (one.data, one.seed) == (two.data, two.seed)
    )  # fmt: skip


def _judged(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.elicits and "safety" in run.metrics]


def _share_prompts(both: tuple[Sequence[Labelled], Sequence[Labelled]]) -> bool:
    one, two = ({item.question for item in items if item.label is not None} for items in both)
    return bool(one & two)


def _asked_alike(one: Run, two: Run) -> bool:
    """Whether both were asked and judged in the same way; where not, the runs get a note."""
    both = [alike.elicited(run.settings) for run in (one, two)]
    apart = alike.differing(both)
    for run, mine, other in ((one, both[0], two), (two, both[1], one)):
        if apart:
            why = alike.named(mine, apart)
            note(run.notes, f"not compared with {other.named}: this one has {why}")
    return not apart


def _between(one: Sequence[Labelled], two: Sequence[Labelled]) -> Agreement:
    others = {(item.prompt.id, item.reply): item.label for item in two}
    shared = [item for item in one if (item.prompt.id, item.reply) in others]
    return agreement_of_judges(
        [item.label for item in shared],
        [others[item.prompt.id, item.reply] for item in shared],
    )


def _judges(runs: Sequence[Run]) -> dict[str, Agreement]:
    """What each judge reached on the control set, by its name; of judges of one name that reached something
    else, with the settings in which they differ."""
    by_name: dict[str, dict[tuple[tuple[int, ...], ...], tuple[Agreement, alike.Settings]]] = {}
    for run in runs:
        if agreement := _on_control_set(run):
            own = {key: value for key, value in run.settings.items() if key[0] == "judge"}
            by_name.setdefault(judge_of(run), {}).setdefault(agreement.confusion, (agreement, own))
    found = {}
    for name, reached in by_name.items():
        agreements, settings = zip(*reached.values(), strict=True)
        labels = alike.apart(settings)
        for number, (label, agreement) in enumerate(zip(labels, agreements, strict=True), 1):
            also = label if labels.count(label) == 1 else f"{label} #{number}".strip()
            found[f"{name} ({also})" if len(reached) > 1 else name] = agreement
    return found


def _on_control_set(run: Run) -> Agreement | None:
    """From the confusion that metrics.json has."""
    if "judge/kappa" not in run.metrics:
        return None
    columns = (*KINDS, "none")
    counts = [[run.metric(f"judge/confusion/{a}/{b}") or 0 for b in columns] for a in KINDS]
    return agreement_of(counts, KINDS)


def judge_of(run: Run) -> str:
    """A run's judge; of a model that judges itself, the model's name."""
    return run.model if run.judge == ITSELF else run.judge


def _value(mean: float, low: float = math.nan, high: float = math.nan) -> Value:
    """With what is undefined left out."""
    known, below, above = (x if math.isfinite(x) else None for x in (mean, low, high))
    return Value(
        known, below, above, note="" if known is not None else "undefined for these labels"
    )
