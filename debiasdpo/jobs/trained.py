"""Whether a job's documents are those that its rater was trained with."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig, ModelConfig
from debiasdpo.documents import trained
from debiasdpo.documents.base import Document
from debiasdpo.models.source import local_path
from debiasdpo.storage.files import user_path


def marks_of_training(config: JobConfig) -> Mapping[str, frozenset[str]]:
    """By part, the marks of the texts that the configured weights, or an endpoint's adapter, were trained
    with (`documents.trained`), as `debiasdpo export` left them in that folder; nothing of any other rater."""
    folder = _folder(config)
    return {} if folder is None else trained.kept(folder)


class TrainedWith(NamedTuple):
    """How many of some documents a rater was trained with."""

    rater: str  # which one
    documents: int
    on: int  # trained on
    by: int  # they decided which step was kept

    @property
    def note(self) -> str:
        return (
            f"of the {self.documents} documents the rater ({self.rater}) was trained on {self.on}, and"
            f" chosen by {self.by}"
        )

    @property
    def told(self) -> str:
        """The same, and what to do, in sentences."""
        return (
            f"{self.note[0].upper()}{self.note[1:]}: it rates these better than others. Measure it on the"
            " test part of its training (debiasdpo run method=none, with the data keys and the seed of that"
            " run), or on documents that it was not trained with."
        )


def trained_with(config: JobConfig, documents: Iterable[Document]) -> TrainedWith | None:
    """None where the rater was trained with none of the documents, as far as is known."""
    key = "path" if isinstance(config.model, ModelConfig) else "adapter"
    return counted(f"model.{key}", marks_of_training(config), documents)


def counted(rater: str, known: trained.Marked, documents: Iterable[Document]) -> TrainedWith | None:
    """The same of a rater that was trained with the documents of these marks."""
    if not known:
        return None
    marks = [trained.marked(document) for document in documents]
    on, by = (sum(mark in known.get(part, ()) for mark in marks) for part in trained.PARTS)
    return TrainedWith(rater, len(marks), on, by) if on or by else None


def _folder(config: JobConfig) -> Path | None:
    """Where `model.path`, or `model.adapter` of an endpoint, lies on this machine."""
    match config.model:
        case ModelConfig(path=path):
            local = local_path(path)
            return local.parent if local is not None and local.is_file() else local
        case EndpointConfig(adapter=str() as adapter):
            return user_path(adapter)
        case _:
            return None
