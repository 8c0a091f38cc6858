"""The objective's terms of pairs under a model, and the reference that they are held against."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from debiasdpo.cluster.threads import ONE_THREAD, Threads, in_order
from debiasdpo.config.method import LossConfig
from debiasdpo.config.model import Attention
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.packing.finite import each_finite, overflow, require_finite
from debiasdpo.packing.logprobs import Scorer, States, separate_logprobs, sequence_logprobs
from debiasdpo.storage.files import Progress, no_progress
from debiasdpo.storage.journal import Journal
from debiasdpo.training.data import Pass, TokenPair
from debiasdpo.training.objective import (
    PairTerms,
    activation_distance,
    expected_rating,
    preference_loss,
    rating_divergence,
    reasoning_divergence,
    reward_margin,
    soft_cross_entropy,
    squared_error,
    weighted,
)
from debiasdpo.training.ranking import Ranks

if TYPE_CHECKING:
    import torch

# By a pair's key: log-probabilities of the sequences of its for_reference().
Reference = Mapping[str, Sequence[float]]
# Of the pairs of a pass; with their ranks in the step, where the method ranks.
Terms = Callable[["torch.nn.Module", Sequence[TokenPair], Ranks], PairTerms]


def scorer(config: TrainConfig, attention: Attention) -> Scorer:
    """How `train.engine` finds log-probabilities; `attention` is that of packed trees."""
    if config.engine == "tree":
        return partial(sequence_logprobs, attention=attention)
    return separate_logprobs


def pair_terms(
    model: "torch.nn.Module",
    pairs: Sequence[TokenPair],
    ranks: Ranks | None = None,
    *,
    reference: Reference,
    loss: LossConfig,
    score: Scorer,
) -> PairTerms:
    """The terms of pairs that are run together, shape (P,) each."""
    import torch

    states = States([c for pair in pairs for c in pair.behind])
    scored = score(model, [c for pair in pairs for c in pair.completions], states=states)
    rows = scored.split([len(pair.completions) for pair in pairs])
    found = [
        _terms(pair, row, reference, loss, ranks or {})
        for pair, row in zip(pairs, rows, strict=True)
    ]
    behind = iter(states.found)
    for pair, terms in zip(pairs, found, strict=True):
        if pair.behind:
            terms["activation"] = activation_distance(next(behind), next(behind))
    zero = scored.new_zeros(())
    columns = {
        name: torch.stack([terms.get(name, zero) for terms in found])
        for name in dict.fromkeys(["margin", *(name for terms in found for name in terms)])
    }
    return weighted(loss, columns.pop("margin"), columns)


def _terms(
    pair: TokenPair, scored: "torch.Tensor", reference: Reference, loss: LossConfig, ranks: Ranks
) -> "dict[str, torch.Tensor]":
    """The terms that one pair has and, where it has a preference, its reward margin: scalars."""
    preference, answers, neutral, contextual, reasoning, imitated = scored.split(
        [len(g) for g in pair.groups]
    )
    found = {}
    known = scored.new_tensor(reference.get(pair.key, ()))
    if pair.preference:
        chosen, rejected = preference - known[:2]
        lengths = len(pair.preference[0].completion), len(pair.preference[1].completion)
        losses = preference_loss(chosen, rejected, lengths, loss)
        found["dpo"] = losses * pair.preference_weight
        found["margin"] = reward_margin(chosen, rejected, loss.beta)
        known = known[2:]
    if pair.imitated:
        found["imitation"] = -imitated[0] / len(pair.imitated[0].completion)
    sft = []
    if pair.answers:
        tokens = answers.new_tensor([len(c.completion) for c in pair.answers])
        shares = answers.new_tensor(pair.shares)
        sft.append(
            soft_cross_entropy(
                answers.view(-1, len(shares)), tokens.view(-1, len(shares)), shares
            ).sum()
        )
    for prompt in pair.regressed:
        ratings = {"neutral": neutral, "contextual": contextual}[prompt]
        sft.append(squared_error(expected_rating(ratings, pair.levels), pair.score))
    if sft:
        found["sft"] = sum(sft, scored.new_zeros(())) * pair.weight
    consistency = []
    if pair.consistent:
        target = known[: len(neutral)] if pair.anchored else neutral
        held = (neutral, contextual) if pair.anchored else (contextual,)
        consistency += [rating_divergence(target, ratings) for ratings in held]
    if pair.reasoning:
        length = len(pair.reasoning[0].completion)
        likely = known[-1] if pair.anchored else reasoning[0]
        texts = reasoning if pair.anchored else reasoning[1:]
        consistency += [reasoning_divergence(likely, text, length) for text in texts]
    if consistency:
        found["consistency"] = sum(consistency, scored.new_zeros(()))
    if pair.ranked is not None:
        found["ranking"] = ranks[pair.key].term(expected_rating(neutral, pair.levels))
    return found


def present_terms(pair: TokenPair) -> tuple[str, ...]:
    """Names of the metrics that pairs like this one have, as the trainer logs them."""
    return (
        *(("dpo", "reward_margin", "reward_accuracy") if pair.preference else ()),
        *(("imitation",) if pair.imitated else ()),
        *(("sft",) if pair.answers or pair.regressed else ()),
        *(("consistency",) if pair.consistent else ()),
        *(("ranking",) if pair.ranked is not None else ()),
        *(("activation",) if pair.behind else ()),
    )


def reference_logprobs(
    model: "torch.nn.Module",
    passes: Sequence[Pass],
    score: Scorer,
    journal: Journal,
    progress: Progress = no_progress,
    threads: Threads = ONE_THREAD,
) -> None:
    """Score the sequences of every pair under the untrained model, into the journal.

    Goes on after what the journal already holds. `passes` are to be the same each time: the last digit
    of a log-probability depends on the packing. `threads`: in which passes are made. `UserError` where one is
    not a number.
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

    def score_pass(members: Sequence[TokenPair]) -> list[list[float]]:
        with torch.no_grad():
            return each_finite(members, work, fault)

    made = in_order(missing, score_pass, threads)
    bar = tqdm(made, desc="reference", unit="pass", total=len(missing), disable=None)
    for i, (members, logprobs) in enumerate(bar, 1):
        journal.append(
            {"pair": pair.key, "logprobs": values}
            for pair, values in zip(members, logprobs, strict=True)
        )
        progress(before + i, len(passes))
