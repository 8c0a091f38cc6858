"""A table as LaTeX, whatever the names in it."""

from debiasdpo.config.shown import visible
from debiasdpo.report.formats import Cell, Style, Table, interval_text, text

_WRITTEN = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}",
    "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    "≤": r"$\leq$", "×": r"$\times$", "\n": " ", "\t": " ",
}  # fmt: skip
_LATIN = 0x180  # what pdfLaTeX has letters for


def to_latex(table: Table) -> str:
    r"""A `tabular` for booktabs (`\usepackage{booktabs}`) with its notes, to be read with \input."""
    shown = table.columns[table.section :]
    kinds = "".join("l" if c.style == "text" else "r" for c in shown)
    lines = [
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        " & ".join(latex_text(c.title) for c in shown) + r" \\",
    ]
    for title, rows in table.blocks():
        lines.append(r"\midrule")
        if title:
            lines.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{\emph{{{latex_text(title)}}}}} \\")
        for _, row in rows:
            cells = [
                _cell(table, cell, c.style)
                for c, cell in zip(shown, row[table.section :], strict=True)
            ]
            # \\ would take a bracket or a star on the next line for its own.
            guard = "{}" if cells[0].startswith(("[", "*")) else ""
            lines.append(guard + " & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    for note, mark in table.footnotes.items():
        lines.append(
            rf"\par\smallskip{{\footnotesize\raggedright\textsuperscript{{{mark}}}~{latex_text(note)}\par}}"
        )
    body = "\n".join([*lines, ""])
    head = f"% {' '.join(visible(table.title).split())}\n"
    if any(ord(c) >= _LATIN for c in body):
        head += "% Needs XeLaTeX or LuaLaTeX, and a font for all of its letters.\n"
    return head + body


def _cell(table: Table, cell: Cell, style: Style) -> str:
    said = latex_text(" ".join(filter(None, (text(cell, style), interval_text(cell, style)))))
    marks = ",".join(table.marks(cell))
    return rf"{said}\textsuperscript{{{marks}}}" if marks else said


def latex_text(value: str) -> str:
    """Plain text for LaTeX: what it would read as a command is written out."""
    return "".join(_WRITTEN.get(c, c) for c in visible(value))
