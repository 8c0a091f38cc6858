"""What is a copy, against a count by hand of the sequences that two texts share."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.documents.copies import copies

WORDS = [f"w{i}" for i in range(60)]
TEXTS = st.lists(
    st.lists(st.sampled_from([WORDS[:30], WORDS[20:50], WORDS[30:]]), min_size=1, max_size=3).map(
        lambda runs: " ".join(itertools.chain(*runs))
    ),
    min_size=1,
    max_size=6,
)


def sequences(text: str) -> list[tuple[str, ...]]:
    words = text.lower().replace(".", "").split()
    return [tuple(words[i : i + 8]) for i in range(len(words) - 7)]


@given(texts=TEXTS, data=st.data())
def test_what_a_later_part_has_too_is_a_copy(texts: list[str], data: st.DataObject) -> None:
    each = st.sampled_from([-1, 0, 1, 2])
    parts = np.array(data.draw(st.lists(each, min_size=len(texts), max_size=len(texts))))
    expected = []
    for i, text in enumerate(texts):
        later = {
            s
            for other, part in zip(texts, parts.tolist(), strict=True)
            if part > parts[i] >= 0
            for s in sequences(other)
        }
        shared = [s in later for s in sequences(text)]
        if shared and sum(shared) >= 0.3 * len(shared):
            expected.append(i)
    assert copies(texts, parts, [2, 1, 0]).tolist() == expected


def test_words_alone_make_a_copy() -> None:
    lesson = " ".join(WORDS)
    again = f"Teacher: {lesson.upper()}."
    other = " ".join(WORDS[::-1])
    short = "too short for a sequence"
    parts = np.array([0, 0, 0, 2])
    assert copies([lesson, other, short, again], parts, [2, 1, 0]).tolist() == [0]
    assert copies([lesson, other, short, again], np.array([0, 0, 0, 0]), [2, 1, 0]).tolist() == []
