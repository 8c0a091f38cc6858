"""Read a rating from what a model wrote. What is not sure is a failure with a reason, never a guess; the rule
is in docs/concepts.md."""

import html
import math
import re
import unicodedata
from typing import NamedTuple

from debiasdpo.config.scale import Scale
from debiasdpo.raters import declines, words
from debiasdpo.raters.mentions import Mention, bare, closing, mentions
from debiasdpo.raters.notation import normalise, origin
from debiasdpo.raters.scales import own_scale
from debiasdpo.raters.structures import as_lines
from debiasdpo.raters.thoughts import split_thoughts
from debiasdpo.raters.values import Reason

_TAKEN_BACK = re.compile(words.TAKEN_BACK, re.MULTILINE)
_REFUSES, _DECLINES = map(re.compile, (words.REFUSES, f"{words.DECLINES}|{declines.DECLINES}"))
_ON_A_BASIS = re.compile(words.ON_A_BASIS)
# The line or sentence is over.
_OVER = re.compile(r"\n|[.!?]\s+\S")


class Reading(NamedTuple):
    """What was read. `reason` says why no rating was, and is None where one was; `thoughts` are what the
    model wrote before its answer."""

    rating: float | None
    reason: Reason | None
    thoughts: str


def read_rating(text: str, scale: Scale, *, cut: bool = False) -> Reading:
    """The rating that a reply states, if it is sure. `cut`: the reply ended at its length limit, so that a
    number at its end may be the beginning of another one."""
    thoughts, answer, closed = split_thoughts(text, cut=cut)
    if not closed:
        return Reading(None, "thoughts not closed", thoughts)
    lines, same_scale = own_scale(_lines(answer), scale)
    stated = _agreed(lines, scale)
    if not isinstance(stated, Mention):
        return Reading(None, stated, thoughts)
    reason = stated.reason
    if not same_scale:
        reason = "another scale"
    elif reason is None and cut and not (stated.labelled and _OVER.search(lines, stated.end)):
        reason = "cut"
    return Reading(None if reason else stated.rating, reason, thoughts)


def _lines(answer: str) -> str:
    return as_lines(normalise(unicodedata.normalize("NFC", html.unescape(answer))))


def _agreed(text: str, scale: Scale) -> Mention | Reason:
    """The mention that all that count agree with, or why there is none."""
    found = list(mentions(text, scale))
    own = [m for m in found if m.own]
    for refusal in _REFUSES.finditer(text):
        rated = any(m.labelled and not m.reason and m.start >= refusal.end() for m in own)
        if not (rated and _ON_A_BASIS.match(text, refusal.end())):
            return "not given"
    if len({m.rating for m in own if m.explains}) > 1:  # 1 = poor, 7 = excellent
        own = [m for m in own if not m.explains]
    if not own:
        said = [m.reason for m in found if m.reason and m.reason != "not a number"]
        nothing: Reason = "not given" if _DECLINES.search(text) else "no rating"
        return closing(text, scale) or bare(text, scale) or (said[-1] if said else nothing)
    taken_back = [mark.start() for mark in _TAKEN_BACK.finditer(text, own[0].end)]
    if taken_back:
        own = [m for m in own if m.start >= taken_back[-1]]
    final = [index for index, m in enumerate(own) if m.rank == 1]
    if final:  # and what is said after it
        own = [own[index] for index in final] + [m for m in own[final[-1] :] if m.rank == 0]
    else:
        own = [m for m in own if m.rank == 0]
    if not own:
        return "taken back"
    if failed := [m for m in own if m.reason]:
        return failed[-1]
    return own[-1] if len({m.rating for m in own}) == 1 else "several ratings"


_ANY_SCALE = Scale(-math.inf, math.inf)
# A label that a rating follows for sure, or a structure that holds one.
_NAMED = re.compile(
    r"ratings?[\s*_`\"']*[:=]|[^\s:=|>]{1,30}[\s*_`\"']*(?:[|>]|[:=]\s*\Z)|\\?(?:boxed|fbox)"
)
# What is said of a rating before its name; the beginning of a structure; marks, but no full stop.
_LEADING = re.compile(rf"(?:(?:{words.FINAL}|{words.FIRST}|my|the|an?|i|would|give)[ *_]+)*$")
_STRUCTURE = re.compile(r"^[ \t]*[|<{`].*\Z", re.MULTILINE)
_MARKS = re.compile(r"[^\w.!?]*_*$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？।]")


def whole_sentences(text: str) -> str:
    """What a reply says before it first states a rating, else up to its last whole sentence, with a line
    break after it; without either, all of it. Thoughts are left out. Empty stays empty."""
    text = unicodedata.normalize("NFC", split_thoughts(text).answer)
    plain, _ = own_scale(normalise(text), _ANY_SCALE)
    found = mentions(plain, _ANY_SCALE)
    first = next((m for m in found if m.own or _NAMED.match(plain, m.start)), None)
    first = first or closing(plain, _ANY_SCALE) or bare(plain, _ANY_SCALE)
    if first:
        before = plain[: first.start]
        for pattern in (_LEADING, _STRUCTURE, _MARKS):
            match = pattern.search(before, max(0, len(before) - 300))
            before = before[: match.start()] if match else before
        text = text[: origin(text, len(before))]
    text = text.strip()
    ends = list(_SENTENCE_END.finditer(text))
    if ends:
        text = text[: ends[-1].end()]
    # A table, or the like, in which the rating has no name beside it.
    hidden = isinstance(_agreed(_lines(text), _ANY_SCALE), Mention)
    return f"{text}\n" if text and not hidden else ""
