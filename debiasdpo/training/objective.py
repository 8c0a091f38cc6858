"""The objective, as pure functions of log-probabilities: no model, no tokens.

    L = w_dpo * L_preference + w_imitation * L_imitation + w_sft * L_SFT + w_consistency * L_consistency
        + w_ranking * L_ranking + w_activation * L_activation

of which a method has some terms (docs/methods.md). Debiasing-DPO (arXiv 2604.02585) has L_preference and
L_SFT:

    L_preference = loss.preference of r_w and r_l (`preference_loss`)
    L_imitation = -log pi(y_w|x_c) / |y_w|
    L_SFT = sum of the losses of method.fit, over the prompts x of method.sft:
        cross_entropy: -sum_k s_k log pi(a_k|x) / sum_k s_k |a_k|
        squared_error: (E(x) - s)^2
    L_consistency = KL(pi(.|x_n) || pi(.|x_c)),                            no gradient through pi(.|x_n)
                 or KL(ref(.|x_n) || pi(.|x_c)) + KL(ref(.|x_n) || pi(.|x_n))
    L_ranking = mean of -log sigmoid((E(x_i) - E(x_j)) / temperature) over the couples of neutral prompts of
        a step, of one rubric, with s_i > s_j
    L_activation = mean over layers of |h(x_c) - h(x_n)|^2 / |h(x_n)|^2,            no gradient through h(x_n)

with x_c the contextual and x_n the neutral prompt, y_w the chosen and y_l the rejected completion,
r_w = log pi(y_w|x_c) - log ref(y_w|x_c), r_l the same of y_l, and a_k = "Rating: k", of |a_k| tokens. An
expert score that is a level k of the scale has s_k = 1; one between two levels has shares s of both, so
that sum_k s_k k is the score; with method.width all levels have some (`targets.soft_shares`). E(x) is the
expected rating and s the score, both in standard units of the scale (`targets.in_standard_units`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from debiasdpo.config.method import LossConfig


# Each has a weight, loss.w_<term>.
TERMS = ("dpo", "imitation", "sft", "consistency", "ranking", "activation")


class PairTerms(NamedTuple):
    """What each pair contributes, shape (P,) each; nothing is averaged yet."""

    loss: "Tensor"
    dpo: "Tensor"  # the preference loss
    imitation: "Tensor"
    sft: "Tensor"
    consistency: "Tensor"
    ranking: "Tensor"
    activation: "Tensor"
    margin: "Tensor"  # see `reward_margin`; no gradient


def reward_margin(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """m = beta * (r_w - r_l), (P,): how much more of the implicit reward (Rafailov et al. 2023) the chosen
    completion has than the rejected one. chosen and rejected (P,): r_w and r_l."""
    return beta * (chosen - rejected)


def preference_loss(
    chosen: "Tensor",
    rejected: "Tensor",
    lengths: "tuple[Tensor | int, Tensor | int]",
    loss: "LossConfig",
) -> "Tensor":
    """The loss of each pair, (P,), which `loss.preference` names; each is TRL's of that name.

    chosen and rejected (P,): r_w and r_l, summed over the tokens of y_w and y_l, whose numbers are
    `lengths`. With m the `reward_margin` and e = loss.label_smoothing, the share of swapped pairs:

        sigmoid:  -log sigmoid(m)                                  Rafailov et al. 2023, arXiv 2305.18290
        ipo:      (r_w / |y_w| - r_l / |y_l| - 1 / (2 beta))^2     Azar et al. 2023, arXiv 2310.12036
        hinge:    max(0, 1 - m)                                    Zhao et al. 2023, arXiv 2305.10425
        robust:   (-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e)
                                                                   Chowdhury et al. 2024, arXiv 2403.00409

    The paper of ipo (eq. 17) has r_w and r_l themselves. TRL takes them by the token, as the paper's
    authors did, so that long completions do not weigh more. robust has no lower bound.
    """
    import torch

    logsigmoid = torch.nn.functional.logsigmoid
    margin = reward_margin(chosen, rejected, loss.beta)
    match loss.preference:
        case "sigmoid":
            return -logsigmoid(margin)
        case "ipo":
            difference = chosen / lengths[0] - rejected / lengths[1]
            return (difference - 1 / (2 * loss.beta)) ** 2
        case "hinge":
            return torch.relu(1 - margin)
        case "robust":
            swapped = loss.label_smoothing
            as_given, as_swapped = -logsigmoid(margin), -logsigmoid(-margin)
            return ((1 - swapped) * as_given - swapped * as_swapped) / (1 - 2 * swapped)


def soft_cross_entropy(answers: "Tensor", tokens: "Tensor", shares: "Tensor") -> "Tensor":
    """-sum_k s_k log pi(a_k|x) / sum_k s_k |a_k| of each of n prompts x: (n,), in nats a token.

    answers (n, K): log-probabilities of the answers for K levels; tokens (n, K): their lengths |a_k|; shares
    (K,): s_k, adding up to 1. Least where pi gives the answers the shares' odds: the lengths divide the
    whole, since dividing each answer by its own would favour the shorter one (3 before 3.5, 9 before 10).
    """
    return -(answers @ shares) / (tokens @ shares)


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


def activation_distance(neutral: "Tensor", contextual: "Tensor") -> "Tensor":
    """How far hidden states with context are from those without it: |h_c - h_n|^2 / |h_n|^2 of each layer,
    summed over tokens and dimensions; their mean over layers, a scalar.

    neutral and contextual (layers, tokens, hidden size): of the same tokens; the first is the target, and
    carries no gradient. Activation consistency training (Irpan et al. 2025, arXiv 2510.27062) has the
    squares themselves; relative to the target, layers with long states do not outweigh the others.
    """
    target = neutral.detach().float()
    apart = ((contextual.float() - target) ** 2).sum((1, 2))
    return (apart / (target**2).sum((1, 2))).mean()


def expected_rating(levels: "Tensor", values: Sequence[float]) -> "Tensor":
    """E = sum_k p(k) k with p normalised over the scale, a scalar in the units of `values`.

    levels (K,): log-probabilities of "Rating: k" for the K levels, whose values are `values`.
    """
    import torch

    return torch.softmax(levels, 0) @ levels.new_tensor(values)


def squared_error(expected: "Tensor", score: float) -> "Tensor":
    """(E - s)^2: regression-aware fine-tuning (Lukasik et al. 2024, arXiv 2403.04182). In standard units of
    the scale, 1 is what a rater errs by who says the middle where all levels are as frequent."""
    return (expected - score) ** 2


def ranking_loss(
    expected: "Tensor", scores: Sequence[float], within: Sequence[str], temperature: float
) -> "Tensor":
    """-log sigmoid((E_i - E_j) / temperature), the mean over all couples with s_i > s_j of one group: a
    scalar, 0 where there is no couple. RankNet (Burges et al. 2005, Learning to rank using gradient descent,
    ICML).

    expected (n,): expected ratings; scores, within: the score and the group (rubric) of each.
    """
    import torch

    couples = [
        (i, j)
        for i in range(len(scores))
        for j in range(len(scores))
        if within[i] == within[j] and scores[i] > scores[j]
    ]
    if not couples:
        return expected.sum() * 0
    better, worse = (list(side) for side in zip(*couples, strict=True))
    margins = (expected[better] - expected[worse]) / temperature
    return -torch.nn.functional.logsigmoid(margins).mean()


def weighted(config: "LossConfig", margin: "Tensor", terms: "Mapping[str, Tensor]") -> PairTerms:
    """The sum of the terms, all (P,) and by their names; a term that is not there is 0."""
    import torch

    zero = torch.zeros_like(margin)
    of = {name: terms.get(name, zero) for name in TERMS}
    loss = sum((getattr(config, f"w_{name}") * term for name, term in of.items()), zero)
    return PairTerms(loss=loss, **of, margin=margin.detach())
