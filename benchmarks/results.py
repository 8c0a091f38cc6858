"""Whether every figure on a page is one of the committed results, and Markdown tables of them.

    python -m benchmarks.results check README.md experiments/*/README.md
    python -m benchmarks.results write README.md
    python -m benchmarks.results table results/main.csv method bias_trained[] reduction_trained[sd]% mae

The first prints what is on a page and in none of the files that it names; the second puts the files' texts
into the page's blocks; the third prints a table of these columns, `[]` with the interval, `[sd]` with the
standard deviation over seeds beside it, `%` as percentages.
A page names its files, relative to itself:

    <!-- results: results/main.csv -->  before a table, each row of which agrees with one of the file's
    <!-- results: results/table.txt -->  before a block of text, which is the file's
    <!-- figures: results/*.csv -->  from here on, for the figures that are in no such table
    <!-- figures: none -->  from here on nothing is a result: settings, examples, what others found

A figure is a decimal number or a percentage; in a table that is held against a file, any number. It agrees
with a value that is the same once rounded to the digits shown.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common

TABLE = re.compile(r"<!-- results: ([^>]*?) -->\n\n?((?:\|.*\n)+)")
BLOCK = re.compile(r"(<!-- results: ([^>]*?) -->\n\n?```\n)((?:.*\n)*?)(```\n)")
LOOSE = re.compile(r"<!-- figures: ([^>]*?) -->")
CODE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])([-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?![\w,.]*\d)( ?%)?")
# No figures: code, formulas, where links lead, names and releases with numbers, how sure intervals are.
PASSED_OVER = re.compile(
    r"`[^`]*`|\$[^$]*\$|(?<=\])\([^)]*\)|<!--.*?-->|arXiv [\d.]+|95 %(?= interval)"
    r"|\b(?:Apache|Llama|Qwen|TRL|Python)[- ]?\d[\w.-]*(?: \d+B)?"
)


class Figure(NamedTuple):
    """As it is shown: 86 % is 0.86, good to half a percent."""

    text: str
    value: float
    error: float

    def is_that_of(self, value: float) -> bool:
        return abs(value - self.value) <= self.error * (1 + 1e-6) + 1e-12


class Row(NamedTuple):
    """Of a file: its words, and its numbers in their order."""

    words: frozenset[str]
    values: tuple[float, ...]


def strays(page: Path) -> list[str]:
    """What is shown on a page and in none of the files that it names for it, with these files."""
    text = page.read_text(encoding="utf-8")
    found = []
    for names, lines in TABLE.findall(text):
        rows = [row for file in _files(page.parent, names) for row in _rows(file)]
        shown = lines.splitlines()[2:]
        found += [f"{names}: {line}" for line in shown if not any(_agree(line, r) for r in rows)]
    found += [
        f"{name}: the block has another text"
        for _, name, block, _ in BLOCK.findall(text)
        if block != _text(page.parent, name)
    ]
    names, values = "", None
    for place, part in enumerate(LOOSE.split(CODE.sub("", TABLE.sub("", text)))):
        if place % 2:
            names = part
            files = () if part == "none" else _files(page.parent, part)
            values = [value for file in files for row in _rows(file) for value in row.values]
        elif names != "none":
            found += [
                f"{names or 'no file is named'}: {figure.text} in: {line}"
                for line in part.splitlines()
                for figure in _figures(line)
                if "." in figure.text or "%" in figure.text
                if not any(_is_told(figure, value) for value in values or ())
            ]
    return found


def write(page: Path) -> None:
    """Put the texts of the files that it names into the page's blocks."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        BLOCK.sub(lambda m: f"{m[1]}{_text(page.parent, m[2])}{m[4]}", text), encoding="utf-8"
    )


def _text(folder: Path, name: str) -> str:
    (file,) = _files(folder, name)
    return file.read_text(encoding="utf-8")


def _files(folder: Path, names: str) -> list[Path]:
    """Raises `FileNotFoundError` for a name that no file has."""
    found = [(name, sorted(folder.glob(name))) for name in names.split()]
    if missing := [name for name, files in found if not files]:
        raise FileNotFoundError(f"{folder}: there is no {', '.join(missing)}")
    return [file for _, files in found for file in files]


def _rows(file: Path) -> Iterator[Row]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        yield Row(frozenset(), tuple(_numbers(json.loads(text))))
    elif file.suffix == ".csv":
        for cells in csv.reader(line for line in text.splitlines() if not line.startswith("#")):
            figures = (figure for cell in cells for figure in _figures(cell))
            yield Row(frozenset(map(_plain, cells)), tuple(figure.value for figure in figures))
    else:
        yield Row(frozenset(), tuple(figure.value for figure in _figures(text)))


def _numbers(value: Any) -> Iterator[float]:
    """All that are anywhere in a JSON value."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield float(value)


def _agree(line: str, row: Row) -> bool:
    """Each cell's words are among the row's, and its figures, in their order, among the row's numbers."""
    for cell in line.strip().strip("|").split("|"):
        figures = list(_figures(cell))
        if figures:
            starts = range(len(row.values) - len(figures) + 1)
            if not any(
                all(f.is_that_of(v) for f, v in zip(figures, row.values[i:], strict=False))
                for i in starts
            ):
                return False
        elif _plain(cell) and _plain(cell) not in row.words:
            return False
    return True


def _figures(text: str) -> Iterator[Figure]:
    """The numbers of a text. Where one is a percentage, so are those in brackets behind it."""
    text, percent = PASSED_OVER.sub(" ", text), False
    for match in NUMBER.finditer(text):
        bracketed = text.rfind("[", 0, match.start()) > text.rfind("]", 0, match.start())
        percent = bool(match[2]) or (percent and bracketed)
        number = Decimal(match[1].replace(",", "").replace("−", "-"))
        exponent = int(number.as_tuple().exponent) - (2 if percent else 0)
        yield Figure(match[0], float(number) / (100 if percent else 1), 0.5 * 10.0**exponent)


def _is_told(figure: Figure, value: float) -> bool:
    """Whatever the sign, as of a reduction: down by 90 %. Files have percentages as shares or as such."""
    said = figure._replace(value=abs(figure.value))
    return said.is_that_of(abs(value)) or ("%" in said.text and said.is_that_of(abs(value) / 100))


def _plain(cell: str) -> str:
    """Its words, without emphasis and what is said of them in brackets."""
    return re.sub(r"\*\*|`|\s+\([^)]*\)$", "", cell.strip()).strip()


def table(file: Path, columns: Sequence[str]) -> str:
    """Some columns of a CSV file as Markdown: `key`, `key[]` with its interval, `key[sd]` with the standard
    deviation over seeds too, `key[]%` in percent."""
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if line[:1] != "#")
    rows = list(csv.DictReader(lines))
    return common.table(
        [_key(column) for column in columns],
        [[_shown(row, column) for column in columns] for row in rows],
    )


def _key(column: str) -> str:
    return column.rstrip("%").partition("[")[0]


def _shown(row: dict[str, str], column: str) -> str:
    key, percent = _key(column), column.endswith("%")

    def written(name: str) -> str:
        try:
            value = float(row[name])
        except ValueError:
            return row[name]
        if row[name].isdigit():
            return row[name]
        return f"{100 * value:z.0f}" if percent else f"{value:z.2f}"

    def shown(name: str) -> str:
        text = written(name)
        return f"{text} %" if percent and re.search(r"\d", text) else text

    text = shown(key)
    if not re.search(r"\d", text):
        return text
    interval = [written(f"{key}_{end}") for end in ("low", "high")] if "[" in column else []
    if all(interval) and interval:
        text += f" [{', '.join(interval)}]"
    sd = shown(f"{key}_sd") if "[sd]" in column else ""
    return f"{text}, sd {sd}" if sd else text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (
        ("check", "print figures that are in no file of results"),
        ("write", "put the files' texts into the pages' blocks"),
    ):
        commands.add_parser(name, help=does).add_argument("pages", nargs="+", type=Path)
    tables = commands.add_parser("table", help="print columns of a CSV file as Markdown")
    tables.add_argument("file", type=Path)
    tables.add_argument(
        "columns",
        nargs="+",
        help="key, key[] with its interval, key[sd] over seeds, key[]%% in percent",
    )
    args = parser.parse_args(argv)
    if args.command == "table":
        print(table(args.file, args.columns))
        return 0
    if args.command == "write":
        for page in args.pages:
            write(page)
    found = [f"{page}: {stray}" for page in args.pages for stray in strays(page)]
    print("\n".join(found) or "Every figure is in a file of results.")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
