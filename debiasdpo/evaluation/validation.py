"""What is measured on the validation part while training goes on."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.columns import Names, Row, columns
from debiasdpo.evaluation.measures import of_shifts, over_rubrics, relative, spread
from debiasdpo.metrics import ResampleWeights


def validation_metrics(
    job: JobConfig,
    documents: Iterable[Document],
    rubrics: Mapping[str, Rubric],
    rows: Sequence[Row],
) -> dict[str, float]:
    """bias_trained, bias_unseen, bias_placebo: mean absolute shift in rubric points; spread: standard
    deviation of neutral ratings, the mean over rubrics; relative_bias_trained and so on: bias / spread, each
    in widths of the rubrics' scales, NaN where the spread is 0; spearman: of ratings without context and
    under trained ones and the placebo, as a model in use would give them; spearman_neutral. What is unseen is
    watched, and counts for nothing else. Rubrics on which all of these documents have one score cannot tell
    one step from another, and are left out of spearman."""
    names = Names()
    table = columns(rows, documents, names, rubrics)
    kinds = {
        "trained": [c for c in job.context.train_categories if c != PLACEBO],
        "unseen": job.unseen_categories,
        "placebo": (PLACEBO,),
    }
    of = {
        kind: np.isin(table.category, [names.category[c] for c in found if c in names.category])
        for kind, found in kinds.items()
    }
    found = {
        f"bias_{kind}": metrics.mean_absolute_shift(table.shift[mask]) for kind, mask in of.items()
    }
    neutral = table.first_neutral
    found["spread"] = spread(table.of(neutral), ResampleWeights.once(int(neutral.sum())))
    in_spreads = relative(of_shifts(metrics.mean_absolute_shift))
    for kind, mask in of.items():
        both = mask | neutral
        once = ResampleWeights.once(int(both.sum()))
        found[f"relative_bias_{kind}"] = in_spreads(table.of(both), once)
    varied = [r for r in np.unique(table.rubric) if np.ptp(table.score[table.rubric == r]) > 0]
    ranked = np.isin(table.rubric, varied) & ~table.again
    spearman = over_rubrics(metrics.spearman)
    for name, mask in (
        ("spearman", ranked & ~of["unseen"]),
        ("spearman_neutral", ranked & neutral),
    ):
        found[name] = spearman(table.of(mask), ResampleWeights.once(int(mask.sum())))
    return {name: float(value) for name, value in found.items()}
