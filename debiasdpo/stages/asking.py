"""Find the rows of a stage that asks a rater, or make them: in this process, or in parts by several."""

from pathlib import Path

from debiasdpo.cluster import processes
from debiasdpo.jobs.job import Job
from debiasdpo.raters.base import Rater
from debiasdpo.stages import parts
from debiasdpo.stages.rating_task import RatingTask, make_part
from debiasdpo.storage.files import write_text


def ask(job: Job, task: RatingTask, rater: Rater) -> Path:
    """The file with one row a prompt, in their order; empty where there is no prompt to ask."""
    with job.store.stage("ratings", task.stage_inputs(task.whole)) as stage:
        alone = job.given is not None  # a function cannot be sent to another process
        pieces = task.parts(1 if alone else max(job.config.batching.shards, processes.size()))
        if len(pieces) > 1:
            parts.make(job, stage, task, pieces, rater)
        else:

            def work() -> list[str]:
                if not task.whole:
                    write_text(stage.folder / task.file, "")
                    return [task.file]
                return make_part(task, task.whole, stage, rater, job.progress)

            job.make(task.title, stage, work)
        return stage.folder / task.file
