"""Run folders, found anywhere below the given paths, and what each says about itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from debiasdpo.cluster.states import results_of, state_of
from debiasdpo.config.method import sees_statements
from debiasdpo.errors import UserError
from debiasdpo.evaluation.keys import count_key, interval_key, note_key
from debiasdpo.redaction import redact
from debiasdpo.report import alike
from debiasdpo.report.folders import MARKS, run_folders
from debiasdpo.report.values import UNSAID, Value
from debiasdpo.storage.reading import Notes, interval, note, number, read_mapping

# Tables and figures show methods in this order; others follow, by name.
METHODS = (
    "none", "debiasing_dpo", "invariance", "head", "head_distilled",
    "sft", "sft_balanced", "sft_augmented", "sft_augmented_ranking", "sft_regression", "sft_soft",
    "sft_ranking", "activation", "bct",
    "dpo_ground_truth", "dpo_self_score", "dpo_only",
    "prompt_ignore", "prompt_fairness", "prompt_think", "prompt_strip",
)  # fmt: skip
_SECTIONS = {"seed", "model", "context", "data", "method", "rate", "audit"}
_METRICS = {"bias/base", "accuracy/spearman/base"}


@dataclass(frozen=True)
class Run:
    """One run folder. `metrics` is empty unless the run finished; `notes` say which of its files
    are missing or damaged, and grow while they are read."""

    folder: Path
    state: str  # finished, running, failed, ...: `state_of`
    stage: str
    time: str  # of the last change of state, ISO 8601
    error: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    model: str
    data: str
    trained: tuple[str, ...]  # categories of context.train
    method: str
    seed: int | None
    judge: str = ""  # of replies to prompts that elicit; empty: it asked none
    content: Mapping[str, str] = field(default_factory=dict)  # what data and weights were: hashes
    # As it left them: `storage.store.quick_entry`.
    files: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = field(default_factory=list)
    apart: str = ""  # the settings that tell it from others of its model; see `told_apart`

    @property
    def named(self) -> str:
        """Its model, in a table where settings have no column."""
        return f"{self.model} ({self.apart})" if self.apart else self.model

    @property
    def changed(self) -> bool:
        """Whether its method changed the ratings, so that it has a tuned model beside the base model."""
        return "bias/tuned" in self.metrics

    @property
    def fitted(self) -> bool:
        """Whether there is a head, and no training of weights."""
        return (self.folder / "training/head.json").is_file()

    @cached_property
    def shown_in_training(self) -> tuple[str, ...]:
        """The categories of which its training showed the model statements: none where prompts were changed,
        or scores of neutral prompts alone were fitted."""
        shows = self.fitted or sees_statements(_section(self.config, "method"))
        return self.trained if self.changed and shows else ()

    @cached_property
    def settings(self) -> alike.Settings:
        """What it shares with other seeds of the same setting."""
        return alike.settings_of(self.config, self.content, trained=self.changed)

    def metric(self, key: str) -> float | None:
        return number(self.metrics.get(key))

    def value(self, key: str) -> Value:
        """A metric with its interval, and with why either is missing."""
        said = self.metrics.get(note_key(key))
        note = said if isinstance(said, str) else ""
        if key not in self.metrics:
            return Value(None, note="not in metrics.json")
        mean = self.metric(key)
        if mean is None:
            return Value(None, note=note or UNSAID)
        low, high = interval(self.metrics.get(interval_key(key))) or (None, None)
        return Value(mean, low, high, note=note)

    def count(self, key: str, what: str) -> int | None:
        """Of how many documents, groups or prompts a metric is; runs of earlier versions do not say."""
        found = _section(self.metrics, count_key(key)).get(what)
        return found if isinstance(found, int) else None

    @property
    def configured(self) -> bool:
        """Whether its config.yaml says what it is of: one that is damaged is like no other run."""
        return self.config.keys() >= _SECTIONS

    @property
    def elicits(self) -> bool:
        """Whether it is of task=elicitation, and not of rubric_rating."""
        return self.config.get("task") == "elicitation"

    @property
    def source(self) -> str:
        return _source(self.config)

    @property
    def rubrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Those that were rated: of the configured ones the names in `data.use`, where that is set."""
        data = _section(self.config, "data")
        rubrics = {str(n): r for n, r in _section(data, "rubrics").items() if isinstance(r, dict)}
        used = data.get("use")
        return {n: r for n, r in rubrics.items() if not isinstance(used, list) or n in used}


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """All runs at or below `paths`, in the order that tables show them. A folder counts once."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"No such folder: {', '.join(missing)}. Give run folders, or folders above them, such as"
            " outputs/runs."
        )
    folders = {folder.resolve(): None for path in paths for folder in run_folders(path)}
    if not folders:
        raise UserError(
            f"No run found in {', '.join(map(str, paths))}: there is no folder with"
            f" {' or '.join(MARKS)} at or below it. `python -m debiasdpo.run` makes one in outputs/runs."
        )
    return sorted(map(read_run, folders), key=_order)


def read_run(folder: Path) -> Run:
    """What the small files of a run folder say; whatever is missing or damaged becomes a note."""
    notes: Notes = []
    status = results_of(read_mapping(folder / "status.json", notes))
    config = read_mapping(folder / "config.yaml", notes)
    state = state_of(status)
    metrics = read_mapping(folder / "metrics.json", notes) if state == "finished" else {}
    elicits = config.get("task") == "elicitation"
    for file, known, needed in (
        ("config.yaml", config, _SECTIONS),
        ("metrics.json", metrics, set() if elicits else _METRICS),
    ):
        if known and not needed <= known.keys():
            note(notes, f"{file} is incomplete")
    if any(key.startswith("bias/") and key.endswith("/polarity_gap/base") for key in metrics):
        note(
            notes, "metrics.json is of an earlier version: what it says of categories is not shown"
        )
    method = str(_section(config, "method").get("name") or "unknown")
    chosen = _section(_section(config, "context"), "train")
    trained = tuple(sorted(str(name) for name, on in chosen.items() if on is True and not elicits))
    seed = config.get("seed")
    seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    model, data = _names(status, config)
    judge = _section(status, "choices").get("judge")
    return Run(
        folder=folder,
        state=state,
        stage=str(status.get("stage") or ""),
        time=str(status.get("time") or ""),
        error=str(redact({"error": status.get("error") or ""})["error"]),
        config=config,
        metrics=metrics,
        model=model,
        data=data,
        trained=trained,
        method=method,
        seed=seed,
        judge=str(judge or ""),
        content={str(what): str(name) for what, name in _section(status, "content").items()},
        files=_section(status, "files"),
        notes=notes,
    )


def _section(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}


def _names(status: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, str]:
    """Model and data as the user chose them; of a run of an earlier version, which did not write that down,
    as its configuration has them."""
    chosen = _section(status, "choices")
    path = str(_section(config, "model").get("path") or "unknown")
    model = chosen.get("model") or re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "unknown"
    return str(model), str(chosen.get("data") or _source(config))


def _source(config: Mapping[str, Any]) -> str:
    return str(_section(config, "data").get("source") or "unknown")


def _order(run: Run) -> tuple[object, ...]:
    seed = -1 if run.seed is None else run.seed
    return (run.model, run.data, *method_order(run.method), run.trained, seed, str(run.folder))


def method_order(method: str) -> tuple[int, str]:
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)


def elicited_once(runs: Sequence[Run], *, trained: bool) -> list[Run]:
    """All runs, but for those of task=elicitation that finished elsewhere too, with the same configuration,
    contents and seed: every pair of them would be one more comparison. Not `trained`: with the same
    configuration but for what only training sees, since the model before it is the same in all of them."""
    seen: dict[object, Run] = {}
    found = []
    for run in runs:
        if run.elicits and run.metrics:
            settings = alike.settings_of(run.config, run.content, trained=trained)
            key = run.model, run.data, run.seed, frozenset(settings.items())
            if key in seen:
                if trained:
                    note_duplicate(run, seen[key])
                continue
            seen[key] = run
        found.append(run)
    return found


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs; those of the same model, data, method and judge with the settings in which they differ."""
    places: dict[object, list[int]] = {}
    for place, run in enumerate(runs):
        name = run.elicits, run.model, run.data, run.method, run.judge
        places.setdefault(name, []).append(place)
    found = list(runs)
    for same in places.values():
        labels = alike.apart([runs[place].settings for place in same])
        for place, label in zip(same, labels, strict=True):
            found[place] = replace(runs[place], apart=label)
    return found


def note_duplicate(run: Run, other: Run) -> None:
    where = _apart(other.folder, run.folder)
    note(run.notes, f"same configuration as {where}; left out of the tables")


def _apart(folder: Path, other: Path) -> Path:
    """The end of a folder's path that tells it from another one."""
    count = 1
    while folder.parts[-count:] == other.parts[-count:] and count < len(folder.parts):
        count += 1
    return Path(*folder.parts[-count:])
