"""A table, and the same table as CSV, as LaTeX, and as the text of its cells."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from debiasdpo.evaluation.metric import Format, Good
from debiasdpo.report.groups import Value

Style = Format | Literal["text", "count", "p"]
Cell = str | int | Value | None  # None: there is no such metric, as no gain of a base model

_ARROWS: dict[Good, str] = {"less": "↓", "more": "↑", "neither": ""}
ABSENT = "–"
UNDEFINED = "undefined"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}",
    "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "\n": " ", "\r": " ",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """`key` names it in the CSV; `title` heads it for people; `style` says how values are written."""

    key: str
    title: str
    style: Style = "points"


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first `section` columns head a block of rows where they change.

    `strong`: rows to set apart, such as the base model's; `folded`: too long to show open.
    """

    name: str  # of its files
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    section: int = 0
    strong: frozenset[int] = frozenset()
    folded: bool = False


def better(label: str, good: Good) -> str:
    """A label with an arrow to where a metric is better: `MAE ↓`."""
    return f"{label} {_ARROWS[good]}".rstrip()


def text(cell: Cell, style: Style) -> str:
    """The cell's number or words, without interval."""
    if cell is None:
        return ABSENT
    if not isinstance(cell, Value):
        return str(cell)
    return UNDEFINED if cell.mean is None else _number(cell.mean, style)


def interval_text(cell: Cell, style: Style) -> str:
    """`[low, high]`, empty where there is none or no width to it."""
    if not isinstance(cell, Value) or cell.low is None or cell.high is None:
        return ""
    if cell.low == cell.high:  # a metric that cannot vary, as the noise floor without sampling
        return ""
    low, high = (_number(v, style).rstrip("%") for v in (cell.low, cell.high))
    return f"[{low}, {high}]"


def sd_text(cell: Cell, style: Style) -> str:
    """`sd 0.01` over seeds, empty for one seed and where seeds agree exactly."""
    if not isinstance(cell, Value) or not cell.sd:
        return ""
    return f"sd {_number(cell.sd, 'percent' if style == 'percent' else 'points').lstrip('+')}"


def signed(value: float) -> str:
    return _number(value, "signed")


def _number(value: float, style: Style) -> str:
    if style == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if style == "percent":
        written = f"{100 * value:.0f}"
        return f"{'0' if written == '-0' else written}%".replace("-", "−")
    written = f"{value:+.2f}" if style == "signed" else f"{value:.2f}"
    if not float(written):
        written = "0.00"
    return written.replace("-", "−")


def section_title(table: Table, row: Sequence[Cell]) -> str:
    """What heads a block of rows: `llama8b, simulated, trained on race`."""
    heads = zip(table.columns[: table.section], row, strict=False)
    return ", ".join(f"trained on {v}" if c.key == "trained_on" else str(v) for c, v in heads)


def to_csv(table: Table) -> str:
    """One column a metric with `_low`, `_high` and `_sd` beside it; undefined metrics say so, absent
    ones are empty. Numbers are written in full."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    wide = {c.key for i, c in enumerate(table.columns) if _has_intervals(table, i)}
    header = []
    for column in table.columns:
        header.append(column.key)
        if column.key in wide:
            header += [f"{column.key}_{what}" for what in ("low", "high", "sd")]
    writer.writerow(header)
    for row in table.rows:
        cells: list[object] = []
        for column, cell in zip(table.columns, row, strict=True):
            more: tuple[float | None, ...] = (None, None, None)
            if isinstance(cell, Value):
                cells.append(UNDEFINED if cell.mean is None else cell.mean)
                more = (cell.low, cell.high, cell.sd)
            else:
                cells.append(_safe(cell))
            if column.key in wide:
                cells += ["" if value is None else value for value in more]
        writer.writerow(cells)
    return stream.getvalue()


def _has_intervals(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows]
    return any(isinstance(c, Value) and (c.low, c.sd) != (None, None) for c in cells)


def _safe(cell: str | int | None) -> object:
    """Text that a spreadsheet would run as a formula is marked as text."""
    if not isinstance(cell, str):
        return "" if cell is None else cell
    cell = cell.replace("\r", " ")  # which csv leaves unquoted, and its readers take for a new line
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@")) else cell


def to_latex(table: Table) -> str:
    r"""A `tabular` for booktabs (`\usepackage{booktabs}`), to be read with \input."""
    shown = table.columns[table.section :]
    kinds = "".join("l" if c.style == "text" else "r" for c in shown)
    lines = [
        f"% {' '.join(table.title.split())}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        " & ".join(latex_text(c.title) for c in shown) + r" \\",
    ]
    heading = None
    for row in table.rows:
        title = section_title(table, row)
        if title != heading:
            heading = title
            lines.append(r"\midrule")
            if title:
                lines.append(
                    rf"\multicolumn{{{len(shown)}}}{{l}}{{\emph{{{latex_text(title)}}}}} \\"
                )
        cells = [
            latex_text(" ".join(filter(None, (text(cell, c.style), interval_text(cell, c.style)))))
            for c, cell in zip(shown, row[table.section :], strict=True)
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_text(value: str) -> str:
    """Plain text for LaTeX: what it would read as a command is written out."""
    return "".join(_LATEX.get(c, c) for c in value if c.isprintable() or c in "\n\r")
