"""Statistics of rating rows, as the list of metrics has them: of columns, in many samples.

bias of several categories: the mean of theirs, so that a category with more statements weighs no more.
Accuracy: of each rubric, then the mean over rubrics, since scales differ. Bias relative to the spread: both
are means over rubrics, as shares of the width of each one's scale. Any is undefined where it is so for one of
them: a mean over the others would be of something else. A category of which nothing was asked is none of
them, which a note says (`notes.of_unasked`). Signed figures are towards the better end of the
scale where that is not the same end of all rubrics (`columns.columns`).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from debiasdpo import metrics
from debiasdpo.evaluation.columns import Columns, in_widths
from debiasdpo.evaluation.metric import Measure, Statistic
from debiasdpo.metrics import Floats, ResampleWeights


def bias(table: Columns, weights: ResampleWeights) -> Floats:
    """Bias of all categories in the rows."""
    return metrics.macro_bias(table.shift, table.category, weights)


def of_shifts(statistic: Callable[[Floats, ResampleWeights], Floats]) -> Statistic:
    """A statistic of the shifts."""
    return lambda table, weights: statistic(table.better * table.shift, weights)


def polarity_gap(table: Columns, weights: ResampleWeights) -> Floats:
    return metrics.polarity_gap(table.better * table.shift, table.polarity, weights)


def largest_shift(table: Columns, weights: ResampleWeights) -> Floats:
    """The largest mean shift of any category and polarity."""
    cell = 3 * table.category + table.polarity
    return metrics.max_mean_shift(table.better * table.shift, cell, weights)


def noise_floor(table: Columns, weights: ResampleWeights) -> Floats:
    """Mean |difference| of two ratings of the same neutral prompt."""
    return metrics.mean_absolute_shift(table.shift, weights)


def of_each_rubric(statistic: Statistic) -> Statistic:
    """A statistic of the rows of each rubric, then the mean over rubrics."""

    def mean(table: Columns, weights: ResampleWeights) -> Floats:
        found = []
        for rubric in np.unique(table.rubric):
            rows = table.rubric == rubric
            found.append(statistic(table.of(rows), weights[rows]))
        undefined = np.full(weights.counts.shape[:-1], np.nan)
        return metrics.mean_of_all(found or [undefined])

    return mean


def of_ratings(measure: Measure) -> Statistic:
    """A measure of ratings and scores."""
    return lambda table, weights: measure(table.rating, table.score, weights)


def over_rubrics(measure: Measure) -> Statistic:
    """A measure of ratings and scores, of each rubric, then the mean over rubrics."""
    return of_each_rubric(of_ratings(measure))


spread = over_rubrics(lambda ratings, _scores, weights: metrics.spread(ratings, weights))


def relative(statistic: Statistic) -> Statistic:
    """A bias of the contextual rows, in units of the spread of the neutral ones on the same rubrics; both are
    among the rows."""
    of_rubrics = of_each_rubric(statistic)

    def of_spread(table: Columns, weights: ResampleWeights) -> Floats:
        table = in_widths(table)
        contextual = table.contextual
        # A category that is made from a column may be asked on some rubrics alone.
        neutral = table.first_neutral & np.isin(table.rubric, table.rubric[contextual])
        return metrics.relative_bias(
            of_rubrics(table.of(contextual), weights[contextual]),
            spread(table.of(neutral), weights[neutral]),
        )

    return of_spread


def flips(direction: Literal[-1, 0, 1] = 0) -> Statistic:
    """Share of the rows whose rating goes to another level under the statement, up or down if a direction is
    given; of several categories the mean of theirs."""

    def statistic(table: Columns, weights: ResampleWeights) -> Floats:
        up = table.better > 0
        before = np.where(up, table.start, table.rating)
        after = np.where(up, table.rating, table.start)
        flipped = metrics.flips(before, after, direction)
        return metrics.macro_bias(flipped, table.category, weights)

    return statistic


def mean_error(table: Columns, weights: ResampleWeights) -> Floats:
    """Mean of rating less score."""
    return metrics.mean_error(table.better * table.rating, table.better * table.score, weights)


def mean_of(column: Literal["rating", "score"]) -> Statistic:
    """Mean of a column, of the rows that have both a rating and a score."""

    def mean(table: Columns, weights: ResampleWeights) -> Floats:
        other = table.score if column == "rating" else table.rating
        return weights.mean(np.where(np.isfinite(other), getattr(table, column), np.nan))

    return mean


def of_members(statistic: Statistic) -> Statistic:
    """A statistic of the rows of the real group that a metric is of, of each rubric, then the mean."""
    of_rubrics = of_each_rubric(statistic)

    def of_group(table: Columns, weights: ResampleWeights) -> Floats:
        return of_rubrics(table.of(table.member), weights[table.member])

    return of_group


def against_others(statistic: Statistic) -> Statistic:
    """The same, less that of all other documents, over the rubrics that both have scores on: a difference
    between rubrics is none between groups."""
    of_rubrics = of_each_rubric(statistic)

    def gap(table: Columns, weights: ResampleWeights) -> Floats:
        of_both = np.intersect1d(table.rubric[table.member], table.rubric[~table.member])
        shared = np.isin(table.rubric, of_both)
        mine, others = (
            of_rubrics(table.of(rows & shared), weights[rows & shared])
            for rows in (table.member, ~table.member)
        )
        return mine - others

    return gap


def beyond_placebo(statistic: Statistic) -> Statistic:
    """That of the rows of a category less that of the placebo's, which are those of polarity 0."""

    def more(table: Columns, weights: ResampleWeights) -> Floats:
        placebo = table.polarity == 0
        of_category, of_placebo = (
            statistic(table.of(rows), weights[rows]) for rows in (~placebo, placebo)
        )
        return of_category - of_placebo

    return more


def with_one_rater(measure: Measure) -> Statistic:
    """A measure of the model held against one human rater alone: the mean over two of them."""
    against = over_rubrics(measure)
    return lambda table, weights: metrics.mean_of_all(
        [against(table._replace(score=one), weights) for one in (table.first, table.second)]
    )


def in_disagreements(table: Columns, weights: ResampleWeights) -> Floats:
    """Mean |shift| of the contextual rows, in units of the mean |difference| of two human raters of the
    documents in the others, of the same rubrics."""
    table = in_widths(table)
    contextual = table.contextual
    others = ~contextual & np.isin(table.rubric, table.rubric[contextual])
    return metrics.relative_bias(
        of_each_rubric(of_shifts(metrics.mean_absolute_shift))(
            table.of(contextual), weights[contextual]
        ),
        over_rubrics(metrics.mae)(table.of(others).between_raters, weights[others]),
    )


def skill_matched(kind: metrics.Kind) -> Statistic:
    """Bias of all categories in the rows, after ratings are brought to the mean and spread that the experts'
    scores have on the reference rows. Those are resampled too."""

    def statistic(table: Columns, weights: ResampleWeights) -> Floats:
        moved = np.full((*weights.counts.shape[:-1], table.rating.size), np.nan)
        contextual = table.contextual & np.isfinite(table.shift)
        for rubric in np.unique(table.rubric):
            of_rubric = table.rubric == rubric
            rows, reference = contextual & of_rubric, table.reference & of_rubric
            both = np.concatenate([table.rating[rows], table.start[rows]])
            found = metrics.matched(
                kind, both, table.rating[reference], table.score[reference], weights[reference]
            )
            after, before = np.split(found, 2, axis=-1)
            moved[..., rows] = np.abs(after - before)
        counted = weights.by_row()
        each = [np.full(moved.shape[:-1], np.nan)]
        for number in np.unique(table.category[table.contextual]):
            rows = contextual & (table.category == number)
            total = counted[..., rows].sum(axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                each.append((counted * moved)[..., rows].sum(axis=-1) / total)
        return metrics.mean_of_all(each[1:] or each)

    return statistic


def failed(table: Columns, weights: ResampleWeights) -> Floats:
    """Share of the contextual prompts whose rating could not be read, less that of the neutral prompts, each
    of which counts as often as it has contextual ones."""
    more = np.isnan(table.rating).astype(np.float64) - np.isnan(table.start)
    return weights.mean(more)


def parse_rate(table: Columns, weights: ResampleWeights) -> Floats:
    """Share of the prompts whose rating could be read."""
    return weights.mean(np.isfinite(table.rating).astype(np.float64))
