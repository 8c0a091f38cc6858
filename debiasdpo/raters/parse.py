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


def parse_rating(text: str, low: int, high: int) -> float | None:
    """The last stated rating, or None where there is none within low..high.

    The last one counts, also when it is out of range: an answer that ends in `Rating: 9` on a
    7-point scale has failed, whatever it said before.
    """
    matches = list(_RATING.finditer(text))
    if not matches or matches[-1]["range"]:
        return None
    value = float(matches[-1]["number"].replace("−", "-"))
    return value if low <= value <= high else None
