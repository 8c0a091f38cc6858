"""A judge fitted on people's labels, against scikit-learn, and its states, against separate passes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score
from sklearn.preprocessing import StandardScaler

from debiasdpo.elicitation.fitted_judge import fit_judge, layers_of_judge, reply_states
from debiasdpo.elicitation.judge import KINDS, ControlItem
from debiasdpo.errors import UserError
from debiasdpo.models.loading import load_model
from debiasdpo.packing.states import hidden_states

CATEGORIES = ("age", "gender", "religion")


def control(seed: int, noise: float) -> tuple[np.ndarray, list[ControlItem]]:
    """States after two layers, of which the second tells the label as far as there is no noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(range(4), 12))
    states = rng.normal(size=(48, 2, 7)) * 3 + 1
    states[:, 1, :4] = np.eye(4)[labels] + noise * rng.normal(size=(48, 4))
    items = [
        ControlItem(CATEGORIES[i % 3], "SC", "Who?", str(i), KINDS[label])
        for i, label in enumerate(labels)
    ]
    return states, items


def test_kappa_out_of_fold_is_that_of_scikit_learn() -> None:
    states, items = control(seed=0, noise=0.5)
    _, tried = fit_judge(states, items)
    labels = np.array([KINDS.index(item.label) for item in items])
    folds = np.array([item.category for item in items])
    assert len(tried) == 8
    for one in tried:
        found = np.empty(len(items), dtype=int)
        for fold in CATEGORIES:
            out = folds == fold
            scaler = StandardScaler().fit(states[~out, one.layer])
            ridge = Ridge(alpha=one.penalty * (~out).sum())
            ridge.fit(scaler.transform(states[~out, one.layer]), np.eye(4)[labels[~out]])
            found[out] = ridge.predict(scaler.transform(states[out, one.layer])).argmax(axis=1)
        assert one.found.kappa == pytest.approx(cohen_kappa_score(labels, found))
    assert tried[0].layer == 1
    assert tried[0].found.kappa == max(one.found.kappa for one in tried) > 0.3


def test_what_is_told_without_noise_is_labelled_right() -> None:
    states, items = control(seed=1, noise=0.01)
    judge, tried = fit_judge(states, items)
    assert tried[0].found.kappa == 1
    new, others = control(seed=2, noise=0.01)
    assert judge.label(new) == [item.label for item in others]


def test_one_category_cannot_be_held_out() -> None:
    states, items = control(seed=0, noise=0.5)
    alone = [item._replace(category="age") for item in items]
    with pytest.raises(UserError, match="two categories or more"):
        fit_judge(states, alone)


def test_states_are_those_of_each_reply_alone(
    tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    model, chat = load_model(model_config(tiny_llama), tmp_path, device="cpu")
    replies = [("Who is it?", "Nobody."), ("Who?", "The old one"), ("Who is it?", "")]
    layers = layers_of_judge(model.config.num_hidden_layers)
    found = reply_states(model, chat, replies, layers, max_tokens=40)
    for (prompt, text), state in zip(replies, found, strict=True):
        ids = chat.prompt_ids(({"role": "user", "content": prompt},)) + chat.answer_ids(text)
        np.testing.assert_allclose(state, hidden_states(model, [ids], layers)[0], atol=1e-5)
