"""What a rater is: whatever turns prompts into replies. Nothing here is about local weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

from debiasdpo.cluster.threads import ONE_THREAD, Threads
from debiasdpo.config.rate import Format, RateConfig, Readout
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Messages, Twins
from debiasdpo.raters.json_reply import read_json
from debiasdpo.raters.reading import read_rating
from debiasdpo.raters.thoughts import Parts, split_thoughts

# What a rater can do: readouts; and json: its replies are held to the object of `rate.format=json` while they
# are written.
Capability = Literal[Readout, "json"]

# What is wanted of a prompt: a rating, read as `rate.readout` says; reasoning that ends in a rating (the
# texts of preference pairs), where the readout is expected in the nearest level, or in one drawn from the
# distribution; or text without a rating.
Wanted = Literal["rating", "reasoning", "drawn reasoning", "text"]


REASONING: tuple[Wanted, ...] = ("reasoning", "drawn reasoning")


class Question(NamedTuple):
    """One prompt as a rater gets it."""

    key: str  # unique within a stage
    messages: Messages
    scale: Scale  # of the ratings that are asked for
    dimension: str = ""  # its name, for raters that have learnt each by itself
    repeat: int = (
        0  # >0: asked once more; a sampled reply depends on it and on the messages, not on the key
    )


# What became of a reply. ok: all that was wanted is there. empty: nothing was written. cut: it was at its
# length limit before its rating was complete. filtered: withheld by a service. refused: it says that it
# does not rate. unread: any other reply without a rating. error: there was none.
Status = Literal["ok", "empty", "cut", "filtered", "refused", "unread", "error"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt. `text` is the answer, without what the model thought before it, and
    empty where nothing was generated (rate.readout=expected). `rating` is None where none could be read
    or none was wanted; `reason` says in a short phrase what failed, and is None where the status is ok.
    `distribution`: the probabilities of the scale's levels, ascending, where the rating is their expectation.
    `cut`: the text ends at its length limit, whether a rating could be read before that or not.
    """

    text: str
    rating: float | None = None
    status: Status = "ok"
    reason: str | None = None
    thoughts: str = ""
    distribution: tuple[float, ...] | None = None
    call: Mapping[str, object] | None = None  # of an endpoint: which model answered, and its usage
    cut: bool = False


@runtime_checkable
class Rater(Protocol):
    """What a rater offers: its identity, its capabilities, and replies."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything that decides its replies beside the questions, as JSON, for fingerprints. Asking for
        it is cheap: no model is loaded."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Raise `UserError` if any question cannot be answered, or if neutral and contextual prompts differ
        by more than their statement; called before the first question is asked. `longest`: bytes of the
        longest question's messages; questions are looked at only where that leaves doubt."""

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question, in their order."""


@runtime_checkable
class Scoring(Protocol):
    """A rater that tells how likely given answers are."""

    def logprobs(
        self, prompts: Mapping[str, Messages], answers: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Of each prompt (by its key), log p of each of its texts as the beginning of the answer, in nats; as
        the whole answer where one text's tokens begin another's."""


@runtime_checkable
class Closing(Protocol):
    """A rater that holds something to be given back when a job ends."""

    def close(self) -> None:
        """Give it back; the next question takes it again."""


@runtime_checkable
class Bounded(Protocol):
    """A rater that cannot take a question of any length."""

    def too_long(self, question: Question, reading: RateConfig) -> str | None:
        """Why the question is too long for it; None if it is not."""


@runtime_checkable
class Threaded(Protocol):
    """A rater that is quicker when it is asked from several threads."""

    def threads(self, wanted: Wanted, reading: RateConfig) -> Threads:
        """For such replies."""


def threads_of(rater: Rater, wanted: Wanted, reading: RateConfig) -> Threads:
    """From how many threads to ask; one, where a rater says nothing of it."""
    return rater.threads(wanted, reading) if isinstance(rater, Threaded) else ONE_THREAD


def require(rater: Rater, readout: Readout) -> None:
    """Raise `UserError` where the rater cannot do this readout: nothing falls back to another."""
    if readout not in rater.capabilities:
        readouts = sorted(rater.capabilities & set(get_args(Readout)))
        can = ", ".join(f"rate.readout={name}" for name in readouts)
        raise UserError(f"rate.readout: this rater cannot do {readout}; set {can}")


def rated(reply: Reply) -> Reply:
    """The reply to a question of which a rating was wanted: without one, it is no success."""
    if reply.rating is None and reply.status == "ok":
        return replace(reply, status="unread", reason="no rating was given")
    return reply


def read_reply(
    text: str, scale: Scale | None, *, cut: bool = False, form: Format = "text"
) -> Reply:
    """What was written, with the rating in it, or with why there is none, and apart from it what the model
    thought before. `scale`: None where no rating is wanted. `cut`: it ended at its length limit. `form`:
    that of replies with a rating."""
    # Marks of thoughts inside the object are its text.
    begun = form == "json" and text.lstrip().startswith("{")
    thoughts, answer, closed = Parts("", text, True) if begun else split_thoughts(text, cut=cut)
    rating: float | None = None
    reason: str | None = None if closed else "thoughts not closed"
    if scale is not None and closed:
        rating, reason = _read(answer, scale, cut=cut, form=form)
    refused = reason == "not given"
    if rating is None and cut and not refused:
        return Reply(answer, None, "cut", "cut at its length limit", thoughts, cut=True)
    if closed and not answer.strip():
        return Reply(answer, None, "empty", "nothing was written", thoughts)
    status: Status = "refused" if refused else "unread" if reason else "ok"
    return Reply(answer, rating, status, reason, thoughts, cut=cut)


def _read(text: str, scale: Scale, *, cut: bool, form: Format) -> tuple[float | None, str | None]:
    if form == "json":
        return read_json(text, scale)
    reading = read_rating(text, scale, cut=cut)
    return reading.rating, reading.reason
