"""Which head to take: its layers and penalties, by training groups alone."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo import metrics
from debiasdpo.metrics import ResampleWeights
from debiasdpo.metrics.resample_weights import group_numbers
from debiasdpo.raters.head import Head
from debiasdpo.training.head import Examples, Line, Setting, calibrated, fit, out_of_fold

_DRAWS = 500  # bootstrap resamples of the groups, for a standard error
_AS_IT_IS = Line(np.ones(1), 0.0)  # of a rating as its own only state


class Tried(NamedTuple):
    """Some layers with one setting: what its out-of-fold ratings, calibrated, are worth. Biases, spread and
    MAE in points."""

    layers: tuple[int, ...]
    invariance: float
    penalty: float
    spearman: float
    mae: float
    spread: float
    bias: float  # over the contexts that are trained on, the placebo among them
    relative_bias: float
    chosen: bool = False


def choose_head(
    states: Mapping[tuple[int, ...], Examples],
    groups: Sequence[str],
    fold: npt.NDArray[np.intp],
    settings: Sequence[Setting],
    seed: int,
) -> tuple[Head, list[Tried], npt.NDArray[np.float64]]:
    """The head of one rubric, all that was tried for it, and the ratings (n,) that it gives documents when it
    is fitted without their groups.

    `states`: the documents' at each candidate, which is one layer or several; groups and fold (n,): of each
    document. Of the candidates and settings whose out-of-fold Spearman is within one standard error (of a
    bootstrap over groups) of the highest, the one with the least relative bias: the rule of one standard
    error (Breiman et al. 1984), with bias where that has complexity. None that ranks backwards is taken where
    another does not. The head is then fitted on all documents.
    """
    scores = next(iter(states.values())).scores
    tried: list[Tried] = []
    rated: list[npt.NDArray[np.float64]] = []  # neutral prompts, out of fold, before calibration
    for layers, examples in states.items():
        out = out_of_fold(examples, fold, settings)
        for setting, neutral, contextual in zip(settings, *out, strict=True):
            rated.append(neutral)
            line = calibrated(_AS_IT_IS, neutral, scores)
            neutral, contextual = line.rate(neutral[:, None]), line.rate(contextual[:, None])
            bias = float(metrics.mean_absolute_shift(contextual - neutral[examples.owner]))
            spread = float(neutral.std())
            tried.append(
                Tried(
                    layers, *setting,
                    spearman=float(metrics.spearman(neutral, scores)),
                    mae=float(metrics.mae(neutral, scores)),
                    spread=spread,
                    bias=bias,
                    relative_bias=float(metrics.relative_bias(bias, spread)),
                )
            )  # fmt: skip
    # A constant rater has neither; where all are constant, as of two documents, the first is as good as any.
    accuracy = np.nan_to_num([t.spearman for t in tried], nan=-np.inf)
    relative = np.nan_to_num([t.relative_bias for t in tried], nan=np.inf)
    best = int(accuracy.argmax())
    able = accuracy >= accuracy[best] - _standard_error(rated[best], scores, groups, seed)
    able &= (accuracy > 0) | (accuracy[best] <= 0)
    chosen = int(np.where(able, relative, np.inf).argmin())
    setting = Setting(tried[chosen].invariance, tried[chosen].penalty)
    (line,) = fit(states[tried[chosen].layers], [setting])
    line = calibrated(line, rated[chosen], scores)
    tried[chosen] = tried[chosen]._replace(chosen=True)
    at_their_scale = calibrated(_AS_IT_IS, rated[chosen], scores).rate(rated[chosen][:, None])
    return Head(tried[chosen].layers, *line), tried, at_their_scale


def together(groups: Sequence[Hashable], texts: Sequence[Hashable]) -> list[str]:
    """The group of each document, (n,), where those that share a text are of one group too: a head that was
    fitted on a text has seen it, whoever's it is."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not groups:
        return []
    first: dict[object, int] = {}
    links = [
        (i, first.setdefault((kind, of[i]), i))
        for kind, of in (("group", groups), ("text", texts))
        for i in range(len(groups))
    ]
    rows, columns = zip(*links, strict=True)
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(groups),) * 2)
    return [str(number) for number in connected_components(graph, directed=False)[1]]


def folds(groups: Sequence[str], count: int, seed: int) -> npt.NDArray[np.intp]:
    """The fold of each document, (n,): up to `count` folds of whole groups, drawn by seed, about equally many
    documents in each. What a group is called decides nothing."""
    group = group_numbers(groups)
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # the largest first
    filled = np.zeros(min(count, len(sizes)))
    of_group = np.empty(len(sizes), np.intp)
    for one in order:
        of_group[one] = filled.argmin()
        filled[of_group[one]] += sizes[one]
    return of_group[group]


def _standard_error(
    ratings: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    groups: Sequence[str],
    seed: int,
) -> float:
    """Of a Spearman correlation: its standard deviation over resampled groups; 0 where that has no value."""
    number = group_numbers(groups)
    count = int(number.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _DRAWS)
    found = metrics.spearman(ratings, scores, ResampleWeights(number, draws.astype(np.float64)))
    found = found[~np.isnan(found)]
    return float(found.std()) if found.size else 0.0
