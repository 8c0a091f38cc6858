"""Which job a configuration is, where it is kept, and whether it is done. Nothing here needs torch."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.config.data import DataConfig
from debiasdpo.config.elicitation import (
    ITSELF,
    NO_JUDGE,
    AnyJudgeConfig,
    LocalJudge,
    NoJudge,
    SelfJudge,
)
from debiasdpo.config.job import NO_MATTER, JobConfig
from debiasdpo.config.model import AnyModelConfig, EndpointConfig, ModelConfig, SelfWriter
from debiasdpo.documents.corpus import files_identity, source_files
from debiasdpo.elicitation.prompts import prompt_files
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.models.source import pinned, source_identity
from debiasdpo.raters.endpoint.adapter import open_adapter
from debiasdpo.redaction import mask_known, redact
from debiasdpo.storage.files import fingerprint, user_path
from debiasdpo.version import __version__

# `NO_MATTER`, and sections that belong to the other task.
_NO_MATTER_TO_RATING: Any = {**NO_MATTER, "judge": True, "elicitation": True}
_NO_MATTER_TO_ELICITING: Any = {
    **NO_MATTER,
    **dict.fromkeys(("context", "prompt", "writer"), True),
    "audit": {"categories", "max_cost", "skill_matched", "statements"},
}
_NO_MATTER_TO_ELICITING_ALONE: Any = {
    **_NO_MATTER_TO_ELICITING,
    **dict.fromkeys(("method", "loss", "train"), True),
}

_LONGEST_TITLE = 120  # bytes of a run folder's name before its key; file systems take 255


class Choices(NamedTuple):
    """What a user chose for a job, by name."""

    model: (
        str  # as `model=` has it, or the last part of `model.path` or of an endpoint's `model.name`
    )
    data: str  # as `data=` has it

    def to_status(self, config: JobConfig) -> dict[str, object]:
        """For status.json: the choices as names and as paths, secrets masked."""
        choices: dict[str, object] = redact(
            {
                "model": self.model,
                "model_path": getattr(config.model, "path", None),
                "data": self.data,
                "data_path": getattr(config.data, "path", None),
                **({} if config.eliciting is None else {"judge": judged_by(config)}),
                **(
                    {}
                    if config.elicits
                    else {
                        "method": config.method.name,
                        "context": list(config.context.train_categories),
                    }
                ),
            }
        )
        return choices


def choices_of(chosen: Mapping[str, Any], overrides: Iterable[str], config: JobConfig) -> Choices:
    """From Hydra's groups (`runtime.choices`) and the overrides given. A model given by `model.path` is
    called by that path's last part; one behind an endpoint by its name there."""
    model = str(chosen["model"])
    if isinstance(config.model, EndpointConfig):
        model = config.model.name.rstrip("/").rpartition("/")[2]
    if isinstance(config.model, ModelConfig) and any(
        re.match(r"\+*model(\.path=|=\{.*\bpath:)", override) for override in overrides
    ):
        model = mask_known(re.split(r"[/\\]", config.model.path.rstrip("/\\"))[-1])
    return Choices(model, str(chosen["data"]))


class Identity(NamedTuple):
    """What tells one job from another, and where it is kept."""

    key: str  # fingerprint of the choices and the configuration, less what does not change its result
    folder: Path  # the run folder


def identify(config: JobConfig, choices: Choices) -> Identity:
    """The job of this configuration under these choices, which begin its folder's name. That is for people,
    and the key behind it tells apart what is named alike."""
    key = fingerprint({**_decisive(config), "choices": list(choices)})
    chosen = (name.replace("_", "-") for name in choices)  # _ stands between names
    what = [trained(config), config.method.name]
    if config.elicits:
        method = [config.method.name] if config.learns_prompts else []
        what = ["elicitation", *(name.replace("_", "-") for name in (judged_by(config), *method))]
    names = *chosen, *what, f"s{config.seed}"
    title = re.sub(r"[^\w.+-]+", "-", "_".join(names))
    title = title.encode()[:_LONGEST_TITLE].decode(errors="ignore")
    return Identity(key, output_folder(config) / "runs" / f"{title}_{key[:8]}")


def settings_key(config: JobConfig) -> str:
    """Fingerprint of all settings that decide the job's result, whatever they are called."""
    return fingerprint(_decisive(config))


def _decisive(config: JobConfig) -> dict[str, Any]:
    match config.elicits, config.method.trains, config.eliciting is not None:
        case True, False, _:
            unread = _NO_MATTER_TO_ELICITING_ALONE
        case True, True, _:
            unread = _NO_MATTER_TO_ELICITING
        case False, _, True:
            unread = NO_MATTER
        case _:
            unread = _NO_MATTER_TO_RATING
    if isinstance(config.writer, SelfWriter):  # which jobs had before there was a choice
        unread = {**unread, "writer": True}
    return config.model_dump(mode="json", exclude=unread)


def finished(config: JobConfig, choices: Choices) -> Path | None:
    """The run folder of this job, if it is finished and neither what went into it (configuration, data
    files, model, version) nor the files that it left have changed since. Needs no torch."""
    key, folder = identify(config, choices)
    if not folder.is_dir():
        return None
    known = RunFolder(folder, {}).complete()
    if known is None or known.get("inputs") != inputs_key(key, contents(config)):
        return None
    if known.get("gpu_hour_price") != config.gpu_hour_price:  # its metrics.json says another price
        return None
    tracker = config.tracker.kind
    return folder if tracker in ("none", known.get("tracker")) else None


def sources(config: JobConfig) -> dict[str, object]:
    """What stands where the configuration says: name and SHA-256 of the documents' files, and the
    `model_source` of what is asked."""
    cache = cache_folder(config)
    found: dict[str, object] = {
        "data": files_identity(data_files(config)),
        "model": model_source(config.model, cache),
    }
    if config.eliciting is not None and (judge := model_source(config.judge, cache)) is not None:
        found["judge"] = judge
    return found


def model_source(model: AnyModelConfig | AnyJudgeConfig, cache: Path) -> dict[str, Any] | None:
    """The `source_identity` of local weights, and the name, by its files, of an adapter that an endpoint
    serves; None where the configuration says all (what an endpoint or a Python function is called)."""
    if isinstance(model, ModelConfig | LocalJudge):
        return source_identity(model.path, model.revision, cache)
    if isinstance(model, EndpointConfig) and model.adapter is not None:
        return {"adapter": open_adapter(user_path(model.adapter)).name}
    return None


def data_files(config: JobConfig) -> list[Path]:
    """The files that `data` names; a `UserError` where they are not there."""
    documents = source_files(config.data) if isinstance(config.data, DataConfig) else []
    eliciting = config.eliciting
    return documents if eliciting is None else [*documents, *prompt_files(eliciting.prompts)]


def contents(config: JobConfig) -> dict[str, str]:
    """What the configuration only names, and what may change while it stays: fingerprints of the documents'
    files and of the model, and the version of this package."""
    found = {name: fingerprint(source) for name, source in sources(config).items()}
    return {**found, "debiasdpo": __version__}


def inputs_key(key: str, contents: Mapping[str, str]) -> str:
    """Fingerprint of all that decides the job's result, by its configuration's `key`."""
    return fingerprint({"config": key, **contents})


def judged_by(config: JobConfig) -> str:
    """The judge, as a folder's name and tables have it."""
    judge = config.judge
    if isinstance(judge, NoJudge | SelfJudge):
        return ITSELF if isinstance(judge, SelfJudge) else NO_JUDGE
    name = judge.name if isinstance(judge, EndpointConfig) else judge.path
    return mask_known(re.split(r"[/\\]", name.rstrip("/\\"))[-1])


def trained(config: JobConfig) -> str:
    """The categories trained on, as a folder's name has them."""
    return "+".join(config.context.train_categories)


def pinned_job(config: JobConfig) -> JobConfig:
    """The job with its model, and its judge, `pinned`, in all its processes."""
    update: dict[str, object] = {}
    if isinstance(config.model, ModelConfig):
        update["model"] = pinned(config.model)
    if config.eliciting is not None and isinstance(judge := config.judge, LocalJudge):
        update["judge"] = judge.model_copy(update={"revision": pinned(judge.model).revision})
    return config.model_copy(update=update)


def output_folder(config: JobConfig) -> Path:
    return user_path(config.output_dir).absolute()


def cache_folder(config: JobConfig) -> Path:
    """Where the stages that jobs share are kept."""
    return output_folder(config) / "cache"
