"""Cells as text, CSV and LaTeX: undefined is said, and no text is run by what reads it."""

import csv
import io

import pytest

from debiasdpo.report.formats import (
    Cell,
    Column,
    Style,
    Table,
    interval_text,
    latex_text,
    sd_text,
    section_title,
    text,
    to_csv,
    to_latex,
)  # fmt: skip
from debiasdpo.report.groups import Value


def table(rows: list[tuple[Cell, ...]], *columns: Column, section: int = 0) -> Table:
    return Table("t", "A title", "", columns, tuple(rows), section=section)


@pytest.mark.parametrize(
    ("value", "style", "expected"),
    [
        (0.126, "points", "0.13"), (-0.004, "points", "0.00"), (-1.5, "points", "−1.50"),
        (0.2, "signed", "+0.20"), (-0.2, "signed", "−0.20"), (0.001, "signed", "0.00"),
        (0.844, "percent", "84%"), (-0.004, "percent", "0%"), (-2.0, "percent", "−200%"),
        (0.0004, "p", "<0.001"), (0.05, "p", "0.050"),
    ],
)  # fmt: skip
def test_numbers_are_written_alike_everywhere(value: float, style: Style, expected: str) -> None:
    assert text(Value(value), style) == expected


def test_undefined_is_said_and_absent_is_not_undefined() -> None:
    assert text(Value(None), "points") == "undefined"
    assert text(None, "points") == "–"
    assert interval_text(Value(None), "points") == ""
    assert interval_text(Value(0.5, 0.25, 0.75, 0.1), "percent") == "[25, 75]"
    assert sd_text(Value(0.5, 0.25, 0.75, 0.1), "percent") == "sd 10%"
    assert sd_text(Value(0.5, 0.25, 0.75), "percent") == ""


def test_csv_has_whole_numbers_and_bounds_where_there_are_any() -> None:
    rows: list[tuple[Cell, ...]] = [
        ("a", 3, Value(1 / 3, 0.25, 0.5), Value(0.1)),
        ("b", 1, Value(None), None),
    ]
    columns = (
        Column("name", "n", "text"),
        Column("n", "n", "count"),
        Column("x", "x"),
        Column("p", "p"),
    )
    read = list(csv.DictReader(io.StringIO(to_csv(table(rows, *columns)))))
    assert list(read[0]) == ["name", "n", "x", "x_low", "x_high", "x_sd", "p"]
    assert float(read[0]["x"]) == 1 / 3
    assert (read[0]["x_low"], read[0]["x_sd"], read[0]["p"]) == ("0.25", "", "0.1")
    assert (read[1]["x"], read[1]["p"]) == ("undefined", "")


@pytest.mark.parametrize("word", ["=1+1", "+1", "-1", "@cmd", "\t=1", "\r=1", "  =1"])
def test_no_text_is_a_formula(word: str) -> None:
    ((cell,),) = list(csv.reader(io.StringIO(to_csv(table([(word,)], Column("c", "c", "text"))))))[
        1:
    ]
    assert cell == "'" + word.replace("\r", " ")


def test_a_comma_a_quote_and_a_line_stay_in_their_cell() -> None:
    word = 'a, "b"\nc'
    ((cell,),) = list(csv.reader(io.StringIO(to_csv(table([(word,)], Column("c", "c", "text"))))))[
        1:
    ]
    assert cell == word


def test_latex_specials_are_written_out() -> None:
    assert latex_text(r"50% of a_b & {x} $y$ #1 ~^\cmd") == (
        r"50\% of a\_b \& \{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}cmd"
    )
    assert latex_text("a\nb\x00c−1") == "a bc$-$1"


def test_latex_has_a_row_a_row_and_a_heading_a_section() -> None:
    rows: list[tuple[Cell, ...]] = [
        ("m", "race", "sft", Value(0.5, 0.4, 0.6)),
        ("m", "race", "dpo_only", None),
        ("m", "role", "sft", Value(None)),
    ]
    columns = (
        Column("model", "model", "text"), Column("trained_on", "trained on", "text"),
        Column("method", "method", "text"), Column("bias", "bias"),
    )  # fmt: skip
    found = table(rows, *columns, section=2)
    assert section_title(found, rows[0]) == "m, trained on race"
    assert to_latex(found).splitlines() == [
        "% A title",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & bias \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\emph{m, trained on race}} \\",
        r"sft & 0.50 [0.40, 0.60] \\",
        r"dpo\_only & -- \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\emph{m, trained on role}} \\",
        r"sft & undefined \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
