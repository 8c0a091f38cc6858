"""Delimited text whose double quotes are of its texts, and that is told from rightly quoted text."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from debiasdpo.documents.delimited import delimited_rows
from debiasdpo.errors import UserError
from tests.helpers.generated import SAME_FOLDER

HEADER = ("id", "group", "text", "clarity")
UNQUOTED = (
    ("1", "g", '"The dog ran', "4"),
    ("2", "g2", "It was late", "2"),
    ("3", "g3", 'and went home."', "6"),
    ("4", "g4", "ok", "3"),
)


def texts(path: Path, content: str) -> list[str]:
    path.write_text(content, encoding="utf-8", newline="")
    return [str(cells["text"]) for _, cells in delimited_rows(path, HEADER)]


def table(rows: tuple[tuple[str, ...], ...], delimiter: str, end: str = "\n") -> str:
    """Without any quoting."""
    return "".join(delimiter.join(row) + end for row in rows)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_that_begins_with_a_quote_swallows_no_rows(tmp_path: Path, end: str) -> None:
    message = (
        r"t\.csv, row 2, column 'text': a double quote opens a text in line 2 that ends in line 4,"
        r" but each of these lines has 4 cells.*in double quotes.*written twice"
    )
    with pytest.raises(UserError, match=message):
        texts(tmp_path / "t.csv", table((HEADER, *UNQUOTED), "\t", end))


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ((HEADER, ("0", "g", "ok", "1"), *UNQUOTED), r"row 3, .* line 3 .* line 5"),
        (
            (HEADER, ("1", "g", '"Oh', ""), ("2", "g2", 'my"', "2")),
            r"row 2, .* line 2 .* line 3",
        ),
        # It closes in another column.
        (
            (("id", "text", "note", "score"), ("1", '"Oh', "good", "3"), ("2", "my", 'bad"', "2")),
            r"row 2, column 'text'.* line 2 .* line 3",
        ),
        (
            (("id", "note", "text", "score"), ("1", "good", '"Oh', "3"), ("2", 'a"', "my", "2")),
            r"row 2, column 'text'.* line 2 .* line 3",
        ),
        ((("id", "text"), ("1", '"Oh'), ("2", 'my"')), r"row 2, .* line 2 .* line 3"),
        (
            (("id", "group", "text"), ("ann", "kim", '"Oh'), ("bob", "lee", 'my"')),
            r"row 2, .* line 2 .* line 3",
        ),
    ],
    ids=["later", "no score", "later column", "earlier column", "two columns", "names"],
)
def test_rows_that_a_quote_would_swallow_are_told(
    tmp_path: Path, rows: tuple[tuple[str, ...], ...], where: str
) -> None:
    with pytest.raises(UserError, match=where):
        texts(tmp_path / "t.tsv", table(rows, "\t"))


def test_the_advice_works(tmp_path: Path) -> None:
    rows = [
        f'{i},{g},"{text.replace(chr(34), chr(34) * 2)}",{score}\n'
        for i, g, text, score in UNQUOTED
    ]
    found = texts(tmp_path / "t.csv", ",".join(HEADER) + "\n" + "".join(rows))
    assert found == [text for _, _, text, _ in UNQUOTED]


WORDS = st.sampled_from(["The", "dog", "3", "w1", "4.5", "he", "x"])
JOINTS = st.sampled_from([" ", ", ", "; ", "| ", "\n", "\n\n", '"', ' "', "\t "])


@given(
    lines=st.lists(st.lists(st.tuples(WORDS, JOINTS), max_size=12), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    header=st.sampled_from([HEADER, HEADER[:3], ("text", "id", "group"), ("id", "text")]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example(
    lines=[[("he", "\n"), ("The", ", "), ("3", ", "), ("dog", "")]],
    delimiter=",", end="\n", header=HEADER[:3], quoting=csv.QUOTE_MINIMAL,
)  # fmt: skip
@SAME_FOLDER
def test_a_rightly_quoted_text_of_several_lines_is_read(
    tmp_path: Path,
    lines: list[list[tuple[str, str]]],
    delimiter: str,
    end: str,
    header: tuple[str, ...],
    quoting: int,
) -> None:
    """Also where its lines have as many delimiters as the header: people write a space behind a comma."""
    written = ["x" + "".join(f"{word}{joint}" for word, joint in line) for line in lines]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(header)
    for number, text in enumerate(written):
        row = {"id": f"{number}", "group": f"w{number}", "text": text, "clarity": "4"}
        writer.writerow([row[name] for name in header])
    assert texts(tmp_path / "t.csv", stream.getvalue()) == written


@pytest.mark.parametrize(
    "text", ["Dear Sir\nfirst,second,third", "Dear Sir\n3, 4, 5", "Colours:\nred,green,blue"]
)
def test_lists_in_a_text_are_no_rows(tmp_path: Path, text: str) -> None:
    assert texts(tmp_path / "t.csv", f'id,group,text\n1,w1,"{text}"\n') == [text]
    assert texts(tmp_path / "t.csv", f'id,group,text\nann,kim,"{text}"\n') == [text]


def test_a_table_in_a_text_is_no_rows(tmp_path: Path) -> None:
    """Rightly quoted, with as many commas in each line as the header has."""
    for row, text in (
        ('1,4,"Results:\n12,15,19"', "Results:\n12,15,19"),
        ('1,4,"Year,Q1\n2019,12,13\n2020,3,4"', "Year,Q1\n2019,12,13\n2020,3,4"),
    ):
        assert texts(tmp_path / "t.csv", f'id,score,text\n{row}\n2,5,"fine"\n') == [text, "fine"]
