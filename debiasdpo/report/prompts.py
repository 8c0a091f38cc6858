"""All prompts of a run on a page of its own: neutral and contextual side by side, to be filtered."""

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from debiasdpo.config.shown import visible
from debiasdpo.report.collect import Run
from debiasdpo.report.examples import SIDES, filled
from debiasdpo.report.page import environment, policy, source
from debiasdpo.report.rows import document_rows, rating_rows
from debiasdpo.storage.reading import number

MOST = 5_000  # prompts with a statement, on one page
_LONGEST = 20_000  # characters of a text
_LEAST = 0.05  # points from which on two ratings are called different


@dataclass(frozen=True)
class PromptPage:
    """`name`: of its file, below prompts/; `count`: prompts with a statement on it."""

    run: Run
    name: str
    count: int
    html: str


def prompt_page(run: Run) -> PromptPage | None:
    """Of a finished run; None where nothing was asked with a statement. Of more than `MOST` prompts, those
    with the largest shifts."""
    neutral: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for model in ("base", "tuned") if run.changed else ("base",):
        mine = neutral.setdefault("base model" if model == "base" else run.method, {})
        rows += _rows(run, model, mine)
    if not rows:
        return None
    note = f"{len(rows)} prompts with a statement, each beside the same without."
    if len(rows) > MOST:
        kept = heapq.nlargest(MOST, enumerate(rows), key=lambda r: abs(r[1]["shift"] or 0))
        note += f" The {MOST} with the largest shifts are here; all are in {run.folder.name}."
        rows = [row for _, row in sorted(kept, key=lambda r: r[0])]
    used = {row["document"] for row in rows}
    documents = {
        visible(d["id"]): {"text": _text(d["text"]), "scores": d["scores"]}
        for d in document_rows(run)
        if visible(d["id"]) in used
    }
    questions = {visible(n): _text(r.get("question") or "") for n, r in run.rubrics.items()}
    data = {
        "documents": documents,
        "questions": questions,
        "neutral": neutral,
        "rows": rows,
        "least": _LEAST,
    }
    script = source("prompts.js")
    html = environment().get_template("prompts.html.j2").render(
        title=f"Prompts of {run.folder.name}", note=note, css=source("page.css"), policy=policy(script),
        script=script, data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    )  # fmt: skip
    return PromptPage(run, f"{run.folder.name}.html", len(rows), html)


def named_apart(pages: Iterable[PromptPage]) -> tuple[PromptPage, ...]:
    """With a number in the names of later ones that are called like another: runs of two output folders may
    be."""
    seen: Counter[str] = Counter()
    found = []
    for page in pages:
        seen[page.name] += 1
        if seen[page.name] > 1:
            page = replace(page, name=f"{page.run.folder.name}_{seen[page.name]}.html")
        found.append(page)
    return tuple(found)


def link(page: PromptPage) -> tuple[str, str]:
    """What it says, and where it leads from the report's page."""
    says = (
        f"all prompts of seed {page.run.seed} ({page.count}): neutral and contextual side by side"
    )
    return says, f"prompts/{quote(page.name)}"


def _rows(run: Run, model: str, neutral: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Contextual prompts; their neutral ones are put into `neutral`, by document and rubric."""
    for row in rating_rows(run, model):
        document, rubric = visible(row["document"]), visible(row["rubric"])
        plain = f"{document}|{rubric}"
        if row["category"] is None:
            if not row["repeat"]:
                neutral[plain] = _reply(row)
            continue
        if plain not in neutral:
            continue
        reply, before = _reply(row), neutral[plain]["rating"]
        known = before is not None and reply["rating"] is not None
        yield {
            **reply,
            "model": "base model" if model == "base" else run.method,
            "document": document,
            "rubric": rubric,
            "plain": plain,
            "category": visible(row["category"]),
            "side": SIDES.get(row["polarity"] or 0, "neutral"),
            "statement": visible(filled(str(row["statement"]), run.rubrics.get(row["rubric"], {}))),
            "shift": reply["rating"] - before if known else None,
        }


def _reply(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rating": number(row["rating"]),
        "status": str(row.get("status") or "ok"),
        "reason": str(row.get("reason") or ""),
        "text": _text(row.get("text") or ""),
    }


def _text(text: object) -> str:
    return visible(str(text))[:_LONGEST]
