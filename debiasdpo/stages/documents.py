"""The documents stage: read, split by group, written a part after the other."""

import logging

from debiasdpo.documents.corpus import SplitCorpus, open_corpus, rubrics_of, write
from debiasdpo.documents.split import PARTS
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.stages.declarations import CALIBRATION_BASE, LOAD
from debiasdpo.stages.head import check_documents

log = logging.getLogger(__name__)


def load_documents(job: Job) -> SplitCorpus:
    """documents.jsonl: every document with its part; rows that were left out are counted."""
    config = job.config.documents
    with job.store.stage(LOAD.store, LOAD.inputs(job.config)) as stage:

        def work() -> list[str]:
            write(config, job.config.seed, stage.folder)
            return list(LOAD.outputs)

        job.make(LOAD.title, stage, work, into="documents")
        corpus = open_corpus(stage.folder, rubrics_of(config))
    log.info(
        "documents: %s%s",
        ", ".join(f"{len(corpus.parts[p])} {p}" for p in PARTS),
        "".join(f"; {count} {note}" for note, count in corpus.notes.items()),
    )
    trains = job.config.method.trains
    needed = {
        "train": "training" if trains else "rate.calibration" if CALIBRATION_BASE.needed(job.config) else "",
        "validation": "training" if trains else "audit.skill_matched" * job.config.audit.skill_matched,
    }  # fmt: skip
    for part, what in needed.items():
        if what and not corpus.parts[part]:
            raise UserError(
                f"data: the {part} part has no document with a score, and {what} needs it; raise"
                f" data.split.{part}, or give more documents"
            )
    if job.config.method.trains_weights and not _tells_steps_apart(corpus):
        raise UserError(
            f"data: on each rubric the {len(corpus.parts['validation'])} document(s) of the validation part"
            " have one score, and which step of a training is kept is decided by how they are ordered; raise"
            " data.limit.validation or data.split.validation, or give more documents"
        )
    if job.config.method.head is not None:
        check_documents(corpus, job.config)
    if CALIBRATION_BASE.needed(job.config):
        scored = {name for document in corpus.parts["train"] for name in document.scores}
        if without := [name for name in corpus.rubrics if name not in scored]:
            raise UserError(
                f"rate.calibration: no training document has a score on {', '.join(without)}; give more"
                " documents, or set rate.calibration=none"
            )
    return corpus


def _tells_steps_apart(corpus: SplitCorpus) -> bool:
    """Whether the validation part has two scores on any rubric: as a rule its first documents tell."""
    first: dict[str, float] = {}
    return any(
        first.setdefault(name, score) != score
        for document in corpus.parts["validation"]
        for name, score in document.scores.items()
    )
