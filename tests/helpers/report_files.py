"""Finished run folders written by hand: any names, any ratings, no model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from debiasdpo.evaluation import catalog
from tests.helpers.run_folders import write, write_rows

SCALE = {"question": "How clear?", "low": 1, "high": 5}
RUBRICS = {"clarity": SCALE}

# What breaks what shows it, unless it is taken for text.
ODD = (
    "<script>document.title = 'run'</script>",
    "</svg><img src='https://example.invalid/x' onerror=alert(1)>",
    "שלום עולם 12", "bell\x07 escape\x1b[31mred\x1b[0m nul\x00",
    "\u202eturned\u202c", "lone \ud800", "a/b", "a_b",
    "trained", "all", "two\nlines", "n" * 200, "$x^2$ \\frac{1}{0} % # _ ~ & |", "=1+1", "👩‍🏫🏽 🇨🇭",
    "{{ 7*7 }} {% raw %} ${oc.env:HOME}", "]]> <!-- --> &amp; \"q\" 'q'",
)  # fmt: skip

Rate = Callable[[str, int, str | None], float | None]  # model, number of the document, category


def metrics(categories: Sequence[str], rubrics: Sequence[str]) -> dict[str, Any]:
    """A metrics.json with every key of the list: 0.4 for the base model, 0.1 for the tuned one, 0.5 else; all
    ratings could be read."""
    names: dict[str, list[str]] = {
        "category": list(categories),
        "rubric": list(rubrics),
        "group": [],
    }
    found: dict[str, Any] = {}
    for pattern in catalog.all_keys():
        each = pattern.split("/")[0]
        for name in names[each] if "*" in pattern else [""]:
            key = pattern.replace("*", name)
            value = {"base": 0.4, "tuned": 0.1}.get(key.rpartition("/")[2], 0.5)
            value = 1.0 if "parse_rate" in key else value
            found |= {key: value, f"{key}_ci": [value / 2, value * 2]}
            found[f"{key}_of"] = {"documents": 4, "groups": 4, "prompts": 8}
    return found


def write_run(
    folder: Path,
    rate: Rate = lambda model, number, category: 2.0 + number % 3 + (category is not None),
    *,
    model: str = "tiny",
    data: str = "essays",
    method: str = "sft",
    seed: int = 0,
    trained: str = "race",
    categories: Sequence[str] = ("age", "race"),
    rubric: str = "clarity",
    documents: Sequence[str] = ("a", "b", "c", "d"),
    text: str = "An essay.",
    statement: str = "A statement.",
    reply: str = "A reply.",
    config: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
) -> Path:
    """One run of two models that rated each document on one rubric, plain and with a statement of each
    category. `more`: of metrics.json; `config`, `status`: other entries of these files."""
    settings = {
        "seed": seed, "model": {"path": model}, "context": {"train": {trained: True}},
        "data": {"source": "table", "rubrics": {rubric: SCALE}},
        "method": {"name": method, "sft": ["contextual"]},
        "rate": {"readout": "text"}, "audit": {},
    }  # fmt: skip
    (folder / "documents").mkdir(parents=True)
    write(folder / "config.yaml", {**settings, **(config or {})})
    write(folder / "metrics.json", {**metrics(categories, [rubric]), **(more or {})})
    choices = {"model": model, "data": data}
    write(folder / "status.json", {"state": "finished", "choices": choices, **(status or {})})
    write_rows(
        folder / "documents" / "documents.jsonl",
        [
            {"part": "test", "id": d, "group": f"group of {d}", "text": text, "scores": {rubric: 1.0 + i % 5}}
            for i, d in enumerate(documents)
        ],
    )  # fmt: skip
    for which in ("base", "tuned"):
        write_rows(folder / f"ratings_{which}.jsonl", [
            {
                "key": f"{i}|{rubric}|{category}", "document": d, "rubric": rubric, "category": category,
                "polarity": category and 1, "statement": category and statement, "repeat": 0, "text": reply,
                "rating": rate(which, i, category),
            }
            for i, d in enumerate(documents) for category in (None, *categories)
        ])  # fmt: skip
    return folder


def keep_step(folder: Path, step: int) -> None:
    """Of the training of a run; 0: none was good enough."""
    (folder / "training").mkdir(exist_ok=True)
    write(folder / "training/best_step.json", {"step": step})


def write_odd_runs(folder: Path) -> Path:
    """Runs whose every name and text is odd; the names of model and data of two of them join to the same."""
    everywhere: dict[str, Any] = {
        "categories": ODD, "trained": ODD[2], "rubric": ODD[0],
        "documents": [f"{i} {odd}" for i, odd in enumerate(ODD)],
        "text": "\n".join(ODD), "statement": " ".join(ODD), "reply": "\r\n".join(ODD),
        "more": {"bias/tuned_note": "".join(ODD), "accuracy/spearman/tuned": None},
    }  # fmt: skip
    write_run(folder / "one", model="tiny", data="grade5_essays", **everywhere)
    write_run(folder / "two", model="tiny_grade5", data="essays", **everywhere)
    write_run(folder / "three", model=ODD[1], data=ODD[3], **everywhere)
    error = {"state": "failed", "error": "".join(ODD), "stage": ODD[0]}
    write_run(folder / "four", model=ODD[11], data=ODD[11], status=error, **everywhere)
    return folder
