"""The training stage, and the loop of each process beside the first: its share of ratings and training."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.cluster import processes
from debiasdpo.cluster.threads import in_order
from debiasdpo.config.job import JobConfig
from debiasdpo.config.scale import Scale
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.evaluation.validation import validation_metrics
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.raters import hold_model, local_rater
from debiasdpo.models import adapters
from debiasdpo.models.chat import Chat
from debiasdpo.prompts.rendering import Prompt, flat
from debiasdpo.raters.base import Reply
from debiasdpo.stages import parts
from debiasdpo.stages.asked import Groups, training_prompts
from debiasdpo.stages.declarations import FITTING, REFERENCE, TRAINING
from debiasdpo.stages.rating_task import batches, questions_of, rating_row
from debiasdpo.stages.reckoning import fit_checkpointing, passes_at_once
from debiasdpo.stages.reference import reference_precision, score_reference, token_pairs
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import Progress, fingerprint, no_progress
from debiasdpo.training import trainer
from debiasdpo.training.checkpoints import replay
from debiasdpo.training.data import plan_passes
from debiasdpo.training.pairs import Pair, make_pairs, to_row
from debiasdpo.training.selection import Choose, most_accurate
from debiasdpo.training.whole import computes_in_16_bits


def fit_scores(job: Job, corpus: SplitCorpus) -> Path:
    """fitting/: the first of two rounds, of which the most accurate step is kept. Returns its weights."""
    config = job.config.first_round
    by_id = {d.id: d for d in corpus.parts["train"]}
    pairs, _ = make_pairs(
        training_prompts(config, corpus), {}, by_id, corpus.scales, config.method, config.rate.readout
    )  # fmt: skip
    watch = _watch(job, FITTING, corpus, most_accurate)
    return make_weights(job, FITTING, corpus.scales, pairs, {}, watch, config)


def train(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair], start: Path | None = None) -> Path:
    """training/: the chosen weights, what every step logged, the audits, which step was kept. It goes on from
    the untrained model, or from the weights `start`."""
    scales, reference = corpus.scales, {}
    if REFERENCE.needed(job.config):
        reference = score_reference(job, scales, pairs, start)
    watch = _watch(job, TRAINING, corpus)
    return make_weights(job, TRAINING, scales, pairs, reference, watch, start=start)


class Watch(NamedTuple):
    """What is measured while a training goes on."""

    content: str  # fingerprint of what it is measured on
    audit: Callable[[Chat], trainer.Audit]
    choose: Choose | None  # which step is kept; None: by `select_checkpoint`


def _watch(job: Job, declared: Stage, corpus: SplitCorpus, choose: Choose | None = None) -> Watch:
    assert declared.prompts is not None
    validation = declared.prompts(job.config, corpus)
    config = job.config.first_round if declared is FITTING else job.config
    return Watch(
        fingerprint(
            {
                "prompts": [[p.key, p.messages] for p in flat(validation)],
                "scores": [[d.id, dict(d.scores)] for d in corpus.parts["validation"]],
                "scales": {name: list(scale) for name, scale in corpus.scales.items()},
            }
        ),
        lambda chat: _validator(config, corpus, validation, chat),
        choose,
    )


def make_weights(
    job: Job,
    declared: Stage,
    scales: Mapping[str, Scale],
    pairs: Sequence[Pair],
    reference: dict[str, list[float]],
    watch: Watch,
    config: JobConfig | None = None,
    start: Path | None = None,
) -> Path:
    """The folder of the weights that a training stage makes or has made. `config`: of the training, if it is
    not the job's own; `scales`: by rubric."""
    config = config or job.config
    compared = reference_precision(config, start) if config.method.needs_reference else {}
    inputs = declared.inputs(
        job.config,
        rater=dict(job.model.identity(start)),
        pairs=fingerprint([to_row(p) for p in pairs]),
        validation=watch.content,
        **compared,
    )

    def on_log(row: dict[str, float], step: int) -> None:
        prefix = f"{declared.title}/" if declared is FITTING else ""
        job.tracker.log({f"{prefix}{name}": value for name, value in row.items()}, step)

    with job.store.stage(declared.store, inputs) as stage:
        live = False

        def work() -> Iterable[str]:
            nonlocal live
            live = True
            untrained = start if config.train.adapter == "full" else None
            model, chat = job.model.load(untrained)
            known = token_pairs(config, chat, scales, pairs)
            job.model.release()  # from here on the model is training's
            task = processes.broadcast(
                _Task(config, known, reference, stage.folder, start, watch.choose)
            )
            run_training(task, model, chat, watch.audit(chat), on_log, job.progress)
            folder = stage.folder / "weights"
            if config.train.adapter == "full":  # a model folder of its own, loadable as model.path
                chat.tokenizer.save_pretrained(folder)
            weights = [f"weights/{p.name}" for p in folder.iterdir() if p.is_file()]
            return [*weights, *(name for name in declared.outputs if not name.endswith("/"))]

        job.make(declared.title, stage, work, into=declared.title)
        for name in ("checkpoints", "kept"):  # only now: all is committed
            shutil.rmtree(stage.folder / name, ignore_errors=True)
        if not live:  # made by an earlier job: the tracker is shown what it logged
            replay(stage.folder, on_log)
        return stage.folder / "weights"


def _validator(
    config: JobConfig, corpus: SplitCorpus, validation: Groups, chat: Chat
) -> trainer.Audit:
    """Bias and accuracy of a model that is being trained, on the validation part: by its expected
    ratings, whatever the readout, since these are cheap enough to follow."""
    groups = [flat(batch) for batch in batches(validation, config.batching.prompts)]
    expected = config.rate.model_copy(update={"readout": "expected"})
    scales = corpus.scales

    def validate(current: Any) -> dict[str, float]:
        rater = local_rater(config, lambda: (current, chat), identity={})

        def reply(batch: list[Prompt]) -> Sequence[Reply]:
            return rater.reply(questions_of(batch, scales), "rating", expected)

        replies = in_order(groups, reply, rater.threads("rating", expected))
        rows = [
            rating_row(p, r) for batch, found in replies for p, r in zip(batch, found, strict=True)
        ]
        return validation_metrics(config, corpus.parts["validation"], corpus.rubrics, rows)

    return validate


class _Task(NamedTuple):
    """All that a process needs to take part in a training."""

    config: JobConfig
    pairs: Sequence[Any]  # TokenPair
    reference: dict[str, list[float]]
    folder: Path
    start: Path | None  # weights to go on from; None: those of the untrained model
    choose: Choose | None  # which step is kept


def run_training(
    task: _Task,
    model: Any,
    chat: Chat,
    audit: Any,
    on_log: Any,
    progress: Progress = no_progress,
) -> None:
    """Train in this process; `audit` and `on_log` are the first one's."""
    largest = max(one.tokens for one in plan_passes(task.pairs, task.config.train))
    config = fit_checkpointing(task.config, largest)
    bf16 = computes_in_16_bits(config.local_model)
    if config.train.adapter == "lora" and task.start is not None:
        model = adapters.load_adapter(model, task.start, trainable=True)
    elif config.train.adapter == "lora":
        model = adapters.add_adapter(model, config.local_model.lora, config.seed)
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
        bf16=bf16,
        threads=passes_at_once(config, largest, model),
        audit=audit,
        choose=task.choose,
        on_log=on_log,
        progress=progress,
    )


def worker_loop() -> None:
    """In a process beside the first: take part in every rating and training, until there are no more."""
    while (task := processes.broadcast(None)) is not None:
        if not isinstance(task, _Task):
            parts.help_with(*task)
            continue
        held = hold_model(task.config, cache_folder(task.config))
        model, chat = held.load(task.start if task.config.train.adapter == "full" else None)
        run_training(task, model, chat, audit=None, on_log=None)
