"""Read a rating from what a model wrote. What cannot be read is a failure, never a guess."""

import re

# "Rating: 5", "**Rating:** 5/7", "Rating: [5]", "rating = 5.", "Rating - **5 out of 7**"
_RATING = re.compile(
    r"""(?<![^\W_])rating(?![^\W_])                   # the word, also as __Rating__
        [\s*_`"']* [:\uFF1A=\-–—]+ [\s*_`"'\[(<]*      # then a colon (ASCII or full-width) or the like
        (?P<number>[-−]?\d+(?:\.\d+)?)                # the rating itself
        (?P<range>[^\S\n]*(?:-|–|—|to\b|or\b)\s*\d)?  # "4-5", on one line, names no single rating
    """,
    re.IGNORECASE | re.VERBOSE,
)


def parse_rating(text: str, low: float, high: float) -> float | None:
    """The last stated rating, or None where there is none within low..high.

    The last one counts, also when it is out of range: an answer that ends in `Rating: 9` on a
    7-point scale has failed, whatever it said before.
    """
    matches = list(_RATING.finditer(text))
    if not matches or matches[-1]["range"]:
        return None
    value = float(matches[-1]["number"].replace("−", "-"))
    return value if low <= value <= high else None


# "Rating:", "**Rating**:", and the marks before it, but not the full stop of the sentence before it.
_OWN_RATING = re.compile(
    r"""[^\w.!?]*_*(?<![^\W_])rating(?![^\W_])[\s*_`"']*[:\uFF1A=]""", re.IGNORECASE
)


def whole_sentences(text: str) -> str:
    """The text up to a rating it states, else up to its last whole sentence, with a line break after
    it; without either, all of it. Empty stays empty."""
    text = _OWN_RATING.split(text, maxsplit=1)[0].strip()
    ends = list(re.finditer(r"[.!?](?=\s|$)", text))
    if ends:
        text = text[: ends[-1].end()]
    return f"{text}\n" if text else ""
