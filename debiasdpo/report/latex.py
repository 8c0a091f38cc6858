"""A table as LaTeX, whatever the names in it."""

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from debiasdpo.config.shown import visible
from debiasdpo.report.formats import Cell, Table, interval_text, text
from debiasdpo.report.values import Value

_WRITTEN = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}",
    "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    "≤": r"$\leq$", "×": r"$\times$", "\n": " ", "\t": " ",
}  # fmt: skip
_LATIN = 0x180  # what pdfLaTeX has letters for


# What a page of `article` holds, in points, captions and notes left out. Journals' pages hold more.
_WIDTH, _HEIGHT = 345.0, 480.0
_SPARE = 30.0  # of a page, for notes
_GAP = 8.0  # between two columns
_LETTER, _SMALL = 4.7, 2.9  # width of a bold letter of \footnotesize and of \tiny
_LINE, _UNDER = 9.5, 7.0  # height of a line, and of an interval below its value
_HEAD = 14  # characters of a line of a column's head
_WORDS, _BROKEN = (
    24,
    86.0,
)  # characters of a column of words, beyond which it is so wide and its lines are broken
_RULES, _RULE = 40.0, 6.0  # height of a piece's rules and head, and of a rule between blocks
_LONG = 16  # characters of a word, beyond which it is broken
_PIECE = re.compile(
    rf"[^\W_]{{1,{_LONG}}}[\W_]*|[\W_]+"
)  # of a word, behind which a line may be broken

# An interval below its value, which stands on the line.
_OVER = (
    r"\providecommand{\within}[2]"
    r"{\begin{tabular}[t]{@{}r@{}}#1\\[-3pt]\tiny #2\end{tabular}}"
)
Part = tuple[Sequence[int], Sequence[int]]  # which columns and which rows of the table


def to_latex(table: Table) -> str:
    r"""One `table` or more for booktabs (`\usepackage{booktabs}`), each of which fits a page: columns beyond
    its width stand in parts below each other, rows beyond its height in tables behind each other.

    With caption, label and notes; the best value of a metric is bold in each block of rows, where it has a
    better end and the rows compete. To be read with \input.
    """
    body = "\n".join(_floats(table))
    head = f"% {' '.join(visible(table.title).split())}\n"
    if r"\within{" in body:
        head += f"{_OVER}\n"
    if any(ord(c) >= _LATIN for c in body):
        head += "% Needs XeLaTeX or LuaLaTeX, and a font for all of its letters.\n"
    return head + body


def _floats(table: Table) -> Iterator[str]:
    pages = [list(parts) for parts in _pages(table)]
    for number, parts in enumerate(pages):
        more = f" (part {number + 1} of {len(pages)})" if number else ""
        yield r"\begin{table}[tbp]"
        yield rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{_GAP / 2:g}pt}}"
        yield rf"\caption{{{latex_text(table.title)}{more}}}"
        yield rf"\label{{tab:{table.name}{f'-{number + 1}' if number else ''}}}"
        for below, (columns, rows) in enumerate(parts):
            yield from [r"\par\medskip"] if below else []
            yield from _tabular(table, columns, rows)
        if number == len(pages) - 1:
            for note, mark in table.footnotes.items():
                said = rf"\textsuperscript{{{mark}}}~{_breakable(note)}"
                yield rf"\par\smallskip{{\footnotesize\raggedright {said}\par}}"
        yield r"\end{table}"
        yield ""


def _pages(table: Table) -> Iterator[list[Part]]:
    """The table in pieces that fit the width, as many below each other as fit the height; the columns that
    name a row stand in each piece."""
    shown = table.shown
    names = list(itertools.takewhile(lambda c: table.columns[c].style == "text", shown))[:2]
    widths = {column: _width(table, column) for column in shown}
    others = [(column, widths[column]) for column in shown if column not in names]
    heights = [(row, _height(table, row)) for row in range(len(table.rows))]
    for title, block in table.blocks():
        first, height = heights[block[0]]
        heights[first] = first, height + _RULE + (_lines(title, _WIDTH / 2) if title else 0)
    page: list[Part] = []
    left = _HEIGHT
    for rows in _filled(heights, _HEIGHT - _RULES):
        high = _RULES + sum(heights[row][1] for row in rows)
        for columns in _filled(others, _WIDTH - sum(widths[name] for name in names)):
            if page and high > left:
                yield page
                page, left = [], _HEIGHT
            page.append(([*names, *columns], rows))
            left -= high
    yield page
    if sum(_lines(note, _WIDTH) for note in table.footnotes) > left + _SPARE:
        yield []  # of the notes alone


def _filled(items: Iterable[tuple[int, float]], room: float) -> list[list[int]]:
    """Numbers in runs of which each fits the room by its sizes; one run where there is nothing."""
    found: list[list[int]] = [[]]
    left = room
    for number, size in items:
        if found[-1] and size > left:
            found.append([])
            left = room
        found[-1].append(number)
        left -= size
    return found


def _width(table: Table, column: int) -> float:
    """Of a column, in points, about."""
    if _is_broken(table, column):
        return _BROKEN + _GAP
    style = table.columns[column].style
    sizes = [_LETTER * len(line) for line in _head(table, column)]
    for row in table.rows:
        sizes.append(_LETTER * len(text(row[column], style)))
        sizes.append(_SMALL * len(interval_text(row[column], style)))
    return max(sizes) + _GAP


def _height(table: Table, row: int) -> float:
    """Of a row, in points, about."""
    heights = [_LINE]
    for column in table.shown:
        cell, style = table.rows[row][column], table.columns[column].style
        if interval_text(cell, style):
            heights.append(_LINE + _UNDER)
        if _is_broken(table, column):
            heights.append(_lines(text(cell, style), _BROKEN))
    return max(heights)


def _lines(words: str, width: float) -> float:
    """The height of words in lines of a width, in points, about."""
    return math.ceil(1.2 * _LETTER * len(visible(words)) / width) * _LINE


def _is_broken(table: Table, column: int) -> bool:
    style = table.columns[column].style
    cells = (text(row[column], style) for row in table.rows)
    return style == "text" and max(map(len, cells), default=0) > _WORDS


def _head(table: Table, column: int) -> list[str]:
    """The lines of a column's head."""
    return textwrap.wrap(visible(table.columns[column].title), _HEAD) or [""]


def _tabular(table: Table, columns: Sequence[int], rows: Sequence[int]) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{''.join(_kind(table, c) for c in columns)}}}"
    yield r"\toprule"
    yield " & ".join(_stacked(table, c) for c in columns) + r" \\"
    wide = max(sum(_width(table, c) for c in columns) - _GAP, _WIDTH / 2)
    for title, block in table.blocks():
        mine = [number for number in block if number in rows]
        if not mine:
            continue
        yield r"\midrule"
        if title:
            said = rf"\emph{{{latex_text(title)}}}"
            if _LETTER * len(title) > wide:
                said = _boxed(0.9 * wide, rf"\emph{{{_breakable(title)}}}")
            yield rf"\multicolumn{{{len(columns)}}}{{l}}{{{said}}} \\"
        best = {c: _best(table, block, c) for c in columns}
        for number in mine:
            cells = [_cell(table, table.rows[number][c], c, best[c]) for c in columns]
            # \\ would take a bracket or a star on the next line for its own.
            guard = "{}" if cells[0].startswith(("[", "*")) else ""
            yield guard + " & ".join(cells) + r" \\"
    yield from (r"\bottomrule", r"\end{tabular}")


def _kind(table: Table, column: int) -> str:
    """Of a column, as `tabular` has it."""
    return "l" if table.columns[column].style == "text" else "r"


def _stacked(table: Table, column: int) -> str:
    """A column's head, its lines on top of each other."""
    lines = [latex_text(line) for line in _head(table, column)]
    side = "l" if table.columns[column].style == "text" else "r"
    stack = r"\\".join(lines)
    return stack if len(lines) == 1 else rf"\shortstack[{side}]{{{stack}}}"


def _best(table: Table, block: Iterable[int], column: int) -> str:
    """How the best value of a metric is written, of several in a block; empty where none is better."""
    title, style = table.columns[column].title, table.columns[column].style
    cells = [cell for i in block if isinstance(cell := table.rows[i][column], Value)]
    values = [cell.mean for cell in cells if cell.mean is not None]
    if not table.compete or len(values) < 2 or not title.endswith(("↓", "↑")):
        return ""
    return text(Value(min(values) if title.endswith("↓") else max(values)), style)


def _cell(table: Table, cell: Cell, column: int, best: str) -> str:
    """An interval stands below its value, so that the column is no wider than it."""
    style = table.columns[column].style
    if _is_broken(table, column):
        return _boxed(_BROKEN, _breakable(text(cell, style)))
    value, interval = latex_text(text(cell, style)), latex_text(interval_text(cell, style))
    if best and text(cell, style) == best:
        value = rf"\textbf{{{value}}}"
    marks = ",".join(table.marks(cell))
    said = rf"{value}\textsuperscript{{{marks}}}" if marks else value
    return rf"\within{{{said}}}{{{interval}}}" if interval else said


def _boxed(width: float, words: str) -> str:
    """Lines of words, the first of which stands on the line; `width` in points."""
    return rf"\parbox[t]{{{width:.0f}pt}}{{\raggedright {words}\strut}}"


def _breakable(value: str) -> str:
    """Words for a narrow column: within a long one a line may be broken, behind signs if it has any."""
    words = visible(value).split()
    pieces = (_PIECE.findall(word) if len(word) > _LONG else [word] for word in words)
    return " ".join(r"\allowbreak{}".join(map(latex_text, found)) for found in pieces)


def latex_text(value: str) -> str:
    """Plain text for LaTeX: what it would read as a command is written out."""
    return "".join(_WRITTEN.get(c, c) for c in visible(value))
