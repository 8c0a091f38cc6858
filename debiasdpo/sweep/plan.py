"""What a sweep will take, before it is submitted:  debiasdpo plan OVERRIDES...

It takes the arguments of the sweep: debiasdpo plan model=llama8b,qwen7b seed=0,1,2 cluster=slurm. Documents
are read and tokenised as the jobs will; nothing goes through a model, and none is loaded.

Tokens are counted as `costs` counts them, on a sample of the documents of each part, with generated texts
at their greatest length. Time is tokens divided by a GPU's speed, that of finished jobs of the same model in
output_dir or the one given (`plan` in config.yaml), and by the job's GPUs, which share the work. The time of
a finished job holds its one load of the weights: from a small one, hours are an upper bound. Memory is
estimated from the model's shape, disk from the files that are kept.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from debiasdpo.config.cluster import LocalConfig, SlurmConfig
from debiasdpo.config.job import JobConfig
from debiasdpo.errors import UserError
from debiasdpo.evaluation.power import Audited, Pilot, pilot, power_text
from debiasdpo.jobs.identity import output_folder
from debiasdpo.storage.reading import read_mapping

Asks = Literal["model", "judge"]
Runs = list[tuple[dict[str, Any], dict[str, Any]]]  # metrics.json and config.yaml of each

_ASKED: tuple[Asks, ...] = get_args(Asks)
_BACKWARD = 2.0  # passes that a training step takes for one forward, LoRA on frozen weights
_ALL_BACKWARD = 3.0  # the same where every weight is trained


class StageWork(NamedTuple):
    """A stage of a job, as its task estimates it."""

    title: str
    key: str  # equal for stages that jobs share
    tokens: float
    trains: bool = False  # runs each token backward too
    dollars: float | None = 0.0  # to an endpoint; None: it has no known price
    asks: Asks = "model"  # whom the dollars are for


class Work(NamedTuple):
    """What one job takes, from nothing."""

    stages: Sequence[StageWork]  # those that run a model
    memory: Mapping[
        int, float
    ]  # bytes of a GPU at the peak, by the GPUs that it may be spread over
    disk: float  # bytes
    audited: Audited | None  # None: no documents are rated
    problems: Sequence[str] = ()  # why the job itself would end before it asks anything


Reckon = Callable[[JobConfig], Work]  # raises `UserError` where nothing can be reckoned


class PlannedJob(NamedTuple):
    """A job of the sweep, as it is shown."""

    title: str
    config: JobConfig
    finished: bool


class Said(NamedTuple):
    """What is said of jobs alike, once."""

    text: str
    titles: Sequence[str]  # of the jobs

    def __str__(self) -> str:
        count = len(self.titles)
        return f"{self.titles[0] if count == 1 else f'{count} jobs'}: {self.text}"


def once(said: Iterable[tuple[str, str]]) -> list[Said]:
    """Each text once, of pairs of a job's title and what is said of it."""
    titles: dict[str, list[str]] = {}
    for title, text in said:
        titles.setdefault(text, []).append(title)
    return [Said(text, jobs) for text, jobs in titles.items()]


def read_runs(folder: Path) -> Runs:
    """metrics.json and config.yaml of each run that has both."""
    files = [(f, f.with_name("config.yaml")) for f in sorted(folder.glob("*/metrics.json"))]
    read = [(read_mapping(metrics, []), read_mapping(config, [])) for metrics, config in files]
    return [(metrics, config) for metrics, config in read if metrics and config]


def show(jobs: Iterable[PlannedJob], reckon: Reckon, say: Callable[[str], None]) -> list[Said]:
    """Say a table of the jobs, sums, and what will not fit, each stage that jobs share counted once;
    returns why jobs could not be reckoned, each cause once."""
    seen: set[str] = set()
    hours = disk = tokens = 0.0
    paid = dict.fromkeys(_ASKED, 0.0)  # dollars
    no_rate = False
    warnings: list[tuple[str, str]] = []  # title and text
    causes: list[tuple[str, str, str]] = []  # title, model, why it cannot be reckoned
    powers: list[tuple[str, str]] = []  # title and text
    configs: list[JobConfig] = []
    runs_in = functools.cache(read_runs)  # once for all jobs
    for job in jobs:
        try:
            work = None if job.finished else reckon(job.config)
        except UserError as error:
            path = str(getattr(job.config.model, "path", ""))
            causes.append((job.title, path, str(error).splitlines()[0]))
            continue
        if not configs:  # without a row there is no table
            say(f"{'job':44}{'M tokens':>10}{'hours':>9}{'GPU memory':>12}{'disk':>9}")
        configs.append(job.config)
        if work is None:
            say(f"{job.title[:43]:44}{'finished':>10}")
            continue
        runs = runs_in(output_folder(job.config) / "runs")
        rates = _measured(job.config, runs)
        if work.audited is not None:
            powers.append((job.title, power_text(work.audited, _pilot(job.config, runs))))
        new = [stage for stage in work.stages if stage.key not in seen]
        seen |= {stage.key for stage in work.stages}
        times = [_seconds(job.config, stage, rates) for stage in new]
        own = None if None in times else sum(t for t in times if t is not None) / 3600
        mine = sum(stage.tokens for stage in new)
        bill = {who: _dollars(new, who) for who in _ASKED}
        say(
            f"{job.title[:43]:44}{mine / 1e6:>10.2f}{'?' if own is None else f'{own:.2f}':>9}"
            f"{work.memory[1] / 1e9:>9.1f} GB {work.disk / 1e9:>5.2f} GB{_money(bill, '   ')}"
        )
        tokens, disk, hours = tokens + mine, disk + work.disk, hours + (own or 0.0)
        paid = {who: paid[who] + bill[who] for who in _ASKED}
        no_rate = no_rate or own is None
        warnings += [(job.title, text) for text in _warnings(job.config, work, own)]
    if configs:
        say("\n" + _sums(configs, tokens, hours, disk, bool(causes) or no_rate))
    if money := _money(paid):
        say(f"to endpoints: about {money}, with replies at their greatest length")
    for found in once(powers):
        say(found.text)
    for warning in once(warnings):
        say(f"warning: {warning}")
    if no_rate:
        say(
            "? no finished job of this model in output_dir tells its rate: run one with few documents"
            " first (experiment=quick), or give plan.tokens_per_s=N"
        )
    return once(_less_models(causes))


def _dollars(stages: Iterable[StageWork], who: Asks) -> float:
    return sum(stage.dollars or 0.0 for stage in stages if stage.asks == who)


def _money(paid: Mapping[Asks, float], before: str = "") -> str:
    """Of the model; where a judge is paid too, of each. Empty where nothing is paid."""
    if not any(paid.values()):
        return ""
    if not paid["judge"]:
        return f"{before}${paid['model']:.2f}"
    return before + ", ".join(f"{who} ${dollars:.2f}" for who, dollars in paid.items() if dollars)


def _less_models(causes: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """Title and cause of each job; models that cannot be had for one reason are one cause."""
    models: dict[str, list[str]] = {}  # by the reason without the model's name
    for _, path, cause in causes:
        models.setdefault(cause.replace(f"{path}: ", ""), []).append(path)
    for title, path, cause in causes:
        reason = cause.replace(f"{path}: ", "")
        named = f" ({', '.join(dict.fromkeys(models[reason]))})" if reason != cause else ""
        yield title, f"{reason}{named}"


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


def _pilot(config: JobConfig, runs: Runs) -> Pilot | None:
    """The earlier audit of the most groups."""
    found = [known for run in runs if (known := pilot(config, *run)) is not None]
    return max(found, key=lambda known: known.groups, default=None)


def _alike(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the tokens of two jobs take the same time."""
    local = ("path", "nf4", "dtype", "attention", "device")
    sections = {
        "model": ("base_url", "name") if mine["model"]["kind"] == "endpoint" else local,
        "rate": ("readout",),
        "batching": ("prompts", "max_tokens"),
        "train": ("adapter", "engine", "gradient_checkpointing", "tree"),
    }
    try:
        return all(mine[s][key] == other[s][key] for s, keys in sections.items() for key in keys)
    except (KeyError, TypeError):  # of an earlier version
        return False


def _seconds(config: JobConfig, stage: StageWork, measured: Mapping[str, float]) -> float | None:
    """None: no rate is known."""
    given = config.plan.tokens_per_s
    tokens = stage.tokens / max(1.0, _gpus(config))
    if given is None:
        rate = measured.get(stage.title)  # a process's: each counts its own tokens and time
        return None if rate is None else tokens / rate
    if stage.trains:
        factor = _ALL_BACKWARD if config.train.adapter == "full" else _BACKWARD
        every = config.train.gradient_checkpointing
        again = 1.0 if every == "auto" else 1 / every if every else 0.0  # auto: maybe less
        return tokens * (factor + again) / given
    return tokens / given


def _sums(
    configs: Sequence[JobConfig], tokens: float, hours: float, disk: float, unknown: bool
) -> str:
    cluster, price, gpus = configs[0].cluster, configs[0].gpu_hour_price, _gpus(configs[0])
    least = "at least " if unknown else ""
    parts = [f"{tokens / 1e6:.2f} M tokens"]
    if unknown and not hours:
        parts.append("hours unknown")
    else:
        parts.append(f"{least}{hours:.2f} hours of one job after the other")
        if gpus and not isinstance(cluster, LocalConfig):  # here there may be none
            parts.append(f"{least}{hours * gpus:.2f} GPU-hours")
        if gpus and price is not None:
            parts.append(f"{least}{hours * gpus * price:.2f} in money")
    return "in all: " + ", ".join([*parts, f"{disk / 1e9:.2f} GB of disk"])


def _gpus(config: JobConfig) -> float:
    """That the cluster gives a job."""
    return 1.0 if isinstance(config.cluster, LocalConfig) else float(config.cluster.gpus)


def _warnings(config: JobConfig, work: Work, hours: float | None) -> Iterator[str]:
    yield from work.problems
    room = config.plan.gpu_memory_gb
    trains = config.method.trains_weights
    if room is None and trains and config.train.gradient_checkpointing == "auto":
        yield (
            "train.gradient_checkpointing=auto keeps as much as the GPU has room for, and GPU memory is shown"
            " with every layer checkpointed, the least that it takes; plan.gpu_memory_gb=80 shows what it"
            " takes of a GPU of 80 GB"
        )
    if room is not None and work.memory[1] / 1e9 > room:
        full = trains and config.train.adapter == "full"
        spread = (
            f"run it on {count} GPUs with accelerate launch (docs/cluster.md), {memory / 1e9:.0f} GB each;"
            " or "
            for count, memory in work.memory.items()
            if memory / 1e9 <= room
        )
        cure = (  # what is trained takes most of it, whatever the batches
            "set train=qlora, or choose a smaller model"
            if full
            else "set model.nf4=true, train.gradient_checkpointing=true, or lower train.tree.max_tokens and"
            " batching.max_tokens"
        )
        yield (
            f"needs about {work.memory[1] / 1e9:.0f} GB, and the GPU has {room:g}:"
            f" {next(spread, '')}{cure}"
        )
    for who in _ASKED:
        if any(stage.dollars is None for stage in work.stages if stage.asks == who):
            yield (
                f"no price of this {who} is known: set {who}.prices='{{input: 2.5, cached: 1.25,"
                " output: 10}', US dollars for a million tokens"
            )
        most, whole = config.audit.max_cost, _dollars(work.stages, who)
        if most is not None and whole > most:
            yield f"the {who} may cost ${whole:.2f}, and audit.max_cost=${most:.2f} stops it before"
    cluster, limit = config.cluster, hours or 0.0
    if isinstance(cluster, SlurmConfig) and limit > cluster.hours * cluster.turns:
        yield (
            f"takes about {limit:.0f} hours, more than cluster.hours={cluster.hours:g} in"
            f" cluster.turns={cluster.turns}: raise them, or set batching.shards"
        )
