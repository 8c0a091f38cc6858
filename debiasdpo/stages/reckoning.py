"""What a job will take, estimated before any of its stages is made: tokens, peak memory, disk."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.cluster import gpus, processes
from debiasdpo.cluster.threads import ONE_THREAD, Threads, for_passes
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig, ModelConfig
from debiasdpo.documents.corpus import SplitCorpus, open_corpus, rubrics_of, write
from debiasdpo.errors import UserError
from debiasdpo.evaluation.power import Audited
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.models import fused
from debiasdpo.models.held import model_identity
from debiasdpo.models.loading import length_problem
from debiasdpo.models.shape import Shape, load_shape, shape_of
from debiasdpo.models.source import pinned, source_identity
from debiasdpo.prompts.rendering import flat
from debiasdpo.raters.local import prompts_too_long
from debiasdpo.stages.asked import audited_prompts, head_prompts
from debiasdpo.stages.declarations import FITTING, LOAD, TRAINING
from debiasdpo.stages.elicitation import rating_stages
from debiasdpo.stages.elicitation_work import elicitation_work
from debiasdpo.stages.endpoint_work import endpoint_tokens
from debiasdpo.stages.stage import Stage
from debiasdpo.stages.workload import Workload, sampled
from debiasdpo.storage.files import fingerprint
from debiasdpo.sweep.memory import (
    decide_checkpointing,
    optimizer_bytes,
    peak_memory,
    too_large,
    trained_parameters,
)
from debiasdpo.sweep.plan import StageWork, Work

log = logging.getLogger(__name__)

_MOST_GPUS = 16  # over which plan spreads all weights
_ROW_BYTES = 400  # of a rating in JSONL, less its text
_TOKEN_BYTES = 5  # of text
_STATE_BYTES = 4 * 4 / 3  # of one number in states.jsonl: float32 in base64


class _Counted(NamedTuple):
    """What a stage takes."""

    tokens: float
    rated: int  # tokens of its largest pass of ratings
    tree: int  # and of its largest of a training
    lengths: Mapping[str, int]  # tokens of its prompts, by their keys


class Reckoner:
    """Estimates the jobs of a sweep one after the other: what they share is read and counted once."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where documents are written for the estimates; they are not needed afterwards."""
        self._folder = folder
        self._corpora: dict[str, SplitCorpus | UserError] = {}
        self._counts: dict[str, Audited] = {}  # of the documents of an audit
        self._models: dict[str, Any] = {}  # Chat, Shape and source identity, or a UserError
        self._counted: dict[str, _Counted] = {}  # by a stage's key

    def __call__(self, config: JobConfig) -> Work:
        """Estimate one job. `UserError` where its documents or its model's shape cannot be had."""
        if config.elicits:
            return self._of_elicitation(config)
        documents = fingerprint(LOAD.inputs(config))
        if isinstance(config.model, EndpointConfig):
            return self._of_endpoint(config, self._corpus(config, documents), documents)
        chat, shape, source = self._model(config)
        work = Workload(config, self._corpus(config, documents), chat)
        rater = model_identity(config.local_model, source)
        keys = {LOAD.title: documents}
        stages, rated, tree = [], 0, 0
        problems = [length_problem(shape.architecture, config.local_model)]
        for stage in rating_stages(config):
            if stage is LOAD:
                continue
            key = _planned_key(stage, config, work.sample, rater, keys)
            keys[stage.title] = key
            if stage.tokens is not None:
                if key not in self._counted:
                    work.largest_rated = work.largest_tree = 0
                    work.lengths = {}
                    tokens = stage.tokens(config, work, stage)
                    self._counted[key] = _Counted(
                        tokens, work.largest_rated, work.largest_tree, work.lengths
                    )
                counted = self._counted[key]
                trains = stage in (FITTING, TRAINING)
                stages.append(StageWork(stage.title, key, counted.tokens, trains=trains))
                rated, tree = max(rated, counted.rated), max(tree, counted.tree)
                if not trains:  # which leaves out what is too long
                    problems.append(_too_long(config, stage, counted.lengths))
        room = 1e9 * (config.plan.gpu_memory_gb or 0)
        memory = {}
        for count in _gpus_of(config):
            found = decide_checkpointing(config, tree, shape, room, count, rated)
            memory[count] = peak_memory(found, tree, shape, count, largest_rated=rated)
        if config.eliciting is not None:
            trained = keys.get(TRAINING.title)
            stages += elicitation_work(config.eliciting, lambda who: self._model(who)[0], trained)
        disk, audited = _disk(config, work, shape), self._audited(work.corpus, documents)
        return Work(stages, memory, disk, audited, [*filter(None, problems)][:1])

    def _audited(self, corpus: SplitCorpus, key: str) -> Audited:
        if key not in self._counts:
            test = corpus.parts["test"]
            self._counts[key] = Audited(len(test), len({document.group for document in test}))
        return self._counts[key]

    def _of_elicitation(self, config: JobConfig) -> Work:
        stages = elicitation_work(config, lambda who: self._model(who)[0])
        judge = config.of_judge
        models = [config] + ([] if judge is None or judge.model == config.model else [judge])
        local = [who for who in models if isinstance(who.model, ModelConfig)]
        memory = {
            count: sum(
                peak_memory(
                    who,
                    who.train.tree.max_tokens,
                    self._model(who)[1],
                    count,
                    largest_rated=config.batching.max_tokens,
                )
                for who in local
            )
            for count in _gpus_of(config)
        }
        disk = sum(s.tokens for s in stages) * _TOKEN_BYTES
        if config.learns_prompts:
            disk += _weights(config, self._model(config)[1])
        problems = [length_problem(self._model(o)[1].architecture, o.local_model) for o in local]
        return Work(stages, memory, disk, None, [*filter(None, problems)][:1])

    def _of_endpoint(self, config: JobConfig, corpus: SplitCorpus, documents: str) -> Work:
        rater = {"endpoint": config.model.model_dump(mode="json")}
        sample, keys, stages = sampled(corpus), {LOAD.title: documents}, []
        for stage in rating_stages(config):
            if stage is LOAD:
                continue
            keys[stage.title] = key = _planned_key(stage, config, sample, rater, keys)
            if stage.tokens is not None:
                tokens, dollars = endpoint_tokens(config, corpus, stage)
                stages.append(StageWork(stage.title, key, tokens, dollars=dollars))
        # A reply in its record and in its row.
        disk = sum(s.tokens for s in stages) * _TOKEN_BYTES
        return Work(stages, {1: 0.0}, disk, self._audited(corpus, keys[LOAD.title]))

    def _corpus(self, config: JobConfig, key: str) -> SplitCorpus:
        if key not in self._corpora:
            folder = self._folder / key
            folder.mkdir()
            try:
                write(config.documents, config.seed, folder)
                self._corpora[key] = open_corpus(folder, rubrics_of(config.documents))
            except UserError as error:
                self._corpora[key] = error
        corpus: SplitCorpus = _or_raise(self._corpora[key])
        return corpus

    def _model(self, config: JobConfig) -> Any:
        model, cache = config.local_model, cache_folder(config)
        key = fingerprint([model.path, model.revision])
        if key not in self._models:
            try:
                # The jobs have the same environment.
                found = load_shape(pinned(model), cache, fused.installed())
                self._models[key] = *found, source_identity(model.path, model.revision, cache)
            except UserError as error:
                self._models[key] = error
        return _or_raise(self._models[key])


def fit_checkpointing(config: JobConfig, largest_pass: int) -> JobConfig:
    """The job with `train.gradient_checkpointing` decided for this device, with the reason in the log."""
    if config.train.gradient_checkpointing != "auto":
        return config
    fuses = gpus.device(config.local_model.device) != "cpu" and fused.installed()
    _, shape = load_shape(pinned(config.local_model), cache_folder(config), fuses)
    room = _training_room(config)
    found = decide_checkpointing(config, largest_pass, shape, room, processes.size())
    every = found.train.gradient_checkpointing
    log.info(
        "gradient checkpointing: %s (auto; largest tree: %d tokens, room: %.1f GB)",
        {"False": "off", "True": "on"}.get(str(every), f"every {every} layers"), largest_pass, room / 1e9,
    )  # fmt: skip
    return found


def passes_at_once(config: JobConfig, largest_pass: int, model: Any) -> Threads:
    """In which threads the passes of a training step are made: more than one where the memory holds what they
    keep, and nothing is drawn at random, which they would do in any order."""
    train, lora = config.train, config.local_model.lora
    threads = for_passes(model)
    if threads.count == 1 or train.adapter == "full" or train.engine == "trl" or lora.dropout:
        return ONE_THREAD
    taken = peak_memory(config, largest_pass, shape_of(model.config), at_once=threads.count)
    return threads if taken <= _training_room(config) else ONE_THREAD


def require_memory(config: JobConfig) -> None:
    """Raise `UserError` where all weights are to be trained and the device cannot hold what that takes. Only
    the model's configuration is read."""
    if not (config.method.trains_weights and config.train.adapter == "full"):
        return
    _, shape = load_shape(pinned(config.local_model), cache_folder(config))
    on_cpu = gpus.device(config.local_model.device) == "cpu"
    device = "CPU" if on_cpu else "GPU"
    if problem := too_large(config, shape, _room(config), processes.size(), device):
        raise UserError(problem)


def _training_room(config: JobConfig) -> float:
    """Bytes for a training. A machine's memory is not the job's alone, and the estimates were counted for
    GPUs."""
    return _room(config) * (0.5 if gpus.device(config.local_model.device) == "cpu" else 1.0)


def _room(config: JobConfig) -> float:
    """Bytes that this process has: a GPU's, or its part of the machine's."""
    device = config.local_model.device
    return gpus.memory(device) / (processes.size() if gpus.device(device) == "cpu" else 1)


def _too_long(config: JobConfig, stage: Stage, lengths: Mapping[str, int]) -> str | None:
    """That a stage would be refused for the length of its prompts, as the sample of its documents has it."""
    most = config.local_model.max_length
    found = prompts_too_long(lengths, most, stage.reading(config))
    return found and f"{stage.title}, in a sample of the documents: {found}"


def _planned_key(
    stage: Stage,
    config: JobConfig,
    corpus: SplitCorpus,
    rater: Mapping[str, object],
    known: Mapping[str, str],
) -> str:
    """A key that is equal for two jobs that share the stage, known before the stage is made.

    `corpus`: a sample of the documents; `rater`: the untrained model's identity; `known`: the keys of the
    stages before it, by title. What earlier stages make is not known yet, so that their own keys stand for
    it.
    """
    prompts = flat(stage.prompts(config, corpus)) if stage.prompts else []
    return fingerprint(
        {
            "inputs": stage.inputs(config),
            "rater": dict(rater) if stage.tokens else None,
            "prompts": [[p.key, p.messages] for p in prompts],
            "after": [known[title] for title in stage.after if title in known],
        }
    )


def _or_raise(found: Any) -> Any:
    if isinstance(found, UserError):
        raise found
    return found


def _disk(config: JobConfig, work: Workload, shape: Shape) -> float:
    """Bytes that the job leaves under output_dir, hard links counted once, with the checkpoints of its
    training."""
    sample = work.sample.parts
    text = sum(len(d.text.encode()) for part in sample.values() for d in part)
    each = text / max(sum(map(len, sample.values())), 1)
    total = each * sum(map(len, work.corpus.parts.values()))
    written = _TOKEN_BYTES * config.rate.max_new_tokens
    row = _ROW_BYTES + (written if config.rate.readout == "text" else 0)
    prompts = sum(map(len, audited_prompts(config, work.sample)))
    total += work.whole("test", prompts) * row * (1 + config.method.changes_ratings)
    if config.method.head is not None:
        states = work.whole("train", sum(map(len, head_prompts(config, work.sample))))
        total += states * len(config.method.head.layers) * shape.width * _STATE_BYTES
    if not config.method.trains_weights:
        return total
    total += work.pairs() * (4 * each + 4 * written + 2 * _ROW_BYTES)
    return total + _weights(config, shape)


def _weights(config: JobConfig, shape: Shape) -> float:
    """Bytes of the kept weights, and of two checkpoints."""
    return trained_parameters(config, shape) * (4 + 2 * (4 + optimizer_bytes(config)))


def _gpus_of(config: JobConfig) -> range:
    """Numbers of GPUs that the job may be spread over."""
    full = config.method.trains_weights and config.train.adapter == "full"
    return range(1, 1 + (_MOST_GPUS if full else 1))
