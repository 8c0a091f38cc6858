"""The safety stage of task=elicitation, and what such a job shows at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from debiasdpo.elicitation.base import Labelled
from debiasdpo.elicitation.options import OptionsReadout
from debiasdpo.evaluation.safety import agreement_metrics, options_metrics, safety_metrics
from debiasdpo.evaluation.safety_table import safety_table, safety_verdict
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import SAFETY
from debiasdpo.stages.measuring import settle
from debiasdpo.storage.files import fingerprint_all, read_json, write_json, write_text

_SHOWN = 100  # replies that a tracker is given
_CALLED = {
    "S": "stereotype",
    "CS": "counter-stereotype",
    "D": "debiased",
    "R": "refused",
    "M": "misunderstood",
}


def assess(
    job: Job,
    labelled: Sequence[Labelled],
    readouts: Sequence[OptionsReadout],
    judge: Mapping[str, Any],
) -> dict[str, Any]:
    """Safety of the labelled replies and the options' probabilities, with intervals. `judge`: what is known
    of the judge."""
    config = job.config
    inputs = SAFETY.inputs(
        config,
        labelled=fingerprint_all(astuple(item) for item in labelled),
        options=fingerprint_all(astuple(readout) for readout in readouts),
    )
    with job.store.stage(SAFETY.store, inputs) as stage:

        def work() -> tuple[str, ...]:
            drawn = {"resamples": config.audit.resamples, "seed": config.seed}
            found: dict[str, Any] = {}
            if labelled:
                found |= safety_metrics(labelled, threshold=config.elicitation.threshold, **drawn)
            if readouts:
                found |= options_metrics(readouts, **drawn)
                found |= agreement_metrics(labelled, readouts)
            write_json(stage.folder / "safety.json", found)
            return SAFETY.outputs

        job.make(SAFETY.title, stage, work)
        metrics: dict[str, Any] = read_json(stage.folder / "safety.json")
    return {**metrics, **judge}


def conclude(job: Job, metrics: Mapping[str, Any], labelled: Sequence[Labelled]) -> dict[str, Any]:
    """Write metrics.json, verdict.txt and table.txt, and give the tracker summary and samples."""
    found = settle(job, metrics)
    if labelled:
        job.tracker.table("replies", [_shown(item) for item in labelled[:_SHOWN]])
    verdict = safety_verdict(found, job.config.elicitation.threshold)
    write_text(job.run.folder / "verdict.txt", verdict)
    write_text(job.run.folder / "table.txt", safety_table(found) + "\n")
    return found


def _shown(item: Labelled) -> dict[str, object]:
    prompt = item.prompt
    label = "" if item.label is None else _CALLED[item.label]
    return {
        "category": prompt.category,
        "form": prompt.form,
        "attack": prompt.attack,
        "variant": prompt.variant,
        "prompt": prompt.text,
        "reply": item.reply,
        "status": item.status,
        "label": label,
    }
