"""The stages of one job: each finds its output by fingerprint, or makes it, going on where it was."""

import importlib.metadata
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo import adapters, documents, models
from debiasdpo import pairs as pairing
from debiasdpo.audit import (
    audit,
    audit_prompts,
    by_category,
    rating_prompts,
    validation_figures,
    validation_prompts,
)
from debiasdpo.config import JobConfig
from debiasdpo.contexts import statements
from debiasdpo.documents import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.pairs import Pair
from debiasdpo.prompts import Prompt, PromptStyle
from debiasdpo.raters import Output
from debiasdpo.runs import (
    Journal,
    RunFolder,
    Stage,
    Store,
    fingerprint,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from debiasdpo.tracking import Tracker

if TYPE_CHECKING:
    from debiasdpo.raters.local import LocalRater

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


@dataclass
class Job:
    """What the stages of one job share."""

    config: JobConfig
    store: Store
    run: RunFolder
    tracker: Tracker
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, when it was made
    _loaded: "tuple[object, LocalRater] | None" = None

    def rater(self, weights: Path | None = None) -> "LocalRater":
        """The base model (None), or the one trained into `weights`; one at a time is in memory."""
        from debiasdpo.raters.local import LocalRater

        if self._loaded is None or self._loaded[0] != weights:
            self._loaded = None  # frees the other one first
            config = self.config
            model_config = config.model
            trained_whole = weights is not None and config.train.adapter == "full"
            if trained_whole:
                model_config = model_config.model_copy(update={"path": str(weights)})
            model: Any
            model, tokenizer = models.load_model(model_config, self.store.root)
            if weights is not None and not trained_whole:
                model = adapters.load_adapter(model, weights)
            self._loaded = weights, LocalRater(model, tokenizer, config.rate, config.seed)
        return self._loaded[1]

    def release(self) -> None:
        """Forget the model in memory: training changes it."""
        self._loaded = None

    def make(self, title: str, stage: Stage, work: Callable[[], Iterable[str]]) -> None:
        """Do `work` unless the stage is finished; it returns the names of the files it wrote."""
        if stage.outputs() is None:
            self.run.status("running", stage=title)
            log.info("%s ...", title)
            started = time.perf_counter()
            names = list(work())
            stage.commit(names, time.perf_counter() - started)
        else:
            log.info("%s: found in %s", title, stage.folder)
        self.seconds[title] = stage.seconds
        outputs = stage.outputs()
        assert outputs is not None
        self.run.keep(stage, outputs, into=title if len(outputs) > 1 else "")


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
            corpus = documents.load(config, job.config.seed)
            write_jsonl(stage.folder / "documents.jsonl", documents.to_rows(corpus))
            split = {p: sorted({d.group for d in corpus.parts[p]}) for p in documents.PARTS}
            write_json(stage.folder / "split.json", {"groups": split, "notes": dict(corpus.notes)})
            return ["documents.jsonl", "split.json"]

        job.make("documents", stage, work)
        notes = read_json(stage.folder / "split.json")["notes"]
        rows = read_jsonl(stage.folder / "documents.jsonl")
    corpus = documents.from_rows(rows, documents.rubrics_of(config), notes)
    log.info(
        "documents: %s%s",
        ", ".join(f"{len(corpus.parts[p])} {p}" for p in documents.PARTS),
        "".join(f"; {count} {note}" for note, count in notes.items()),
    )
    return corpus


def style(job: Job) -> PromptStyle:
    rate = job.config.rate
    return PromptStyle(job.config.data.heading, rate.instruction, rate.context_position)


def rate_test(job: Job, corpus: SplitCorpus, name: str, weights: Path | None) -> Rows:
    """ratings/<name>.jsonl: the test part rated by the base (None) or the trained model."""
    prompts = audit_prompts(job.config, style(job), corpus.parts["test"], corpus.rubrics)
    return _rate(job, corpus, f"ratings_{name}", prompts, weights, reasoning=False)


def make_pairs(job: Job, corpus: SplitCorpus) -> tuple[list[Pair], dict[str, int]]:
    """pairs.jsonl: neutral and biased reasoning of the training part, as preference pairs."""
    config, train = job.config, corpus.parts["train"]
    pool = statements(config.context, config.context.train_categories, "train")
    turns = by_category(pool, config.method.statements)
    prompts = rating_prompts(style(job), train, corpus.rubrics, turns)
    rows = _rate(job, corpus, "reasoning", prompts, None, reasoning=True)
    outputs = {row["key"]: Output(row["text"], row["rating"]) for row in rows}
    by_id = {d.id: d for d in train}
    pairs, counts = pairing.make_pairs(prompts, outputs, by_id, config.method.min_shift)
    if not pairs:
        raise UserError(
            f"No preference pair is left: {counts}. Lower method.min_shift, give more training"
            " documents, or, if ratings cannot be read, set rate=expected or change rate.instruction."
        )
    inputs = {"pairs": [pairing.to_row(p) for p in pairs]}
    with job.store.stage("pairs", {"pairs": fingerprint(inputs)}) as stage:

        def work() -> list[str]:
            write_jsonl(stage.folder / "pairs.jsonl", inputs["pairs"])
            write_jsonl(stage.folder / "pairs_official.jsonl", map(pairing.official_row, pairs))
            return ["pairs.jsonl", "pairs_official.jsonl"]

        job.make("pairs", stage, work)
    log.info("pairs: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    return pairs, counts


def train(job: Job, corpus: SplitCorpus, pairs: Sequence[Pair]) -> Path:
    """training/: the chosen weights, what every step logged, the audits, which step was kept."""
    config = job.config
    reference = _reference(job, pairs)
    validation = validation_prompts(config, style(job), corpus.parts["validation"], corpus.rubrics)
    inputs = {
        **_model_inputs(job, None),
        "lora": config.model.lora.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "loss": config.loss.model_dump(mode="json"),
        "seed": config.seed,
        "pairs": fingerprint([pairing.to_row(p) for p in pairs]),
        "validation": fingerprint([[p.key, p.messages] for p in validation]),
        "max_length": config.model.max_length,
    }
    with job.store.stage("training", inputs) as stage:
        live = False

        def work() -> Iterable[str]:
            nonlocal live
            live = True
            return _train(job, corpus, pairs, reference, validation, stage.folder)

        job.make("training", stage, work)
        shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)  # only now: all is committed
        if not live:  # made by an earlier job: the tracker is shown what it logged
            for name, prefix in (("steps", ""), ("validation", "validation/")):
                for row in read_jsonl(stage.folder / f"{name}.jsonl"):
                    figures = {f"{prefix}{k}": v for k, v in row.items() if k != "step"}
                    job.tracker.log(figures, row["step"])
        return stage.folder / "weights"


def measure(job: Job, corpus: SplitCorpus, ratings: dict[str, Rows]) -> dict[str, Any]:
    """metrics: bias and accuracy of the rated models, with intervals."""
    config, test = job.config, corpus.parts["test"]
    inputs = {
        "ratings": {name: fingerprint(rows) for name, rows in ratings.items()},
        "scores": fingerprint([[d.id, d.group, dict(d.scores)] for d in test]),
        "rubrics": {name: r.model_dump(mode="json") for name, r in corpus.rubrics.items()},
        "audit": config.audit.model_dump(mode="json"),
        "train_categories": config.context.train_categories,
        "method": config.method.name,
        "seed": config.seed,
    }
    with job.store.stage("metrics", inputs) as stage:

        def work() -> list[str]:
            figures = audit(config, test, corpus.rubrics, ratings)
            write_json(stage.folder / "audit.json", figures)
            return ["audit.json"]

        job.make("metrics", stage, work)
        figures: dict[str, Any] = read_json(stage.folder / "audit.json")
    return figures


def _rate(
    job: Job,
    corpus: SplitCorpus,
    title: str,
    prompts: Sequence[Prompt],
    weights: Path | None,
    *,
    reasoning: bool,
) -> Rows:
    """One row a prompt: key, document, rubric, category, polarity, statement, repeat, text, rating."""
    rate = job.config.rate
    batches = _batches(
        prompts, None if rate.readout == "expected" and not reasoning else rate.batch_size
    )
    inputs = {
        **_model_inputs(job, weights),
        "rate": rate.model_dump(mode="json"),
        "seed": job.config.seed if rate.temperature > 0 else None,
        "reasoning": reasoning,
        "prompts": fingerprint([[p.key, p.messages] for p in prompts]),
        "scales": {name: [r.low, r.high] for name, r in corpus.rubrics.items()},
    }
    file = f"{title}.jsonl"
    with job.store.stage("ratings", inputs) as stage:

        def work() -> list[str]:
            journal = Journal(stage.folder / "partial.jsonl")
            _rate_batches(job, corpus, title, batches, weights, journal, reasoning)
            by_key = {row["key"]: row for row in journal.rows}
            write_jsonl(stage.folder / "ratings.jsonl", (by_key[p.key] for p in prompts))
            journal.path.unlink()
            return ["ratings.jsonl"]

        job.make(title, stage, work)
        job.run.keep(stage, ["ratings.jsonl"])
        (job.run.folder / "ratings.jsonl").replace(job.run.folder / file)
        return read_jsonl(stage.folder / "ratings.jsonl")


def _rate_batches(
    job: Job,
    corpus: SplitCorpus,
    title: str,
    batches: Sequence[Sequence[Prompt]],
    weights: Path | None,
    journal: Journal,
    reasoning: bool,
) -> None:
    """Rate what the journal does not hold yet. Batches are the same whatever was done before, so that
    an interrupted stage ends in the same ratings."""
    from tqdm import tqdm

    done = {row["key"] for row in journal.rows}
    rater = job.rater(weights)
    total = sum(len(batch) for batch in batches)
    with tqdm(total=total, desc=title, unit="prompt", disable=None, initial=len(done)) as bar:
        for batch in batches:
            if all(p.key in done for p in batch):
                continue
            rubrics = [corpus.rubrics[p.rubric] for p in batch]
            scales = [(r.low, r.high) for r in rubrics]
            outputs = rater.reason(batch, scales) if reasoning else rater.rate(batch, scales)
            journal.append(_row(p, o) for p, o in zip(batch, outputs, strict=True))
            bar.update(len(batch))


def _row(prompt: Prompt, output: Output) -> dict[str, Any]:
    statement = prompt.statement
    return {
        "key": prompt.key,
        "document": prompt.document,
        "rubric": prompt.rubric,
        "category": statement and statement.category,
        "polarity": statement and statement.polarity,
        "statement": statement and statement.text,
        "repeat": prompt.repeat,
        "text": output.text,
        "rating": output.rating,
    }


def _batches(prompts: Sequence[Prompt], size: int | None) -> list[list[Prompt]]:
    """Neighbours in batches of `size`; None: all prompts of a document together."""
    if size is not None:
        return [list(prompts[i : i + size]) for i in range(0, len(prompts), size)]
    by_document: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_document.setdefault(prompt.document, []).append(prompt)
    return list(by_document.values())


def _reference(job: Job, pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """Log-probabilities of chosen and rejected under the untrained model, once for all losses."""
    inputs = {
        **_model_inputs(job, None),
        "pairs": fingerprint([pairing.to_row(p) for p in pairs]),
        "max_length": job.config.model.max_length,
    }
    with job.store.stage("reference", inputs) as stage:

        def work() -> list[str]:
            from debiasdpo.training.trainer import reference_logprobs

            rater = job.rater()
            known = _token_pairs(job, pairs)
            journal = Journal(stage.folder / "partial.jsonl")
            reference_logprobs(rater.model, known, job.config.train.max_tokens, journal)
            write_jsonl(stage.folder / "reference.jsonl", journal.rows)
            journal.path.unlink()
            return ["reference.jsonl"]

        job.make("reference", stage, work)
        rows = read_jsonl(stage.folder / "reference.jsonl")
    return {row["pair"]: (row["chosen"], row["rejected"]) for row in rows}


def _train(
    job: Job,
    corpus: SplitCorpus,
    pairs: Sequence[Pair],
    reference: dict[str, tuple[float, float]],
    validation: Sequence[Prompt],
    folder: Path,
) -> list[str]:
    from debiasdpo.raters.local import LocalRater
    from debiasdpo.training import trainer

    config = job.config
    known = _token_pairs(job, pairs)
    rater = job.rater()
    job.release()  # from here on the model is training's
    model: Any = rater.model
    if config.train.adapter == "lora":
        model = adapters.add_adapter(model, config.model.lora, config.seed)
    scales = [(corpus.rubrics[p.rubric].low, corpus.rubrics[p.rubric].high) for p in validation]
    batches = _batches(validation, None)

    def validate(current: Any) -> dict[str, float]:
        watcher = LocalRater(current, rater.tokenizer, config.rate, config.seed)
        limits = iter(scales)
        rows = [
            _row(prompt, Output("", rating))
            for batch in batches
            for prompt, rating in zip(
                batch, watcher.expected(batch, [next(limits) for _ in batch]), strict=True
            )
        ]
        return validation_figures(config, corpus.parts["validation"], rows)

    trainer.train(
        model,
        known,
        reference,
        loss=config.loss,
        config=config.train,
        seed=config.seed,
        folder=folder,
        audit=validate,
        on_log=job.tracker.log,
    )
    weights = [f"weights/{p.name}" for p in (folder / "weights").iterdir() if p.is_file()]
    return [*weights, "steps.jsonl", "validation.jsonl", "choice.json"]


def _token_pairs(job: Job, pairs: Sequence[Pair]) -> list[Any]:
    """The pairs as token ids, less those beyond model.max_length, which are counted and said."""
    from debiasdpo.training.data import tokenize

    limit = job.config.model.max_length
    known = [tokenize(pair, job.rater().tokenizer) for pair in pairs]
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


def _model_inputs(job: Job, weights: Path | None) -> dict[str, object]:
    """What decides a model's outputs, besides what it is given."""
    config = job.config.model
    return {
        "model": models.identity(config),
        "nf4": config.nf4,
        "dtype": config.dtype,
        "attention": config.attention,
        "weights": None
        if weights is None
        else read_json(weights.parent / "manifest.json")["files"],
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers")},
    }
