"""The ranking term of a step, whose documents run in different passes and processes.

It depends on the expected ratings E_i of all of them at once. These are found first, without gradients; the
term's slopes c_i = dL/dE_i are then constants, and c_i E_i in the pass of document i has the gradient that
the whole term would have in one pass over all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from debiasdpo.cluster import processes
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.models.modes import begin_training
from debiasdpo.packing.finite import overflow
from debiasdpo.packing.logprobs import Scorer
from debiasdpo.training.data import TokenPair, assign_passes, plan_passes
from debiasdpo.training.objective import expected_rating, ranking_loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Rank(NamedTuple):
    """The step's ranking term as one of its pairs sees it."""

    loss: float  # of the step
    slope: float  # by which this pair's expected rating changes the sum of the pairs' terms

    def term(self, expected: "Tensor") -> "Tensor":
        """The pair's share, a scalar: its mean over the step's pairs is the step's loss, and has the
        gradient of it. `expected`: the pair's expected rating."""
        return self.loss + self.slope * (expected - expected.detach())


Ranks = Mapping[str, Rank]  # by a pair's key


def rankings(pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """What a step ranks: each document and rubric once, with its levels after the neutral prompt alone."""
    of = {(pair.document, pair.ranked): pair for pair in reversed(pairs)}
    ranked = [pair for pair in pairs if of[pair.document, pair.ranked] is pair]
    alone = TokenPair("", "", (), ())
    return [
        replace(
            alone, key=pair.key, document=pair.document, ranked=pair.ranked, neutral=pair.neutral,
            levels=pair.levels, score=pair.score,
        )
        for pair in ranked
    ]  # fmt: skip


def rank_step(
    model: "torch.nn.Module",
    pairs: Sequence[TokenPair],
    *,
    config: TrainConfig,
    score: Scorer,
    temperature: float,
) -> Ranks:
    """The ranks of a step's pairs, by key; none where the method does not rank. Every process takes its share
    of the passes, and returns the same. `UserError` where an expected rating is not a number.

    Dropout is off: the order is that of the model without it.
    """
    import torch

    if not pairs or pairs[0].ranked is None:
        return {}
    ranked = rankings(pairs)
    place = {pair.key: i for i, pair in enumerate(ranked)}
    expected = torch.zeros(len(ranked), dtype=torch.float64)
    training = model.training
    model.eval()
    passes = plan_passes(ranked, config)
    with torch.no_grad():
        for one in assign_passes(
            passes, processes.rank(), processes.size(), together=config.adapter == "full"
        ):
            scored = score(model, [c for pair in one.pairs for c in pair.neutral])
            if not one.counts:
                continue
            rows = scored.double().cpu().split([len(pair.neutral) for pair in one.pairs])
            for pair, row in zip(one.pairs, rows, strict=True):
                expected[place[pair.key]] = expected_rating(row, pair.levels)
    if training:
        begin_training(model)
    processes.all_reduce(expected)
    for pair in ranked:
        if not bool(expected[place[pair.key]].isfinite()):
            raise _overflow(pair, model)
    expected.requires_grad_()
    scores, within = [p.score for p in ranked], [f"{p.ranked}" for p in ranked]
    loss = ranking_loss(expected, scores, within, temperature)
    (slopes,) = torch.autograd.grad(loss, expected)
    value = loss.item()
    units = [(pair.document, pair.ranked) for pair in pairs]
    of_unit = {(p.document, p.ranked): slopes[place[p.key]].item() for p in ranked}
    return {
        pair.key: Rank(value, of_unit[unit] * len(pairs) / units.count(unit))
        for pair, unit in zip(pairs, units, strict=True)
    }


def _overflow(pair: TokenPair, model: "torch.nn.Module") -> UserError:
    return overflow(f"the expected rating of pair {pair.key}", model, "lower train.learning_rate")
