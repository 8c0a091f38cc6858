"""A head: expert scores regressed on hidden states of the frozen model, with invariance in closed form.

For each rubric, with h_i the state of document i's neutral prompt (at one layer, or at several, one behind
the other), h_ic that of its prompt with context c (C_i of them), and s_i the expert's score, all states
standardised over the neutral ones:

    w, b = argmin  sum_i (w . h_i + b - s_i)^2
                 + lambda sum_i 1/C_i sum_c (w . (h_ic - h_i))^2  +  alpha n |w|^2

Ridge regression (Hoerl and Kennard 1970), with a penalty on every direction in which a statement moves the
state: the tangent penalty of Simard et al. 1991 (Tangent Prop) with finite differences, which for a linear
rater has this closed form; w has no part in those directions as lambda grows (Ravfogel et al. 2020, arXiv
2004.07667, project them out). Ours in this use.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LEAST_DEVIATION = 1e-6  # of a state's unit that hardly varies, relative to the most varying one


@dataclass(frozen=True, eq=False)
class Examples:
    """The documents of one rubric, at one layer."""

    neutral: Floats  # (n, d): states without context
    scores: Floats  # (n,), points
    contextual: Floats  # (m, d): states under context
    owner: npt.NDArray[np.intp]  # (m,), 0 to n - 1: whose

    def of(self, kept: npt.NDArray[np.bool_]) -> "Examples":
        """Some of the documents, by mask (n,)."""
        new = np.cumsum(kept) - 1
        theirs = kept[self.owner]
        return Examples(
            self.neutral[kept],
            self.scores[kept],
            self.contextual[theirs],
            new[self.owner[theirs]],
        )


class Setting(NamedTuple):
    """What a fit is asked for: `invariance` is lambda, `penalty` alpha."""

    invariance: float
    penalty: float


class Line(NamedTuple):
    """rating = weight . h + bias."""

    weight: Floats  # (d,)
    bias: float

    def rate(self, states: Floats) -> Floats:
        """Ratings of states (..., d): (...), points."""
        return np.asarray(states @ self.weight + self.bias)


def fit(examples: Examples, settings: Sequence[Setting]) -> list[Line]:
    """The head of each setting, in the units of the states and points of the scores."""
    mean = examples.neutral.mean(axis=0)
    deviation = examples.neutral.std(axis=0)
    deviation = np.maximum(deviation, _LEAST_DEVIATION * deviation.max())
    if not deviation.max() > 0:  # all documents are one to the model
        deviation = np.ones_like(deviation)
    states = (examples.neutral - mean) / deviation
    count = np.bincount(examples.owner, minlength=len(states))[examples.owner]
    moved = (examples.contextual - examples.neutral[examples.owner]) / deviation
    moved /= np.sqrt(count)[:, None]
    basis = _basis(np.concatenate([states, moved]))
    if basis is not None:
        states, moved = states @ basis, moved @ basis
    centre = examples.scores.mean()
    fitted, held = states.T @ states, moved.T @ moved
    target = states.T @ (examples.scores - centre)
    lines = []
    for setting in settings:
        ridge = setting.penalty * len(states) * np.eye(len(fitted))
        weight = np.linalg.solve(fitted + setting.invariance * held + ridge, target)
        weight = (weight if basis is None else basis @ weight) / deviation
        lines.append(Line(weight, float(centre - mean @ weight)))
    return lines


def _basis(rows: Floats) -> Floats | None:
    """Orthonormal columns (d, r) that span the rows (r, d), in which w lies; None where d is the smaller, so
    that nothing would be saved."""
    if len(rows) >= rows.shape[1]:
        return None
    return np.linalg.qr(rows.T)[0]


class OutOfFold(NamedTuple):
    """Ratings of documents by heads that were fitted without their groups, one row a setting."""

    neutral: Floats  # (settings, n)
    contextual: Floats  # (settings, m)


def out_of_fold(
    examples: Examples, fold: npt.NDArray[np.intp], settings: Sequence[Setting]
) -> OutOfFold:
    """fold (n,): of each document (`folds`)."""
    neutral = np.empty((len(settings), len(examples.scores)))
    contextual = np.empty((len(settings), len(examples.owner)))
    for out in np.unique(fold):
        for row, line in enumerate(fit(examples.of(fold != out), settings)):
            mine, theirs = fold == out, fold[examples.owner] == out
            neutral[row, mine] = line.rate(examples.neutral[mine])
            contextual[row, theirs] = line.rate(examples.contextual[theirs])
    return OutOfFold(neutral, contextual)


def calibrated(line: Line, out: Floats, scores: Floats) -> Line:
    """The head with the scale that its out-of-fold ratings ask for: `scores` regressed on them, both (n,), by
    least squares. Both penalties shrink what it says; this takes that back as far as it errs by it, and no
    further. Where the slope is not above 0, so that it has learnt nothing, it stays as it is."""
    centred = out - out.mean()
    above, below = centred @ (scores - scores.mean()), centred @ centred
    if not above > 0:
        return line
    slope = above / below
    return Line(line.weight * slope, float(line.bias * slope + scores.mean() - slope * out.mean()))


def grid(invariance: Sequence[float], penalty: Sequence[float]) -> Iterator[Setting]:
    """All combinations."""
    return (Setting(a, b) for a in invariance for b in penalty)
