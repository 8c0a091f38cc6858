"""The training stage, and the loop of each process beside the first: its share of ratings and training."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.cluster import processes
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.evaluation.validation import validation_metrics
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.raters import local_rater
from debiasdpo.models import adapters
from debiasdpo.models.chat import Chat
from debiasdpo.models.loading import load_model
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.prompts.rendering import flat
from debiasdpo.stages import parts
from debiasdpo.stages.declarations import REFERENCE, TRAINING
from debiasdpo.stages.rating_task import batches, questions_of, rating_row
from debiasdpo.stages.reference import score_reference, token_pairs
from debiasdpo.storage.files import Progress, fingerprint, no_progress
from debiasdpo.training import trainer
from debiasdpo.training.checkpoints import replay
from debiasdpo.training.pairs import Pair, to_row


def train(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair]) -> Path:
    """training/: the chosen weights, what every step logged, the audits, which step was kept."""
    config = job.config
    reference = score_reference(job, corpus, pairs) if REFERENCE.needed(config) else {}
    assert TRAINING.prompts is not None
    validation = TRAINING.prompts(config, corpus)
    inputs = TRAINING.inputs(
        config,
        rater=dict(job.model.identity()),
        pairs=fingerprint([to_row(p) for p in pairs]),
        validation=fingerprint([[p.key, p.messages] for p in flat(validation)]),
    )
    with job.store.stage(TRAINING.store, inputs) as stage:
        live = False

        def work() -> Iterable[str]:
            nonlocal live
            live = True
            return _train(job, corpus, pairs, reference, validation, stage.folder)

        job.make(TRAINING.title, stage, work, into="training")
        # Only now: all is committed.
        shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)
        if not live:  # made by an earlier job: the tracker is shown what it logged
            replay(stage.folder, job.tracker.log)
        return stage.folder / "weights"


def _train(
    job: Job,
    corpus: SplitCorpus,
    pairs: Sequence[Pair],
    reference: dict[str, list[float]],
    validation: Any,
    folder: Path,
) -> list[str]:
    config = job.config
    known = token_pairs(job, corpus, pairs)
    model, chat = job.model.load()
    job.model.release()  # from here on the model is training's
    validate = _validator(config, corpus, validation, chat)
    task = processes.broadcast(_Task(config, known, reference, folder))
    run_training(task, model, chat, validate, job.tracker.log, job.progress)
    if config.train.adapter == "full":  # a model folder of its own, loadable as model.path
        chat.tokenizer.save_pretrained(folder / "weights")
    weights = [f"weights/{p.name}" for p in (folder / "weights").iterdir() if p.is_file()]
    return [*weights, *(name for name in TRAINING.outputs if not name.endswith("/"))]


def _validator(
    config: JobConfig, corpus: SplitCorpus, validation: RatingPrompts, chat: Chat
) -> trainer.Audit:
    """Bias and accuracy of a model that is being trained, on the validation part: by its expected
    ratings, whatever the readout, since these are cheap enough to follow."""
    groups = [flat(batch) for batch in batches(validation, config.batching.prompts)]
    expected = config.rate.model_copy(update={"readout": "expected"})
    scales = corpus.scales

    def validate(current: Any) -> dict[str, float]:
        rater = local_rater(config, lambda: (current, chat), identity={})
        rows = []
        for batch in groups:
            replies = rater.reply(questions_of(batch, scales), "rating", expected)
            rows += [rating_row(p, reply) for p, reply in zip(batch, replies, strict=True)]
        return validation_metrics(config, corpus.parts["validation"], rows)

    return validate


class _Task(NamedTuple):
    """All that a process needs to take part in a training."""

    config: JobConfig
    pairs: Sequence[Any]  # TokenPair
    reference: dict[str, list[float]]
    folder: Path


def run_training(
    task: _Task,
    model: Any,
    chat: Chat,
    audit: Any,
    on_log: Any,
    progress: Progress = no_progress,
) -> None:
    """Train in this process; `audit` and `on_log` are the first one's."""
    config = task.config
    if config.train.adapter == "lora":
        model = adapters.add_adapter(model, config.local_model.lora, config.seed)
    else:
        # In bfloat16, steps of 1e-6 are lost to rounding: weights in float32, computing in bfloat16.
        model = model.float()
    trainer.train(
        model,
        chat,
        task.pairs,
        task.reference,
        loss=config.loss,
        config=config.train,
        seed=config.seed,
        folder=task.folder,
        attention=config.local_model.attention,
        bf16=config.train.adapter == "full" and config.local_model.dtype == "bfloat16",
        audit=audit,
        on_log=on_log,
        progress=progress,
    )


def worker_loop() -> None:
    """In a process beside the first: take part in every rating and training, until there are no more."""
    while (task := processes.broadcast(None)) is not None:
        if not isinstance(task, _Task):
            parts.help_with(*task)
            continue
        model, chat = load_model(task.config.local_model, cache_folder(task.config))
        run_training(task, model, chat, audit=None, on_log=None)
