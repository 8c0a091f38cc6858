"""What an answer says about its own scale, which must be the one that was asked for."""

import re

from debiasdpo.config.scale import Scale
from debiasdpo.raters import words
from debiasdpo.raters.notation import number_at

_N = r"(?<![\d.])(-?\d{1,6}(?:\.\d{1,6})?)(?!\d)"
_SAID = r"(?:\s*\([^()\n\d]{1,40}\))?"  # 1 (poor)
_TO = r"\s*(?:-|–|~|to|through|bis|à|a|tot|до|and|und|,)\s*"
_SCALE = re.compile(
    # on a scale from 1 (poor) to 7 (excellent); on a 1-7 scale
    r"(?:\(?\b(?:on|auf|sur|en|su|op|по|numa?|em|in)\s+)?(?:(?:an?|the|einer?|der|une|una|um|een|uma)\s+)?"
    rf"(?:{words.SCALE}[^\n.\d]{{0,30}}?{_N}{_SAID}{_TO}{_N}{_SAID}"
    rf"|{_N}{_TO}{_N}[ -]?(?:points? )?{words.SCALE})\)?"
    # a 7-point scale
    r"|(?<![^\W_])(?P<points>\d{1,4}|three|four|five|six|seven|eight|nine|ten)[ -]points?[ -](?:\w+ )?"
    r"(?:scale|rating|score|skala)\b"
    # 7分制, (满分7分), and lines of a structure: max rating: 7; out of: 7
    r"|(?<!\d)(?P<of>\d{1,4})\s?(?:[分点點]制|段階)|\((?:满分|滿分)\s?(?P<full>\d{1,4})\s?[分点點]?\)"
    r"|^[\w ]{0,30}\b(?:max(?:imum)?(?:rating|score)?|best ?rating|out of|denominator|full marks)\b"
    r"(?:[^\W\d]| ){0,20}[:=] ?(?P<most>\d{1,6})\s*$"
    r"|^(?:of|total|(?:\w+ )?scale)[:=] ?(?P<end>\d{1,6})\s*$",
    re.MULTILINE,
)


_PERCENT = re.compile(rf"^[\w ]{{0,20}}\bunits?[:=] ?{words.PERCENT}", re.MULTILINE)
# 7 is the best; (1 = bad, 7 = good)
_LEVEL = r"\s*(?:=|:|is|being|means)\s*"
_END = re.compile(
    rf"{_N}{_LEVEL}(?:the |very )?(?:best|excellent|perfect|highest|maximum|outstanding|worst|lowest|terrible"
    r"|minimum)\b"
)
# "Rating: 6: excellent" says what the rating is, and nothing about the scale.
_RATED = re.compile(rf"{words.RATING}[\s*_]*[:=][\s*_]*$")
_ENDS = re.compile(rf"[(\[]{_N}{_LEVEL}[^()\[\]\d\n]{{1,30}}{_N}{_LEVEL}[^()\[\]\d\n]{{1,30}}[)\]]")


def own_scale(text: str, scale: Scale) -> tuple[str, bool]:
    """The answer with what it says about its scale blanked out, and whether that is the scale asked for."""
    same = True

    def blank(match: re.Match[str]) -> str:
        nonlocal same
        ends = {float(end) for end in match.groups()[:4] if end}
        if ends:
            same &= ends == {scale.low, scale.high}
        elif match["points"]:
            points = number_at(match["points"], 0, 0, 10)
            same &= points is not None and points.value in (scale.high, scale.high - scale.low + 1)
        else:
            most = match["of"] or match["full"] or match["most"] or match["end"]
            same &= float(most) == scale.high
        return " " * len(match[0])

    text = _SCALE.sub(blank, text)
    same &= scale.high == 100 or not _PERCENT.search(text)
    ends = {scale.low, scale.high}
    same &= all(
        float(level[1]) in ends or _RATED.search(text[max(0, level.start() - 40) : level.start()])
        for level in _END.finditer(text)
    )
    same &= all({float(levels[1]), float(levels[2])} == ends for levels in _ENDS.finditer(text))
    return text, same
