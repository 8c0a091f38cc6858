"""The report as one HTML page that needs nothing but itself."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from debiasdpo.config.shown import one_line, visible
from debiasdpo.evaluation.verdict import Verdict
from debiasdpo.report import formats
from debiasdpo.report.collect import Run
from debiasdpo.report.drawing import Drawing
from debiasdpo.report.examples import Example
from debiasdpo.report.formats import Table

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Detail:
    """One group: its figures, and its worst examples under why they were chosen."""

    title: str
    summary: str
    notes: tuple[str, ...]  # of what the summary says
    figures: tuple[Drawing, ...]
    examples: tuple[tuple[str, tuple[Example, ...]], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page. `remark`: what is to be known before reading on."""

    id: str
    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()
    details: tuple[Detail, ...] = ()
    remark: str = ""
    verdicts: tuple[Verdict, ...] = ()


def render(sections: Sequence[Section], runs: Sequence[Run], title: str) -> str:
    """The page's HTML. All text in it is made visible and escaped, but for the figures, whose own text
    already is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    helpers: dict[str, Callable[..., object]] = {
        "text": formats.text,
        "interval_text": formats.interval_text,
        "sd_text": formats.sd_text,
        "signed": formats.signed,
    }
    environment.globals.update(helpers)
    environment.filters["lines"] = lambda text: _Lines(visible(text))
    return environment.get_template("page.html.j2").render(
        title=title,
        made=time.strftime("%Y-%m-%d %H:%M"),
        count="1 run" if len(runs) == 1 else f"{len(runs)} runs",
        states=Counter(run.state for run in runs).most_common(),
        page=[section for section in sections if _holds_something(section)],
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
    )


def _holds_something(section: Section) -> bool:
    return bool(section.tables or section.figures or section.details or section.verdicts)


class _Lines(str):
    """Text that keeps its line breaks."""


def _shown(value: object) -> object:
    """What a template puts into the page: names on one line; what is marked as HTML stays as it is."""
    return one_line(value) if type(value) is str else value
