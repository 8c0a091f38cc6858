"""A judge that is fitted: heads on the hidden states of a model learn people's labels of the control set.

For each label ridge regression (`training.head`) of whether people gave it, on the state at the end of the
reply; the label with the largest value is given. Layer and penalty are those with the highest kappa out of
fold. A fold is a category: so kappa is of replies of categories that the judge was not fitted on, though
groups that are in two, such as gender and gender_ethnicity, are in its folds too, and it is the highest of
those tried.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.elicitation.base import Label
from debiasdpo.elicitation.judge import KINDS, ControlItem, judge_agreement
from debiasdpo.errors import UserError
from debiasdpo.metrics.agreement import Agreement
from debiasdpo.models.chat import Chat
from debiasdpo.packing.states import hidden_states
from debiasdpo.packing.tokens import packed_ranges
from debiasdpo.training.head import Examples, Floats, Line, Setting, fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # of ridge regression
_DEPTHS = (0.4, 0.6, 0.8, 1.0)  # of the model


class FittedJudge(NamedTuple):
    """One line for each label, through the states after one layer."""

    layer: int  # its place among the layers of the states
    lines: Sequence[Line]  # of KINDS

    def label(self, states: npt.NDArray[Any]) -> list[Label]:
        """states (n, L, d) -> n labels."""
        values = [line.rate(states[:, self.layer].astype(np.float64)) for line in self.lines]
        return [KINDS[i] for i in np.argmax(values, axis=0)]


class Tried(NamedTuple):
    """A candidate, and how far it agrees with people out of fold."""

    layer: int
    penalty: float
    found: Agreement


def layers_of_judge(depth: int) -> tuple[int, ...]:
    """After which of a model's layers states are looked at."""
    return tuple(dict.fromkeys(math.ceil(depth * share) for share in _DEPTHS))


def reply_states(
    model: "PreTrainedModel",
    chat: Chat,
    replies: Sequence[tuple[str, str]],
    layers: Sequence[int],
    max_tokens: int,
) -> npt.NDArray[np.float32]:
    """States at the end of each reply, given as its prompt and its text: (n, L, hidden size). `max_tokens`:
    of a packed pass."""
    ids = [
        chat.prompt_ids(({"role": "user", "content": prompt},)) + chat.answer_ids(text)
        for prompt, text in replies
    ]
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    found: list[Any] = [None] * len(ids)
    for part in packed_ranges([ids[i] for i in order], [0] * len(ids), max_tokens):
        members = order[part.start : part.stop]
        states = hidden_states(model, [ids[i] for i in members], layers)
        for i, state in zip(members, states, strict=True):
            found[i] = state
    return np.stack(found)


def fit_judge(
    states: npt.NDArray[Any], items: Sequence[ControlItem]
) -> tuple[FittedJudge, list[Tried]]:
    """The judge with the highest kappa, fitted on all of the control set, and all that were tried, the best
    first. states (n, L, d), of the items' replies."""
    folds = np.array([item.category for item in items])
    if len(set(folds)) < 2:
        raise UserError("control: the control set needs replies of two categories or more")
    tried = []
    for layer in range(states.shape[1]):
        values = np.empty((len(_PENALTIES), len(KINDS), len(items)))
        for fold in np.unique(folds):
            out = folds == fold
            for at, lines in enumerate(_lines(states[~out, layer], items, ~out)):
                values[at][:, out] = [line.rate(states[out, layer]) for line in lines]
        for penalty, of in zip(_PENALTIES, values, strict=True):
            labels = [KINDS[i] for i in np.argmax(of, axis=0)]
            tried.append(Tried(layer, penalty, judge_agreement(items, labels)))
    tried.sort(key=lambda one: -one.found.kappa)
    best = tried[0]
    whole = _lines(states[:, best.layer], items, np.ones(len(items), dtype=bool))
    return FittedJudge(best.layer, whole[_PENALTIES.index(best.penalty)]), tried


def _lines(
    states: npt.NDArray[Any], items: Sequence[ControlItem], kept: npt.NDArray[np.bool_]
) -> list[list[Line]]:
    """Of each penalty the line of each label. states: (m, d), of those that are kept."""
    labels = np.array([item.label for item in items])[kept]
    nobody: Floats = np.empty((0, states.shape[1]))
    settings = [Setting(0.0, penalty) for penalty in _PENALTIES]
    of_label = [
        fit(
            Examples(
                states.astype(np.float64),
                (labels == label).astype(np.float64),
                nobody,
                np.empty(0, dtype=np.intp),
            ),
            settings,
        )
        for label in KINDS
    ]
    return [list(lines) for lines in zip(*of_label, strict=True)]
