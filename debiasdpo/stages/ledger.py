"""ledger.json: what a job's replies cost at an endpoint, computed from its rows, by the prices of today."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from debiasdpo.config.model import EndpointConfig
from debiasdpo.jobs.job import Job
from debiasdpo.raters.endpoint.prices import BATCH, PriceList
from debiasdpo.raters.endpoint.probe import load
from debiasdpo.raters.endpoint.rater import REPLIES, replies_folder
from debiasdpo.raters.endpoint.response import Usage
from debiasdpo.stages.elicitation import JUDGED
from debiasdpo.storage.files import JsonlFile, write_json


def write_ledger(job: Job, asked: Mapping[str, Path]) -> dict[str, float]:
    """Write it, and return its keys of metrics.json; {} where no endpoint was asked. `asked`: the rows of
    each stage, by title. Every row counts with what its replies took when they were made, also those of a
    stage that another job made, and a reply of which several rows are, in each: together at least what this
    result costs from nothing, and more where prompts are the same, as some that `method=prompt_strip` rewrote
    may be. What was paid is in the replies' own files, those that were asked for again among it.

    What a judge at an endpoint cost stands below `judge`, in the same words."""
    judge = job.config.of_judge
    own = [t for t in asked if judge is None or judge.model == job.config.model or t not in JUDGED]
    ledgers = {
        role: _ledger(job, config, {title: asked[title] for title in titles})
        for role, config, titles in (
            ("model", job.config.model, own),
            ("judge", judge and judge.model, [title for title in asked if title not in own]),
        )
        if titles and isinstance(config, EndpointConfig)
    }
    if not ledgers:
        return {}
    whole = dict(ledgers.get("model", {}))
    if "judge" in ledgers:
        whole["judge"] = ledgers["judge"]
    write_json(job.run.folder / "ledger.json", whole)
    if any(ledger["dollars"] is None for ledger in ledgers.values()):
        return {}
    found = {"cost/dollars": sum(ledger["dollars"] for ledger in ledgers.values())}
    if job.config.elicits:
        found |= {f"cost/{role}/dollars": ledger["dollars"] for role, ledger in ledgers.items()}
    elif (per := ledgers["model"]["dollars_per_1000_ratings"]) is not None:
        found["cost/dollars_per_1000_ratings"] = per
    for ledger in ledgers.values():
        found |= {f"cost/{t}/dollars": stage["dollars"] for t, stage in ledger["stages"].items()}
    return found


def _ledger(job: Job, model: EndpointConfig, asked: Mapping[str, Path]) -> dict[str, Any]:
    """Of one model. `dollars` is None where no price is known, or an endpoint told no usage."""
    prices = PriceList(model)
    models: Counter[str] = Counter()
    stages = {title: _stage(JsonlFile(file), prices, models) for title, file in asked.items()}
    ratings = sum(stage["rows"] for stage in stages.values())
    dollars = sum(stage["dollars"] for stage in stages.values())
    known = prices.source is not None and not any(s["without_usage"] for s in stages.values())
    probes = sorted((replies_folder(job.store.root / REPLIES, model) / "probes").glob("*.json"))
    return {
        "model": model.name,
        "base_url": model.base_url,
        "answered": dict(models.most_common()),
        "prices": prices.source,
        "stages": stages,
        "dollars": dollars if known else None,
        "dollars_per_1000_ratings": 1000 * dollars / ratings if known and ratings else None,
        "takes": [found.table for found in map(load, probes) if found is not None],
    }


def _stage(
    rows: Iterable[Mapping[str, Any]], prices: PriceList, models: Counter[str]
) -> dict[str, Any]:
    count = calls = without = 0
    usage, dollars = Usage(), 0.0
    for row in rows:
        call = row["call"]
        count, calls = count + 1, calls + call["calls"]
        models.update(call["models"])
        if call["usage"] is None:
            without += 1
            continue
        mine, batched = Usage(**call["usage"]), Usage(**call.get("usage_in_batches", {}))
        usage += mine
        dollars += prices.cost(mine) - (1 - BATCH) * prices.cost(batched)
    return {
        "rows": count,
        "calls": calls,
        "without_usage": without,
        "tokens": usage._asdict(),
        "dollars": dollars,
    }
