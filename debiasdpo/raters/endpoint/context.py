"""Whether a server has cut prompts at its context without a word, by the tokens that it counts.

Some count no more tokens than they read, which is up to the context, or half of it for any prompt that is
longer, as newer Ollamas do: so a longer prompt may count as many tokens as a shorter one, or fewer.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.request import Request
from debiasdpo.raters.endpoint.response import Record, Usage

log = logging.getLogger(__name__)

# Bytes of a token that whole English prose has: as few are no sign of a cut, however few the shortest prompt
# has. Other scripts and digits have fewer, and some servers add a text of their own, which is counted, too.
_PLAIN_BYTES = 5.0
_MANY_CHARACTERS = 7.0  # of a token, in any script: beyond, a prompt may have been cut
# How many times the bytes of a token may be those of the shortest prompt: beyond, one of many characters a
# token was cut.
_MOST_BYTES = 2.5
_MANY_BYTES = 1.6  # beyond, it may have been, or its text has longer tokens
# How many times another prompt's bytes are those of a longer one, which has more tokens for sure. Texts
# differ by less in the bytes of their tokens, if they are of one script.
_LONGER = 1.25
# The same of prompts that count as a context does, or as many as one does by chance.
_LONGER_AT_A_CONTEXT = 1.02
_LONGER_OF_SEVERAL, _SEVERAL = 1.05, 3
_LEAST_CONTEXT = 512  # tokens: shorter prompts often have as many by chance


def context(
    first: Request, second: Request, usage: Sequence[Usage], folder: Path
) -> tuple[float, str]:
    """Bytes of a token, and what is said of the context. `usage`: of the shortest prompt, of the same once
    more, and of the longest. `UserError` where the longest was cut. `folder`: of the replies."""
    short, long = (r.prompt_bytes / u.input for r, u in ((first, usage[0]), (second, usage[2])))
    each = f"{second.prompt_bytes} bytes at {long:.1f} a token"
    if usage[1].input != usage[0].input:
        # So that a long one may count few, though it was read whole.
        log.warning(
            "the same prompt counts as %d tokens and then as %d: what is cached may be left out, so that cut"
            " prompts cannot be seen; see that the model's context holds the longest, %s",
            usage[0].input, usage[1].input, second.question,
        )  # fmt: skip
        return short, "the same prompt counts otherwise again: cut prompts cannot be seen"
    characters = _characters(second) / usage[2].input
    fewer = long > _MOST_BYTES * short or _outgrown(first, second, usage)
    if _as_many(first, second, usage) or (fewer and characters > _MANY_CHARACTERS):
        raise UserError(
            f"The longest prompt, {second.question}, was cut without a word: its {second.prompt_bytes} bytes"
            f" are counted as {usage[2].input} tokens, {long:.1f} bytes each, and the {first.prompt_bytes} of"
            f" the shortest as {usage[0].input}, {short:.1f} each. {_cure(folder)}"
        )
    if long <= max(_MANY_BYTES * short, _PLAIN_BYTES) and characters <= _MANY_CHARACTERS:
        return long, f"the longest prompt fits, {each}"
    log.warning(
        "the longest prompt, %s, may have been cut without a word: it has %s, the shortest %.1f; see that the"
        " model's context holds it",
        second.question, each, short,
    )  # fmt: skip
    return long, f"the longest prompt may have been cut: {each}, the shortest {short:.1f}"


def refuse_cut(records: Iterable[Record], folder: Path) -> None:
    """`UserError` where the longest of these prompts, several of clearly different size, all count as many
    tokens: the server's context is no longer. `folder`: of the replies."""
    counted = [
        (int(record["prompt_bytes"]), usage.input)
        for record in records
        if (usage := Usage.of(record.get("response"))) and usage.input
    ]
    counted.sort(reverse=True)
    same = [size for size, _ in takewhile(lambda one: one[1] == counted[0][1], counted)]
    if (
        len(set(same)) >= _SEVERAL
        and same[0] >= _LONGER_OF_SEVERAL * same[-1]
        and counted[0][1] >= _LEAST_CONTEXT
    ):
        raise UserError(
            f"Prompts were cut without a word: the longest {len(same)}, of {same[-1]} to {same[0]} bytes, are"
            f" all counted as {counted[0][1]} tokens. {_cure(folder)}"
        )


def _as_many(first: Request, second: Request, usage: Sequence[Usage]) -> bool:
    """Whether the longest prompt has as many tokens as the shortest, though it is longer for sure."""
    if not usage[2].input == usage[0].input >= _LEAST_CONTEXT:
        return False
    longer = _LONGER_AT_A_CONTEXT if _is_context(usage[2].input) else _LONGER
    return second.prompt_bytes / first.prompt_bytes >= longer


def _outgrown(first: Request, second: Request, usage: Sequence[Usage]) -> bool:
    """Whether the longest prompt has fewer tokens than the shortest, though it is longer for sure."""
    short, long = usage[0].input, usage[2].input
    longer = second.prompt_bytes / first.prompt_bytes
    # Scripts differ in the bytes of their tokens, or in the characters.
    more = min(longer, _characters(second) / _characters(first)) * short / long
    return long < short and longer >= _LONGER and more > _MANY_BYTES


def _is_context(tokens: int) -> bool:
    """Whether a server's context has so many, or what newer Ollamas keep of one: four at the beginning, and
    half of the rest."""
    return tokens % 256 == 0 or (tokens - 2) % 128 == 0


def _characters(request: Request) -> int:
    return sum(len(message["content"]) for message in request.body["messages"])


def _cure(folder: Path) -> str:
    return (
        "Give the model a longer context (Ollama: OLLAMA_CONTEXT_LENGTH), or shorter documents"
        f" (data.max_words); and delete {folder}, where replies to cut prompts are kept."
    )
