"""A finished run, as its folder has it: for whoever reads it, and for whoever goes on with its rater."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from debiasdpo.cluster.states import results_of, state_of
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig
from debiasdpo.config.worded import prompt_texts
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import Choices, identify
from debiasdpo.jobs.run_folder import STATUS, RunFolder
from debiasdpo.redaction import MASK
from debiasdpo.storage.files import user_path
from debiasdpo.storage.reading import Notes, read_mapping, read_rows

Rows = list[dict[str, Any]]
Model = Literal["base", "tuned"]  # the untrained one; the trained one, or that with changed prompts

DOCUMENTS = "documents/documents.jsonl"  # of a run folder
RATINGS = {"base": "ratings_base.jsonl", "tuned": "ratings_tuned.jsonl"}  # by model


def finished_status(folder: Path) -> dict[str, Any]:
    """What status.json says. `UserError` unless the folder is that of a finished run."""
    if not (folder / STATUS).is_file():
        there = "is no run folder" if folder.is_dir() else "does not exist"
        below = sorted(file.parent for file in folder.glob(f"**/runs/*/{STATUS}"))
        found = f" Runs below it: {', '.join(map(str, below[:5]))}." if below else ""
        raise UserError(
            f"{folder} {there}: there is no {STATUS} in it.{found} Give the folder of one run, such as"
            " outputs/runs/NAME."
        )
    status = dict(results_of(run_mapping(folder / STATUS)))
    state = state_of(status)
    if state != "finished":
        error = f" ({status['error']})" if status.get("error") else ""
        raise UserError(
            f"{folder} is not finished: {state}{error}. Run the same command again; it goes on from what"
            " is there."
        )
    return status


def run_mapping(file: Path) -> dict[str, Any]:
    """A JSON or YAML file of a run. `UserError` where it is missing or damaged."""
    notes: Notes = []
    found = read_mapping(file, notes)
    _refuse(file, notes)
    return found


def run_rows(file: Path) -> Rows:
    """The rows of a JSONL file of a run. `UserError` where it is missing or damaged."""
    notes: Notes = [] if file.exists() else [f"{file.name} is missing"]
    rows, _ = read_rows(file, {}, notes)
    _refuse(file, notes)
    return rows


def _refuse(file: Path, notes: Notes) -> None:
    if notes:
        raise UserError(
            f"{file.parent}: {'; '.join(notes)}. Run the same command again, which makes it anew."
        )


@dataclass(frozen=True)
class Run:
    """A finished run whose files are as it left them, and its configuration."""

    folder: Path
    config: JobConfig  # of a hub's model, the commit that it was; output_dir is where the folder lies now

    @cached_property
    def versions(self) -> dict[str, Any]:
        """versions.json: of the packages; `data` and `model`, what stood where the configuration says."""
        return run_mapping(self.folder / "versions.json")

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return run_mapping(self.folder / STATUS)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return run_mapping(self.folder / "metrics.json")

    @property
    def weights(self) -> Path | None:
        """The folder of what was trained: an adapter, a whole model or heads; None where nothing was."""
        return self.folder / "training/weights" if self.config.method.trains else None

    def model(self, chosen: Model | None = None) -> Model:
        """The model that was chosen; None: the tuned one, if there is one. `UserError` where the run lacks
        it."""
        tuned = self.config.method.changes_ratings
        if chosen == "tuned" and not tuned:
            raise UserError(
                f"{self.folder}: method={self.config.method.name} changes nothing, so that there is no tuned"
                " model; leave --model out"
            )
        return chosen or ("tuned" if tuned else "base")


def open_run(folder: str | Path, *, any_task: bool = False) -> Run:
    """The run in this folder. `UserError` unless it is finished, its files are as it left them, this version
    can read its configuration, and it rated documents, by prompts that are known; with `any_task` another
    will do, of which nothing is asked again."""
    path = user_path(folder).absolute()
    status = finished_status(path)
    if RunFolder(path, {}).complete() is None:
        raise UserError(
            f"{path}: files were changed or removed since the run finished. Run the same command again,"
            " which makes them anew."
        )
    plain = run_mapping(path / "config.yaml")
    try:
        config = JobConfig.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["input"] == MASK:
            raise _masked(path, place) from error
        raise UserError(
            f"{path}: config.yaml is not one that this version reads ({place}: {first['msg']}). Run the same"
            " command again with this version."
        ) from error
    if config.elicits and not any_task:
        raise UserError(
            f"{path} is a run of task={config.task}, which rated no documents; give one that did"
        )
    if not any_task:
        _refuse_masked(path, config, status)
    changes: dict[str, Any] = {}
    if path.parent.name == "runs":  # wherever it was made
        changes["output_dir"] = str(path.parent.parent)
    source = run_mapping(path / "versions.json").get("model")
    if isinstance(config.model, ModelConfig) and isinstance(source, dict) and "commit" in source:
        changes["model"] = config.model.model_copy(update={"revision": source["commit"]})
    return Run(path, config.model_copy(update=changes))


def _refuse_masked(path: Path, config: JobConfig, status: Mapping[str, Any]) -> None:
    """`UserError` where config.yaml has lost a text of the prompts. A mask that the run's own fingerprint has
    too is what somebody wrote."""
    masked = [key for key, text in prompt_texts(config) if MASK in text]
    if not masked:
        return
    chosen = status.get("choices") or {}
    choices = Choices(str(chosen.get("model")), str(chosen.get("data")))
    if status.get("config") != identify(config, choices).key:
        raise _masked(path, masked[0])


def _masked(path: Path, key: str) -> UserError:
    return UserError(
        f"{path}: config.yaml has {MASK} in {key}, where something may have looked like a secret: a word"
        " behind password= or the like, a key with such a name, or the value of an environment variable with"
        " one. With the mask, other prompts would be asked than were audited. Word it otherwise, or unset the"
        " variable, and run the job again."
    )
