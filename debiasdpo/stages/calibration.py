"""Ratings brought onto the experts' scale (`rate.calibration`): fitted for each rater on its own neutral
ratings of the training documents."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.metrics import Knots, fit_calibration
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import JsonlFile, digest, fingerprint_all, read_json, write_json

log = logging.getLogger(__name__)


def calibrate(job: Job, corpus: SplitCorpus, declared: Stage, ratings: Path, neutral: Path) -> Path:
    """The ratings once more, calibrated, each beside what it was before (`raw`); and, beside the file, the
    calibration (`load_calibration`). `neutral`: the same rater's ratings of the training documents."""
    scored = [[d.id, dict(d.scores)] for d in corpus.parts["train"]]
    inputs = declared.inputs(
        job.config, ratings=digest(ratings), neutral=digest(neutral), scores=fingerprint_all(scored)
    )
    file, name = declared.outputs
    with job.store.stage(declared.store, inputs) as stage:

        def work() -> tuple[str, ...]:
            found = _fit(job, corpus, JsonlFile(neutral))
            about = {
                r: {k: v.tolist() for k, v in knots._asdict().items()} for r, knots in found.items()
            }
            write_json(stage.folder / file, {"kind": job.config.rate.calibration, "rubrics": about})
            known = load_calibration(stage.folder / file)
            with (stage.folder / name).open("w", encoding="utf-8") as out:
                for row in JsonlFile(ratings):
                    out.write(json.dumps(calibrated(row, known), ensure_ascii=False) + "\n")
            return declared.outputs

        job.make(declared.title, stage, work)
        return stage.folder / name


def load_calibration(file: Path) -> dict[str, Knots]:
    """What a rater's ratings on each rubric are mapped by: calibration_base.json, calibration_tuned.json."""
    return {rubric: Knots(**knots) for rubric, knots in read_json(file)["rubrics"].items()}


def _fit(job: Job, corpus: SplitCorpus, rows: Iterable[Mapping[str, Any]]) -> dict[str, Knots]:
    kind = job.config.rate.calibration
    assert kind != "none"
    scores = {d.id: d.scores for d in corpus.parts["train"]}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in corpus.rubrics}
    unread = dict.fromkeys(corpus.rubrics, 0)
    for row in rows:
        if row["rating"] is None:
            unread[row["rubric"]] += 1
        else:
            pairs[row["rubric"]].append((row["rating"], scores[row["document"]][row["rubric"]]))
    for rubric, known in pairs.items():
        asked = len(known) + unread[rubric]
        if not known:
            raise UserError(
                f"rate.calibration: none of the {asked} ratings of training documents on {rubric} could be"
                " read; give more documents, or set rate.calibration=none"
            )
        if unread[rubric]:
            log.warning(
                "calibration of %s: without %d of %d ratings of training documents, which could not be read",
                rubric, unread[rubric], asked,
            )  # fmt: skip
    found = {}
    for rubric, known in pairs.items():
        ratings, of_experts = zip(*known, strict=True)
        scale = corpus.scales[rubric]
        found[rubric] = fit_calibration(kind, ratings, of_experts, scale.low, scale.high)
    return found


def calibrated(row: Mapping[str, Any], known: Mapping[str, Knots]) -> dict[str, Any]:
    """The row of a rating with the calibrated one, beside the rating as it was (`raw`). One that could not be
    read stays so; without calibrations all stay as they are."""
    raw = row["rating"]
    rating = raw if raw is None or not known else float(known[row["rubric"]](raw))
    return {**row, "raw": raw, "rating": rating}
