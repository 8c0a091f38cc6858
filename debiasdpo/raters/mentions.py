"""The mentions of a rating in an answer, each with what the words before and after it make of it."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from debiasdpo.config.scale import Scale
from debiasdpo.raters import words
from debiasdpo.raters.criteria import of_criteria
from debiasdpo.raters.notation import has_number
from debiasdpo.raters.values import Reason, Value, end_of, value_at


class Mention(NamedTuple):
    """One place where an answer says a rating. One of `rating` and `reason` is None."""

    start: int
    end: int
    rating: float | None
    reason: Reason | None
    rank: int = 0  # 1: called final or overall; -1: called the first
    own: bool = True  # False: negated, supposed, of somebody else or about the scale
    labelled: bool = True  # False: known by its place alone
    explains: bool = False  # followed by "= poor": it may be a level of the scale


class _Place(NamedTuple):
    """Where the value of a label is to be read, and how the label leads there."""

    position: int
    by: Literal["sign", "verb", "nothing"]  # "Rating: 5", "a rating of 5", "Rating 5"
    reason: Reason | None = None


_LABEL = re.compile(
    rf"(?<![^\W_]-){words.RATING}|(?P<boxed>\\?(?:boxed|fbox)\s?(?=\{{))"
    r"|(?P<final>(?<![\w-])final(?=[ *_`\"']*[:=][\s*_`\"':=]*\d))"  # Final: 4
)
# What may stand before it on its line; or between it and a rating; and what says above it that it is one of
# several things that are counted.
_BEGINS_LINE = re.compile(r"[ *#>\"'`]*")
_NEXT_CLAUSE = re.compile(r"[ *_\"'`)\]}]*[.;] [ *\"'`]*")
_NO_RATING = rf"(?!{words.RATING})"
_ANOTHER_LABEL = re.compile(
    rf"[ *_#>\"'`•-]*{_NO_RATING}[^\W\d_](?:{_NO_RATING}[^:=\n]){{0,60}}[:=]\W*\d"
)
_WEAK_LABEL = re.compile(words.WEAK)
_LINE_OR_SENTENCE = re.compile(r"(?:.*[.!?] )?[ *_#>\"'•.)\d-]*(?:[^\W\d_]+ ){0,2}")
_BESIDE = re.compile(r"(?:[^\W\d_][\w'-]*[ *_\"]+){0,3}$")

_SPACE = r"[ *_`\"'#~)\]}]*+"
_SPACES = re.compile(_SPACE)
_ASIDE = re.compile(rf"{_SPACE}[(\[{{]([^()\[\]{{}}\n]{{1,80}})[)\]}}]{_SPACE}")
_OF_WHAT = re.compile(
    rf"{_SPACE}(?:for|of|on|from|out of|in|given|at|to|as|/|value|score|number|points?|level|de|du|des|da|do"
    r"|della|del|für|von|der|pour|para|per|voor|van|för|для|за|final|finale?|définitive|globale?|overall)"
    r"(?![^\W\d_])([^.:=|\n!?]{0,60})(?=[:=|])"
)
_OF_WHAT_IS = re.compile(
    rf"{_SPACE}(?:for|of|on|für|von|der|des|de|du|del|della|do|da|van|voor)(?!\w)[^.:;,=|\n!?\d]{{1,40}}?"
    r"(?= (?:is|was|would be|ist|est|es|è|é)(?!\w))"
)
_SIGN = re.compile(
    rf"{_SPACE}(?:[:=|→]|-+>|\.{{2,}}|(?:は|が|是|为|為|는|은)(?=[ :*]*[\d〇零一-九十百]))[ :=|]*"
)
_VERB = re.compile(
    rf"{_SPACE}(?:is|was|of|at|stands at|comes to|would be|will be|should be|ist|lautet|beträgt|liegt bei"
    r"|von|wäre|est(?: de)?|de|es(?: de)?|è|di|é|van)(?!\w) ?:?"
)
_DASH = re.compile(r"([ *_`\"']*)[-–]+(\s*)(?=([-–+.\d])?)")
_PERCENT = re.compile(words.PERCENT)
_NUMBER = re.compile(r"(?<![\d.])-?\d{1,9}(?:\.\d{1,9})?")

_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bz\.b)[.!?](?:\s|$)|\n\s*\n")
_CLAUSE_START = re.compile(r"[,;:(–|\[]| - ")
_FINAL, _FIRST, _OTHER = map(re.compile, (words.FINAL, words.FIRST, words.OTHER))
_NOT, _PERHAPS, _WOULD = map(re.compile, (words.NOT, words.PERHAPS, words.WOULD))
_SO, _EXAMPLE, _LEGEND = map(re.compile, (words.SO, words.EXAMPLE, words.LEGEND))
_SAID_BY_OTHERS = re.compile(words.SAID_BY_OTHERS)
# "I will not give this essay a" (rating of 7)
_GIVING = re.compile(
    rf"{words.GIVE}(?:\W+(?:it|this|that|the|an?|lesson|essay|text|of|as|you|him|her|them|to|any|im)\b)"
    r"{0,4}\W*$"
)
# What may stand before a mention in its clause: what it is a rating of, or who gives it.
_GIVEN_BY = re.compile(
    rf"\b(?:i|we|ich|wir|je|nous)\b.*{words.GIVE}"
    r"|\b(?:this|it|overall|lesson|essay|text|diese\w?|the \w+)\b.*"
    r"\b(?:deserves|earns|gets|merits|receives|warrants|achieves|scores)\b"
    r"|\b(?:this|it|lesson|essay|text)\b.*\b(?:is|has)\b"
)
_ARTICLES = re.compile(words.ARTICLES)
_MOST_WORDS = 3  # that are no articles
_OF = re.compile(rf"{_SPACE} *of(?!\w)")
_SUBJECT = re.compile(r"\b(?:i|we|ich|wir|je|nous)\b")
# A polite way to give a rating, unless a condition follows.
_I_WOULD = re.compile(
    r"\b(?:i|we)(?:'d| would| could)(?: \w+)?? (?:give|say|rate|assign|score|put|award|call|settle|choose)\b"
    r"|\bmy\b[^.\n]{0,20}\bwould be|\bif i (?:had|have|must|am|were)\b[^,.\n]{0,30}"
)
_CONDITION = re.compile(r"[^.!?\n]{0,80}\b(?:if|unless|were|had it|wenn|falls|si|se)\b")
_MARKED = r"[ *_\"']*+"
_FIRST_AFTER = re.compile(rf"[ ,(]*{words.FIRST_AFTER}")
_WANTED = re.compile(words.WANTED)
_UNWILLING, _IS_BESIDE, _FOR = map(re.compile, (words.UNWILLING, words.BESIDE, words.FOR))
_NOT_GIVEN_OF = re.compile(rf"{_MARKED},?{_MARKED}(?:{words.NOT_GIVEN_OF})")
_ASKED_FOR = re.compile(rf"{_MARKED}{words.ASKED_FOR}")
_MEANS = re.compile(rf"{_MARKED}(?:{words.MEANS})")
_EQUALS = re.compile(rf"{_MARKED}[=(]\s*[^\W\d_]")
_TOO = re.compile(rf"{_MARKED}(?:{words.TOO})")
_WHICH_NOT = re.compile(rf"{_MARKED},? *which (?:i|we|is|would|seems)\b[^.!?\n]{{0,40}}{words.NOT}")


def mentions(text: str, scale: Scale) -> Iterator[Mention]:
    """All mentions of a rating in the lines of an answer, in their order."""
    before = None
    for label in _LABEL.finditer(text):
        if label["final"] and not _may_be_final(text, label.start(), before):
            continue
        if mention := _mention(text, label, scale):
            before = mention
            yield mention


def closing(text: str, scale: Scale) -> Mention | None:
    """A rating that ends the answer under a word with other uses too: `Answer: 5`, `Note: 5/7`."""
    found = []
    for label in _WEAK_LABEL.finditer(text):
        place = _place(text, label.end(), scale)
        if place.by == "sign" and _LINE_OR_SENTENCE.fullmatch(_line_before(text, label.start())):
            value = value_at(text, place.position, scale)
            if value and value.followed_by == "line":
                found.append(_unlabelled(label.start(), value))
    if not found or re.search(r"\w", text[found[-1].end :]):
        return None
    same = len({mention.rating for mention in found}) == 1
    return found[-1] if same else found[-1]._replace(rating=None, reason="several ratings")


def bare(text: str, scale: Scale) -> Mention | None:
    """A rating that is the whole answer."""
    value = value_at(text, 0, scale)
    if value is None:
        return None
    alone = value.followed_by == "line" and not re.search(r"[^\W_]", text[value.end :])
    if not alone and (value.reason is None or re.search(r"[^\W\d_]", text)):
        return None
    return _unlabelled(0, value)


def _unlabelled(start: int, value: Value) -> Mention:
    return Mention(start, value.end, value.rating, value.reason, labelled=False)


def _mention(text: str, label: re.Match[str], scale: Scale) -> Mention | None:
    start = label.start()
    line = _line_before(text, start)
    beside = _BESIDE.search(line, max(0, len(line) - 60))
    qualifier = beside[0] if beside else ""
    last_word = qualifier.rstrip(' *_"').split(" ")[-1] + " "
    if _OTHER.search(qualifier) or _WANTED.search(qualifier):
        return None
    place = _Place(label.end(), "sign") if label["boxed"] else _place(text, label.end(), scale)
    if place.by == "nothing" and re.search(r"\w[ ,(]*$", line[: len(line) - len(qualifier)]):
        return None  # in the middle of a sentence
    if place.reason:
        return Mention(start, place.position, None, place.reason)
    value = value_at(text, place.position, scale, after_words=place.by == "sign")
    value = value and of_criteria(text, value, scale)
    if label["final"] and (
        value is None
        or value.followed_by != "line"
        or value.reason in ("off the scale", "another scale")
    ):
        return None  # Final: 4 of them answered; Final: 40%
    if value is None or not _ends_well(text, label.end(), place, value):
        return Mention(start, label.end(), None, "not a number", own=False)
    if place.by == "verb" and re.match(r"(?:your|his|her|their)\b", qualifier):
        return Mention(start, value.end, None, "of someone else", own=False)
    of = _OF.match(text, label.end()) is not None
    if reason := _not_meant(text, start, line, value.end, of=of):
        return Mention(start, value.end, None, reason, own=False)
    named = text[start : place.position]
    rank = 1 if _FINAL.search(qualifier + named) else -1 if _FIRST.search(last_word + named) else 0
    if _FIRST_AFTER.match(text, value.end):
        rank = -1
    explains = _EQUALS.match(text, value.end) is not None
    return Mention(start, value.end, value.rating, value.reason, rank, explains=explains)


def _may_be_final(text: str, start: int, before: Mention | None) -> bool:
    """Whether `Final: 4` may be the answer's rating: it begins a line, none below `Midterm: 3`, or follows a
    rating, the mention `before` it, as a sentence or clause of its own."""
    if _BEGINS_LINE.fullmatch(_line_before(text, start)):
        above = text[max(0, start - 240) : start].rstrip(" *#>\"'`\n").rsplit("\n", 1)[-1]
        return _ANOTHER_LABEL.match(above) is None
    if before is None or before.rating is None or not before.own:
        return False
    return _NEXT_CLAUSE.fullmatch(text, before.end, start) is not None


def _ends_well(text: str, label_end: int, place: _Place, value: Value) -> bool:
    """Without a sign before it, or on another line, a value must stand alone."""
    if "\n" in text[label_end : value.end]:
        return value.followed_by == "line"
    return place.by != "nothing" or value.followed_by != "word"


def _place(text: str, position: int, scale: Scale) -> _Place:
    """Where the value of a label is read that ends at `position`."""
    position = end_of(_OF_WHAT_IS, text, position)
    match = _ASIDE.match(text, position)
    if match and (_SIGN.match(text, match.end()) or not has_number(match[1])):
        if _other_scale(match[1], scale):
            return _Place(match.end(), "sign", "another scale")
        position = match.end()
    if match := _OF_WHAT.match(text, position):
        if _other_scale(match[1], scale):
            return _Place(match.end(), "sign", "another scale")
        position = match.end()
    if match := _SIGN.match(text, position):
        return _Place(match.end(), "sign")
    if match := _DASH.match(text, position):
        before, after, number = match.groups()
        if number and before and not after:
            return _Place(match.start(2) - 1, "nothing")  # Rating -2
        if number and number not in "-–" and scale.low < 0:
            return _Place(match.end(), "sign", "not a number")  # Rating - 2: a minus or a dash
        return _Place(match.end(), "sign")
    if match := _VERB.match(text, position):
        return _Place(match.end(), "verb")
    return _Place(end_of(_SPACES, text, position), "nothing")


def _other_scale(said: str, scale: Scale) -> bool:
    """Whether what is said beside a label names another scale: `Rating (1-10)`, `Rating out of 10`."""
    numbers = {float(number) for number in _NUMBER.findall(said)}
    if scale.high != 100 and _PERCENT.search(said):
        return True
    return not numbers <= {scale.low, scale.high}


def _line_before(text: str, position: int) -> str:
    return text[max(text.rfind("\n", 0, position) + 1, position - 240) : position]


def _not_meant(text: str, start: int, line: str, end: int, *, of: bool) -> Reason | None:
    """Why what stands from `start` to `end` is not the answer's own rating: what the sentence says before and
    after it, if anything. `line`: what stands before it on its line; `of`: it is a `rating of 5`."""
    if _TOO.match(text, end) or _WHICH_NOT.match(text, end):
        return "hypothetical"
    if _MEANS.match(text, end):
        return "no rating"
    if _ASKED_FOR.match(text, end) or (of and _NOT_GIVEN_OF.match(text, end)):
        return "hypothetical"
    sentence = _SO.split(_SENTENCE_END.split(line)[-1])[-1]
    if not _NOT.search(sentence) and not _CONDITION.match(text, end):
        sentence = _I_WOULD.sub(" i give ", sentence)
    clause = _CLAUSE_START.split(sentence)[-1]
    if _SAID_BY_OTHERS.search(sentence):
        return "of someone else"
    if _LEGEND.search(sentence) and not _GIVEN_BY.search(clause):
        return "no rating"
    if _NOT.search(clause):
        return "negated"
    others = re.findall(r"[^\W\d_]+", _ARTICLES.sub("", clause))
    if len(others) > (0 if of else _MOST_WORDS) and not _GIVEN_BY.search(clause):
        return "hypothetical"
    if of and (_UNWILLING.search(clause) or _IS_BESIDE.search(clause) or _FOR.search(sentence)):
        return "hypothetical"
    if _PERHAPS.search(sentence) or _WOULD.search(clause) or _EXAMPLE.search(sentence[-40:]):
        return "hypothetical"
    # The verb may stand on the line before.
    if giving := _GIVING.search(_SENTENCE_END.split(text[max(0, start - 200) : start])[-1]):
        before = giving.string[: giving.start()]
        own_clause = _CLAUSE_START.split(before)[-1]
        said = own_clause if _SUBJECT.search(own_clause) else _SO.split(before)[-1]
        if _NOT.search(said):
            return "negated"
        if _WOULD.search(sentence):
            return "hypothetical"
    return None
