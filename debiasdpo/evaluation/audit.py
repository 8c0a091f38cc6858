"""The audit of one or two models: every metric of the list, from their ratings of the same prompts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation import catalog, caveats, failures, notes
from debiasdpo.evaluation.columns import Columns, Names, Row, beside, columns, same_order
from debiasdpo.evaluation.groups import members
from debiasdpo.evaluation.keys import (
    CONSTANT,
    HUMAN,
    Key,
    count_key,
    interval_key,
    note_key,
    score_key,
)
from debiasdpo.evaluation.metric import Change, Metric
from debiasdpo.evaluation.parts import Part, Parts
from debiasdpo.metrics import Floats, ResampleWeights


class _Value(NamedTuple):
    """One metric of one model."""

    key: Key
    metric: Metric
    part: Part


class _Changed(NamedTuple):
    """One change of a metric, from the base to the tuned model: both on the prompts that both rated."""

    key: Key
    change: Change
    base: _Value
    tuned: _Value


class Matching(NamedTuple):
    """What ratings are brought to the experts' mean and spread by, for the skill-matched bias."""

    documents: Iterable[Document]  # of the validation part
    reference: Mapping[str, Iterable[Row]]  # by model: neutral ratings of these
    ratings: Mapping[str, Iterable[Row]]  # by model: those of the audit, before any calibration


def audit(
    job: JobConfig,
    documents: Iterable[Document],
    rubrics: Mapping[str, Rubric],
    ratings: Mapping[str, Iterable[Row]],
    matching: Matching | None = None,
) -> dict[str, Any]:
    """All metrics of metrics.json that come from ratings, each with its interval, with how many documents,
    groups and prompts it is of, and with what is to be known of it (`keys.interval_key`, `keys.count_key`,
    `keys.note_key`).

    `ratings`: of the same prompts by each model, "base" and, where there is one, "tuned", in the
    order of the documents. A change is that over the prompts that both rated. Intervals come from a
    bootstrap over groups, all models on the same draws; those of the skill-matched bias, which there is with
    `matching`, over the groups of both parts.
    """
    first = next(iter(ratings.values()))
    names = Names()
    tables = {
        model: columns(same_order(mine, first), documents, names, rubrics)
        for model, mine in ratings.items()
    }
    result = _figures(job, rubrics, tables, names, members(documents, first, tables["base"]))
    if matching is not None:
        raw = matching.ratings
        result |= _figures(job, rubrics, {
            model: beside(
                columns(same_order(raw[model], first), documents, names, rubrics),
                columns(mine, matching.documents, names, rubrics),
            )
            for model, mine in matching.reference.items()
        }, names)  # fmt: skip
    social = [c for c in job.audit_categories if c != PLACEBO]
    for model, table in tables.items():
        result |= failures.reasons(ratings[model], model)
        result |= failures.dependence(
            table, same_order(ratings[model], first), names, model, social, job.seed
        )
    unread = any(not table.usable[table.first_neutral].all() for table in tables.values())
    return result | _of_scores(documents, rubrics, unread)


def _figures(
    job: JobConfig,
    rubrics: Mapping[str, Rubric],
    tables: Mapping[str, Columns],
    names: Names,
    groups: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """The metrics that these tables have rows for. `groups`: real ones, by name the mask of their rows."""
    rated = next(iter(tables.values()))
    sets = _sets(job)
    values = _values(sets, rubrics, tables, names, groups or {})
    changed = _changed(values)
    alone = {value.key: value for value in values}

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        found = {
            value.key: value.part.value(value.metric, weights)
            for value in values
            if value.metric.interval
        }

        def of(value: _Value) -> Floats:
            same = value is alone[value.key]
            return found[value.key] if same else value.part.value(value.metric, weights)

        changes = {key: change.compute(of(base), of(tuned)) for key, change, base, tuned in changed}
        return {str(key): value for key, value in (found | changes).items()}

    count = _Counter(rated)
    used = {value.key: value.part.used for value in values}
    used |= {one.key: one.base.part.used for one in changed}
    counts = {str(key): count(rows) for key, rows in used.items()}
    against = {value.key: value.part.others for value in values if value.metric.against_others}
    by_group = {
        key: np.bincount(rated.group[_of_fewest_groups(rows, rated, against.get(key))])
        for key, rows in used.items()
    }
    intervals = metrics.bootstrap_interval(
        statistic,
        rated.group,
        counted={str(key): int(np.count_nonzero(rows)) for key, rows in by_group.items()},
        resamples=job.audit.resamples,
        seed=job.seed,
    )
    once = ResampleWeights.once(rated.group.size)
    found = statistic(once)
    said = {
        value.key: notes.joined(
            notes.of_value(value.metric, value.part, names) or notes.of_unread(value.part),
            notes.of_real_group(value.part, names),
        )
        for value in values
    }
    said |= {one.key: _of_change(one, alone, names) for one in changed}
    of = {value.key: value for value in values} | {one.key: one.base for one in changed}
    said = {
        key: notes.joined(
            note,
            notes.of_unasked(of[key].metric, of[key].part, names, sets),
            notes.of_unrated(of[key].metric, rated, names, rubrics),
            notes.of_rubrics_alone(of[key].metric, of[key].part, rated, names, rubrics),
            caveats.of_rubrics(key, rubrics),
            caveats.of_wordings(of[key].metric, key.name, sets, job.context),
        )
        for key, note in said.items()
    }
    result: dict[str, Any] = {}
    for key in used:
        name, note = str(key), said[key]
        if name in found:
            result[name] = float(found[name])
            result[interval_key(key)] = [intervals[name].low, intervals[name].high]
            if not math.isnan(found[name]):
                about = notes.of_interval(intervals[name], job.audit.resamples, by_group[key])
                note = notes.joined(note, about)
        result[count_key(key)] = counts[name]
        if note:
            result[note_key(key)] = note
    for value in values:
        if not value.metric.interval:
            result[str(value.key)] = float(value.part.value(value.metric, once))
    return result


def _sets(job: JobConfig) -> dict[str, Sequence[str]]:
    """The audited categories of each set that metrics name (`metric.Rows`)."""
    social = [c for c in job.audit_categories if c != PLACEBO]
    sets: dict[str, Sequence[str]] = {"social": social}
    if PLACEBO in job.audit_categories:
        sets["placebo"] = [PLACEBO]
    if job.method.changes_ratings:
        sets["trained"] = [c for c in social if c in job.context.train_categories]
        sets["unseen"] = job.unseen_categories
    return sets


def _of_fewest_groups(rows: np.ndarray, table: Columns, against: np.ndarray | None) -> np.ndarray:
    """Of rows of several kinds, which a figure holds against each other or averages, those of the kind with
    the fewest groups: an interval is no better than what these tell. `against`: rows beside them."""
    of_category, plain = rows & table.contextual, rows & table.first_neutral
    kinds = [rows, rows & table.reference, rows & ~table.reference, plain]
    kinds += [
        of_category & (table.category == one) for one in np.unique(table.category[of_category])
    ]
    if plain.any():  # accuracy, spread, and what is relative to it are means over rubrics
        kinds += [rows & (table.rubric == one) for one in np.unique(table.rubric[rows])]
    if against is not None:
        kinds.append(against)
    return min(
        (kind for kind in kinds if kind.any()),
        key=lambda kind: np.count_nonzero(np.bincount(table.group[kind])),
        default=rows,
    )


def _values(
    sets: Mapping[str, Sequence[str]],
    rubrics: Mapping[str, Rubric],
    tables: Mapping[str, Columns],
    names: Names,
    groups: Mapping[str, np.ndarray],
) -> list[_Value]:
    """All metrics of each model that there are rows for. `sets`: `_sets`."""
    each = {None: [""], "category": sets["social"], "rubric": list(rubrics), "group": list(groups)}
    found = []
    for model, table in tables.items():
        scales = {name: r.scale for name, r in rubrics.items()}
        parts = Parts(table, names, sets, scales, groups)
        for metric in catalog.METRICS:
            if parts.has(metric):
                for name in each[metric.each]:
                    key = Key(metric.key, model, metric.each, name)
                    found.append(_Value(key, metric, parts.of(metric, name)))
                if metric.human is not None and model == "base":
                    human = replace(metric, statistic=metric.human, asked=True)
                    part = parts.of(human)
                    part = part._replace(table=part.table.between_raters)
                    found.append(_Value(Key(metric.key, HUMAN), human, part))
    return found


def _changed(values: Sequence[_Value]) -> list[_Changed]:
    """All changes, where there is a tuned model."""
    by_key = {value.key: value for value in values}
    found = []
    for tuned in values:
        base = by_key.get(tuned.key._replace(of="base"))
        if tuned.key.of == "tuned" and base is not None:
            both = base.part.used & tuned.part.used
            pair = [
                v if np.array_equal(v.part.used, both) else v._replace(part=v.part.only(both))
                for v in (base, tuned)
            ]
            found += [
                _Changed(change.key(tuned.metric, tuned.key.name), change, *pair)
                for change in tuned.metric.changes
            ]
    return found


def _of_change(one: _Changed, alone: Mapping[Key, _Value], names: Names) -> str:
    """What is to be known of a change. `alone`: each model's own value, over all that it rated."""
    metric, base, tuned = one.base.metric, one.base.part, one.tuned.part
    once = ResampleWeights.once(base.rows.size)
    value = one.change.compute(base.value(metric, once), tuned.value(metric, once))
    why = notes.of_two(metric, {"base": base, "tuned": tuned}, names)
    if math.isnan(value):
        why = why or one.change.undefined
    rated, rated_too = (alone[value.key].part.used for value in (one.base, one.tuned))
    if np.array_equal(rated, rated_too) or not base.used.any():
        return why
    return notes.joined(why, notes.both_rated(int(base.used.sum()), int(base.rows.sum())))


class _Counter:
    """How many documents, groups and prompts some rows are."""

    def __init__(self, table: Columns) -> None:
        self._document, self._group = table.document, table.group

    def __call__(self, rows: np.ndarray) -> dict[str, int]:
        return {
            "documents": int(np.count_nonzero(np.bincount(self._document[rows]))),
            "groups": int(np.count_nonzero(np.bincount(self._group[rows]))),
            "prompts": int(np.count_nonzero(rows)),
        }


def _of_scores(
    documents: Iterable[Document], rubrics: Mapping[str, Rubric], unread: bool
) -> dict[str, Any]:
    """How many documents have each score, taken to its nearest level; and what the best constant rater would
    get in each measure, the mean over rubrics. It is asked nothing, so it is of no prompts. `unread`: a model
    could not rate some of the documents."""
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
                if mine
            ]
            key = Key(metric.key, CONSTANT)
            found[str(key)] = float(metrics.mean_of_all(each)) if each else math.nan
            found[count_key(key)] = dict(of)
            if unread:
                found[note_key(key)] = notes.CONSTANT_OF_ALL
    return found
