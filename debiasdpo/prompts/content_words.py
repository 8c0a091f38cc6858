"""What statements are about, as words: which of them tell one statement, or one category, from others.

Function words tell nothing, nor do words of half of the categories and more, such as "teacher". Others are
compared without a plural's s and by their first letters (truncation: Frakes 1992, Stemming algorithms), so
that "licensed" and "licensing" are one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from debiasdpo.config.sameness import same_text

_STEM = 6  # letters that are compared

# Scripts without spaces between words, of which every stretch of so many characters in a row is taken for a
# word: two of Chinese and Japanese (as search engines do), and of Thai, Lao, Burmese and Khmer as of a stem.
_UNSPACED = {
    2: "\u3005\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    _STEM: "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff",
}
_SPACED = f"[^\\W_{''.join(_UNSPACED.values())}]+"
_WORD = re.compile("|".join([r"\{\w+\}", *(f"[{of}]+" for of in _UNSPACED.values()), _SPACED]))

_FUNCTION_WORDS = frozenset(
    """
    a about above across after again against ago all almost already also although always am among an
    and another any anybody anyone anything are around as at away be because been before behind
    being below beside besides best between beyond both but by came can cannot come comes coming
    could did do does doing done down during each either else ever every everybody everyone
    everything except far few first for from gave get gets give given gives go goes going gone got
    had has have having held here hold holds how however i if in inside instead into is it its
    itself just kept know known last later least less let long made make makes many may me might
    mine more most much must my myself near nearly neither never next no nobody none nor not nothing
    now of off often on once one only onto or other others our out over own part per put rather said
    same saw say says see seem seems seen several shall should since so some somebody someone
    something soon still such take taken takes tell than that the their them then there these they
    thing things think this those though through till to told too took toward under until up upon us
    very was way we well went were what whatever when where whether which while who whoever whole
    whom whose why will with within without would yes yet you your yourself zero two three four five
    six seven eight nine ten
    """.split()  # noqa: SIM905 (a list is hard to read)
)


def content_words(text: str) -> frozenset[str]:
    """The stems of a text's words that are no function words; `{best}` and `{worst}` are words too."""
    plain = re.sub(r"(?<=\w)'s\b", "", text.replace("\u2019", "'"), flags=re.IGNORECASE)
    return frozenset(_stem(word) for word in _words(plain) if word not in _FUNCTION_WORDS)


def said(text: str) -> str:
    """All words of a text, with a space on either side of each: whoever says no more is a part of it."""
    return f" {' '.join(_words(text))} "


def _words(text: str) -> list[str]:
    """In small letters, without the marks that make no letter of their own, as vowel signs of Hindi; the
    overlapping stretches of scripts without spaces."""
    plain = same_text(text).casefold()
    if not plain.isascii():
        plain = "".join(c for c in plain if not unicodedata.category(c).startswith("M"))
    return [word for found in _WORD.findall(plain) for word in _stretches(found)]


def _stretches(word: str) -> list[str]:
    sizes = (size for size, of in _UNSPACED.items() if re.match(f"[{of}]", word))
    size = next(sizes, len(word))
    return [word[i : i + size] for i in range(max(1, len(word) - size + 1))]


def _stem(word: str) -> str:
    singular = word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word
    return word if word.startswith("{") else singular[:_STEM]


def common_words(categories: Collection[Iterable[str]]) -> frozenset[str]:
    """Words that at least two of the categories, and half of all, have in their statements."""
    of = [frozenset().union(*map(content_words, texts)) for texts in categories]
    counts = Counter(word for words in of for word in words)
    return frozenset(word for word, n in counts.items() if n >= max(2, len(of) / 2))


@dataclass(frozen=True)
class Apart:
    """What generated statements are kept apart from: `foreign`, the words of categories that are not trained
    on; and `tests`, the words of each test statement of those that are."""

    common: frozenset[str]
    foreign: frozenset[str]
    tests: tuple[frozenset[str], ...]

    def words(self, text: str) -> frozenset[str]:
        return content_words(text) - self.common

    def too_near(self, text: str) -> frozenset[str]:
        """The words for which a statement is refused: foreign ones, and those that it shares with a test
        statement, if they are more than a third of its words. None: it is apart."""
        mine = self.words(text)
        shared = (mine & test for test in self.tests if 3 * len(mine & test) > len(test))
        return frozenset().union(mine & self.foreign, *shared)
