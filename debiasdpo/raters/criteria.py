"""Several criteria under one label: of `Rating: Clarity: 5; Depth: 3` the first is no rating of the whole."""

import re

from debiasdpo.config.scale import Scale
from debiasdpo.raters import words
from debiasdpo.raters.values import ASIDE_IN_WORDS, LEADS_ON, MARKS, Value, value_at

# The next one: behind a sign, or on a line of its own.
_NEXT = re.compile(
    rf"(?:{ASIDE_IN_WORDS})?{MARKS}(?P<between>[.,;|]|(?=\n))[\s*_`>•-]{{0,20}}"
    rf"(?P<words>(?:[^\W\d_]+[ -]){{0,4}}[^\W\d_]+){LEADS_ON}"
)
_OVERALL = re.compile(rf"{words.FINAL}(?: (?:{words.WEAK}|quality|impression|performance))?")
_NO_CRITERION = re.compile(words.OTHER)
_LABEL = re.compile(words.RATING)


def of_criteria(text: str, first: Value, scale: Scale) -> Value:
    """The value of a label behind which `first` has been read: of the criterion that is called overall, else
    the one that all criteria have."""
    if first.words is None or first.reason:
        return first
    found = [(first.words["words"], first)]
    sign = first.words["sign"][0]
    end = first.end
    while match := _NEXT.match(text, end):
        # Behind a full stop "The teacher (1)" begins another sentence.
        other_form = match["sign"][0] != sign or match["between"] + sign in (".(", ".[")
        value = value_at(text, match.end(), scale)
        if other_form or value is None or _LABEL.search(match["words"]):
            break
        in_words = value.followed_by == "word" and value.reason != "not given"
        if in_words and not _OVERALL.fullmatch(match["words"]):
            break  # Turns: 3 of them are long
        if value.rating is not None and not _NO_CRITERION.search(match["words"]):
            found.append((match["words"], value))
        end = value.end
    values = [value for name, value in found if _OVERALL.fullmatch(name)]
    values = values or [value for _, value in found]
    if len({value.rating for value in values}) > 1:
        return first._replace(rating=None, reason="several ratings")
    return values[0]
