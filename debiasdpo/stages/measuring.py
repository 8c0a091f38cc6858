"""The metrics stage, and what a job shows at its end."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debiasdpo import costs
from debiasdpo.documents.corpus import SplitCorpus, rubrics_of
from debiasdpo.evaluation import notes
from debiasdpo.evaluation.audit import Matching, audit
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.evaluation.keys import MODELS, note_key
from debiasdpo.evaluation.resistance import elicited_table, elicited_verdict
from debiasdpo.evaluation.table import results_table
from debiasdpo.evaluation.values import finite, summary
from debiasdpo.evaluation.verdict import verdict_text
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.trained import TrainedWith
from debiasdpo.stages.declarations import METRICS
from debiasdpo.stages.elicitation import stages_of
from debiasdpo.stages.ledger import write_ledger
from debiasdpo.stages.rating import Rated
from debiasdpo.storage.files import (
    JsonlFile,
    digest,
    fingerprint_all,
    read_json,
    write_json,
    write_text,
)


def measure(job: Job, corpus: SplitCorpus, rated: Mapping[str, Rated]) -> dict[str, Any]:
    """Bias and accuracy of the models whose ratings are in these files, with intervals."""
    config, test, validation = job.config, corpus.parts["test"], corpus.parts["validation"]
    matching = {name: of.matching for name, of in rated.items() if of.matching is not None}
    inputs = METRICS.inputs(
        config,
        ratings={name: digest(of.audited) for name, of in rated.items()},
        scores=fingerprint_all(
            [d.id, d.group, dict(d.scores), dict(d.experts), dict(d.facts)] for d in test
        ),
    )
    if matching:
        inputs["matching"] = {name: digest(file) for name, file in matching.items()}
        inputs["raw"] = {name: digest(of.raw) for name, of in rated.items()}
        inputs["matched"] = fingerprint_all([d.id, d.group, dict(d.scores)] for d in validation)
    with job.store.stage(METRICS.store, inputs) as stage:

        def work() -> tuple[str, ...]:
            rows = {name: JsonlFile(of.audited) for name, of in rated.items()}
            reference = Matching(
                validation,
                {name: JsonlFile(file) for name, file in matching.items()},
                {name: JsonlFile(of.raw) for name, of in rated.items()},
            )
            found = audit(config, test, corpus.rubrics, rows, reference if matching else None)
            write_json(stage.folder / "audit.json", found)
            return METRICS.outputs

        job.make(METRICS.title, stage, work)
        metrics: dict[str, Any] = read_json(stage.folder / "audit.json")
    return metrics


def _write_stages(job: Job) -> None:
    """stages.json: the job's stages in their order, what each made and what it took when it was made."""
    write_json(
        job.run.folder / "stages.json",
        {
            "stages": [
                {
                    "title": stage.title,
                    "outputs": list(stage.outputs),
                    **job.costs[stage.title].to_row(),
                }
                for stage in stages_of(job.config)
            ]
        },
    )


def conclude(
    job: Job,
    metrics: Mapping[str, Any],
    counts: Mapping[str, int],
    rated: Mapping[str, Rated],
    weights: Path | None,
    elicited: Mapping[str, Any],
    known: TrainedWith | None,
) -> dict[str, Any]:
    """Write metrics.json, verdict.txt and table.txt, and give the tracker summary, samples and adapter.
    `elicited`: metrics of prompts that elicit, of a job that asks them too; below `elicitation/`. `known`:
    of the documents that are measured on (`trained_with`)."""
    of_pairs = {f"pairs/{what}": count for what, count in counts.items()}
    of_elicited = {f"elicitation/{key}": value for key, value in elicited.items()}
    of_training = _noted(metrics, known.note) if known else {}
    found = settle(job, {**metrics, **of_training, **of_pairs, **of_elicited})
    job.tracker.table("ratings", _samples({name: of.audited for name, of in rated.items()}))
    if weights is not None:
        job.tracker.adapter(weights)
    step = max(rubric.step for rubric in rubrics_of(job.config.documents).values())
    same = nothing_kept(job.run.folder)
    verdict = verdict_text(
        found, job.config.context.categories, step, same, known.told if known else ""
    )
    table = results_table(found)
    if elicited:
        verdict = "\n".join([verdict, elicited_verdict(elicited, job.config.elicitation.threshold)])
        table = "\n\n".join([table, elicited_table(elicited)])
    write_text(job.run.folder / "verdict.txt", verdict)
    write_text(job.run.folder / "table.txt", f"{table}\n")
    return found


def _noted(metrics: Mapping[str, Any], note: str) -> dict[str, str]:
    """The note beside each accuracy of the job's raters, with those that are there already."""
    of_raters = tuple(f"/{model}" for model in MODELS)
    keys = [key for key in metrics if key.startswith("accuracy/") and key.endswith(of_raters)]
    return {note_key(key): notes.joined(metrics.get(note_key(key), ""), note) for key in keys}


def settle(job: Job, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json, with what each stage took and cost, and stages.json; returns all metrics."""
    found = {
        **metrics,
        **{f"time/{stage}_s": round(cost.seconds, 2) for stage, cost in job.costs.items()},
        **costs.cost_metrics(job.costs, job.config.gpu_hour_price),
        **write_ledger(job, job.asked),
    }
    found = {key: finite(value) for key, value in found.items()}
    write_json(job.run.folder / "metrics.json", found)
    _write_stages(job)
    job.tracker.summary(summary(found))
    return found


def _samples(ratings: Mapping[str, Path], count: int = 100) -> list[dict[str, object]]:
    """The first rows of the test part with the ratings of all models side by side."""
    tables = {m: list(itertools.islice(JsonlFile(f), count)) for m, f in ratings.items()}
    first = next(iter(tables.values()))
    keep = ("document", "rubric", "category", "polarity", "statement")
    return [
        {
            **{name: row[name] for name in keep},
            **{
                f"{model}_{what}": rows[i][what]
                for model, rows in tables.items()
                for what in ("rating", "text")
            },
        }
        for i, row in enumerate(first)
    ]
