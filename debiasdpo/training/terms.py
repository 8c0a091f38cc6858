"""The objective's terms of pairs under a model, and the reference that they are held against."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from debiasdpo.config.method import LossConfig
from debiasdpo.config.model import Attention
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.packing.finite import each_finite, overflow, require_finite
from debiasdpo.packing.logprobs import Completion, separate_logprobs, sequence_logprobs
from debiasdpo.storage.files import Progress, no_progress
from debiasdpo.storage.journal import Journal
from debiasdpo.training.data import Pass, TokenPair
from debiasdpo.training.objective import (
    PairTerms,
    preference_loss,
    rating_divergence,
    reasoning_divergence,
    reward_margin,
    soft_cross_entropy,
    weighted,
)

if TYPE_CHECKING:
    import torch

# By a pair's key: log-probabilities of the sequences of its for_reference().
Reference = Mapping[str, Sequence[float]]
Scorer = Callable[["torch.nn.Module", Sequence[Completion]], "torch.Tensor"]
Terms = Callable[["torch.nn.Module", Sequence[TokenPair]], PairTerms]  # of the pairs of a pass


def scorer(config: TrainConfig, attention: Attention) -> Scorer:
    """How `train.engine` finds log-probabilities; `attention` is that of packed trees."""
    if config.engine == "tree":
        return partial(sequence_logprobs, attention=attention)
    return separate_logprobs


def pair_terms(
    model: "torch.nn.Module",
    pairs: Sequence[TokenPair],
    *,
    reference: Reference,
    loss: LossConfig,
    score: Scorer,
) -> PairTerms:
    """The terms of pairs that are run together, shape (P,) each."""
    import torch

    scored = score(model, [c for pair in pairs for c in pair.completions])
    rows = scored.split([len(pair.completions) for pair in pairs])
    dpo, margin, sft, consistency = (
        torch.stack(column)
        for column in zip(
            *(_terms(p, row, reference, loss) for p, row in zip(pairs, rows, strict=True)),
            strict=True,
        )
    )
    return weighted(dpo, margin, sft, consistency, loss)


def _terms(
    pair: TokenPair, scored: "torch.Tensor", reference: Reference, loss: LossConfig
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]":
    """Preference loss, reward margin, SFT and consistency of one pair, scalars."""
    preference, answers, neutral, contextual, reasoning = scored.split(
        [len(g) for g in pair.groups]
    )
    dpo = margin = consistency = zero = scored.new_zeros(())
    known = scored.new_tensor(reference.get(pair.key, ()))
    if pair.preference:
        chosen, rejected = preference - known[:2]
        lengths = len(pair.preference[0].completion), len(pair.preference[1].completion)
        dpo = preference_loss(chosen, rejected, lengths, loss)
        margin = reward_margin(chosen, rejected, loss.beta)
        known = known[2:]
    sft = zero
    if pair.answers:
        tokens = answers.new_tensor([len(c.completion) for c in pair.answers])
        shares = answers.new_tensor(pair.shares)
        sft = soft_cross_entropy(
            answers.view(-1, len(shares)), tokens.view(-1, len(shares)), shares
        )
        sft = sft.sum() * pair.weight
    if pair.neutral:
        target = known[: len(neutral)] if pair.anchored else neutral
        for ratings in (neutral, contextual) if pair.anchored else (contextual,):
            consistency = consistency + rating_divergence(target, ratings)
    if pair.reasoning:
        length = len(pair.reasoning[0].completion)
        likely = known[-1] if pair.anchored else reasoning[0]
        for text in reasoning if pair.anchored else reasoning[1:]:
            consistency = consistency + reasoning_divergence(likely, text, length)
    return dpo, margin, sft, consistency


def present_terms(pair: TokenPair) -> tuple[str, ...]:
    """Names of the metrics that pairs like this one have, as the trainer logs them."""
    return (
        *(("dpo", "reward_margin", "reward_accuracy") if pair.preference else ()),
        *(("sft",) if pair.answers else ()),
        *(("consistency",) if pair.neutral else ()),
    )


def reference_logprobs(
    model: "torch.nn.Module",
    passes: Sequence[Pass],
    score: Scorer,
    journal: Journal,
    progress: Progress = no_progress,
) -> None:
    """Score the sequences of every pair under the untrained model, into the journal.

    Goes on after what the journal already holds. `passes` are to be the same each time: the last digit
    of a log-probability depends on the packing. `UserError` where one is not a number.
    """
    import torch
    from tqdm import tqdm

    def work(pairs: Sequence[TokenPair]) -> list[list[float]]:
        scored = score(model, [c for pair in pairs for c in pair.completions])
        require_finite(scored)
        return [part.tolist() for part in scored.split([len(p.completions) for p in pairs])]

    def fault(pair: TokenPair) -> UserError:
        return overflow(f"a log-probability of pair {pair.key}", model)

    done = {row["pair"] for row in journal.rows}
    missing = [p.pairs for p in passes if not {pair.key for pair in p.pairs} <= done]
    model.eval()
    before = len(passes) - len(missing)
    progress(before, len(passes))
    for i, members in enumerate(tqdm(missing, desc="reference", unit="pass", disable=None), 1):
        with torch.no_grad():
            logprobs = each_finite(members, work, fault)
        journal.append(
            {"pair": pair.key, "logprobs": values}
            for pair, values in zip(members, logprobs, strict=True)
        )
        progress(before + i, len(passes))
