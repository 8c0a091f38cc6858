"""The frame of a job: its run folder, status, log and tracker; and what it says at the end."""

import contextlib
import functools
import importlib.metadata
import itertools
import logging
import math
import platform
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import debiasdpo
from debiasdpo import costs
from debiasdpo.config import JobConfig
from debiasdpo.failures import cause
from debiasdpo.identity import identify, inputs_key, output_folder, trained
from debiasdpo.job import Job
from debiasdpo.redaction import MaskingFormatter, mask_known, redact
from debiasdpo.runs import JsonlFile, RunFolder, Store, write_json, write_text
from debiasdpo.tracking import open_tracker

log = logging.getLogger("debiasdpo")

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "hydra-core", "numpy")
# What libraries warn of that means nothing here, by logger.
_NOISE = {
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    "transformers.trainer_utils": "mtime may not be reliable",  # checkpoints are found by number
}
_FORMAT = "%(asctime)s %(message)s"


def set_up_logging() -> None:
    """One line an event on the console; warnings of libraries too."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(MaskingFormatter(_FORMAT, "%H:%M:%S"))
        root.addHandler(handler)
    log.setLevel(logging.INFO)
    _hush()


@contextlib.contextmanager
def open_job(config: JobConfig, name: str) -> Iterator[Job]:
    """The job with its run folder and tracker; status.json tells how it ended, whatever happens."""
    key, folder = identify(config, name)
    plain = redact(config.model_dump(mode="json"))
    run = RunFolder(folder)
    handler = logging.FileHandler(run.folder / "run.log", encoding="utf-8")
    handler.setFormatter(MaskingFormatter(_FORMAT))
    log.addHandler(handler)
    log.info("run folder: %s", run.folder)
    try:
        _write_config(run, plain)
        write_json(run.folder / "versions.json", versions())
        run.status("running", stage="start", config=key)
        inputs = inputs_key(config, key)
        with open_tracker(
            config.tracker,
            run_id=key,
            name=run.folder.name,
            group=f"{name}_{trained(config)}",
            tags=[name, *config.context.train_categories, config.method.name],
            job_config=plain,
            folder=run.folder,
        ) as tracker:
            yield Job(config, Store(output_folder(config) / "cache"), run, tracker)
        run.finish(
            config=key,
            inputs=inputs,
            tracker=config.tracker.kind,
            gpu_hour_price=config.gpu_hour_price,
        )
    except (
        SystemExit
    ):  # told to stop, and put back into a queue; whoever looks sees the process gone
        raise
    except BaseException as error:
        # A full disk cannot take the status either; the error itself must still come through.
        with contextlib.suppress(OSError):
            run.status(
                "interrupted" if isinstance(error, KeyboardInterrupt) else "failed",
                config=key,
                cause=cause(error),
                error=mask_known(
                    f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                ),
                traceback=mask_known(traceback.format_exc()),
            )
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


@functools.cache
def _hush() -> None:
    def matters(record: logging.LogRecord) -> bool:
        return not any(noise in record.getMessage() for noise in _NOISE.values())

    for library in _NOISE:
        logging.getLogger(library).addFilter(matters)


def show(folder: Path) -> None:
    """What a finished job found, once more."""
    log.info("finished before, nothing to do")
    print((folder / "table.txt").read_text(encoding="utf-8"), end="")
    print(f"\nrun folder: {folder}")


def conclude(
    job: Job,
    figures: Mapping[str, Any],
    counts: Mapping[str, int],
    ratings: Mapping[str, Path],
    weights: Path | None,
) -> dict[str, Any]:
    """Write metrics.json, show the table, and give the tracker summary, samples and adapter."""
    metrics = {
        **figures,
        **{f"pairs/{what}": count for what, count in counts.items()},
        **{f"time/{stage}_s": round(cost.seconds, 2) for stage, cost in job.costs.items()},
        **costs.figures(job.costs, job.config.gpu_hour_price),
    }
    metrics = {key: finite(value) for key, value in metrics.items()}
    write_json(job.run.folder / "metrics.json", metrics)
    job.tracker.summary(metrics)
    job.tracker.table("ratings", _samples(ratings))
    if weights is not None:
        job.tracker.adapter(weights)
    table = results_table(metrics)
    write_text(job.run.folder / "table.txt", table + "\n")
    print(table)
    print(f"\nrun folder: {job.run.folder}")
    return metrics


def results_table(metrics: Mapping[str, Any]) -> str:
    """Base and tuned side by side with intervals, a line a figure; below, what else to know."""
    gap = "/polarity_gap/base"
    social = [key.split("/")[1] for key in metrics if key.endswith(gap)]
    rows = [("bias (mean |shift|, points)", "bias")]
    subsets = [n for n in ("trained", "unseen") if f"bias/{n}/base" in metrics]
    rows += [(f"  {n} categories", f"bias/{n}") for n in subsets]
    rows += [(f"    {c}", f"bias/{c}") for c in social]
    rows += [("  placebo", "bias/placebo")] if "bias/placebo/base" in metrics else []
    rows += [("largest mean shift", "bias/max_shift")]
    names = {"spearman": "Spearman", "qwk": "QWK", "mae": "MAE", "rmse": "RMSE", "exact": "exact"}
    rows += [(f"accuracy: {label}", f"accuracy/{key}") for key, label in names.items()]
    rows += [
        ("spread of neutral ratings (sd)", "spread"),
        *(
            [(f"bias / spread, {n}", f"relative_bias/{n}") for n in subsets]
            or [("bias / spread", "relative_bias")]
        ),
        ("ratings that could be read", "parse_rate"),
    ]
    lines = [f"{'':30}{'base':>22}{'tuned':>22}{'change':>24}", "-" * 98]
    for label, key in rows:
        cells = [_cell(metrics, f"{key}/{model}") for model in ("base", "tuned")]
        lines.append(f"{label:30}{cells[0]:>22}{cells[1]:>22}{_change(metrics, key):>24}".rstrip())
    return "\n".join([*lines, *_notes(metrics)])


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    """The noise floor, and how the expert scores spread over the levels."""
    found = {m: key for m in ("base", "tuned") if (key := f"bias/noise_floor/{m}") in metrics}
    floors = [
        f"{'undefined' if metrics[key] is None else f'{metrics[key]:.2f}'} ({model})"
        for model, key in found.items()
    ]
    notes = [f"noise floor (neutral prompt rated twice): {', '.join(floors)}"]
    levels: dict[str, list[str]] = {}
    for key, count in metrics.items():
        if key.startswith("scores/"):
            rubric, level = key.removeprefix("scores/").rsplit("/", 1)
            levels.setdefault(rubric, []).append(f"{level}: {count}")
    for rubric, counts in levels.items():
        text = f"expert scores of {rubric}: {', '.join(counts)}"
        notes += textwrap.wrap(text, 98, subsequent_indent="  ")
    return notes


def _cell(metrics: Mapping[str, Any], key: str) -> str:
    if key not in metrics:
        return ""
    value = metrics[key]
    return "undefined" if value is None else f"{value:z.2f}{_interval(metrics, key)}"


def _change(metrics: Mapping[str, Any], key: str) -> str:
    """Reduction in percent for bias, gain for Spearman, beside other accuracy what the best constant
    rater would get; each says so where it is undefined."""
    if key == "accuracy/spearman" and "accuracy/gain" in metrics:
        gain = metrics["accuracy/gain"]
        return "gain undefined" if gain is None else f"gain {gain:+.0%}"
    if f"{key}/constant" in metrics:
        constant = metrics[f"{key}/constant"]
        return f"constant {'undefined' if constant is None else f'{constant:.2f}'}"
    change = f"{key}/reduction"
    if change not in metrics:
        return ""
    if metrics[change] is None:
        return "undefined"
    interval = metrics.get(f"{change}_ci") or [None, None]
    bounds = "" if None in interval else f" [{-interval[1]:+.0%}, {-interval[0]:+.0%}]"
    return f"{-metrics[change]:+.0%}{bounds}"


def _interval(metrics: Mapping[str, Any], key: str) -> str:
    low, high = metrics.get(f"{key}_ci") or [None, None]
    return "" if low is None or high is None else f" [{low:z.2f}, {high:z.2f}]"


def _samples(ratings: Mapping[str, Path], count: int = 100) -> list[dict[str, object]]:
    """The first rows of the test part with the ratings of all models side by side."""
    tables = {m: list(itertools.islice(JsonlFile(f), count)) for m, f in ratings.items()}
    first = next(iter(tables.values()))
    keep = ("document", "rubric", "category", "polarity", "statement")
    return [
        {
            **{name: row[name] for name in keep},
            **{
                f"{model}_{what}": rows[i][what]
                for model, rows in tables.items()
                for what in ("rating", "text")
            },
        }
        for i, row in enumerate(first)
    ]


def finite(value: Any) -> Any:
    """NaN is not JSON: an undefined figure is null."""
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_config(run: RunFolder, plain: Mapping[str, object]) -> None:
    from omegaconf import OmegaConf

    write_text(run.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(plain))))


def versions() -> dict[str, str | None]:
    """What ran: package versions, Python, and the git commit of a checkout."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {
        "debiasdpo": debiasdpo.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **found,
    }


def _commit() -> str | None:
    """Commit of the checkout this runs from, `+` if it was changed since; None elsewhere."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
