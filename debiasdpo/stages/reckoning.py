"""What a job takes before anything of it is made: its stages' tokens, memory at the peak, disk."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.corpus import SplitCorpus, open_corpus, rubrics_of, write
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import output_folder
from debiasdpo.models.shape import Shape, load_shape
from debiasdpo.stages.declarations import (
    LOAD,
    RATINGS_BASE,
    TRAINING,
    planned_key,
    stages_of,
    training_prompts,
)
from debiasdpo.stages.workload import Workload
from debiasdpo.storage.files import fingerprint
from debiasdpo.sweep.memory import optimizer_bytes, peak_memory, trained_parameters
from debiasdpo.sweep.plan import StageWork, Work

_ROW_BYTES = 400  # of a rating in JSONL, less its text
_TOKEN_BYTES = 5  # of text


class Reckoner:
    """Reckons the jobs of a sweep one after the other: what they share is read and counted once."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._corpora: dict[str, SplitCorpus | UserError] = {}
        self._shapes: dict[str, Any] = {}  # tokenizer and Shape, or a UserError
        self._tokens: dict[str, float] = {}  # by a stage's key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def __call__(self, config: JobConfig) -> Work:
        """`UserError` where documents or the model's shape cannot be had."""
        tokenizer, shape = self._shape(config)
        corpus = self._corpus(config)
        work = Workload(config, corpus, tokenizer)
        keys: dict[str, str] = {}
        stages = []
        for stage in stages_of(config):
            key = planned_key(stage, config, work.sample, keys)
            keys[stage.title] = key
            if stage.tokens is not None:
                tokens = stage.tokens(config, work, stage)
                stages.append(StageWork(stage.title, key, tokens, trains=stage is TRAINING))
        memory = peak_memory(config, work.largest_pass, shape)
        return Work(stages, memory, _disk(config, work, shape))

    def _corpus(self, config: JobConfig) -> SplitCorpus:
        key = fingerprint(LOAD.inputs(config))
        if key not in self._corpora:
            folder = Path(self._folder.name) / key
            folder.mkdir()
            try:
                write(config.data, config.seed, folder)
                self._corpora[key] = open_corpus(folder, rubrics_of(config.data))
            except UserError as error:
                self._corpora[key] = error
        corpus: SplitCorpus = _or_raise(self._corpora[key])
        return corpus

    def _shape(self, config: JobConfig) -> Any:
        model = config.local_model
        key = fingerprint([model.path, model.revision])
        if key not in self._shapes:
            try:
                self._shapes[key] = load_shape(model, output_folder(config) / "cache")
            except UserError as error:
                self._shapes[key] = error
        return _or_raise(self._shapes[key])


def _or_raise(found: Any) -> Any:
    if isinstance(found, UserError):
        raise found
    return found


def _disk(config: JobConfig, work: Workload, shape: Shape) -> float:
    """Bytes that are left under output_dir, hard links counted once; and of checkpoints on the way."""
    sample = work.sample.parts
    text = sum(len(d.text.encode()) for part in sample.values() for d in part)
    each = text / max(sum(map(len, sample.values())), 1)
    total = each * sum(map(len, work.corpus.parts.values()))
    written = _TOKEN_BYTES * config.rate.max_new_tokens
    row = _ROW_BYTES + (written if config.rate.readout == "text" else 0)
    assert RATINGS_BASE.prompts is not None
    prompts = sum(map(len, RATINGS_BASE.prompts(config, work.sample)))
    total += work.whole("test", prompts) * row * (1 + config.method.changes_ratings)
    if not config.method.trains:
        return total
    pairs = work.pairs(training_prompts(config, work.sample))
    total += pairs * (4 * each + 4 * written + 2 * _ROW_BYTES)
    # The kept weights, and two checkpoints.
    return total + trained_parameters(config, shape) * (4 + 2 * (4 + optimizer_bytes(config)))
