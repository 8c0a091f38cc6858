"""The objective, as pure functions of log-probabilities: no model, no tokens.

Debiasing-DPO (arXiv 2604.02585):  L = w_dpo * L_DPO + w_sft * L_SFT, where

    L_DPO = -log sigmoid(beta * [(log pi(y_w|x_c) - log ref(y_w|x_c))
                               - (log pi(y_l|x_c) - log ref(y_l|x_c))])       (Rafailov et al. 2023, eq. 7)
    L_SFT = -log pi(a|x_n) / |a|

with x_c the contextual and x_n the neutral prompt, y_w the model's own neutral and y_l its own biased
reasoning, and a = "Rating: <expert score>", |a| its number of tokens.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class PairTerms(NamedTuple):
    """What each pair contributes, shape (P,) each; nothing is averaged yet."""

    loss: "Tensor"
    dpo: "Tensor"
    sft: "Tensor"
    margin: "Tensor"  # beta * (implicit reward of chosen - of rejected), no gradient


def dpo_loss(
    policy_chosen: "Tensor",
    policy_rejected: "Tensor",
    reference_chosen: "Tensor",
    reference_rejected: "Tensor",
    beta: float,
) -> "tuple[Tensor, Tensor]":
    """Loss and reward margin of each pair, both (P,), from summed log-probabilities, each (P,)."""
    import torch

    margin = beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))
    return -torch.nn.functional.logsigmoid(margin), margin


def debiasing_dpo(
    dpo: "Tensor",
    margin: "Tensor",
    policy_answer: "Tensor",
    answer_tokens: "Tensor",
    *,
    w_dpo: float,
    w_sft: float,
) -> PairTerms:
    """All arguments (P,): loss and margin as `dpo_loss` gives them (or another preference loss), the
    summed log-probability of each answer, and its number of tokens."""
    sft = -policy_answer / answer_tokens
    return PairTerms(w_dpo * dpo + w_sft * sft, dpo, sft, margin.detach())
