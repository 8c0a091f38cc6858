"""Rate with any Python function from chat messages to a text or a rating."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from debiasdpo.config.rate import Format, RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Twins
from debiasdpo.raters.base import STATUSES, Capability, Question, Reply, Wanted, read_reply

# Chat messages, each {"role": ..., "content": ...} -> a text that ends in "Rating: <number>", a rating, None
# where there is none, or a `Reply`, which says besides how the text ended.
Function = Callable[[list[dict[str, str]]], str | float | Reply | None]


class CallableRater:
    """A function as a rater: it is called once for each question, in their order."""

    capabilities: frozenset[Capability] = frozenset({"text"})

    def __init__(self, function: Function, name: str, version: str) -> None:
        """`name` stands in tables. Replies are found again under the same name and version, so give another
        version where the function answers otherwise."""
        self._function = function
        self.identity: Mapping[str, object] = {"callable": name, "version": version}

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Refuses nothing: which questions the function can answer is not known."""

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """A number is the rating, if it is on the scale; a text is read for one."""
        return [self._reply(question, wanted, reading.format) for question in questions]

    def _reply(self, question: Question, wanted: Wanted, form: Format) -> Reply:
        found: object = self._function([dict(message) for message in question.messages])
        scale = None if wanted == "text" else question.scale
        if isinstance(found, Reply):
            return self._as_said(found, question, scale, form)
        if isinstance(found, str):
            return read_reply(found, scale, form=form)
        if found is None:
            return Reply("", None, "empty", "no rating was given")
        return _on_scale(Reply("", _number(found, question)), question)

    def _as_said(
        self, found: Reply, question: Question, scale: Scale | None, form: Format
    ) -> Reply:
        """A reply of the function's own: what it leaves open is read from the text."""
        if found.status not in STATUSES:
            raise UserError(
                f"rater: for prompt {question.key} the function returned a Reply of status"
                f" {found.status!r}; give one of {', '.join(STATUSES)}"
            )
        for part in ("text", "thoughts"):
            if not isinstance(text := getattr(found, part), str):
                raise UserError(
                    f"rater: for prompt {question.key} the function returned a Reply whose {part} is"
                    f" {type(text).__name__}; give a text, which may be empty"
                )
        if found.status not in ("ok", "cut"):
            return replace(found, rating=None, reason=found.reason or found.status)
        if found.rating is not None and found.status == "ok":
            return _on_scale(replace(found, rating=_number(found.rating, question)), question)
        read = read_reply(found.text, scale, cut=found.status == "cut", form=form)
        thoughts = "\n".join(filter(None, [found.thoughts, read.thoughts]))
        return replace(read, thoughts=thoughts)


def _number(found: object, question: Question) -> float:
    try:
        if isinstance(found, bool):
            raise TypeError
        return float(found)  # type: ignore[arg-type]
    except OverflowError:  # of an integer
        return math.inf
    except (TypeError, ValueError):
        raise UserError(
            f"rater: for prompt {question.key} the function returned {type(found).__name__}; let it"
            " return a text, a number, a debiasdpo.Reply, or None where there is no rating"
        ) from None


def _on_scale(reply: Reply, question: Question) -> Reply:
    low, high, _ = question.scale
    assert reply.rating is not None
    if math.isfinite(reply.rating) and low <= reply.rating <= high:
        return reply
    return replace(reply, rating=None, status="unread", reason="off the scale")
