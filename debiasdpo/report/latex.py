"""A table as LaTeX, whatever the names in it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from debiasdpo.config.shown import visible
from debiasdpo.report.formats import Cell, Style, Table, interval_text, text
from debiasdpo.report.values import Value

_WRITTEN = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}",
    "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    "≤": r"$\leq$", "×": r"$\times$", "\n": " ", "\t": " ",
}  # fmt: skip
_LATIN = 0x180  # what pdfLaTeX has letters for


# What a page of a journal holds: columns beside those that name the row, rows of all parts of a table, and
# characters of a column of words, beyond which its lines are broken.
_COLUMNS, _ROWS, _WORDS = 6, 36, 24

Part = tuple[Sequence[int], Sequence[int]]  # which columns and which rows of the table


def to_latex(table: Table) -> str:
    r"""One `table` or more for booktabs (`\usepackage{booktabs}`), each of which fits a page: many columns
    stand in parts below each other, many rows in tables behind each other.

    With caption, label and notes; the best value of a metric is bold in each block of rows, where it has a
    better end. To be read with \input.
    """
    body = "\n".join(_floats(table))
    head = f"% {' '.join(visible(table.title).split())}\n"
    if any(ord(c) >= _LATIN for c in body):
        head += "% Needs XeLaTeX or LuaLaTeX, and a font for all of its letters.\n"
    return head + body


def _floats(table: Table) -> Iterator[str]:
    pages = [list(parts) for parts in _pages(_parts(table))]
    for number, parts in enumerate(pages):
        more = f" (part {number + 1} of {len(pages)})" if number else ""
        yield r"\begin{table}[tbp]"
        yield r"\centering\footnotesize"
        yield rf"\caption{{{latex_text(table.title)}{more}}}"
        yield rf"\label{{tab:{table.name}{f'-{number + 1}' if number else ''}}}"
        for below, (columns, rows) in enumerate(parts):
            yield from [r"\par\medskip"] if below else []
            yield from _tabular(table, columns, rows)
        if number == len(pages) - 1:
            for note, mark in table.footnotes.items():
                said = rf"\textsuperscript{{{mark}}}~{latex_text(note)}"
                yield rf"\par\smallskip{{\footnotesize\raggedright {said}\par}}"
        yield r"\end{table}"
        yield ""


def _parts(table: Table) -> Iterator[Part]:
    """The table in pieces that fit the width; the columns that name a row stand in each."""
    shown = range(table.section, len(table.columns))
    names = list(itertools.takewhile(lambda c: table.columns[c].style == "text", shown))[:2]
    others = [column for column in shown if column not in names]
    for rows in _cut(range(len(table.rows)), _ROWS) or [()]:
        for columns in _cut(others, _COLUMNS) or [()]:
            yield [*names, *columns], rows


def _cut(items: Sequence[int], size: int) -> list[Sequence[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _pages(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """As many parts below each other as fit the height."""
    page: list[Part] = []
    for part in parts:
        if page and sum(len(rows) for _, rows in [*page, part]) > _ROWS:
            yield page
            page = []
        page.append(part)
    if page:
        yield page


def _tabular(table: Table, columns: Sequence[int], rows: Sequence[int]) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{''.join(_kind(table, c) for c in columns)}}}"
    yield r"\toprule"
    yield " & ".join(latex_text(table.columns[c].title) for c in columns) + r" \\"
    for title, block in table.blocks():
        mine = [number for number in block if number in rows]
        if not mine:
            continue
        yield r"\midrule"
        if title:
            yield rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{latex_text(title)}}}}} \\"
        best = {c: _best(table, block, c) for c in columns}
        for number in mine:
            cells = [
                _cell(table, table.rows[number][c], table.columns[c].style, best[c])
                for c in columns
            ]
            # \\ would take a bracket or a star on the next line for its own.
            guard = "{}" if cells[0].startswith(("[", "*")) else ""
            yield guard + " & ".join(cells) + r" \\"
    yield from (r"\bottomrule", r"\end{tabular}")


def _kind(table: Table, column: int) -> str:
    """Of a column, as `tabular` has it."""
    style = table.columns[column].style
    longest = max((len(text(row[column], style)) for row in table.rows), default=0)
    if style != "text":
        return "r"
    return r"p{0.25\linewidth}" if longest > _WORDS else "l"


def _best(table: Table, block: Iterable[int], column: int) -> str:
    """How the best value of a metric is written, of several in a block; empty where none is better."""
    title, style = table.columns[column].title, table.columns[column].style
    cells = [cell for i in block if isinstance(cell := table.rows[i][column], Value)]
    values = [cell.mean for cell in cells if cell.mean is not None]
    if len(values) < 2 or not title.endswith(("↓", "↑")):
        return ""
    return text(Value(min(values) if title.endswith("↓") else max(values)), style)


def _cell(table: Table, cell: Cell, style: Style, best: str) -> str:
    """An interval stands below its value, so that the column is no wider than it."""
    value, interval = latex_text(text(cell, style)), latex_text(interval_text(cell, style))
    if best and text(cell, style) == best:
        value = rf"\textbf{{{value}}}"
    marks = ",".join(table.marks(cell))
    said = rf"{value}\textsuperscript{{{marks}}}" if marks else value
    return rf"\shortstack[r]{{{said}\\\tiny {interval}}}" if interval else said


def latex_text(value: str) -> str:
    """Plain text for LaTeX: what it would read as a command is written out."""
    return "".join(_WRITTEN.get(c, c) for c in visible(value))
