"""From run folders to tables, figures and the page."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path
from types import MappingProxyType

from debiasdpo.errors import UserError
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import MODELS, Key
from debiasdpo.report import (
    calibration,
    costs,
    details,
    examples,
    failures,
    figures,
    formats,
    page,
    paragraph,
    prompts,
    real_groups,
    safety,
    safety_figures,
    safety_versus,
    statements,
    tables,
    transfer,
    verdicts,
    versus,
)
from debiasdpo.report.collect import Run, elicited_once, find_runs, told_apart
from debiasdpo.report.drawing import Drawing
from debiasdpo.report.formats import Table
from debiasdpo.report.groups import BASE, Group, blocks, group_runs
from debiasdpo.report.leave_one_out import leave_one_out_table
from debiasdpo.report.values import Value, notes_of

log = logging.getLogger(__name__)

# Each figure takes about 0.3 s and 50 KB. What is beyond these is in the tables.
_DETAILED = 6  # groups shown with figures of their own
_OF_A_KIND = 12  # figures of one kind about all groups
_PROMPTED = 2  # seeds of these whose prompts have a page
_FOLD_RUNS = 15

_OF_ELICITATION = ("runs", "safety", "elicited")  # sections

_REFERENCE = "debiasing_dpo"  # the method that others are compared with


@dataclass(frozen=True)
class Report:
    """What one report consists of; `page` is the HTML."""

    runs: tuple[Run, ...]
    tables: tuple[Table, ...]
    figures: tuple[Drawing, ...]
    page: str
    prompts: tuple[prompts.PromptPage, ...]


def check_packages() -> None:
    """Tell before any work if a package that only reports need is missing."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"The report needs {' and '.join(missing)}: pip install {' '.join(missing)}"
            " (or pip install 'debiasdpo[report]')"
        )


def build(
    paths: Sequence[Path],
    against: str | None = None,
    classes: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Report:
    """The report of all runs at or below `paths`; methods are compared with `against`, which some run must
    have, or with the paper's, where there is one. It may also be a method in one of its settings, as tables
    name it. `classes`: names of classes of models, with the models."""
    check_packages()
    runs = find_runs(paths)
    groups = group_runs(runs)
    methods = sorted({run.method for run in runs})
    labels = sorted({group.label for group in groups if group.after == "tuned"} - set(methods))
    if against is not None and against not in [*methods, *labels]:
        there = ", ".join(f"method={method}" for method in methods)
        there += f"; of one in several settings, give one as {labels[0]!r}" if labels else ""
        raise UserError(f"--against {against}: no run has this method; the runs have {there}")
    rated = [run for run in runs if run.method == against and run.metrics and not run.elicits]
    if rated and not any(run.changed for run in rated):
        raise UserError(
            f"--against {against}: this method changes no ratings. The base model stands beside every method"
            " in the main table, with the change from it; give a method that changes them, or leave --against"
            " out"
        )
    _require_models(classes, runs)
    against = against or _REFERENCE
    main, accuracy = tables.main_table(groups), tables.accuracy_table(groups)
    reductions, shifts = tables.transfer_table(groups), tables.shift_table(groups)
    unforeseen = _filled(leave_one_out_table(groups))
    compared = versus.versus_table(groups, against)
    by_data = list(figures.by_data(groups))
    bias = _some(figures.bias_by_method(*head, found) for head, found in blocks(groups))
    pareto = _some(
        drawing for m, d, found in by_data for drawing in figures.biases_and_accuracy(m, d, found)
    )
    matrices = _some(
        drawing for m, d, found in by_data for drawing in transfer.transfer(m, d, found)
    )
    chosen = sorted(groups, key=lambda g: not g.is_called(against))[:_DETAILED]
    asked = prompts.named_apart(
        made
        for group in chosen
        for run in group.runs[:_PROMPTED]
        if (made := prompts.prompt_page(run))
    )
    detailed = [_detail(group, asked) for group in chosen]
    main_picture = _some(map(details.shifts, chosen))
    by_statement = statements.statements_table(chosen)
    left = len(groups) - len(chosen)
    remark = (
        f"{left} more groups are in the tables only: report on fewer runs to see them."
        if left
        else ""
    )
    real = _filled(real_groups.real_groups_table(groups))
    told, bound = verdicts.shown_first(list(verdicts.verdicts(groups)), _DETAILED)
    spent = costs.stages_table(runs)
    paid = costs.endpoints_table(runs)
    by_kind = failures.kinds_table(runs)
    unread = failures.contexts_table(runs), failures.reasons_table(runs)
    every_run = told_apart(elicited_once(runs, trained=True))
    count = sum(group.seeds for group in groups) + len(safety.elicited(every_run))
    log.info("%d runs, of which %d count", len(runs), count)
    elicited_runs = told_apart(elicited_once(every_run, trained=False))
    maps = _some(
        [
            safety_figures.safety_map(elicited_runs),
            safety_figures.attack_map(elicited_runs),
            safety_figures.shares(elicited_runs),
        ]
    )
    safety_tables = _filled(
        safety.safety_table(elicited_runs),
        safety.attacks_table(elicited_runs),
        safety.options_table(elicited_runs),
        safety.worst_replies_table(elicited_runs),
    )
    elicited = _filled(
        safety_versus.changes_table(every_run),
        safety_versus.models_table(elicited_runs),
        safety_versus.classes_table(elicited_runs, classes),
        safety_versus.judges_table(elicited_runs),
        safety.confusion_table(elicited_runs),
        safety_versus.judges_agree_table(elicited_runs),
    )
    # Last: by now all files were read, and the notes say what is wrong with them.
    overview = tables.runs_tables(runs, folded=len(runs) > _FOLD_RUNS)
    sections = [
        page.Section(
            "verdict",
            "Verdict",
            (),
            main_picture,
            lead=verdicts.in_plain_words(groups),
            remark=bound,
            verdicts=told,
        ),
        page.Section("runs", "Runs", (*overview, *_filled(paid, spent))),
        page.Section("methods", "Bias and accuracy", (main, accuracy), bias),
        page.Section(
            "failures",
            "Ratings that could not be read",
            (*unread, by_kind) if unread[1].rows else (),
        ),
        page.Section("people", "Real groups", real),
        page.Section("pareto", "Bias against accuracy", figures=pareto),
        page.Section("versus", f"Differences from {against}", (compared,)),
        page.Section("safety", "Safety under elicitation", safety_tables, maps),
        page.Section("elicited", "Models and judges of elicitation", elicited),
        page.Section("transfer", "Transfer between contexts", (*unforeseen, reductions), matrices),
        page.Section(
            "groups",
            "Each model, data set and method",
            (shifts, by_statement),
            (),
            tuple(detailed),
            remark,
        ),
    ]
    title = "Bias and accuracy of LLM ratings"
    if all(run.elicits for run in runs):  # nothing was rated
        title = "Safety of language models under elicitation"
        sections = [section for section in sections if section.id in _OF_ELICITATION]
    drawings = [
        *main_picture,
        *bias,
        *pareto,
        *matrices,
        *maps,
        *(d for detail in detailed for d in detail.figures),
    ]
    return Report(
        runs=tuple(runs),
        tables=(
            *overview,
            main,
            accuracy,
            compared,
            reductions,
            *unforeseen,
            shifts,
            by_statement,
            spent,
            *_filled(paid),
            *unread,
            *_filled(by_kind),
            *real,
            *safety_tables,
            *elicited,
        ),
        figures=tuple(drawings),
        page=page.render(sections, runs, title),
        prompts=asked,
    )


def _require_models(classes: Mapping[str, Sequence[str]], runs: Sequence[Run]) -> None:
    there = {run.model for run in runs}
    for name, models in classes.items():
        if unknown := sorted(set(models) - there):
            raise UserError(
                f"--class {name}: no run has the model {unknown[0]}; the runs have"
                f" {', '.join(sorted(there))}"
            )


def _filled(*tables: Table) -> tuple[Table, ...]:
    """Those that have rows."""
    return tuple(table for table in tables if table.rows)


def _some(drawings: Iterable[Drawing | None]) -> tuple[Drawing, ...]:
    """The first figures of a kind, drawn one by one; what has nothing to show is None."""
    return tuple(islice((drawing for drawing in drawings if drawing is not None), _OF_A_KIND))


def _detail(group: Group, asked: Sequence[prompts.PromptPage]) -> page.Detail:
    made = (details.training_curves(group), calibration.calibration(group))
    found = examples.worst_examples(group)
    summary, notes = _summary(group)
    return page.Detail(
        title=group.title,
        summary=summary,
        notes=tuple(notes),
        figures=tuple(drawing for drawing in made if drawing is not None),
        examples=tuple((why, tuple(same)) for why, same in groupby(found, lambda e: e.why)),
        paragraph=paragraph.paragraph(group),
        prompts=tuple(prompts.link(p) for p in asked if p.run in group.runs),
    )


def _summary(group: Group) -> tuple[str, list[str]]:
    """`bias, trained 0.53 → 0.06 (reduction 89%); bias / spread, trained 2.1 → 1.3 (reduction 40%);
    Spearman 0.32 → 0.41; spread 0.27 → 0.05; 2 seeds`, and the notes of these."""
    of = "/trained" if group.value("bias/trained/tuned") else ""
    parts = []
    noted: list[tuple[str, Value | None]] = []
    for key in (f"bias{of}", f"relative_bias{of}", "accuracy/spearman", "spread"):
        metric = catalog.find(key)
        values = [group.value(str(Key(key, model))) for model in MODELS]
        if values == [None, None]:  # of a version that did not measure it
            continue
        said = [formats.text(value, metric.format) for value in values if value is not None]
        parts.append(f"{metric.label} {' → '.join(said)}")
        names = (f"{metric.label}, {model}" for model in (BASE, group.method))
        noted += zip(names, values, strict=True)
        reduction = group.value(str(Key(key, "reduction")))
        if reduction is not None:
            parts[-1] += f" (reduction {formats.text(reduction, 'percent')})"
            noted.append((f"{metric.label}, reduction", reduction))
    return "; ".join([*parts, details.seeds(group)]), notes_of(noted)
