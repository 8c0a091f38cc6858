"""Soft labels: the loss, and a whole training, against dense computations in plain torch."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.errors import UserError
from debiasdpo.packing.logprobs import Completion
from debiasdpo.storage.files import read_jsonl
from debiasdpo.training.distill import Recipe, distil, layers_of, student_of
from debiasdpo.training.soft_labels import Labels, soft_label_terms, teacher_labels
from debiasdpo.training.synthetic import questions, sample_texts
from tests.helpers.models import Loaded, LoadedCopy, load_stock

if TYPE_CHECKING:
    import torch

TEMPERATURE, TOP = 2.0, 8
TEXTS = [
    Completion((1, 40, 41, 42), (43, 44, 45)),
    Completion((1, 40, 41, 42), (43, 50)),
    Completion((1, 40, 99), (7, 8, 9, 10)),
    Completion((60,), (61,)),
]


@pytest.fixture
def teacher(tiny_llama: Path, loaded_copy: LoadedCopy) -> Loaded:
    return loaded_copy(tiny_llama)


def recipe(*durations: int, batch: int = len(TEXTS), hard_share: float = 0.3) -> Recipe:
    return Recipe(durations, batch, TEMPERATURE, hard_share, 1e-3, warmup=2, max_tokens=12)


def labelled(teacher: Loaded, texts: list[Completion] = TEXTS, top: int = TOP) -> Labels:
    return teacher_labels(teacher[0], texts, temperature=TEMPERATURE, top=top, max_tokens=9)


def logits_alone(model: Any, text: Completion) -> "torch.Tensor":
    import torch

    out = model(torch.tensor([text.prompt + text.completion]), use_cache=False).logits[0].float()
    return out[len(text.prompt) - 1 : -1]


# --- the loss


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), top=st.integers(1, 12), t=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_kl_is_that_of_the_top_and_the_rest(seed: int, top: int, t: float) -> None:
    import torch
    from scipy.special import log_softmax, rel_entr

    rng = np.random.default_rng(seed)
    teacher, student = rng.normal(0, 3, (2, 5, 12))
    p, q = (np.exp(log_softmax(x / t, axis=1)) for x in (teacher, student))
    order = np.argsort(-p, axis=1)[:, :top]
    hard = rng.integers(0, 12, 5)

    def coarse(x: np.ndarray) -> np.ndarray:
        kept = np.take_along_axis(x, order, 1)
        left = [np.delete(row, taken).sum() for row, taken in zip(x, order, strict=True)]
        return np.concatenate([kept, np.array(left)[:, None]], 1)

    logp = torch.tensor(np.log(np.take_along_axis(p, order, 1)))
    kl, cross = soft_label_terms(
        torch.tensor(student), torch.tensor(order), logp, torch.tensor(hard), t
    )
    assert kl.numpy() == pytest.approx(rel_entr(coarse(p), coarse(q)).sum(1), abs=1e-9)
    assert (kl.numpy() <= rel_entr(p, q).sum(1) + 1e-9).all()
    if top == 12:
        assert kl.numpy() == pytest.approx(rel_entr(p, q).sum(1), abs=1e-9)
    assert cross.numpy() == pytest.approx(-log_softmax(student, axis=1)[range(5), hard])
    own, _ = soft_label_terms(
        torch.tensor(teacher), torch.tensor(order), logp, torch.tensor(hard), t
    )
    assert own.numpy() == pytest.approx(0, abs=1e-9)


def test_labels_are_the_teachers_likeliest_tokens(
    teacher: Loaded, tiny_llama: Path, tmp_path: Path
) -> None:
    import torch

    labels = labelled(teacher)
    labels.save(tmp_path / "labels.npz")
    labels = Labels.load(tmp_path / "labels.npz")
    stock, start = load_stock(tiny_llama), 0
    for text in TEXTS:
        with torch.no_grad():
            expected = (logits_alone(stock, text) / TEMPERATURE).log_softmax(-1).topk(TOP)
        rows = slice(start, start + len(text.completion))
        np.testing.assert_allclose(labels.logp[rows], expected.values, rtol=1e-4, atol=1e-5)
        assert labels.hard[rows].tolist() == list(text.completion)
        probabilities = (logits_alone(stock, text) / TEMPERATURE).log_softmax(-1).detach().numpy()
        taken = np.take_along_axis(probabilities, labels.top[rows].astype(np.int64), 1)
        np.testing.assert_allclose(taken, labels.logp[rows], rtol=1e-4, atol=1e-5)
        start += len(text.completion)
    assert start == len(labels.hard)


def test_permuted_labels_are_those_of_other_places(teacher: Loaded) -> None:
    labels = labelled(teacher)
    mixed = labels.permuted(1)
    assert not np.array_equal(mixed.hard, labels.hard)
    assert np.array_equal(labels.permuted(1).logp, mixed.logp)

    def rows(of: Labels) -> set[tuple[Any, ...]]:
        return {
            (*t, *p, h) for t, p, h in zip(of.top.tolist(), of.logp.tolist(), of.hard, strict=True)
        }

    assert rows(mixed) == rows(labels)  # a place's labels stay together


# --- students


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert layers_of(30, 6) == [0, 6, 12, 17, 23, 29]
    assert layers_of(30, 30) == list(range(30))
    assert layers_of(12, 1) == [0]


def test_a_student_of_all_layers_is_the_teacher_and_a_shorter_one_has_its_layers(
    teacher: Loaded, tiny_llama: Path
) -> None:
    import torch

    with torch.no_grad():
        expected = logits_alone(load_stock(tiny_llama), TEXTS[0])
        ids = torch.tensor([TEXTS[0].prompt + TEXTS[0].completion])
        whole = student_of(teacher[0], 2, random_start=False, seed=0)
        whole.set_attn_implementation("eager")
        torch.testing.assert_close(whole(ids).logits[0, 3:-1], expected, rtol=1e-4, atol=1e-4)
    short = student_of(teacher[0], 1, random_start=False, seed=0)
    assert short.config.num_hidden_layers == 1
    own = dict(teacher[0].named_parameters())
    for name, parameter in short.named_parameters():
        assert torch.equal(parameter, own[name]), name
        assert parameter.requires_grad == ("embed" not in name)
    drawn = [student_of(teacher[0], 2, random_start=True, seed=seed) for seed in (0, 0, 1)]
    projections = [s.model.layers[1].mlp.up_proj.weight for s in drawn]
    assert torch.equal(projections[0], projections[1])
    assert not torch.equal(projections[0], projections[2])
    assert torch.equal(drawn[0].lm_head.weight, teacher[0].lm_head.weight)


def test_training_is_that_of_a_dense_loss(
    teacher: Loaded, tiny_llama: Path, tmp_path: Path
) -> None:
    """Loss, gradient, clipping, warm-up and AdamW: the weights after four steps."""
    import torch

    labels, stock = labelled(teacher, top=300), load_stock(tiny_llama)
    student = student_of(teacher[0], 1, random_start=False, seed=0)
    dense = copy.deepcopy(student)
    dense.set_attn_implementation("eager")
    kl_of_dense, cross_of_dense, hard_share = [], [], 0.3
    trained = [p for p in dense.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 2)
        losses, divergences, crosses = [], [], []
        for text in TEXTS:
            with torch.no_grad():
                p = (logits_alone(stock, text) / TEMPERATURE).softmax(-1)
            logits = logits_alone(dense, text)
            q = (logits / TEMPERATURE).softmax(-1)
            kept = p.topk(300).indices
            p_top, q_top = p.gather(1, kept), q.gather(1, kept)
            p_rest, q_rest = 1 - p_top.sum(1), 1 - q_top.sum(1)
            kl = (p_top * (p_top / q_top).log()).sum(1) + p_rest * (p_rest / q_rest).log()
            hard = torch.nn.functional.cross_entropy(
                logits, torch.tensor(text.completion), reduction="none"
            )
            losses.append((1 - hard_share) * TEMPERATURE**2 * kl + hard_share * hard)
            divergences.append(kl.detach())
            crosses.append(hard.detach())
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        kl_of_dense.append(float(torch.cat(divergences).mean()))
        cross_of_dense.append(float(torch.cat(crosses).mean()))
    seen: list[int] = []

    def assess(model: Any, step: int) -> dict[str, int]:
        seen.append(step)
        return {"layers": model.config.num_hidden_layers}

    rows = distil(student, TEXTS, labels, recipe(0, 2, 4), seed=0, folder=tmp_path, assess=assess)
    assert rows == [{"step": step, "layers": 1} for step in (0, 2, 4)]
    assert seen == [0, 2, 4]
    steps = read_jsonl(tmp_path / "steps.jsonl")
    assert [row["kl"] for row in steps] == pytest.approx(kl_of_dense, rel=1e-3)
    assert [row["cross_entropy"] for row in steps] == pytest.approx(cross_of_dense, rel=1e-3)
    assert steps[-1]["cross_entropy"] < steps[0]["cross_entropy"]
    for mine, theirs in zip(student.parameters(), dense.parameters(), strict=True):
        # Adam divides a gradient by its own size: where that is near 0, rounding decides.
        assert float((mine - theirs).detach().norm() / theirs.detach().norm()) < 1e-3


def test_a_killed_training_ends_in_the_same_weights(teacher: Loaded, tmp_path: Path) -> None:
    import torch

    labels = labelled(teacher)
    ends: dict[str, Callable[[Any, int], dict[str, float]]] = {}
    students = {}
    steps = {}

    def weight(model: Any, step: int) -> dict[str, float]:
        return {"weight": float(model.model.layers[0].mlp.up_proj.weight.detach().double().sum())}

    def killed(at: int) -> Callable[[Any, int], dict[str, float]]:
        def assess(model: Any, step: int) -> dict[str, float]:
            if step == at:
                raise KeyboardInterrupt
            return weight(model, step)

        return assess

    ends = {"whole": weight, "killed": killed(5), "killed at once": killed(1)}
    for name, assess in ends.items():
        folder = tmp_path / name
        folder.mkdir()
        found = []
        for current in (assess, weight):
            students[name] = student_of(teacher[0], 1, random_start=False, seed=0)
            try:
                found = distil(
                    students[name], TEXTS, labels, recipe(0, 1, 3, 5, batch=2), seed=4,
                    folder=folder, assess=current,
                )  # fmt: skip
                break
            except KeyboardInterrupt:
                continue
        steps[name] = found
        assert [row["step"] for row in found] == [0, 1, 3, 5]
        assert len((folder / "steps.jsonl").read_text().splitlines()) == 5
    assert steps["whole"] == steps["killed"] == steps["killed at once"]
    for name in ("killed", "killed at once"):
        own = students["whole"].state_dict()
        assert all(torch.equal(own[n], v) for n, v in students[name].state_dict().items())
    # Finished: found, not made again.
    again = distil(
        students["whole"], TEXTS, labels, recipe(0, 1, 3, 5), seed=4, folder=tmp_path / "whole",
        assess=killed(0),
    )  # fmt: skip
    assert again == steps["whole"]


# --- texts


def test_texts_are_a_teachers_answers_and_end_as_they_end(teacher: Loaded) -> None:
    model, chat = teacher
    asked = questions(9, seed=3)
    assert asked == questions(9, seed=3) != questions(9, seed=4)
    texts = sample_texts(model, chat, asked, tokens=5, seed=0, rows=4)
    for text, question in zip(texts, asked, strict=True):
        assert text.prompt == chat.prompt_ids(({"role": "user", "content": question},))
        assert len(text.completion) == 5 or text.completion[-1] == chat.end[0]
    one = sample_texts(model, chat, asked, tokens=5, seed=0, rows=9)
    assert one == texts  # what is drawn does not depend on what runs with it
    assert sample_texts(model, chat, asked, tokens=5, seed=1, rows=9) != texts


def test_questions_held_out_are_none_of_those_asked() -> None:
    found = questions(256, seed=0, held_out=64)
    assert found[:256] == questions(256, seed=0)
    assert len(found) == 320
    assert not set(found[:256]) & set(found[256:])
    with pytest.raises(UserError, match="texts: 300000 ask nearly every question"):
        questions(300_000, seed=0, held_out=4)
