"""A report as files: a page, and beside it the tables, figures and pages of prompts."""

import re
from pathlib import Path

from debiasdpo.report.build import Report
from debiasdpo.report.drawing import svg_file
from debiasdpo.report.formats import to_csv
from debiasdpo.report.latex import to_latex
from debiasdpo.storage.files import read_json, write_json, write_text

_WRITTEN = ".written.json"  # names of files that the last report wrote


def _written_before(folder: Path) -> list[str]:
    try:
        names = read_json(folder / _WRITTEN)
    except (OSError, ValueError):
        return []
    names = names if isinstance(names, list) else []
    return [n for n in names if re.fullmatch(r"(tables|figures|prompts)/[^/]+", str(n))]


def write(report: Report, folder: Path) -> None:
    """index.html, tables/, figures/ and prompts/. What an earlier report left in these goes, of which it has
    kept a list; files of others stay."""
    names = [
        *(f"tables/{table.name}{ending}" for table in report.tables for ending in (".csv", ".tex")),
        *(f"figures/{one.name}{ending}" for one in report.figures for ending in (".svg", ".png")),
        *(f"prompts/{asked.name}" for asked in report.prompts),
    ]
    for old in _written_before(folder):
        (folder / old).unlink(missing_ok=True)
    write_json(folder / _WRITTEN, sorted(names))
    for table in report.tables:
        write_text(folder / "tables" / f"{table.name}.csv", to_csv(table))
        write_text(folder / "tables" / f"{table.name}.tex", to_latex(table))
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for drawing in report.figures:
        (folder / "figures" / f"{drawing.name}.svg").write_text(svg_file(drawing), "utf-8")
        (folder / "figures" / f"{drawing.name}.png").write_bytes(drawing.png)
    for asked in report.prompts:
        write_text(folder / "prompts" / asked.name, asked.html)
    write_text(folder / "index.html", report.page)
