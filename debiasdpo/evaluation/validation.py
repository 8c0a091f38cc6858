"""What is measured on the validation part while training goes on."""

from collections.abc import Iterable, Sequence

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.columns import Row, columns
from debiasdpo.evaluation.measures import over_rubrics
from debiasdpo.metrics import ResampleWeights


def validation_metrics(
    job: JobConfig, documents: Iterable[Document], rows: Sequence[Row]
) -> dict[str, float]:
    """bias_trained, bias_unseen, bias_placebo: mean absolute shift in rubric points; spearman: of
    ratings without context and under trained ones and the placebo, as a model in use would give them;
    spearman_neutral. What is unseen is watched, and counts for nothing else."""
    table = columns(rows, documents)
    kinds = {
        "trained": job.context.train_categories,
        "unseen": job.unseen_categories,
        "placebo": (PLACEBO,),
    }
    found = {
        f"bias_{kind}": metrics.mean_absolute_shift(table.shift[np.isin(table.category, names)])
        for kind, names in kinds.items()
    }
    seen = ~np.isin(table.category, kinds["unseen"]) & ~table.again
    spearman = over_rubrics(metrics.spearman)
    for name, mask in (("spearman", seen), ("spearman_neutral", table.first_neutral)):
        found[name] = spearman(table.of(mask), ResampleWeights.once(int(mask.sum())))
    return {name: float(value) for name, value in found.items()}
