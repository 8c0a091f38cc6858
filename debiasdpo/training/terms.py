"""The objective's terms of pairs under a model, and the reference that they are held against."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from debiasdpo.config import LossConfig, TrainConfig
from debiasdpo.logprobs import Completion, separate_logprobs, sequence_logprobs
from debiasdpo.runs import Journal
from debiasdpo.training.data import Pass, TokenPair
from debiasdpo.training.objective import PairTerms, debiasing_dpo, dpo_loss
from debiasdpo.tree_attention import Choice

if TYPE_CHECKING:
    import torch

Reference = Mapping[str, tuple[float, float]]  # pair key -> log-prob of chosen, of rejected
Scorer = Callable[["torch.nn.Module", Sequence[Completion]], "torch.Tensor"]
Terms = Callable[["torch.nn.Module", Sequence[TokenPair]], PairTerms]  # of the pairs of a pass


def scorer(config: TrainConfig, attention: Choice) -> Scorer:
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

    scored = score(model, [c for pair in pairs for c in pair.completions]).view(-1, 3)
    chosen, rejected, answer = scored.unbind(1)  # (P,) each
    known = torch.tensor([reference[p.key] for p in pairs], device=scored.device)  # (P, 2)
    tokens = torch.tensor([len(p.answer.completion) for p in pairs], device=scored.device)
    dpo, margin = dpo_loss(chosen, rejected, known[:, 0], known[:, 1], loss.beta)
    return debiasing_dpo(dpo, margin, answer, tokens, w_dpo=loss.w_dpo, w_sft=loss.w_sft)


def reference_logprobs(
    model: "torch.nn.Module", passes: Sequence[Pass], score: Scorer, journal: Journal
) -> None:
    """Score chosen and rejected of every pair under the untrained model, into the journal.

    Goes on after what the journal already holds. `passes` are to be the same each time: figures
    depend, in the last digit, on the packing.
    """
    import torch
    from tqdm import tqdm

    done = {row["pair"] for row in journal.rows}
    missing = [p.pairs for p in passes if not {pair.key for pair in p.pairs} <= done]
    model.eval()
    for members in tqdm(missing, desc="reference", unit="pass", disable=None):
        with torch.no_grad():
            scored = score(model, [c for p in members for c in (p.chosen, p.rejected)])
        journal.append(
            {"pair": pair.key, "chosen": chosen, "rejected": rejected}
            for pair, (chosen, rejected) in zip(members, scored.view(-1, 2).tolist(), strict=True)
        )
