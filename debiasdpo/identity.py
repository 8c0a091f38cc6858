"""Which job a configuration is, where it is kept, and whether it is done. Nothing here needs torch."""

from pathlib import Path
from typing import Any, NamedTuple

import debiasdpo
from debiasdpo import documents, model_source
from debiasdpo.config import JobConfig
from debiasdpo.runs import RunFolder, fingerprint

# What changes where and how a job runs, and not what it finds.
_NO_MATTER: Any = {
    **dict.fromkeys(("output_dir", "tracker", "cluster", "gpu_hour_price", "plan"), True),
    "rate": {"shards"},
}


class Identity(NamedTuple):
    """What tells one job from another, and where it is kept."""

    key: str  # fingerprint of the configuration, less what does not change its result
    folder: Path  # the run folder


def identify(config: JobConfig, name: str) -> Identity:
    """The job of this configuration; `name` begins its folder's."""
    plain = config.model_dump(mode="json", exclude=_NO_MATTER)
    key = fingerprint(plain)
    title = f"{name}_{trained(config)}_{config.method.name}_s{config.seed}"[:120]
    return Identity(key, output_folder(config) / "runs" / f"{title}_{key[:8]}")


def finished(config: JobConfig, name: str) -> Path | None:
    """The run folder of this job, if it is finished and nothing that went into it has changed since:
    configuration, data files, model, version; and no file that it left. Needs no torch."""
    key, folder = identify(config, name)
    if not folder.is_dir():
        return None
    known = RunFolder(folder).complete()
    if known is None or known.get("inputs") != inputs_key(config, key):
        return None
    if known.get("gpu_hour_price") != config.gpu_hour_price:  # its metrics.json says another price
        return None
    tracker = config.tracker.kind
    return folder if tracker in ("none", known.get("tracker")) else None


def inputs_key(config: JobConfig, key: str) -> str:
    """Fingerprint of all that decides the job's result, by its configuration's `key`."""
    return fingerprint(
        {
            "config": key,
            "debiasdpo": debiasdpo.__version__,
            "files": documents.files_identity(documents.source_files(config.data)),
            "model": model_source.identity(config.model.path, config.model.revision),
        }
    )


def trained(config: JobConfig) -> str:
    """The categories trained on, as names of folders and groups have them."""
    return "+".join(config.context.train_categories)


def output_folder(config: JobConfig) -> Path:
    return Path(config.output_dir).expanduser().absolute()
