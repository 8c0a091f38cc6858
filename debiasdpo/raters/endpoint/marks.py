"""Marks of chat templates in documents and statements, which a server may take for its own."""

import logging
import re
from collections.abc import Iterable, Iterator

from debiasdpo.raters.base import Question
from debiasdpo.raters.structures import CONTROL

log = logging.getLogger(__name__)

# Those that end a line in a reply, DeepSeek's (U+FF5C), and those of Llama 2 and Mistral; none has a blank,
# as R's `x <- y |> f()` has.
_MARK = re.compile(
    rf"(?=\S{{3,44}}(?<=[>\]]))(?:{CONTROL}|<\uff5c[^\uff5c<>]{{1,40}}\uff5c>|\[/?INST\]|<</?SYS>>)"
)


class MarkWatch:
    """Says once how many prompts hold such marks."""

    def __init__(self) -> None:
        self._told = False

    def watched(self, questions: Iterable[Question]) -> Iterator[Question]:
        """The same questions; the warning comes after the last."""
        count = held = 0
        first = ""
        for question in questions:
            count += 1
            found = _MARK.search("\n".join(m["content"] for m in question.messages))
            if found is not None:
                held += 1
                first = first or found[0]
            yield question
        if held and not self._told:
            self._told = True
            log.warning(
                "%d of %d prompts hold what a server may take for marks of its chat template, the first of"
                " them %s: a text that ends its own turn can write the answer too; take them out of documents"
                " and statements",
                held, count, first,
            )  # fmt: skip
