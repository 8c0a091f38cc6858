"""Rate new documents as a run rated its own, some of them or all, going on after a kill."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from debiasdpo.config.data import Rubric
from debiasdpo.config.shown import points
from debiasdpo.costs import Meter
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.prompts.rendering import Prompt
from debiasdpo.raters.base import Reply
from debiasdpo.stages.calibration import calibrated
from debiasdpo.stages.rating_task import RatingTask, index_prompts, make_part, rating_row
from debiasdpo.storage.files import JsonlFile, no_progress
from debiasdpo.storage.store import Store
from debiasdpo.use.raters import RunRater
from debiasdpo.use.self_check import Row, checked

_STORE = "new_ratings"  # its folder in the cache


class Shard(NamedTuple):
    """One of several parts of neighbouring documents."""

    number: int  # 1 to `total`
    total: int

    def of(self, batches: range) -> range:
        """The batches that are this one's; none, where there are fewer batches than shards."""
        n = len(batches)
        return range((self.number - 1) * n // self.total, self.number * n // self.total)


def rate(chosen: RunRater, prompts: RatingPrompts, shard: Shard) -> Iterable[Row]:
    """A row for each prompt about the shard's documents, in their order, found again where they were rated
    before. Ratings are those of the whole, however it is cut: shards are cut between batches."""
    config, declared = chosen.config, chosen.declared
    scales = {name: rubric.scale for name, rubric in prompts.rubrics.items()}
    inputs = declared.inputs(config, rater=dict(chosen.rater.identity))
    task = RatingTask(
        config,
        declared.reading(config),
        _STORE,
        declared.wanted(config),
        prompts,
        scales,
        None,
        {**inputs, "title": _STORE, "wanted": declared.wanted(config)},
        index_prompts(prompts, config.batching.prompts),
        _row,
    )
    part = shard.of(task.whole)
    if not part:
        return []
    with Store(cache_folder(config)).stage(_STORE, task.stage_inputs(part)) as stage:
        if stage.files is None:
            meter, earlier = Meter(), stage.spent()
            names = make_part(task, part, stage, chosen.rater, no_progress)
            stage.commit(names, meter.read(1).after(earlier))
        return JsonlFile(stage.folder / task.file)


def _row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    found = reply.distribution
    return {**rating_row(prompt, reply), "distribution": None if found is None else list(found)}


def answers(
    chosen: RunRater,
    rows: Iterable[Row],
    rubrics: Mapping[str, Rubric],
    limits: Mapping[str, float] | None = None,
) -> Iterator[dict[str, Any]]:
    """One row for each document and rubric: the calibrated rating, what it comes from and, with `limits`, the
    self-check (`checked`)."""
    maps = chosen.calibration
    by_document = itertools.groupby(rows, key=lambda row: (row["document"], row["rubric"]))
    for (document, rubric), group in by_document:
        of_both = [calibrated(row, maps) for row in group]
        plain = next(row for row in of_both if row["statement"] is None)
        shares = plain["distribution"]
        asked = rubrics[rubric]
        levels = map(points, asked.scale.levels)
        found = {
            "document": document,
            "rubric": rubric,
            "rating": plain["rating"],
            **({"raw": plain["raw"]} if maps else {}),
            "distribution": shares
            and {k: round(p, 6) for k, p in zip(levels, shares, strict=True)},
            **{name: plain[name] for name in ("text", "thoughts", "status", "reason")},
        }
        yield (
            found if limits is None else {**found, **checked(plain, of_both, asked, limits[rubric])}
        )
