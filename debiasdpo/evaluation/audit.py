"""The audit of one or two models: every metric of the list, from their ratings of the same prompts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.columns import Columns, Row, columns, same_order
from debiasdpo.evaluation.keys import CONSTANT, Key, count_key, interval_key, score_key
from debiasdpo.evaluation.metric import Change, Metric
from debiasdpo.evaluation.parts import Part, Parts
from debiasdpo.metrics import Floats, ResampleWeights


class _Value(NamedTuple):
    """One metric of one model."""

    key: Key
    metric: Metric
    part: Part


class _Changed(NamedTuple):
    """One change of a metric, from the base to the tuned model."""

    key: Key
    change: Change
    base: _Value
    tuned: _Value


def audit(
    job: JobConfig,
    documents: Iterable[Document],
    rubrics: Mapping[str, Rubric],
    ratings: Mapping[str, Iterable[Row]],
) -> dict[str, Any]:
    """All metrics of metrics.json that come from ratings, each with its interval and with how many
    documents, groups and prompts it is of (`keys.interval_key`, `keys.count_key`).

    `ratings`: of the same prompts by each model, "base" and, where there is one, "tuned", in the
    order of the documents. Intervals come from a bootstrap over groups, all models on the same draws.
    """
    first = next(iter(ratings.values()))
    tables = {model: columns(same_order(mine, first), documents) for model, mine in ratings.items()}
    rated = next(iter(tables.values()))
    values = _values(job, rubrics, tables)
    changed = _changed(values)

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        found = {
            value.key: value.part.value(value.metric, weights)
            for value in values
            if value.metric.interval
        }
        for key, change, base, tuned in changed:
            found[key] = change.compute(found[base.key], found[tuned.key])
        return {str(key): value for key, value in found.items()}

    intervals = metrics.bootstrap_interval(
        statistic, rated.group, resamples=job.audit.resamples, seed=job.seed
    )
    once = ResampleWeights.once(rated.group.size)
    found = statistic(once)
    count = _Counter(rated)
    result: dict[str, Any] = {}
    for key, used in [
        *((value.key, value.part.used) for value in values),
        *((key, base.part.used | tuned.part.used) for key, _, base, tuned in changed),
    ]:
        name = str(key)
        if name in found:
            result[name] = float(found[name])
            result[interval_key(key)] = list(intervals[name])
        result[count_key(key)] = count(used)
    for value in values:
        if not value.metric.interval:
            result[str(value.key)] = float(value.part.value(value.metric, once))
    return result | _of_scores(documents, rubrics)


def _values(
    job: JobConfig, rubrics: Mapping[str, Rubric], tables: Mapping[str, Columns]
) -> list[_Value]:
    """All metrics of each model that this job has."""
    social = [c for c in job.audit_categories if c != PLACEBO]
    sets: dict[str, Sequence[str]] = {"social": social}
    if PLACEBO in job.audit_categories:
        sets["placebo"] = [PLACEBO]
    if job.method.trains or job.method.changes_prompts:
        sets["trained"] = [c for c in social if c in job.context.train_categories]
        sets["unseen"] = job.unseen_categories
    names = {None: [""], "category": social, "rubric": list(rubrics)}
    found = []
    for model, table in tables.items():
        parts = Parts(table, sets, {name: rubric.scale for name, rubric in rubrics.items()})
        for metric in catalog.METRICS:
            if parts.has(metric):
                for name in names[metric.each]:
                    key = Key(metric.key, model, metric.each, name)
                    found.append(_Value(key, metric, parts.of(metric, name)))
    return found


def _changed(values: Sequence[_Value]) -> list[_Changed]:
    """All changes, where there is a tuned model."""
    by_key = {value.key: value for value in values}
    return [
        _Changed(change.key(value.metric, value.key.name), change, by_key[before], value)
        for value in values
        if value.key.of == "tuned" and (before := value.key._replace(of="base")) in by_key
        for change in value.metric.changes
    ]


class _Counter:
    """How many documents, groups and prompts some rows are."""

    def __init__(self, table: Columns) -> None:
        self._document = table.document
        self._group = np.unique(table.group, return_inverse=True)[1]

    def __call__(self, rows: np.ndarray) -> dict[str, int]:
        return {
            "documents": int(np.count_nonzero(np.bincount(self._document[rows]))),
            "groups": int(np.count_nonzero(np.bincount(self._group[rows]))),
            "prompts": int(np.count_nonzero(rows)),
        }


def _of_scores(documents: Iterable[Document], rubrics: Mapping[str, Rubric]) -> dict[str, Any]:
    """How many documents have each score, taken to its nearest level; and what the best constant rater would
    get in each measure, the mean over rubrics. It is asked nothing, so it is of no prompts."""
    scores: dict[str, list[float]] = {name: [] for name in rubrics}
    groups: dict[str, str] = {}  # of each document with a score
    for document in documents:
        for name in scores.keys() & document.scores.keys():
            scores[name].append(document.scores[name])
            groups[document.id] = document.group
    found: dict[str, Any] = {}
    for name, rubric in rubrics.items():
        nearest = [rubric.scale.nearest(score) for score in scores[name]]
        for level in rubric.scale.levels:
            found[score_key(name, level)] = nearest.count(level)
    in_levels = {n: [rubrics[n].scale.position(s) for s in mine] for n, mine in scores.items()}
    of = {"documents": len(groups), "groups": len(set(groups.values())), "prompts": 0}
    for metric in catalog.METRICS:
        if metric.constant is not None:
            measure, rating, _ = metric.constant
            each = [
                metrics.of_constant(measure, in_levels[name] if metric.levels else mine, rating)
                for name, mine in scores.items()
            ]
            key = Key(metric.key, CONSTANT)
            found[str(key)] = float(metrics.mean_of_defined(each))
            found[count_key(key)] = dict(of)
    return found
