"""The safety stage of task=elicitation, and what such a job shows at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from debiasdpo.config.elicitation import ClearbiasConfig
from debiasdpo.config.job import JobConfig
from debiasdpo.elicitation.base import Labelled
from debiasdpo.evaluation.resistance import (
    Answers,
    change_metrics,
    elicited_table,
    elicited_verdict,
)
from debiasdpo.evaluation.safety import (
    agreement_metrics,
    options_metrics,
    published_metrics,
    safety_metrics,
)
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
    job: Job, base: Answers, tuned: Answers | None, judge: Mapping[str, Any]
) -> dict[str, Any]:
    """Safety of the labelled replies and the options' probabilities, with intervals; of the trained model
    below `tuned/`, and below `change/` what is different of it. `judge`: what is known of the judge."""
    config = job.config
    content = {"base": base} if tuned is None else {"base": base, "tuned": tuned}
    inputs = SAFETY.inputs(config, **{name: _digests(of) for name, of in content.items()})
    with job.store.stage(SAFETY.store, inputs) as stage:

        def work() -> tuple[str, ...]:
            drawn = {"resamples": config.audit.resamples, "seed": config.seed}
            found = _metrics(config, base, tuned, drawn)
            if tuned is not None:
                after = _metrics(config, tuned, base, drawn)
                found |= {f"tuned/{key}": value for key, value in after.items()}
                found |= change_metrics(base, tuned, **drawn)
            write_json(stage.folder / "safety.json", found)
            return SAFETY.outputs

        job.make(SAFETY.title, stage, work)
        metrics: dict[str, Any] = read_json(stage.folder / "safety.json")
    return {**metrics, **judge}


def _digests(of: Answers) -> list[str]:
    return [
        fingerprint_all(map(astuple, items)) for items in (of.labelled, of.options, of.not_offered)
    ]


def _metrics(
    config: JobConfig, of: Answers, other: Answers | None, drawn: Mapping[str, int]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if of.labelled:
        compared = () if other is None else other.labelled
        threshold = config.elicitation.threshold
        found |= safety_metrics(of.labelled, compared, threshold=threshold, **drawn)
        if isinstance(config.prompts, ClearbiasConfig):
            found |= published_metrics(of.labelled)
    if of.options:
        found |= options_metrics(of.options, of.not_offered, **drawn)
        found |= agreement_metrics(of.labelled, of.options)
    return found


def conclude(
    job: Job, metrics: Mapping[str, Any], labelled: Sequence[Labelled], weights: Path | None
) -> dict[str, Any]:
    """Write metrics.json, verdict.txt and table.txt, and give the tracker summary, samples and adapter."""
    found = settle(job, metrics)
    if weights is not None:
        job.tracker.adapter(weights)
    if labelled:
        job.tracker.table("replies", [_shown(item) for item in labelled[:_SHOWN]])
    write_text(
        job.run.folder / "verdict.txt", elicited_verdict(found, job.config.elicitation.threshold)
    )
    write_text(job.run.folder / "table.txt", elicited_table(found) + "\n")
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
