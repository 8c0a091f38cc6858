"""What a model thought before it answered, told apart by the marks that models put around it."""

import re
from typing import NamedTuple


class Parts(NamedTuple):
    """A reply in two parts."""

    thoughts: str  # without their marks
    answer: str  # as it was written, where there are no thoughts
    closed: bool  # False where the reply ends in the middle of a thought: then there is no answer


_NAMES = (
    r"(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratch[ _-]?pad"
    r"|(?:inner|internal)[ _-]?(?:monologue|thoughts?))"
)
_OPEN = rf"""
      <\s*(?:\w{{1,20}}:)?{_NAMES}(?:\s[^<>]{{0,100}})?>            # <think>, <seed:think>
    | \[\s*{_NAMES}\s*\] | ◁\s*think\s*▷                            # Magistral; Kimi
    # Cohere, and some others
    | <[|｜]\s*(?:\w{{1,20}}:)?(?:start|begin)[_▁ ]?(?:of[_▁ ])?{_NAMES}(?::\w{{1,20}})?\s*[|｜]>
    | <\|(?:inner_prefix|{_NAMES})\|>                               # Apertus
    | <\|channel\|>\s*(?:analysis|commentary)[^<]{{0,100}}(?:<\|message\|>)?     # gpt-oss
    | <\|channel>(?:thought\b\n?)?                                  # Gemma 4
    | \A\s*analysis(?=[A-Z]) | \A\s*thought\n                       # both without their special tokens
    | \bhere(?:'s|\ is)\ my\ thought\ process:                      # Granite 3
"""
_CLOSE = rf"""
      <\s*/\s*(?:\w{{1,20}}:)?{_NAMES}\s*> | \[\s*/\s*{_NAMES}\s*\] | ◁\s*/\s*think\s*▷
    | <[|｜]\s*(?:\w{{1,20}}:)?end[_▁ ]?(?:of[_▁ ])?{_NAMES}(?::\w{{1,20}})?\s*[|｜]>
    | <\|(?:inner_suffix|/{_NAMES})\|>
    | (?:<\|end\|>\s*)?(?:<\|start\|>\s*assistant\s*)?
      <\|channel\|>\s*final[^<]{{0,100}}(?:<\|constrain\|>[^<]{{0,100}})?(?:<\|message\|>)?
    | <channel\|> | (?<=[^\s])assistantfinal | \bhere(?:'s|\ is)\ my\ response:
"""
_SPACING = re.compile(r"[\W_]+")
_EMPTY = rf"<\s*{_NAMES}\s*/\s*>"
_MARK = re.compile(
    rf"(?P<empty>{_EMPTY})|(?P<close>{_CLOSE})|(?P<open>{_OPEN})", re.IGNORECASE | re.VERBOSE
)


def split_thoughts(text: str, *, cut: bool = False) -> Parts:
    """The reply without its thoughts. A closing mark alone ends a thought that the prompt opened: all
    before it is thought. A thought that is never closed leaves no answer, but what may be a plain heading
    (`[Analysis]`) opens none unless the mark that closes it follows. `cut`: the reply ended at its length
    limit, so that this mark may have been still to come."""
    thoughts: list[str] = []
    answer: list[str] = []
    start, thinking = 0, False
    marks = list(_MARK.finditer(text))
    last_closed = {_heading(mark[0]): mark.start() for mark in marks if mark["close"]}
    for mark in marks:
        heading = _heading(mark[0]) if mark["open"] else None
        if heading and not cut and last_closed.get(heading, -1) < mark.start():
            continue
        piece = text[start : mark.start()]
        start = mark.end()
        if mark["close"] and not thinking:
            thoughts += [*answer, piece]
            answer = []
        else:
            (thoughts if thinking else answer).append(piece)
        thinking = mark["open"] is not None or (thinking and mark["empty"] is not None)
    if not start:
        return Parts("", text, True)
    (thoughts if thinking else answer).append(text[start:])
    kept = "\n".join(piece for piece in map(str.strip, thoughts) if piece)
    return Parts(kept, "" if thinking else "".join(answer).strip(), not thinking)


def _heading(mark: str) -> str | None:
    """What a mark that may be a plain heading shares with the one that closes it; None for all others."""
    name = _SPACING.sub("", mark.lower())
    if mark.startswith("["):
        return name if name != "think" else None
    return "here" if name.startswith("here") else None
