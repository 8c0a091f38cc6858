"""The stages of one job: each finds its output by fingerprint, or makes it, going on where it was."""

import importlib.metadata
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo import adapters, distributed, documents, models
from debiasdpo import pairs as pairing
from debiasdpo.audit import (
    RatingPrompts,
    audit,
    by_category,
    validation_figures,
    validation_prompts,
)
from debiasdpo.config import JobConfig
from debiasdpo.contexts import statements
from debiasdpo.documents import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.job import Job
from debiasdpo.pairs import Pair
from debiasdpo.prompts import Prompt, by_document, flat
from debiasdpo.raters import Output
from debiasdpo.rating import batches, rate, rating_row, scales, style
from debiasdpo.runs import (
    JsonlFile,
    Progress,
    digest,
    fingerprint,
    fingerprint_all,
    no_progress,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)

log = logging.getLogger(__name__)


def load_documents(job: Job) -> SplitCorpus:
    """documents.jsonl: every document with its part; rows that were left out are counted."""
    config = job.config.data
    files = documents.source_files(config)
    inputs = {
        "data": config.model_dump(mode="json"),
        "seed": job.config.seed,
        "files": documents.files_identity(files),
    }
    with job.store.stage("documents", inputs) as stage:

        def work() -> list[str]:
            documents.write(config, job.config.seed, stage.folder)
            return [documents.DOCUMENTS, documents.SPLIT]

        job.make("documents", stage, work, into="documents")
        corpus = documents.open_corpus(stage.folder, documents.rubrics_of(config))
    log.info(
        "documents: %s%s",
        ", ".join(f"{len(corpus.parts[p])} {p}" for p in documents.PARTS),
        "".join(f"; {count} {note}" for note, count in corpus.notes.items()),
    )
    if job.config.method.trains:
        for part in ("train", "validation"):
            if not corpus.parts[part]:
                raise UserError(
                    f"data: the {part} part has no document with a score, and training needs it; raise"
                    f" data.split.{part}, or give more documents"
                )
    return corpus


def make_pairs(job: Job, corpus: SplitCorpus) -> tuple[list[Pair], dict[str, int]]:
    """pairs.jsonl: the training part, with neutral and biased reasoning as far as the method uses it."""
    config, train = job.config, corpus.parts["train"]
    pool = statements(config.context, config.context.train_categories, "train")
    turns = by_category(pool, config.method.statements)
    prompts = flat(RatingPrompts(style(job), train, corpus.rubrics, turns))
    reasons = config.rate.readout == "text"
    asked: list[Prompt] = []  # those whose reasoning the method has a use for
    if config.method.chosen is not None:
        asked = prompts
    elif config.method.consistency and reasons:
        asked = [p for p in prompts if p.statement is None]
    outputs = {}
    if asked:
        file = rate(job, corpus, "reasoning", by_document(asked), None, how="reason")
        outputs = {row["key"]: Output(row["text"], row["rating"]) for row in JsonlFile(file)}
    by_id = {d.id: d for d in train}
    pairs, counts = pairing.make_pairs(prompts, outputs, by_id, config.method, reasons)
    if not pairs:
        raise UserError(
            f"No preference pair is left: {counts}. Lower method.min_shift, give more training"
            " documents, or, if ratings cannot be read, set rate=expected or change rate.instruction."
        )
    inputs = {"pairs": [pairing.to_row(p) for p in pairs]}
    with job.store.stage("pairs", {"pairs": fingerprint(inputs)}) as stage:

        def work() -> list[str]:
            write_jsonl(stage.folder / "pairs.jsonl", inputs["pairs"])
            if config.method.chosen is None:
                return ["pairs.jsonl"]
            write_jsonl(stage.folder / "pairs_official.jsonl", map(pairing.official_row, pairs))
            return ["pairs.jsonl", "pairs_official.jsonl"]

        job.make("pairs", stage, work, into="pairs")
    log.info("pairs: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    return pairs, counts


def train(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair]) -> Path:
    """training/: the chosen weights, what every step logged, the audits, which step was kept."""
    config = job.config
    reference = {}
    if config.method.chosen is not None or config.method.consistency == "base":
        reference = _reference(job, corpus, pairs)
    audited = corpus.parts["validation"]
    validation = validation_prompts(config, style(job), audited, corpus.rubrics)
    inputs = {
        **job.model_inputs(None),
        "lora": config.model.lora.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "loss": config.loss.model_dump(mode="json"),
        "method": config.method.model_dump(mode="json", exclude={"name"}),
        "seed": config.seed,
        "pairs": fingerprint([pairing.to_row(p) for p in pairs]),
        "validation": fingerprint([[p.key, p.messages] for p in flat(validation)]),
        "max_length": config.model.max_length,
    }
    if config.train.engine == "trl":
        inputs["trl"] = importlib.metadata.version("trl")
    with job.store.stage("training", inputs) as stage:
        live = False

        def work() -> Iterable[str]:
            nonlocal live
            live = True
            return _train(job, corpus, pairs, reference, validation, stage.folder)

        job.make("training", stage, work, into="training")
        shutil.rmtree(
            stage.folder / "checkpoints", ignore_errors=True
        )  # only now: all is committed
        if not live:  # made by an earlier job: the tracker is shown what it logged
            from debiasdpo.training.trainer import replay

            replay(stage.folder, job.tracker.log)
        return stage.folder / "weights"


def measure(job: Job, corpus: SplitCorpus, ratings: Mapping[str, Path]) -> dict[str, Any]:
    """metrics: bias and accuracy of the models whose ratings are in these files, with intervals."""
    config, test = job.config, corpus.parts["test"]
    inputs = {
        "ratings": {name: digest(file) for name, file in ratings.items()},
        "scores": fingerprint_all([d.id, d.group, dict(d.scores)] for d in test),
        "rubrics": {name: r.model_dump(mode="json") for name, r in corpus.rubrics.items()},
        "audit": config.audit.model_dump(mode="json"),
        "train_categories": config.context.train_categories,
        "seed": config.seed,
        "figures": 3,  # raised when what they are is changed
    }
    with job.store.stage("metrics", inputs) as stage:

        def work() -> list[str]:
            rows = {name: JsonlFile(file) for name, file in ratings.items()}
            figures = audit(config, test, corpus.rubrics, rows)
            write_json(stage.folder / "audit.json", figures)
            return ["audit.json"]

        job.make("metrics", stage, work)
        figures: dict[str, Any] = read_json(stage.folder / "audit.json")
    return figures


def _reference(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Log-probabilities under the untrained model, of what the method needs, once for all losses."""
    config = job.config
    inputs = {
        **job.model_inputs(None),
        "pairs": fingerprint([pairing.to_row(p) for p in pairs]),
        "max_length": config.model.max_length,
        "of": [config.method.chosen is not None, config.method.consistency == "base"],
    }
    if config.train.engine != "tree":
        inputs["engine"] = "separate"
    with job.store.stage("reference", inputs) as stage:

        def work() -> list[str]:
            from debiasdpo.training.data import plan_passes
            from debiasdpo.training.terms import reference_logprobs, scorer

            known = _token_pairs(job, corpus, pairs)
            passes = plan_passes([p.for_reference() for p in known], config.train)
            score = scorer(config.train, config.model.attention)
            journal = stage.journal()
            reference_logprobs(job.rater().model, passes, score, journal, job.progress)
            write_jsonl(stage.folder / "reference.jsonl", journal.rows)
            return ["reference.jsonl"]

        job.make("reference", stage, work)
        rows = read_jsonl(stage.folder / "reference.jsonl")
    return {row["pair"]: row["logprobs"] for row in rows}


def _train(
    job: Job,
    corpus: SplitCorpus,
    pairs: Sequence[Pair],
    reference: dict[str, list[float]],
    validation: RatingPrompts,
    folder: Path,
) -> list[str]:
    from debiasdpo.raters.local import LocalRater

    config = job.config
    known = _token_pairs(job, corpus, pairs)
    rater = job.rater()
    job.release()  # from here on the model is training's
    groups = [flat(batch) for batch in batches(validation, config.rate.batch_size)]

    def validate(current: Any) -> dict[str, float]:
        watcher = LocalRater(
            current, rater.tokenizer, config.rate, config.seed, config.model.attention
        )
        rows = [
            rating_row(prompt, Output("", rating))
            for batch in groups
            for prompt, rating in zip(
                batch, watcher.expected(batch, scales(corpus.rubrics, batch)), strict=True
            )
        ]
        return validation_figures(config, corpus.parts["validation"], rows)

    task = distributed.share(_Task(config, known, reference, folder))
    _do(task, rater.model, rater.tokenizer, validate, job.tracker.log, job.progress)
    if config.train.adapter == "full":  # a model folder of its own, loadable as model.path
        rater.tokenizer.save_pretrained(folder / "weights")
    weights = [f"weights/{p.name}" for p in (folder / "weights").iterdir() if p.is_file()]
    return [*weights, "steps.jsonl", "validation.jsonl", "choice.json"]


class _Task(NamedTuple):
    """All that a process needs to take part in a training."""

    config: JobConfig
    pairs: Sequence[Any]  # TokenPair
    reference: dict[str, list[float]]
    folder: Path


def _do(
    task: _Task,
    model: Any,
    tokenizer: Any,
    audit: Any,
    on_log: Any,
    progress: Progress = no_progress,
) -> None:
    from debiasdpo.training import trainer

    config = task.config
    if config.train.adapter == "lora":
        model = adapters.add_adapter(model, config.model.lora, config.seed)
    else:
        # In bfloat16, steps of 1e-6 are lost to rounding: weights in float32, computing in bfloat16.
        model = model.float()
    trainer.train(
        model,
        tokenizer,
        task.pairs,
        task.reference,
        loss=config.loss,
        config=config.train,
        seed=config.seed,
        folder=task.folder,
        attention=config.model.attention,
        bf16=config.train.adapter == "full" and config.model.dtype == "bfloat16",
        audit=audit,
        on_log=on_log,
        progress=progress,
    )


def follow() -> None:
    """In a process beside the first: take part in every rating and training, until there are no more."""
    from debiasdpo import shards

    while (task := distributed.share(None)) is not None:
        if not isinstance(task, _Task):
            shards.help_with(*task)
            continue
        output = Path(task.config.output_dir).expanduser().absolute()
        model, tokenizer = models.load_model(task.config.model, output / "cache")
        _do(task, model, tokenizer, audit=None, on_log=None)


def _token_pairs(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair]) -> list[Any]:
    """The pairs as token ids, less those beyond model.max_length, which are counted and said."""
    from debiasdpo.training.data import level_weights, tokenize

    limit, method = job.config.model.max_length, job.config.method
    weights = level_weights(pairs) if method.balanced else [1.0] * len(pairs)
    known = []
    for pair, weight in zip(pairs, weights, strict=True):
        scale = corpus.rubrics[pair.rubric].scale
        known.append(tokenize(pair, job.rater().tokenizer, method, scale, weight))
    fitting = [pair for pair in known if pair.length <= limit]
    if len(fitting) < len(known):
        log.warning(
            "%d of %d pairs are longer than model.max_length=%d tokens and are left out",
            len(known) - len(fitting), len(known), limit,
        )  # fmt: skip
    if not fitting:
        raise UserError(
            f"All {len(known)} pairs are longer than model.max_length={limit} tokens (the shortest:"
            f" {min(p.length for p in known)}). Raise model.max_length or shorten the documents."
        )
    return fitting
