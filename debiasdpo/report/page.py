"""The report as one HTML page that needs nothing but itself."""

import base64
import functools
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from debiasdpo.config.shown import counted, one_line, visible
from debiasdpo.evaluation.verdict import Verdict
from debiasdpo.report import formats
from debiasdpo.report.collect import Run
from debiasdpo.report.drawing import Drawing
from debiasdpo.report.examples import Example
from debiasdpo.report.formats import Table

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Detail:
    """One group: its figures, its worst examples under why they were chosen, and pages of all prompts."""

    title: str
    summary: str
    notes: tuple[str, ...]  # of what the summary says
    figures: tuple[Drawing, ...]
    examples: tuple[tuple[str, tuple[Example, ...]], ...]
    paragraph: str  # for the methods section of a paper
    prompts: tuple[tuple[str, str], ...]  # what a link says, and where it leads


@dataclass(frozen=True)
class Section:
    """A part of the page. `remark`: what is to be known before reading on."""

    id: str
    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()
    details: tuple[Detail, ...] = ()
    remark: str = ""
    lead: str = ""  # the same in a paragraph, before all else
    verdicts: tuple[Verdict, ...] = ()


def render(sections: Sequence[Section], runs: Sequence[Run], title: str) -> str:
    """The page's HTML. All text in it is made visible and escaped, but for the figures, whose own text
    already is."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            made=time.strftime("%Y-%m-%d %H:%M"),
            count=counted(len(runs), "run", "runs"),
            rated=not all(run.elicits for run in runs),
            states=Counter(run.state for run in runs).most_common(),
            page=[section for section in sections if _holds_something(section)],
            css=source("page.css"),
            script=source("page.js"),
            policy=policy(source("page.js")),
        )
    )


@functools.cache
def environment() -> "Environment":
    """Templates of this folder, in which all text is made visible and escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    helpers: dict[str, Callable[..., object]] = {
        "text": formats.text,
        "interval_text": formats.interval_text,
        "sd_text": formats.sd_text,
        "signed": formats.signed,
        "sorted_by": formats.sorted_by,
    }
    found.globals.update(helpers)
    found.filters["lines"] = lambda text: _Lines(visible(text))
    return found


@functools.cache
def source(file: str) -> str:
    """The text of a file of this folder."""
    return (_HERE / file).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """What a page may do: run this one script, and ask for nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:;"
        " form-action 'none'; base-uri 'none'"
    )


def _holds_something(section: Section) -> bool:
    tables = any(table.rows for table in section.tables)
    return tables or bool(section.figures or section.details or section.verdicts)


class _Lines(str):
    """Text that keeps its line breaks."""


def _shown(value: object) -> object:
    """What a template puts into the page: names on one line; what is marked as HTML stays as it is."""
    return one_line(value) if type(value) is str else value
