"""The value that begins at a place of an answer: a number, and what stands around it and could change it."""

import re
from typing import Literal, NamedTuple

from debiasdpo.config.scale import Scale
from debiasdpo.raters import words
from debiasdpo.raters.notation import Number, has_number, number_at

Reason = Literal[
    "no rating",  # nothing in the answer states one
    "not given",  # N/A, none, cannot be rated
    "not a number",  # or written so that it could be two
    "off the scale",
    "another scale",  # 4/10 where the scale ends at 7
    "a range",  # or two to choose from, or a bound
    "several ratings",  # that differ
    "negated",
    "hypothetical",
    "of someone else",
    "taken back",
    "cut",  # the answer ends where the rating might go on
    "thoughts not closed",
]
Follower = Literal["word", "clause", "line"]  # a word of the same clause, or the end of these


class Value(NamedTuple):
    """What was read, or why nothing could be: one of `rating` and `reason` is None."""

    rating: float | None
    reason: Reason | None
    end: int
    followed_by: Follower
    words: re.Match[str] | None = None  # that lead to it: `good:`, `Clarity:`


MARKS = r"[ *_`\"'’)\]}$]*+"  # marks that may close what a mention stands in
_OPENING = re.compile(
    r"(?:[\s*_`\"'#~(\[{:]|\\?(?:boxed|fbox)(?=\s?\{)|\^(?=\d)|<(?=[^<>\n]{1,20}>)|[●■](?= [^●■○□])|•){0,40}"
    rf"(?:{words.ABOUT}(?=[\s*_`\"'(~]|(?<=[约約]))[\s*_`\"'(~]*)*"
)
_NOT_GIVEN = re.compile(rf"{words.NOT_GIVEN}|(?:[-–?]+|\.{{3,}}){MARKS}(?:\n|\Z)")
_BEFORE_NUMBER: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(words.NOT), "negated"),
    (re.compile(rf"[<>]|{words.BOUND}"), "a range"),
    (re.compile(words.UNSURE), "hypothetical"),
)
# Of how many, said first: 满分7分, 5分; 7点満点中5点; 7점 중 5점.
_OF_HOW_MANY_FIRST = re.compile(
    r"(?:满分|滿分)\s?[为是:]?\s?(\d+)\s?[分点點]?[\s,;]*(?:得分|得|我给|给|給|评)?\s?"
    r"|(\d+)\s?[分点點점]?\s?(?:満点|满分|滿分|만점)\s?[中の에に]?\s?"
    r"|(\d+)\s?[分点點점]?\s?(?:中|のうち|중에?서?(?![^\W\d_])|üzerinden\b|में से)\s?"
)
_MINUS = re.compile(rf"{words.MINUS}\s*|[-–](?=[\d.,])")
_LOOSE_MINUS = re.compile(r"[-–]\s+(?=\d)")
# "I would give this lesson a 5", "excellent (7)"
_I_GIVE = re.compile(
    r"(?:(?:i|we)(?:'d| would| will)? (?:give|rate|assign|award|score|say|settle)"
    r"|(?:this|the|it)(?: [^\W\d_]+)? (?:is|gets|earns|deserves|merits|receives))"
    r"(?P<words>(?: [^\W\d_]+){0,6}?) (?=\d)"
)
LEADS_ON = r"[*_ ]*(?P<sign>[(\[:=]|[-–] )[*_ ]*(?=[^\s(])"
_IN_WORDS = re.compile(rf"(?P<words>(?:[^\W\d_]+[ -]){{0,2}}[^\W\d_]+){LEADS_ON}")
ASIDE_IN_WORDS = r" *\([^()\d\n]{1,30}\)"
_HEDGES = re.compile("|".join((words.NOT, words.PERHAPS, words.WOULD, words.BOUND, words.UNSURE)))

_SKIP = re.compile(rf"{MARKS}>?{MARKS}")
_UNIT = re.compile(rf"-?{words.UNIT}")
_SCALE_OF_UNITS = re.compile(r"[ -]*(?:point )?(?:scale|skala|range)\b")
_PERCENT = re.compile(words.PERCENT)
_OUT_OF = re.compile(
    rf"(?:{words.OUT_OF}|[^\S\n]*\n\s*+(?:/|out of\b))[\s*_`\"'({{\[^]*"
    r"| *[(\[]\s*(?:/|(?:out of|of|von|sur|de|max\w*\.?|scale)(?!\w))\s*(?:of|is|a possible)?[\s:]*"
)
_RANGE_ASIDE = re.compile(
    r"[(\[]\s*(?:scale\s*)?(-?\d{1,9}(?:\.\d{1,9})?)\s?(?:[-–~]|to|bis|à|a)\s?(-?\d{1,9}(?:\.\d{1,9})?)"
    r"\s*(?:scale\s*)?[)\]]"
)
_ASIDE = re.compile(r"[(\[][\s*_`\"'=~]*")
_LEVEL = re.compile(r"\s*(?:=|:|–|is\b|means\b|being\b)\s*[^\W\d_]")  # (1 = poor

# After the value: what makes it a range with another number, or another number, or none.
_AND = re.compile(
    rf" *+(?:[,;|&/]|\.{{2,}}|-+|–|~|[(\[]? *(?:{words.ALTERNATIVE}|{words.UNSURE})(?!(?<=[a-z])\d))"
    rf"(?:[ *_`\"'(,$]|[-–]+|{words.ALTERNATIVE}|{words.UNSURE}|{words.ABOUT}){{0,12}}"
)
_OR_BELOW = re.compile(r"[^\S\n]*\n\s*+(?:or|to|oder|bis|ou|à|o)\s+")
# 5, well, more like 4; but not: 5, not 4
_WORDS_BETWEEN = re.compile(
    r"[ ,;(–-]*(?!(?:not|rather|instead|up|down|better|worse|more|less|nicht|statt|nie|no|non|pas)\b)"
    r"(?:[^\W\d_]+[ ,]+){1,4}(?=\d)"
)
# 5 for clarity, 3 for depth; 5 with it, 6 without
_ANOTHER_PART = r"(?: *[,;&]| and)+ *(?:an? )?(?=[-+–]?\d)"
_PARTS = (
    (
        re.compile(rf"(?:{ASIDE_IN_WORDS}| (?:for|in|on) [^\d\n.,;]{{1,30}}?){_ANOTHER_PART}"),
        re.compile(r" (?:for|in|on)\b| *\("),
    ),
    (
        re.compile(rf" with(?:out)?\b[^\d\n.,;]{{0,30}}?{_ANOTHER_PART}"),
        re.compile(r" with(?:out)?\b"),
    ),
)
_BECOMES = re.compile(rf"[ ,;(–-]*(?:now |later |then )?{words.CHANGED}")
_ARROW = re.compile(r" *(?:→|[-–=]+>)(?P<words>[^\n\d]{0,200})(?=\d)")
# 5 (at first) → 4
_ASIDE_AND_ARROW = re.compile(rf"{ASIDE_IN_WORDS}[ *_]*(?:→|[-–=]+>)[ *_`]*(?=[-+–]?\d)")
_FEW = 20  # characters behind an arrow; more are a reason, but for those that say that the rating is another
_RECONSIDERED = re.compile(words.RECONSIDERED)
_REASON = re.compile(rf"[.!?]|(?:\(|{words.PLACE})[ *_`\"']*\Z")
_REACHES_ON = re.compile(rf"[ ,;(–-]*{words.REACHES_ON}|\+| *[<>](?!/)| *±")
_CALCULATES = re.compile(
    r"\^| *[×÷·=] *\d| *[x+] ?\d| *: ?\d|\\?\d|/\s*(?:\Z|[^\s\w])|\.[a-z](?!\w)|" + words.MAGNITUDE
)
_ASKED = re.compile(r" *\?")
_SECOND_POINT = re.compile(r"\s2[.)]\s")
_NEXT_LINE = re.compile(r"[^\w\n]*\n[\s*_#>•\"'(\[{-]*")
_ALONE = re.compile(r"[^\w\n/]*(?:\n|\Z)")
_LINE_END = re.compile(rf"[.!]?{MARKS}[.!;,]*{MARKS}(?:\n|\Z|\|)")
_CLAUSE_END = re.compile(rf"{MARKS}(?:[.!?;,:](?:\s|\Z)|[-–] |–|[(\[])")


def value_at(text: str, position: int, scale: Scale, *, after_words: bool = False) -> Value | None:
    """The value that a mention gives from `position` on, None where it gives none. `after_words`: words
    may come before the number, as in `excellent (7)`."""
    start = position
    position = end_of(_OPENING, text, position)
    if match := _NOT_GIVEN.match(text, position):
        return Value(None, "not given", match.end(), "word")
    for pattern, reason in _BEFORE_NUMBER:
        match = pattern.match(text, position)
        if match and has_number(re.split(r"[.!?\n]", text[match.end() : match.end() + 40])[0]):
            return Value(None, reason, match.end(), "word")
    if match := _OF_HOW_MANY_FIRST.match(text, position):
        if float(match[match.lastindex or 1]) != scale.high:
            return Value(None, "another scale", match.end(), "word")
        position = match.end()
    sign = 1
    if match := _MINUS.match(text, position):
        sign, position = -1, match.end()
    elif match := _LOOSE_MINUS.match(text, position):
        in_list = "\n" in text[start:position] or text.endswith(":", 0, position)
        if scale.low < 0 or not in_list:
            return Value(None, "not a number", match.end(), "word")
        position = match.end()
    elif text.startswith("+", position):
        position += 1
    if number := number_at(text, position, scale.low, scale.high):
        value = _with_rest(text, number, sign, scale)
        # "One of the best", and 一般, which begins with a one, are no numbers.
        sure = value.followed_by != "word" or value.reason not in (None, "not a number")
        return value if sure or not number.in_words else None
    match = _I_GIVE.match(text, position) or _IN_WORDS.match(text, position)
    if not after_words or match is None or _HEDGES.search(match["words"]):
        return None
    if number := number_at(text, match.end(), scale.low, scale.high):
        value = _with_rest(text, number, sign, scale)
        if match.re is _IN_WORDS and value.followed_by != "word":
            if match["sign"][0] in "-–" and scale.low < 0:
                return value._replace(rating=None, reason="not a number")  # a minus or a dash
            value = value._replace(words=match)
        return None if value.followed_by == "word" else value
    return None


def followed_by(text: str, end: int) -> Follower:
    """What comes after a number."""
    if _LINE_END.match(text, end):
        return "line"
    return "clause" if _CLAUSE_END.match(text, end) else "word"


def end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where a pattern ends that may begin at a position."""
    match = pattern.match(text, position)
    return match.end() if match else position


def _with_rest(text: str, number: Number, sign: int, scale: Scale) -> Value:
    """The number with all that belongs to it: of how many, units, the same number in other words."""
    if number.value is None:
        return Value(None, "not a number", number.end, followed_by(text, number.end))
    rating = sign * number.value
    end, reason = _whole(text, number.end, rating, scale)
    reason = reason or _changed(text, end, rating, scale)
    if reason is None and text[end : end + 1].isalnum():
        reason = "not a number"
    if reason is None and not scale.low <= rating <= scale.high:
        reason = "off the scale"
    return Value(None if reason else rating, reason, end, followed_by(text, end))


def _whole(text: str, end: int, rating: float, scale: Scale) -> tuple[int, Reason | None]:
    """Where the value ends with all that belongs to it, and what is wrong with that."""
    out_of = False
    while True:
        position = end_of(_SKIP, text, end)
        if match := _UNIT.match(text, position):
            end = match.end()
            if _SCALE_OF_UNITS.match(text, end):
                return end, "not a number"
        elif match := _PERCENT.match(text, position):
            if scale.high != 100 or scale.low not in (0, 1):
                return match.end(), "another scale"
            end = match.end()
        elif match := _RANGE_ASIDE.match(text, position):
            if {float(match[1]), float(match[2])} != {scale.low, scale.high}:
                return match.end(), "another scale"
            end = match.end()
        elif (match := _OUT_OF.match(text, position)) and (
            most := _number(text, match.end(), scale)
        ):
            if out_of or most.value != scale.high or text[most.end : most.end + 1] in ("+", "^"):
                return most.end, "another scale"
            end, out_of = most.end, True
        elif (match := _ASIDE.match(text, position)) and (
            again := _number(text, match.end(), scale)
        ):
            if _LEVEL.match(text, again.end) or _PERCENT.match(text, again.end):
                return end, None
            if again.value not in (rating, abs(rating), scale.high if out_of else None):
                return again.end, "several ratings"
            end = again.end
        else:
            return end, None


def _changed(text: str, end: int, rating: float, scale: Scale) -> Reason | None:
    """Why what comes after a value makes another one of it, if it does."""
    position = end_of(_SKIP, text, end)
    if _BECOMES.match(text, position) or _leads_away(text, position, rating, scale):
        return "taken back"
    match = _ASIDE_AND_ARROW.match(text, position)
    if (
        match
        and (other := _number(text, match.end(), scale))
        and other.value != rating
        and followed_by(text, _end(text, other, scale)) != "word"
    ):
        return "taken back"
    match = _AND.match(text, position) or _OR_BELOW.match(text, position)
    if match and _number(text, match.end(), scale):
        return "a range"
    match = _WORDS_BETWEEN.match(text, position)
    if (
        match
        and (other := _number(text, match.end(), scale))
        and followed_by(text, other.end) != "word"
    ):
        return "a range"
    for part, of_another in _PARTS:
        match = part.match(text, end)
        if (
            match
            and (other := _number(text, match.end(), scale))
            and other.value != rating
            and of_another.match(text, _end(text, other, scale))
        ):
            return "several ratings"
    if _REACHES_ON.match(text, position):
        return "a range"
    if _CALCULATES.match(text, position) or re.match(r"/\w", text[end : end + 2]):
        return "not a number"
    if _ASKED.match(text, position):
        return "hypothetical"
    if rating == 1 and text.startswith(". ", end) and _SECOND_POINT.search(text, end, end + 600):
        return "not a number"  # 1. The first reason. 2. The second.
    below = _NEXT_LINE.match(text, end)
    if below:
        signed = scale.low < 0 and text[below.end() - 1] in "-–"  # no bullet
        other = _number(text, below.end() - signed, scale)
        if other and _ALONE.match(text, other.end):
            return None if other.value in (rating, abs(rating)) else "several ratings"
    return None


def _end(text: str, number: Number, scale: Scale) -> int:
    """Where a number ends with its units, of how many, and the like."""
    return _whole(text, number.end, number.value or 0.0, scale)[0]


def _leads_away(text: str, position: int, rating: float, scale: Scale) -> bool:
    """Whether an arrow leads to another rating: `3 → 5`, `3 → after reconsidering 5`; but not to the same one
    or to a reason: `5 → equals 5`, `5 → a strong lesson, see turn 4`."""
    arrow = _ARROW.match(text, position)
    if arrow is None:
        return False
    between = arrow["words"]
    other = _number(text, arrow.end(), scale)
    if other is None or other.value is None:
        return len(between) <= _FEW
    end, reason = _whole(text, other.end, other.value, scale)
    follower = followed_by(text, end)
    sign = -1 if between.endswith(("-", "–")) else 1
    if reason is None and sign * other.value == rating and follower == "line":
        return _HEDGES.search(between) is not None
    if len(between) <= _FEW:
        return True
    return (
        bool(_RECONSIDERED.search(between)) and not _REASON.search(between) and follower != "word"
    )


def _number(text: str, position: int, scale: Scale) -> Number | None:
    """Another number, with or without a sign, which counts on a scale with numbers below 0. There is none in
    `one of the best`."""
    minus = _MINUS.match(text, position) if scale.low < 0 else None
    signed = text[position : position + 1] in ("-", "+")
    start = minus.end() if minus else position + signed
    number = number_at(text, start, scale.low, scale.high)
    if number and number.value is not None and minus:
        number = number._replace(value=-number.value)
    if number and number.in_words:
        end = end_of(_UNIT, text, number.end)
        if followed_by(text, end) == "word" and not _AND.match(text, end):
            return None
    return number
