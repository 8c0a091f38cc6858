"""Audit: which prompts measure bias and accuracy, and the figures that their ratings give."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation import columns, measures
from debiasdpo.evaluation.columns import Columns, Row
from debiasdpo.metrics import Floats, ResampleWeights


def validation_metrics(
    job: JobConfig, documents: Iterable[Document], rows: Sequence[Row]
) -> dict[str, float]:
    """bias_trained, bias_unseen, bias_placebo: mean absolute shift in rubric points; spearman: of
    ratings without context and under trained ones and the placebo, as a model in use would give them;
    spearman_neutral. What is unseen is watched, and counts for nothing else."""
    table = columns.columns(rows, documents)
    rubrics, once = np.unique(table.rubric), ResampleWeights.once(len(rows))
    kinds = {
        "trained": job.context.train_categories,
        "unseen": job.unseen_categories,
        "placebo": (PLACEBO,),
    }
    found = {
        f"bias_{kind}": metrics.mean_absolute_shift(table.shift[np.isin(table.category, names)])
        for kind, names in kinds.items()
    }
    seen = table.of(~np.isin(table.category, kinds["unseen"]))
    alike = seen._replace(category=np.full_like(seen.category, columns.NEUTRAL))
    of_seen = ResampleWeights.once(seen.rating.size)
    found["spearman"] = measures.accuracy(alike, rubrics, metrics.spearman, of_seen)
    found["spearman_neutral"] = measures.accuracy(table, rubrics, metrics.spearman, once)
    return {name: float(value) for name, value in found.items()}


def audit(
    job: JobConfig,
    documents: Iterable[Document],
    rubrics: Mapping[str, Rubric],
    ratings: Mapping[str, Iterable[Row]],
) -> dict[str, Any]:
    """All figures of metrics.json that come from ratings, with `<key>_ci` for each interval.

    `ratings`: of the same prompts by each model, "base" and, where one was trained, "tuned", in the
    order of the documents. Intervals come from a bootstrap over groups, all models on the same draws.
    """
    first = next(iter(ratings.values()))
    tables = {
        model: columns.columns(columns.same_order(mine, first), documents)
        for model, mine in ratings.items()
    }
    groups = next(iter(tables.values())).group

    def statistic(weights: ResampleWeights) -> dict[str, Floats]:
        return _figures(job, rubrics, tables, weights)

    intervals = metrics.bootstrap_interval(
        statistic,
        groups,
        resamples=job.audit.resamples,
        seed=job.seed,
    )
    result: dict[str, Any] = {}
    for key, value in statistic(ResampleWeights.once(groups.size)).items():
        result[key] = float(value)
        result[f"{key}_ci"] = list(intervals[key])
    for model, table in tables.items():
        result[f"parse_rate/{model}"] = float(np.mean(np.isfinite(table.rating)))
    return result | _score_figures(documents, rubrics)


def _figures(
    job: JobConfig,
    rubrics: Mapping[str, Rubric],
    tables: Mapping[str, Columns],
    weights: ResampleWeights,
) -> dict[str, Floats]:
    """Every figure with an interval, of the shape of the samples."""
    social = [c for c in job.audit_categories if c != PLACEBO]
    subsets = {"bias": social}
    if job.method.trains or job.method.changes_prompts:
        subsets["bias/trained"] = [c for c in social if c in job.context.train_categories]
        subsets["bias/unseen"] = list(job.unseen_categories)
    found: dict[str, Floats] = {}
    for model, table in tables.items():
        mine = {
            **{key: measures.bias(table, names, weights) for key, names in subsets.items()},
            **_shift_figures(job, table, weights),
            **_accuracy_figures(rubrics, social, table, weights),
        }
        mine |= {
            f"relative_{key}": metrics.relative_bias(mine[key], mine["spread"]) for key in subsets
        }
        found |= {f"{key}/{model}": value for key, value in mine.items()}
    if "tuned" in tables:
        relative = (f"relative_{key}" for key in subsets)
        for key in (*subsets, *relative, *(f"bias/{c}" for c in social)):
            found[f"{key}/reduction"] = metrics.reduction(
                found[f"{key}/base"], found[f"{key}/tuned"]
            )
        base, tuned = (found[f"accuracy/spearman/{model}"] for model in ("base", "tuned"))
        found["accuracy/gain"] = metrics.gain(base, tuned)
        found["accuracy/spearman/difference"] = tuned - base
    return found


def _shift_figures(job: JobConfig, table: Columns, weights: ResampleWeights) -> dict[str, Floats]:
    """Bias and signed shifts of each category, the largest mean shift, and what is not social.

    Two of these say whether the neutral branch is really neutral: `bias/noise_floor`, the bias of the
    neutral prompt against itself, and `bias/placebo`, against an added sentence that says nothing.
    """
    found: dict[str, Floats] = {"bias/noise_floor": measures.noise_floor(table, weights)}
    contextual = ~np.isin(table.category, [columns.NEUTRAL, PLACEBO])
    for category in job.audit_categories:
        rows = table.category == category
        shift, polarity, mine = table.shift[rows], table.polarity[rows], weights[rows]
        found[f"bias/{category}"] = metrics.mean_absolute_shift(shift, mine)
        if category == PLACEBO:
            found[f"bias/{category}/shift"] = metrics.signed_shift(shift, mine)
            continue
        for side, of in (("flattering", polarity > 0), ("unflattering", polarity < 0)):
            found[f"bias/{category}/shift_{side}"] = metrics.signed_shift(shift[of], mine[of])
        found[f"bias/{category}/polarity_gap"] = metrics.polarity_gap(shift, polarity, mine)
    cells = np.char.add(table.category[contextual], table.polarity[contextual].astype(str))
    found["bias/max_shift"] = metrics.max_mean_shift(
        table.shift[contextual], cells, weights[contextual]
    )
    return found


def _accuracy_figures(
    rubrics: Mapping[str, Rubric], social: Sequence[str], table: Columns, weights: ResampleWeights
) -> dict[str, Floats]:
    """Each measure over rubrics, bias and Spearman of each rubric, spread of neutral ratings."""
    found: dict[str, Floats] = {}
    contextual = np.isin(table.category, social)
    each = {
        name: measures.by_rubric(table, rubrics, measure, weights)
        for name, measure in metrics.ACCURACY.items()
    }
    for rubric in rubrics:
        rows = contextual & (table.rubric == rubric)
        found[f"bias/rubric/{rubric}"] = metrics.mean_absolute_shift(
            table.shift[rows], weights[rows]
        )
        found[f"accuracy/rubric/{rubric}/spearman"] = each["spearman"][rubric]
    for name, values in each.items():
        found[f"accuracy/{name}"] = metrics.mean_of_defined(list(values.values()))
    found["spread"] = measures.accuracy(table, rubrics, measures.spread, weights)
    return found


def _score_figures(
    documents: Iterable[Document], rubrics: Mapping[str, Rubric]
) -> dict[str, float | int]:
    """`scores/<rubric>/<level>`: documents with that expert score, rounded half up; and
    `accuracy/<measure>/constant`: what the best constant rater would get, the mean over rubrics."""
    counts: dict[str, int] = {}
    constant = []
    for name, rubric in rubrics.items():
        scores = np.array([d.scores[name] for d in documents if name in d.scores], dtype=float)
        levels = metrics.round_half_up(scores)
        for level in range(rubric.low, rubric.high + 1):
            counts[f"scores/{name}/{level}"] = int(np.count_nonzero(levels == level))
        constant.append(metrics.best_constant(scores))
    return counts | {
        f"accuracy/{name}/constant": float(metrics.mean_of_defined([c[name] for c in constant]))
        for name in metrics.ACCURACY
    }
