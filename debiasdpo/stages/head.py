"""The stages of `method=head`: hidden states of the training part, and heads fitted on them."""

import base64
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from debiasdpo.config.job import JobConfig
from debiasdpo.config.method import HeadConfig
from debiasdpo.config.sameness import same_text
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.evaluation.head_choice import Tried, choose_head, folds, together
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.raters import local_rater
from debiasdpo.packing.kept_states import layers_at
from debiasdpo.prompts.rendering import Prompt
from debiasdpo.raters.head import Head, save_heads
from debiasdpo.stages.asked import head_prompts, log_statements
from debiasdpo.stages.declarations import HEAD, STATES
from debiasdpo.stages.rating_task import batches, in_batches, index_prompts, questions_of
from debiasdpo.storage.files import JsonlFile, digest, fingerprint_all, read_json, write_json
from debiasdpo.training.head import Examples, grid

log = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """What `fit_heads` made: the folder of the heads' weights, all that was tried for each rubric, and what
    they say of the training part out of fold: by rubric and document, in points."""

    weights: Path
    tried: Path
    out_of_fold: Path


def fit_heads(job: Job, corpus: SplitCorpus) -> Fitted:
    """weights/head.safetensors, the head of each rubric; head.json, what was tried for each; and
    out_of_fold.json, what each says of a training document when it is fitted without that one's group: in
    training/, or in head/ where training goes on from them."""
    config = job.config
    settings = config.method.head
    assert settings is not None
    log_statements(config, corpus)
    states = _collect_states(job, corpus)
    scored = [[d.id, d.group, dict(d.scores)] for d in corpus.parts["train"]]
    inputs = HEAD.inputs(config, states=digest(states), scores=fingerprint_all(scored))
    with job.store.stage(HEAD.store, inputs) as stage:

        def work() -> list[str]:
            heads: dict[str, Head] = {}
            tried: dict[str, list[dict[str, Any]]] = {}
            out: dict[str, dict[str, float]] = {}
            for rubric in sorted(corpus.rubrics, key=lambda name: corpus.rubrics[name].asks):
                heads[rubric], found, out[rubric] = _fit(job, corpus, states, rubric)
                tried[rubric] = [t._asdict() for t in found]
                _tell(rubric, next(t for t in found if t.chosen))
            save_heads(heads, stage.folder / "weights")
            write_json(stage.folder / "head.json", tried)
            write_json(stage.folder / "out_of_fold.json", out)
            return ["weights/head.safetensors", "head.json", "out_of_fold.json"]

        into = "head" if config.method.trains_weights else "training"
        job.make(HEAD.title, stage, work, into=into)
        names = ("weights", "head.json", "out_of_fold.json")
        return Fitted(*(stage.folder / name for name in names))


def teach(corpus: SplitCorpus, fitted: Fitted) -> SplitCorpus:
    """The corpus with the heads' ratings of the training part in place of the experts' scores: targets for
    the model's words (distillation, Hinton et al. 2015, arXiv 1503.02531). Each is of a head that was fitted
    without the document's group: of documents that it was fitted on, it says little but their scores.
    `UserError` where such a head ranks no better than chance."""
    for rubric, tried in read_json(fitted.tried).items():
        taken = next(found["spearman"] for found in tried if found["chosen"])
        if not taken > 0:
            raise UserError(
                f"method.head: the head of {rubric} has nothing to teach: out of fold it ranks the training"
                f" documents no better than chance (Spearman {taken:.2f}). Give more training documents"
                " (data.limit.train), or train on the scores (method=sft_augmented)"
            )
    known = read_json(fitted.out_of_fold)
    train = [
        replace(d, scores={name: known[name][d.id] for name in d.scores})
        for d in corpus.parts["train"]
    ]
    return replace(corpus, parts={**corpus.parts, "train": train})


def _tell(rubric: str, taken: Tried) -> None:
    log.info(
        "head of %s: layers %s, invariance %g, penalty %g; out of fold: spearman %.2f, spread %.2f,"
        " bias / spread %.2f",
        rubric, ", ".join(map(str, taken.layers)), taken.invariance, taken.penalty, taken.spearman,
        taken.spread, taken.relative_bias,
    )  # fmt: skip
    if not taken.spearman > 0:
        log.warning(
            "head of %s: out of fold it ranks no better than chance: its ratings say nothing of documents"
            " that it was not fitted on",
            rubric,
        )


def _collect_states(job: Job, corpus: SplitCorpus) -> Path:
    """states.jsonl: one row a prompt, with the document's states at each layer that is tried."""
    config = job.config
    settings = config.method.head
    assert settings is not None
    assert STATES.prompts is not None
    groups = STATES.prompts(config, corpus)
    index = index_prompts(groups, config.batching.prompts)
    inputs = STATES.inputs(
        config,
        rater=dict(job.model.identity()),
        prompts=index.fingerprint(index.whole),
    )
    with job.store.stage(STATES.store, inputs) as stage:

        def work() -> list[str]:
            rater = local_rater(config, job.model.load, job.model.identity())
            questions = (q for group in groups for q in questions_of(list(group), corpus.scales))
            rater.check(questions, index.twins, index.longest, config.rate)
            layers = layers_at(settings.layers, rater.layers)

            def rows(prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
                found = rater.states(questions_of(prompts, corpus.scales), layers)
                return (_row(p, layers, s) for p, s in zip(prompts, found, strict=True))

            every, total = batches(groups, config.batching.prompts), index.prompts(index.whole)
            in_batches(
                every,
                total,
                stage.journal(),
                STATES.title,
                job.progress,
                rows,
                rater.passes.threads(),
            )
            return [stage.journal_as("states.jsonl")]

        job.make(STATES.title, stage, work)
        return stage.folder / "states.jsonl"


def _row(prompt: Prompt, layers: Sequence[int], states: np.ndarray) -> dict[str, Any]:
    return {
        "key": prompt.key,
        "document": prompt.document,
        "rubric": prompt.rubric,
        "category": prompt.statement and prompt.statement.category,
        "layers": list(layers),
        "states": base64.b64encode(states.astype("<f4").tobytes()).decode(),
    }


def _states(row: Mapping[str, Any]) -> np.ndarray:
    """(layers, hidden size), of a row of states.jsonl."""
    values = np.frombuffer(base64.b64decode(row["states"]), "<f4")
    return values.reshape(len(row["layers"]), -1)


def check_documents(corpus: SplitCorpus, config: JobConfig) -> None:
    """`UserError` where the training part has too little for the head of any rubric."""
    assert config.method.head is not None
    for rubric in corpus.rubrics:
        _scored(corpus, rubric, config.method.head)
    requests = (request for group in head_prompts(config, corpus) for request in group.requests)
    moved = {request.rubric for request in requests if request.statement is not None}
    if without := [name for name in corpus.rubrics if name not in moved]:
        columns = {c.column for c in config.context.categories.values()} - {None}
        raise UserError(
            f"context.train: a head on {without[0]} has no statement to hold still against, since no training"
            f" document has a value of {' or '.join(sorted(map(str, columns)))}; give documents that have"
            " one, or train on other categories"
        )


def _scored(
    corpus: SplitCorpus, rubric: str, settings: HeadConfig
) -> tuple[list[Document], list[str], np.ndarray]:
    """The training documents with a score on the rubric, the group of each, and their scores."""
    documents = [d for d in corpus.parts["train"] if rubric in d.scores]
    groups = together([d.group for d in documents], [same_text(d.text) for d in documents])
    scores = np.array([d.scores[rubric] for d in documents], dtype=np.float64)
    if len(set(groups)) < settings.folds or not np.ptp(scores) > 0:
        raise UserError(
            f"data: the training part has {len(documents)} documents of {len(set(groups))} groups with a"
            f" score on {rubric}, of {len(set(scores))} different values; a head needs {settings.folds}"
            " groups (method.head.folds) and two values. Give more documents, or raise data.limit.train"
        )
    return documents, groups, scores


def _fit(
    job: Job, corpus: SplitCorpus, file: Path, rubric: str
) -> tuple[Head, list[Tried], dict[str, float]]:
    """The head of one rubric, what was tried for it, and its ratings out of fold, by document."""
    settings = job.config.method.head
    assert settings is not None
    documents, groups, scores = _scored(corpus, rubric, settings)
    rows = (row for row in JsonlFile(file) if row["rubric"] == rubric)
    layers = _examples(rows, [d.id for d in documents], scores)
    fold = folds(groups, settings.folds, job.config.seed)
    tried = list(grid(settings.invariance, settings.penalty))
    head, found, out = choose_head(layers, groups, fold, tried, job.config.seed)
    scale = corpus.scales[rubric]
    clipped = np.clip(out, scale.low, scale.high).tolist()
    return head, found, dict(zip((d.id for d in documents), clipped, strict=True))


def _examples(
    rows: Iterable[Mapping[str, Any]], documents: Sequence[str], scores: np.ndarray
) -> dict[tuple[int, ...], Examples]:
    """The states of one rubric's prompts: at each layer, and at all of them together."""
    number = {document: i for i, document in enumerate(documents)}
    layers: list[int] = []
    neutral: dict[int, np.ndarray] = {}
    contextual: list[np.ndarray] = []
    owner: list[int] = []
    for row in rows:
        layers = row["layers"]
        states = _states(row)
        if row["category"] is None:
            neutral[number[row["document"]]] = states
        else:
            contextual.append(states)
            owner.append(number[row["document"]])
    plain = np.stack([neutral[i] for i in range(len(documents))]).astype(np.float64)
    moved = np.stack(contextual).astype(np.float64)
    candidates: dict[tuple[int, ...], list[int]] = {(layer,): [k] for k, layer in enumerate(layers)}
    candidates[tuple(layers)] = list(range(len(layers)))
    return {
        taken: Examples(
            plain[:, at].reshape(len(plain), -1), scores,
            moved[:, at].reshape(len(moved), -1), np.array(owner),
        )
        for taken, at in candidates.items()
    }  # fmt: skip
