"""What a sweep will take, before it is submitted:  debiasdpo plan OVERRIDES...

Its words are those of the sweep: debiasdpo plan model=llama8b,qwen7b seed=0,1,2 cluster=slurm. Documents are
read and tokenised as the jobs will; nothing goes through a model, and none is loaded.

Tokens are counted as `costs` counts them, on a sample of the documents of each part, with texts as long as
they may be. Time is tokens by a rate: that of finished jobs of the same model in output_dir, or the one
given (`plan` in config.yaml). Memory is reckoned from the model's shape, disk from what is kept.
"""

import functools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo import documents, models
from debiasdpo.cluster import LocalConfig, SlurmConfig
from debiasdpo.config import JobConfig
from debiasdpo.documents import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.identity import identify, output_folder
from debiasdpo.report.reading import read_mapping
from debiasdpo.runs import fingerprint
from debiasdpo.workload import Workload

Runs = list[tuple[dict[str, Any], dict[str, Any]]]  # metrics.json and config.yaml of each

_BACKWARD = 2.0  # passes that a training step takes for one forward, LoRA on frozen weights
_ALL_BACKWARD = 3.0  # the same where every weight is trained
_ROW_BYTES = 400  # of a rating in JSONL, less its text
_TOKEN_BYTES = 5  # of text
_GPU_OVERHEAD = 1.5e9  # CUDA, kernels, and what the allocator cannot use
_LOGITS = 0.5e9  # the largest block of logits (docs/engine.md)


@dataclass
class Estimate:
    """What one job takes."""

    tokens: dict[str, float] = field(default_factory=dict)  # of each stage that runs a model
    keys: dict[str, str] = field(default_factory=dict)  # equal for stages that jobs share
    seconds: dict[str, float | None] = field(default_factory=dict)  # None: no rate is known
    memory: float = 0.0  # bytes, at the peak
    disk: float = 0.0  # bytes
    problem: str = ""  # why nothing could be reckoned


def read_runs(folder: Path) -> Runs:
    """metrics.json and config.yaml of each run that has both."""
    files = [(f, f.with_name("config.yaml")) for f in sorted(folder.glob("*/metrics.json"))]
    read = [(read_mapping(metrics, []), read_mapping(config, [])) for metrics, config in files]
    return [(metrics, config) for metrics, config in read if metrics and config]


def estimate(config: JobConfig, runs_in: Callable[[Path], Runs] = read_runs) -> Estimate:
    """What the job of this configuration takes, from nothing; `runs_in` a folder tell the rates. Never
    raises a `UserError`."""
    found = Estimate()
    try:
        with tempfile.TemporaryDirectory() as folder:
            documents.write(config.data, config.seed, Path(folder))
            corpus = documents.open_corpus(Path(folder), documents.rubrics_of(config.data))
            tokenizer, shape = _shape(
                config.model.model_dump_json(), output_folder(config) / "cache"
            )
            work = Workload(config, corpus, tokenizer)
            found.tokens = work.stages()
            found.disk = _disk(config, corpus, work, shape)
            found.memory = _memory(config, work, shape)
    except UserError as error:
        found.problem = str(error).splitlines()[0]
        return found
    rates = _measured(config, runs_in(output_folder(config) / "runs"))
    for stage, tokens in found.tokens.items():
        found.seconds[stage] = _seconds(config, stage, tokens, rates)
        found.keys[stage] = fingerprint([stage, _what_matters(config, stage)])
    return found


def _what_matters(config: JobConfig, stage: str) -> object:
    """What two jobs must have in common to share this stage."""
    plain = config.model_dump(mode="json")
    base = [plain["model"], plain["data"], config.seed, {**plain["rate"], "shards": 1}]
    if stage == "ratings_base":
        return [*base, plain["audit"], plain["context"]["categories"]]
    pairs = [*base, plain["context"], config.method.statements]
    if stage == "reasoning":
        return [*pairs, config.method.chosen is None]
    if stage == "reference":
        return [*pairs, config.method.chosen, config.method.consistency]
    return identify(config, "").key


def _measured(config: JobConfig, runs: Runs) -> dict[str, float]:
    """Tokens a second of each stage, of finished jobs of the same model that were rated alike."""
    plain = config.model_dump(mode="json")
    tokens: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for metrics, other in runs:
        if not _alike(plain, other):
            continue
        for key in metrics:
            if (found := re.fullmatch("cost/(.+)/tokens", key)) and metrics[key]:
                stage = found[1]
                tokens[stage] = tokens.get(stage, 0) + metrics[key]
                seconds[stage] = seconds.get(stage, 0) + metrics[f"time/{stage}_s"]
    return {stage: tokens[stage] / s for stage, s in seconds.items() if s}


@functools.cache
def _shape(model: str, cache: Path) -> Any:
    """`models.load_shape` of a configuration in JSON, once for all jobs of a sweep."""
    return models.load_shape(models.ModelConfig.model_validate_json(model), cache)


def _alike(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the tokens of two jobs take the same time."""
    sections = {
        "model": ("path", "nf4", "dtype", "attention"),
        "rate": ("readout", "batch_size", "max_tokens"),
        "train": ("adapter", "engine", "gradient_checkpointing", "tree"),
    }
    try:
        return all(mine[s][key] == other[s][key] for s, keys in sections.items() for key in keys)
    except (KeyError, TypeError):  # of an earlier version
        return False


def _seconds(
    config: JobConfig, stage: str, tokens: float, measured: Mapping[str, float]
) -> float | None:
    given = config.plan.tokens_per_s
    if given is None:
        return tokens / measured[stage] if stage in measured else None
    if stage == "training":
        factor = _ALL_BACKWARD if config.train.adapter == "full" else _BACKWARD
        return tokens * (factor + config.train.gradient_checkpointing) / given
    return tokens / given


def _memory(config: JobConfig, work: Workload, shape: models.Shape) -> float:
    """Bytes at the peak of rating or of training: weights, what is trained, activations."""
    size = 4 if config.model.dtype == "float32" else 2
    in_4_bits = config.model.nf4 and config.train.adapter != "full"
    frozen = shape.linear * (0.52 if in_4_bits else size) + shape.other * size
    rating = frozen + shape.cache * size * work.largest_pass
    if not config.method.trains:
        return rating + _LOGITS + _GPU_OVERHEAD
    trained = _trained(config, shape)
    if config.train.adapter == "full":
        frozen = 0.0
    layers = shape.layers  # through which gradients go
    if config.train.adapter == "lora":
        layers = config.model.lora.last_layers or layers
    per_token = shape.working / shape.layers * layers
    if config.train.gradient_checkpointing:  # one layer at a time, and the inputs of all
        per_token = shape.working / shape.layers + layers * shape.width
    activations = per_token * size * min(work.largest_pass, config.train.tree.max_tokens)
    training = frozen + trained * (8 + _optimizer_bytes(config)) + activations
    return max(rating, training) + _LOGITS + _GPU_OVERHEAD


def _trained(config: JobConfig, shape: models.Shape) -> int:
    """Parameters that are trained."""
    full = config.train.adapter == "full"
    return shape.linear + shape.other if full else shape.lora(config.model.lora)


def _optimizer_bytes(config: JobConfig) -> int:
    """Of each parameter that is trained."""
    return 2 if config.train.optimizer == "paged_adamw_8bit" else 8


def _disk(config: JobConfig, corpus: SplitCorpus, work: Workload, shape: models.Shape) -> float:
    """Bytes that are left under output_dir, hard links counted once; and of checkpoints on the way."""
    text = sum(len(d.text.encode()) for part in work.parts.values() for d in part)
    sampled = sum(map(len, work.parts.values()))
    each = text / max(sampled, 1)
    total = each * sum(map(len, corpus.parts.values()))
    written = _TOKEN_BYTES * config.rate.max_new_tokens
    row = _ROW_BYTES + (written if config.rate.readout == "text" else 0)
    total += (
        work.prompts["test"] * row * (1 + (config.method.trains or config.method.changes_prompts))
    )
    if not config.method.trains:
        return total
    total += work.prompts["pairs"] * (4 * each + 4 * written + 2 * _ROW_BYTES)
    # The kept weights, and two checkpoints.
    return total + _trained(config, shape) * (4 + 2 * (4 + _optimizer_bytes(config)))


class Line(NamedTuple):
    """A job of the sweep, as it is shown."""

    title: str
    config: JobConfig
    finished: bool


def show(jobs: Iterable[Line], say: Callable[[str], None]) -> list[str]:
    """Say a table of the jobs, sums, and what will not fit, each stage that jobs share counted once;
    returns what is wrong with jobs that could not be reckoned."""
    seen: set[str] = set()
    hours = disk = tokens = 0.0
    no_rate = False
    warnings: list[str] = []
    problems: list[str] = []
    configs = []
    runs_in = functools.cache(read_runs)  # once for all jobs
    say(f"{'job':44}{'M tokens':>10}{'hours':>9}{'GPU memory':>12}{'disk':>9}")
    for job in jobs:
        configs.append(job.config)
        if job.finished:
            say(f"{job.title[:43]:44}{'finished':>10}")
            continue
        found = estimate(job.config, runs_in)
        if found.problem:
            say(f"{job.title[:43]:44}  unknown: {found.problem}")
            problems.append(f"{job.title}: {found.problem}")
            continue
        new = [stage for stage, key in found.keys.items() if key not in seen]
        seen |= set(found.keys.values())
        times = [found.seconds[stage] for stage in new]
        own = None if None in times else sum(t for t in times if t is not None) / 3600
        mine = sum(found.tokens[stage] for stage in new)
        say(
            f"{job.title[:43]:44}{mine / 1e6:>10.2f}{'?' if own is None else f'{own:.2f}':>9}"
            f"{found.memory / 1e9:>9.1f} GB{found.disk / 1e9:>6.2f} GB"
        )
        tokens, disk, hours = tokens + mine, disk + found.disk, hours + (own or 0.0)
        no_rate = no_rate or own is None
        warnings += [f"{job.title}: {text}" for text in _warnings(job.config, found, own)]
    if configs:
        say("\n" + _sums(configs, tokens, hours, disk, bool(problems) or no_rate))
    for text in dict.fromkeys(warnings):
        say(f"warning: {text}")
    if no_rate:
        say(
            "? no finished job of this model in output_dir tells its rate: run one with few documents"
            " first (experiment=quick), or give plan.tokens_per_s=N"
        )
    return problems


def _sums(
    configs: Sequence[JobConfig], tokens: float, hours: float, disk: float, unknown: bool
) -> str:
    cluster, price = configs[0].cluster, configs[0].gpu_hour_price
    gpus = 1.0 if isinstance(cluster, LocalConfig) else float(cluster.gpus)
    least = "at least " if unknown else ""
    parts = [f"{tokens / 1e6:.2f} M tokens", f"{least}{hours:.2f} hours of one job after the other"]
    if gpus and not isinstance(cluster, LocalConfig):  # here there may be none
        parts.append(f"{least}{hours * gpus:.2f} GPU-hours")
    if gpus and price is not None:
        parts.append(f"{least}{hours * gpus * price:.2f} in money")
    return "in all: " + ", ".join([*parts, f"{disk / 1e9:.2f} GB of disk"])


def _warnings(config: JobConfig, found: Estimate, hours: float | None) -> Iterator[str]:
    room = config.plan.gpu_memory_gb
    if room is not None and found.memory / 1e9 > room:
        yield (
            f"needs about {found.memory / 1e9:.0f} GB, and the GPU has {room:g}: set model.nf4=true,"
            " train.gradient_checkpointing=true, or lower train.tree.max_tokens and rate.max_tokens"
        )
    cluster, limit = config.cluster, hours or 0.0
    if isinstance(cluster, SlurmConfig) and limit > cluster.hours * cluster.turns:
        yield (
            f"takes about {limit:.0f} hours, more than cluster.hours={cluster.hours:g} in"
            f" cluster.turns={cluster.turns}: raise them, or set rate.shards"
        )
