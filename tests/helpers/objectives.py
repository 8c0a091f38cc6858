"""Pairs of texts, and losses and gradients of models on them."""

from typing import TYPE_CHECKING, Any

from debiasdpo.config.method import LossConfig
from debiasdpo.training.pairs import Pair
from tests.helpers.models import Gradients

if TYPE_CHECKING:
    import torch


def loss_config(**changes: Any) -> LossConfig:
    values = {
        "preference": "sigmoid", "label_smoothing": 0.2, "w_dpo": 1.0, "w_sft": 0.1,
        "w_consistency": 0.0, "w_ranking": 0.0, "w_imitation": 0.0,
        "w_activation": 0.0, "beta": 0.1, "temperature": 0.5,
    }  # fmt: skip
    return LossConfig.model_validate(values | changes)


def text_pairs() -> list[Pair]:
    lessons = [
        "Teacher: What is one half of a half? Student: A quarter!",
        "Teacher: Sit down. Student: When is lunch? Teacher: We'll wait.",
    ]
    contexts = ["The teacher is new.", "The teacher has taught for 25 years."]
    found = []
    for i, lesson in enumerate(lessons):
        for j, context in enumerate(contexts):
            prompts = [
                ({"role": "user", "content": f"{lesson}\n\nHow good?{c}\n\nRate it."},)
                for c in (f"\n\n{context}", "")
            ]
            found.append(Pair(
                key=f"{i}|{j}", document=f"d{i}", rubric="clarity", category="experience",
                polarity=1, statement=context, contextual_prompt=prompts[0],
                neutral_prompt=prompts[1], chosen=f"Students {'do not ' * i}explain.\nRating: 4",
                rejected=f"An {'in' * (1 - j)}experienced teacher.\nRating: {2 + 4 * j}",
                neutral_rating=4, biased_rating=2 + 4 * j, shift=4 * j - 2, score=3.0 + i,
            ))  # fmt: skip
    return found


def gradients(model: Any, loss: "torch.Tensor") -> Gradients:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(found: Gradients, expected: Gradients, tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert wanted.norm() > 0
        assert (found[name] - wanted).norm() <= tolerance * wanted.norm(), name
