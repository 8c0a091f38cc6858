"""Cells as text, CSV and LaTeX: what is missing has its reason, and no text is run by what reads it."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.shown import visible
from debiasdpo.report.formats import (
    Cell,
    Column,
    Style,
    Table,
    interval_text,
    sd_text,
    text,
    to_csv,
)  # fmt: skip
from debiasdpo.report.latex import latex_text, to_latex
from debiasdpo.report.values import Value
from tests.helpers.report_files import ODD


def table(rows: list[tuple[Cell, ...]], *columns: Column, section: int = 0) -> Table:
    return Table("t", "A title", "", columns, tuple(rows), section=section)


@pytest.mark.parametrize(
    ("value", "style", "expected"),
    [
        (0.126, "points", "0.13"), (-0.004, "points", "0.00"), (-1.5, "points", "−1.50"),
        (0.2, "signed", "+0.20"), (-0.2, "signed", "−0.20"), (0.001, "signed", "0.00"),
        (0.844, "percent", "84%"), (-0.004, "percent", "0%"), (-2.0, "percent", "−200%"),
        (1.0, "percent", "100%"), (0.9994, "percent", ">99%"), (0.994, "percent", "99%"),
        (0.0004, "p", "<0.001"), (0.05, "p", "0.050"),
    ],
)  # fmt: skip
def test_numbers_are_written_alike_everywhere(value: float, style: Style, expected: str) -> None:
    assert text(Value(value), style) == expected


def test_undefined_is_a_dash_and_absent_is_nothing() -> None:
    assert text(Value(None), "points") == "–"
    assert text(None, "points") == ""
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


def cells_of(found: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(found))))


@pytest.mark.parametrize(
    "word", ["=1+1", "+1", "-1", "@cmd", "\t=1", "  =1", "\n=1", "\uff1d1", "\uff0d1"]
)
def test_no_text_is_a_formula(word: str) -> None:
    assert cells_of(table([(word,)], Column("c", "c", "text"))) == [["c"], [f"'{word}"]]
    assert cells_of(table([], Column(word, "c", "text"))) == [[f"'{word}"]]
    noted = table([(Value(None, note=word),)], Column("c", "c"))
    assert cells_of(noted) == [["c", "c_note"], ["undefined", f"'{word}"]]


def test_what_begins_with_a_control_character_is_no_formula() -> None:
    assert cells_of(table([("\r=1",), ("\x00=1",)], Column("c", "c", "text")))[1:] == [
        ["[U+000D]=1"],
        ["[U+0000]=1"],
    ]


def test_a_comma_a_quote_and_a_line_stay_in_their_cell() -> None:
    word = 'a, "b"\nc'
    assert cells_of(table([(word,)], Column("c", "c", "text")))[1:] == [[word]]


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_any_text_makes_a_csv_of_the_same_shape(words: list[str]) -> None:
    found = table([tuple(words)], Column("a", "a", "text"), Column("b", "b", "text"))
    to_csv(found).encode()  # lone surrogates too
    (header, row) = cells_of(found)
    assert (header, len(row)) == (["a", "b"], 2)


def test_latex_specials_are_written_out() -> None:
    assert latex_text(r"50% of a_b & {x} $y$ #1 ~^\cmd") == (
        r"50\% of a\_b \& \{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}cmd"
    )
    assert latex_text("a\nb\x00c−1") == "a b[U+0000]c$-$1"


# What LaTeX makes of each command that a name may become.
MEANING = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^",
    r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|", r"\ldots{}": "…",
    r"$\downarrow$": "↓", r"$\uparrow$": "↑", r"$\rightarrow$": "→", r"$\leq$": "≤", r"$\times$": "×",
    "$-$": "−", r"\{": "{", r"\}": "}", r"\$": "$", r"\&": "&", r"\#": "#", r"\%": "%", r"\_": "_",
}  # fmt: skip
COMMAND = re.compile("|".join(map(re.escape, sorted(MEANING, key=len, reverse=True))))


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\\{}$&#%_~^<>|-−…"))))
def test_latex_writes_any_text_and_runs_none_of_it(words: str) -> None:
    written = latex_text(words)
    assert not set("\\{}$&#%_~^<>|\n") & set(COMMAND.sub("", written))
    kept = {"–": "--", "\n": " ", "\t": " "}
    read = COMMAND.sub(lambda command: MEANING[command[0]], written)
    assert read == "".join(kept.get(c, c) for c in visible(words))


def test_a_row_of_latex_does_not_go_on_into_the_command_before_it() -> None:
    r"""`\\` takes a bracket or a star on the next line for its own."""
    for first in ("[3ex] name", "* name"):
        lines = to_latex(table([(first, "x")], *(Column(c, c, "text") for c in "ab"))).splitlines()
        assert lines[9] == "{}" + first + r" & x \\"


def test_latex_says_which_letters_need_another_compiler() -> None:
    def needs(name: str) -> bool:
        return "XeLaTeX" in to_latex(table([(name,)], Column("a", "a", "text")))

    assert not needs("Übung ø − a\x07")
    assert needs("שלום")
    assert needs("\U0001f600")


def test_notes_are_footnotes_with_a_mark_for_each_text() -> None:
    few, none = "1 group: an interval needs 2 or more", "no rating varies: 50%"
    rows: list[tuple[Cell, ...]] = [
        ("a", Value(0.5, note=few), Value(0.25)),
        ("b", Value(0.5, note=few), Value(None, note=f"{none}; {few}")),
    ]
    found = table(rows, Column("m", "m", "text"), Column("x", "x"), Column("y", "y"))
    assert found.footnotes == {few: "a", none: "b"}
    assert cells_of(found) == [
        ["m", "x", "x_note", "y", "y_note"],
        ["a", "0.5", few, "0.25", ""], ["b", "0.5", few, "undefined", f"{none}; {few}"],
    ]  # fmt: skip
    assert to_latex(found).splitlines()[9:] == [
        r"a & 0.50\textsuperscript{a} & 0.25 \\", r"b & 0.50\textsuperscript{a} & --\textsuperscript{b,a} \\",
        r"\bottomrule", r"\end{tabular}",
        rf"\par\smallskip{{\footnotesize\raggedright \textsuperscript{{a}}~{few}\par}}",
        r"\par\smallskip{\footnotesize\raggedright \textsuperscript{b}~no rating varies: 50\%\par}",
        r"\end{table}",
    ]  # fmt: skip


def test_there_are_marks_for_any_number_of_notes() -> None:
    found = table([(Value(0.1, note=f"{i}"),) for i in range(800)], Column("x", "x"))
    marks = list(found.footnotes.values())
    assert (marks[0], marks[25], marks[26], marks[-1]) == ("a", "z", "aa", "adt")
    assert len(set(marks)) == 800


def test_blocks_whose_headings_read_alike_stay_apart() -> None:
    rows: list[tuple[Cell, ...]] = [("a, b", "c", Value(0.1)), ("a", "b, c", Value(0.2))]
    columns = (Column("model", "m", "text"), Column("data", "d", "text"), Column("x", "x"))
    found = table(rows, *columns, section=2)
    assert [(title, len(block)) for title, block in found.blocks()] == [
        ("a, b, c", 1),
        ("a, b, c", 1),
    ]
    assert to_latex(found).count(r"\midrule") == 2


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
    assert to_latex(found).splitlines() == [
        "% A title",
        r"\providecommand{\within}[2]{\begin{tabular}[t]{@{}r@{}}#1\\[-3pt]\tiny #2\end{tabular}}",
        r"\begin{table}[tbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        r"\caption{A title}",
        rf"\label{{tab:{found.name}}}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & bias \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\emph{m, trained on race}} \\",
        r"sft & \within{0.50}{[0.40, 0.60]} \\",
        r"dpo\_only &  \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\emph{m, trained on role}} \\",
        r"sft & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@pytest.fixture(scope="module")
def wide() -> Table:
    """Two blocks of 15 methods and 14 metrics, more than a page holds."""
    columns = (
        Column("model", "model", "text"), Column("method", "method", "text"),
        *(Column(f"x{i}", f"x{i} {'↓↑'[i % 2] if i else ''}".strip()) for i in range(14)),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (f"m{b}", f"r{r}", *(Value(1000 * b + 20 * r + c / 100) for c in range(14)))
        for b in range(2)
        for r in range(15)
    ]
    return table(rows, *columns, section=1)


def test_latex_has_each_value_once_and_the_best_of_each_block_is_bold(wide: Table) -> None:
    pages = to_latex(wide).split(r"\begin{table}")[1:]
    labels = [re.search(r"\\label{tab:(.*?)}", page) for page in pages]
    assert [label and label[1] for label in labels] == [wide.name, f"{wide.name}-2"]
    assert [("(part" in page) for page in pages] == [False, True]
    whole = "".join(pages)
    for row in wide.rows:
        for value in row[2:]:
            assert isinstance(value, Value)
            assert len(re.findall(rf"(?<![\d.]){value.mean:.2f}", whole)) == 1
    for block in (0, 1):
        for c in range(1, 14):
            best = 1000 * block + 20 * (14 if c % 2 else 0) + c / 100
            assert whole.count(rf"\textbf{{{best:.2f}}}") == 1
    assert whole.count(r"\textbf") == 2 * 13  # x0 has no better end


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here: texlive-latex-base")
def test_latex_is_set_on_pages_that_it_fits(wide: Table, tmp_path: Path) -> None:
    """Of `article`, with names that are long, and none that is a command."""
    names = [*filter(str.isascii, ODD), "certification+education+experience+role", "[3ex] a * b"]
    rows: list[tuple[Cell, ...]] = [
        (n, n, n, "finished", Value(0.5, 0.25, 0.75, note=n), 3, n) for n in names
    ]
    columns = [Column(f"c{i}", f"{'very ' * i}long head ↑", "text") for i in range(7)]
    columns[4:6] = Column("x", "bias / spread: reduction, trained ↑"), Column("n", "n", "count")
    long = table(rows, *columns, section=1)
    body = "\\clearpage ".join(map(to_latex, (wide, long)))
    (tmp_path / "t.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    command = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall(r"^(?:Overfull .hbox|LaTeX Warning: Float).*", done.stdout, re.MULTILINE)
