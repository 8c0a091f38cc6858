"""The objective, as pure functions of log-probabilities: no model, no tokens.

    L = w_dpo * L_DPO + w_sft * L_SFT + w_consistency * L_consistency

of which a method has some terms (docs/methods.md). Debiasing-DPO (arXiv 2604.02585) has the first two:

    L_DPO = -log sigmoid(beta * [(log pi(y_w|x_c) - log ref(y_w|x_c))
                               - (log pi(y_l|x_c) - log ref(y_l|x_c))])       (Rafailov et al. 2023, eq. 7)
    L_SFT = -sum_x log pi(a|x) / |a|,                                  over the prompts x of method.sft
    L_consistency = KL(pi(.|x_n) || pi(.|x_c)),                            no gradient through pi(.|x_n)
                 or KL(ref(.|x_n) || pi(.|x_c)) + KL(ref(.|x_n) || pi(.|x_n))

with x_c the contextual and x_n the neutral prompt, y_w the chosen and y_l the rejected completion, and
a = "Rating: <expert score>", |a| its number of tokens.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from debiasdpo.config.method import LossConfig


class PairTerms(NamedTuple):
    """What each pair contributes, shape (P,) each; nothing is averaged yet."""

    loss: "Tensor"
    dpo: "Tensor"
    sft: "Tensor"
    consistency: "Tensor"
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


def rating_divergence(neutral: "Tensor", contextual: "Tensor") -> "Tensor":
    """KL(p || q) of a pair's rating distributions with and without context, in nats, a scalar.

    neutral and contextual (K,): log-probabilities of "Rating: k" for the K levels of the scale, each
    normalised over the scale here. The first is the target, and carries no gradient.
    """
    import torch

    target = torch.log_softmax(neutral.detach(), 0)
    return (target.exp() * (target - torch.log_softmax(contextual, 0))).sum()


def reasoning_divergence(neutral: "Tensor", contextual: "Tensor", tokens: int) -> "Tensor":
    """How differently likely the neutral reasoning is with and without context, a scalar, 0 or more.

        (log pi(y|x_n) - log pi(y|x_c))^2 / (2 |y|)

    neutral, contextual: log-probability of that reasoning y, of so many tokens, after either prompt,
    scalars; the neutral side carries no gradient. For a y that the model as it is now would write, this
    is the estimate "k2" of its KL (Schulman 2020, Approximating KL divergence), a token; y is what the
    untrained model wrote. `rating_divergence`, after that reasoning, is the chain rule's other part.
    """
    return (neutral.detach() - contextual) ** 2 / (2 * tokens)


def weighted(
    dpo: "Tensor",
    margin: "Tensor",
    sft: "Tensor",
    consistency: "Tensor",
    weights: "LossConfig",
) -> PairTerms:
    """The sum of the terms, all (P,); a term that the method lacks is 0."""
    loss = weights.w_dpo * dpo + weights.w_sft * sft + weights.w_consistency * consistency
    return PairTerms(loss, dpo, sft, consistency, margin.detach())
