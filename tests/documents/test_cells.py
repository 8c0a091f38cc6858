"""What cells of every type say, and which say nothing that can be used."""

import datetime
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.data import Rubric
from debiasdpo.documents.cells import cell_text, required_text, score_of
from debiasdpo.errors import UserError

SCALE = Rubric(question="Clear?", low=1, high=5)
WHERE = "t.csv, row 2, column 'x'"
LARGE = 2**60 + 1

TEXTS: list[tuple[object, str]] = [
    ("  a b\n", "a b"),
    (np.str_("a"), "a"),
    (7, "7"),
    (7.0, "7"),  # a column of numbers with gaps
    (2.5, "2.5"),
    (np.float32(3.9), "3.9"),
    (np.float16(3.9), "3.9"),
    (np.int64(LARGE), str(LARGE)),
    (Decimal("101.00"), "101"),
    (Decimal("3.10"), "3.1"),
    (Decimal("1E+3"), "1000"),
    ("Très".encode(), "Très"),
    (b"\xef\xbb\xbfBOM", "BOM"),
    (bytearray(b"line\r\n"), "line"),
    (datetime.date(2024, 1, 2), "2024-01-02"),
    (datetime.datetime(2024, 1, 2), "2024-01-02"),
    (pd.Timestamp("2024-01-02"), "2024-01-02"),
    (np.datetime64("2024-01-02", "ns"), "2024-01-02"),
    (pd.Timestamp("2024-01-02 10:30", tz="UTC"), "2024-01-02T10:30:00+00:00"),
    (datetime.time(10, 30), "10:30:00"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
]
NOTHING = [
    None,
    math.nan,
    np.float32("nan"),
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    Decimal("sNaN"),
    "",
    " \n",
]


@pytest.mark.parametrize(("cell", "text"), TEXTS, ids=lambda value: repr(value))
def test_cells_that_are_texts_numbers_or_dates(cell: object, text: str) -> None:
    assert cell_text(cell, WHERE) == text


@pytest.mark.parametrize("cell", NOTHING, ids=repr)
def test_cells_without_a_value(cell: object) -> None:
    assert cell_text(cell, WHERE) == ""
    assert score_of(cell, SCALE, WHERE) is None
    with pytest.raises(UserError, match="row 2, column 'x': empty"):
        required_text({"x": cell}, "x", "t.csv, row 2")


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (["a", "b"], "of type list, not a text"),
        (np.array([1.0]), "of type ndarray, not a text"),
        (("a",), "of type tuple, not a text"),
        ({"body": "a"}, "of type dict, not a text"),
        (True, "the truth value True, not a text"),
        (np.bool_(False), "the truth value False"),
        (datetime.timedelta(1), "of type timedelta, not a text"),
        (pd.Timedelta("1D"), "of type Timedelta, not a text"),
        (pd.Period("2024"), "of type Period, not a text"),
        (math.inf, "of type float, not a text"),
        (1j, "of type complex, not a text"),
        (2.0**60, "more digits than a float keeps"),
        ("Très".encode("latin-1"), "bytes that are not UTF-8"),
        (bytes([1]) * 16, "bytes that are no text, 0101010101"),
        ("cut \ud83d", "half a character"),
        (object(), "of type object, not a text"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_cells_that_are_no_text(cell: object, says: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(WHERE)}: .*{re.escape(says)}"):
        cell_text(cell, WHERE)


@pytest.mark.parametrize(
    "text", ["NA", "n/a", "#N/A", "nan", "NaN", "<NA>", "NULL", "None", "\\N", " . "]
)
def test_what_programs_write_where_nothing_is(text: str) -> None:
    assert score_of(text, SCALE, WHERE) is None
    with pytest.raises(UserError, match=r"which stands for a missing value\. Fill it in"):
        required_text({"x": text}, "x", "t.csv, row 2")


@pytest.mark.parametrize("text", ["\u200b", "\ufeff\u00ad", "\u2060 \u00a0"])
def test_a_text_that_cannot_be_seen_is_empty(text: str) -> None:
    with pytest.raises(UserError, match="column 'x': empty"):
        required_text({"x": text}, "x", "t.csv, row 2")


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        ("4", 4), (" 4\n", 4), ("4.", 4), ("+4", 4), ("4.50", 4.5), ("4e0", 4), ("4,5", 4.5),
        ("3,333", 3.333), ("٤", 4), (4, 4), (4.25, 4.25), (np.int8(4), 4),
        (Decimal("4.10"), 4.1), (b"4", 4), (np.float32(3.9), 3.9), (np.float16(4.1), 4.1),
    ],
    ids=repr,
)  # fmt: skip
def test_scores(cell: object, score: float) -> None:
    assert score_of(cell, SCALE, WHERE) == score


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("good", "'good' is not a number"), ("4_0", "'4_0' is not a number"), ("inf", "not a number"),
        ("4/5", "not a number"), ("4-5", "not a number"), ("0x4", "not a number"), ("-", "not a number"),
        ("1.234,5", "not a number"), (True, "'True' is not a number"), (np.True_, "'True' is not a number"),
        (datetime.date(2024, 3, 4), "'2024-03-04' is not a number"), ([4], "of type list, not a text"),
        (5.5, "5.5 is off the scale of 1 to 5"), ("-9", "-9 is off the scale"),
        (math.inf, "'inf' is not a number"),
        ("1e400", "1e400 is off the scale"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_score(cell: object, says: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(WHERE)}: .*{re.escape(says)}"):
        score_of(cell, SCALE, WHERE)


def test_a_mark_that_may_stand_for_thousands_is_not_guessed() -> None:
    wide = Rubric(question="How long?", low=0, high=5000, step=500)
    with pytest.raises(UserError, match=r"1,500 may be 1.5 or 1500"):
        score_of("1,500", wide, WHERE)
    with pytest.raises(UserError, match=r"1.200 may be 1.2 or 1200.*1.2000 or 1200"):
        score_of("1.200", wide, WHERE)
    assert score_of("1.2000", wide, WHERE) == score_of(1.2, wide, WHERE) == 1.2
    assert score_of(1.125, wide, WHERE) == 1.125  # a number, as its file has it
    assert score_of("1,50", wide, WHERE) == 1.5
    assert score_of("1,500", SCALE, WHERE) == 1.5  # 1500 is off the scale


@given(st.integers(100, 500), st.sampled_from([np.float32, np.float64]), st.sampled_from(".,"))
def test_a_score_is_the_number_that_was_written(cents: int, kind: Any, mark: str) -> None:
    written = f"{cents // 100}{mark}{cents % 100:02d}"
    assert score_of(written, SCALE, WHERE) == cents / 100
    assert score_of(kind(cents / 100), SCALE, WHERE) == cents / 100
