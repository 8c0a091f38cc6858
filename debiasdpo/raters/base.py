"""What a rater is: whatever turns prompts into replies. Nothing here is about local weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from debiasdpo.config.rate import RateConfig, Readout
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Messages

# What is wanted of a prompt: a rating, read as `rate.readout` says; reasoning that ends in a rating (the
# texts of preference pairs); or text without a rating.
Wanted = Literal["rating", "reasoning", "text"]


class Question(NamedTuple):
    """One prompt as a rater gets it."""

    key: str  # unique within a stage
    messages: Messages
    scale: tuple[int, int]  # lowest and highest rating
    repeat: int = (
        0  # >0: asked once more; a sampled reply depends on it and on the messages, not on the key
    )


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt. `rating` is None where none could be read; `text` is empty
    where nothing was generated (rate.readout=expected)."""

    text: str
    rating: float | None


@runtime_checkable
class Rater(Protocol):
    """What a rater offers: its identity, its capabilities, and replies."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything that decides its replies beside the questions, as JSON, for fingerprints. Asking for
        it is cheap: no model is loaded."""

    @property
    def capabilities(self) -> frozenset[Readout]:
        """The readouts that it can do."""

    def check(self, questions: Iterable[Question], longest: int, reading: RateConfig) -> None:
        """Raise `UserError` if any question cannot be answered; called before the first question is asked.
        `longest`: bytes of the longest question's messages; questions are looked at only where that leaves
        doubt."""

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question, in their order."""


def require(rater: Rater, readout: Readout) -> None:
    """Raise `UserError` where the rater cannot do this readout: nothing falls back to another."""
    if readout not in rater.capabilities:
        can = ", ".join(f"rate.readout={name}" for name in sorted(rater.capabilities))
        raise UserError(f"rate.readout: this rater cannot do {readout}; set {can}")
