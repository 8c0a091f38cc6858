"""Rate with any Python function from chat messages to a text or a rating."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from debiasdpo.config.rate import RateConfig, Readout
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question, Reply, Wanted
from debiasdpo.raters.reading import parse_rating

# Chat messages, each {"role": ..., "content": ...} -> a text that ends in "Rating: <number>", a rating, or
# None where there is none.
Function = Callable[[list[dict[str, str]]], str | float | None]


class CallableRater:
    """A function as a rater: it is called once for each question, in their order."""

    capabilities: frozenset[Readout] = frozenset({"text"})

    def __init__(self, function: Function, name: str, version: str) -> None:
        """`name` stands in tables. Replies are found again under the same name and version, so give another
        version where the function answers otherwise."""
        self._function = function
        self.identity: Mapping[str, object] = {"callable": name, "version": version}

    def check(self, questions: Iterable[Question], longest: int, reading: RateConfig) -> None:
        """Refuses nothing: which questions the function can answer is not known."""

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """A number is the rating (None where it is off the scale); a text is read for one."""
        return [self._reply(question, wanted) for question in questions]

    def _reply(self, question: Question, wanted: Wanted) -> Reply:
        found = self._function([dict(message) for message in question.messages])
        low, high = question.scale
        if isinstance(found, str):
            return Reply(found, None if wanted == "text" else parse_rating(found, low, high))
        if found is None:
            return Reply("", None)
        try:
            if isinstance(found, bool):
                raise TypeError
            rating = float(found)
        except OverflowError:  # of an integer
            rating = math.inf
        except (TypeError, ValueError):
            raise UserError(
                f"rater: for prompt {question.key} the function returned {type(found).__name__}; let it"
                " return a text, a number, or None where there is no rating"
            ) from None
        return Reply("", rating if math.isfinite(rating) and low <= rating <= high else None)
