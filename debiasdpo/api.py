"""The Python interface: audit any rater from a notebook or a script, and load what a run found.

`debiasdpo.audit` is a job as the command line runs it (`method=none`), with the rater and the documents
given as Python objects. docs/python.md shows it.
"""

import contextlib
import copy
import functools
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from debiasdpo.config.build import build
from debiasdpo.config.data import Rubric
from debiasdpo.config.quoting import literal
from debiasdpo.config.rate import Format, Readout
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import rubrics_of
from debiasdpo.documents.given import given_documents
from debiasdpo.errors import UserError
from debiasdpo.jobs.checks import build_job, folder_problem
from debiasdpo.jobs.identity import Choices, identify
from debiasdpo.raters.base import Rater, Reply, require
from debiasdpo.raters.callable import CallableRater, Function
from debiasdpo.run import conf_dir
from debiasdpo.storage.files import fingerprint, fingerprint_all, user_path, write_jsonl
from debiasdpo.tasks import rubric_rating
from debiasdpo.tasks.tables import load, require_pandas

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pandas import DataFrame

__all__ = ["Audit", "Reply", "audit", "load"]


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit found. Printed, it is what the command line shows."""

    metrics: dict[str, Any]  # as metrics.json has them
    ratings: "DataFrame"  # a row a prompt, with the document's score and the shift
    folder: Path | None  # the run folder; None where nothing was saved
    table: str
    verdict: str  # what the figures mean, in sentences; empty where nothing social was audited

    def __repr__(self) -> str:
        where = "" if self.folder is None else f"run folder: {self.folder}"
        return "\n\n".join(filter(None, (self.verdict, self.table, where)))


def audit(
    rater: Function | Rater,
    documents: "DataFrame | Iterable[Document | Mapping[str, Any]]",
    rubrics: Mapping[str, Rubric | Mapping[str, Any]],
    categories: Collection[str] | Mapping[str, Any] | None = None,
    *,
    readout: Readout = "text",
    format: Format = "text",
    temperature: float = 0.0,
    statements: int | None = 1,
    group_columns: Collection[str] = (),
    heading: str | None = None,
    instruction: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
    name: str | None = None,
    version: str | None = None,
    save: str | Path | None = None,
) -> Audit:
    """Measure how far irrelevant social context moves a rater's ratings, and how accurate they are.

    `rater`: a function from chat messages, `[{"role": ..., "content": ...}]`, to a text that ends in
    `Rating: <number>`, to a number, to None, or to a `debiasdpo.Reply`, which says how the text ended; or an
    object with the interface `raters.base.Rater`.
    `documents`: a DataFrame, mappings or `Document` objects, with id, group, text, and the experts' scores in
    columns named as the rubrics, or all in a mapping `scores`; of several human raters, a mapping `experts`
    from rubric to the score of each, which the model is then held against. Those with a score are rated.
    `rubrics`: name -> `{"question": ..., "low": 1, "high": 5, "high_is_good": True}`.
    `categories`: names of shipped categories of spurious context; None for all of them; or categories of your
    own, name -> mapping in the form of a file of conf/category.
    `readout`: how a rating is read. A function can do `text` only, which covers numbers as well.
    `format`: what a reply is: "text", or "json", one JSON object with the keys "reasoning" and "rating". A
    function is asked for it; replies of another form are failures.
    `temperature`: at which the rater samples. Above 0 the neutral prompt is rated twice, for the noise floor.
    What a function does is its own matter; say here what it is.
    `statements`: of each category for each document and rubric; None takes all.
    `group_columns`: of real groups, such as gender, whose ratings are compared; `Document` objects have them
    in `facts`. A category may be made from one of them (docs/own_contexts.md).
    `heading`, `instruction`: stand before the document, and last in the prompt; None for the shipped ones.
    `seed`, `resamples`: of the bootstrap over groups, for 95 % intervals.
    `name`: of the rater, in tables; None for the function's own.
    `version`: of the function. The same name and version are taken to answer alike: replies that are in the
    folder `save` are found again, and an audit that was cut off goes on. None: every audit asks anew.
    `save`: folder to keep the audit in, for `debiasdpo report` and `debiasdpo.load`; None keeps nothing.
    """
    require_pandas()
    rating, model = _rater(rater, name, version)
    require(rating, readout)
    own = isinstance(categories, Mapping)
    optional = {
        "context.categories": categories if own else None,
        "audit.categories": None if own else categories,
        "data.heading": heading,
        "prompt.instruction": instruction,
        # What was asked about one document is kept at once.
        "batching.prompts": 1 if isinstance(rating, CallableRater) else None,
    }
    with _folder(save) as folder:
        composed = _compose(readout)
        changes = {
            "model": model,
            "context.train": {},
            "data.rubrics": rubrics,
            "data.score_columns": {rubric: _column(rubric) for rubric in rubrics},
            "data.split": {"train": 0.0, "validation": 0.0, "test": 1.0},
            "data.path": str(folder),
            "rate.format": format,
            "rate.temperature": temperature,
            "audit.statements": statements,
            "audit.resamples": resamples,
            "seed": seed,
            "output_dir": str(folder),
            **{key: value for key, value in optional.items() if value is not None},
        }
        _change(composed, changes)
        _change(composed, {"data.group_columns": list(group_columns)})
        checked = build(composed)  # mistakes in the arguments, before documents are looked at
        found = given_documents(documents, rubrics_of(checked.documents), group_columns)
        _change(composed, _table(found, rubrics, group_columns, folder))
        config = build_job(composed, rater_given=True)
        choices = Choices(model["name"], "documents")
        metrics = rubric_rating.run(config, choices, rating)
        run = identify(config, choices).folder
        ratings = load(run).ratings.drop(columns="model")
        verdict, table = (
            (run / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
            for name in ("verdict", "table")
        )
    return Audit(metrics, ratings, None if save is None else run, table, verdict)


def _rater(
    given: Function | Rater, name: str | None, version: str | None
) -> tuple[Rater, dict[str, str]]:
    """The rater, and the section `model` of the configuration that stands for it."""
    rater: Rater
    if isinstance(given, Rater):
        if version is not None:
            raise UserError(
                "version: is of a function, and this rater says by its identity what it is; leave it out"
            )
        name, rater = name or type(given).__name__, given
        version = fingerprint(dict(given.identity))
    elif callable(given):
        name = name or getattr(given, "__name__", type(given).__name__).strip("<>")
        version = version or uuid.uuid4().hex
        rater = CallableRater(given, name, version)
    else:
        raise UserError(
            f"rater: a {type(given).__name__}; give a function from chat messages to a text that ends in"
            " 'Rating: <number>', or an object with the interface debiasdpo.raters.base.Rater"
        )
    return rater, {"kind": "callable", "name": name, "version": version}


@contextlib.contextmanager
def _folder(save: str | Path | None) -> Iterator[Path]:
    """Where the job writes: the user's folder, or one that is gone afterwards."""
    if save is not None:
        kept = user_path(save).absolute()
        if problem := folder_problem(kept):
            raise UserError(f"save: {problem}; give another folder")
        yield kept
    else:
        with tempfile.TemporaryDirectory(prefix="debiasdpo-") as folder:
            yield Path(folder)


def _compose(readout: str) -> "DictConfig":
    """The configuration of an audit; composing it again takes as long as an audit of a quick function."""
    files = sorted(conf_dir().rglob("*.yaml"))
    known = _composed(readout, tuple((file, file.stat().st_mtime_ns) for file in files))
    return copy.deepcopy(known)


@functools.lru_cache(maxsize=4)
def _composed(readout: str, files: tuple[tuple[Path, int], ...]) -> "DictConfig":
    """As the `files` of conf/ have it now. A program that uses Hydra itself finds it as it was."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from hydra.version import VersionBase

    outer = dict(Singleton._instances)
    for kind in (GlobalHydra, VersionBase):
        Singleton._instances.pop(kind, None)
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            overrides = ["~model", "method=none", "data=table", f"rate={readout}"]
            return compose("config", overrides=overrides)
    finally:
        for kind in (GlobalHydra, VersionBase):
            Singleton._instances.pop(kind, None)
        Singleton._instances.update(outer)


def _change(composed: "DictConfig", changes: Mapping[str, object]) -> None:
    """Put values in place of those composed."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.set_struct(composed, False)
    for key, value in changes.items():
        try:
            OmegaConf.update(composed, key, _plain(value), merge=False)
        except OmegaConfBaseException as error:
            raise UserError(f"{error.full_key or key}: {str(error).splitlines()[0]}") from None


def _plain(value: Any) -> Any:
    """As OmegaConf takes it: no sections, no numpy, and no text that it would fill in (`${...}`)."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Collection):
        return [_plain(item) for item in value]
    return value


def _table(
    documents: list[Document],
    rubrics: Collection[str],
    group_columns: Collection[str],
    folder: Path,
) -> dict[str, object]:
    """The keys of the table that the job reads, which is named by its content, so that one folder holds
    many. `group_columns`: in it beside those of `facts`, be it that they say nothing of any document."""
    raters = {r: max(len(d.experts.get(r, ())) for d in documents) for r in rubrics}
    columns = {r: [_column(r, i) for i in range(max(1, count))] for r, count in raters.items()}
    facts = dict.fromkeys(name for d in documents for name in d.facts)
    empty: dict[str, None] = dict.fromkeys(name for name in group_columns if name not in facts)
    rows = []
    for d in documents:
        given = {r: d.experts.get(r, (score,)) for r, score in d.scores.items()}
        row: dict[str, str | None] = {"id": d.id, "group": d.group, "text": d.text}
        for name, fact in (*d.facts.items(), *empty.items()):
            if row.setdefault(name, fact) != fact:
                raise UserError(f"facts: {name!r} is the name of another column; rename it")
        scored = {c: s for r, mine in given.items() for c, s in zip(columns[r], mine, strict=False)}
        rows.append({**row, **scored})
    file = folder / "documents" / f"{fingerprint_all(rows)}.jsonl"
    write_jsonl(file, rows)
    return {
        "data.path": str(file),
        "data.score_columns": {
            r: mine if len(mine) > 1 else mine[0] for r, mine in columns.items()
        },
        "data.group_columns": [*facts, *empty],
    }


def _column(rubric: str, rater: int = 0) -> str:
    """Of a rubric's scores: no rubric's name is then that of another column."""
    return f"score {rubric}" + (f", rater {rater + 1}" if rater else "")
