"""A teacher's soft labels, of which a student learns: as they are kept on disk, and the loss.

    L = (1 - h) * T^2 * KL(p_T || q_T) + h * (-log q(y)),    the mean over the scored tokens

p_T and q_T are the next-token distributions of teacher and student at temperature T, y the token of the text,
h the share of hard labels; T^2 keeps the gradients of both terms alike whatever T (Hinton et al. 2015,
*Distilling the knowledge in a neural network*, section 2).

Of p_T only the k likeliest tokens are kept. All others count as one outcome, whose probability is exact on
both sides: the student's is the sum over the whole rest of its vocabulary. So the KL is that of distributions
over k + 1 outcomes: never above the full one, equal at k = V, and 0 for a student that is the teacher.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from debiasdpo.packing.finite import require_logits
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import Completion, causal_model, pack_completions, run_tree
from debiasdpo.packing.tokens import packed_ranges
from debiasdpo.storage.files import whole_file

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_CHUNK = 256  # states whose logits over the vocabulary exist at a time, where no gradient is wanted


class Labels(NamedTuple):
    """Of all T scored tokens, text after text: the teacher's k likeliest at a temperature, and the token
    itself."""

    top: npt.NDArray[np.int32]  # (T, k): token ids
    logp: npt.NDArray[np.float32]  # (T, k): log p_T of these
    hard: npt.NDArray[np.int32]  # (T,)

    def permuted(self, seed: int) -> "Labels":
        """A control: the labels of other places, which say how often tokens come and nothing else."""
        order = np.random.default_rng(seed).permutation(len(self.hard))
        return Labels(self.top[order], self.logp[order], self.hard[order])

    def save(self, path: Path) -> None:
        with whole_file(path) as part, part.open("wb") as stream:
            np.savez(stream, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Labels":
        with np.load(path) as found:
            return cls(*(found[name] for name in cls._fields))


def teacher_labels(
    teacher: "PreTrainedModel",
    texts: Sequence[Completion],
    *,
    temperature: float,
    top: int,
    max_tokens: int,
) -> Labels:
    """The teacher's labels for the completions of the texts."""
    import torch

    starts = np.cumsum([0, *(len(t.completion) for t in texts)])
    teacher.eval()
    ids = np.empty((starts[-1], top), np.int32)
    logp = np.empty((starts[-1], top), np.float32)
    with torch.no_grad():
        for members in passes(texts, list(range(len(texts))), max_tokens):
            hidden = scored_states(teacher, [texts[m] for m in members])
            rows = np.concatenate([np.arange(starts[m], starts[m + 1]) for m in members])
            for start in range(0, len(rows), _CHUNK):
                states = hidden[start : start + _CHUNK]
                logits = float32_logits(causal_model(teacher).get_output_embeddings(), states)
                require_logits(logits)
                likeliest = (logits / temperature).log_softmax(-1).topk(top)
                place = rows[start : start + _CHUNK]
                ids[place] = likeliest.indices.cpu().numpy()
                logp[place] = likeliest.values.cpu().numpy()
    hard = np.concatenate([np.array(t.completion, np.int32) for t in texts])
    return Labels(ids, logp, hard)


def soft_label_terms(
    logits: "Tensor", top: "Tensor", logp: "Tensor", hard: "Tensor", temperature: float
) -> "tuple[Tensor, Tensor]":
    """KL(p_T || q_T) over the k tokens and the rest, without T^2, and -log q(y): (T,) each, in nats.

    logits (T, vocabulary): the student's, float32; top (T, k), logp (T, k): the teacher's; hard (T,).
    """
    import torch

    tempered = logits / temperature
    total = tempered.logsumexp(-1)
    of_top = tempered.gather(1, top) - total[:, None]
    kl = (logp.exp() * (logp - of_top)).sum(-1)
    rest = -torch.expm1(logp.logsumexp(-1)).clamp(max=0)  # 1 - sum p, without cancellation
    if top.shape[1] < logits.shape[1]:
        others = tempered.scatter(1, top, -torch.inf).logsumexp(-1) - total
        kl = kl + torch.special.xlogy(rest, rest) - rest * others
    cross = logits.logsumexp(-1) - logits.gather(1, hard[:, None])[:, 0]
    return kl, cross


def scored_states(model: Any, texts: Sequence[Completion]) -> "Tensor":
    """The hidden states that predict the completions' tokens, text after text: (T, hidden size)."""
    import torch

    tree = pack_completions(texts)
    hidden = run_tree(model, tree)
    return hidden[torch.as_tensor(tree.predictors, device=hidden.device)]


def passes(
    texts: Sequence[Completion], members: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    """The members in passes of up to so many packed tokens, those that share most together."""
    order = sorted(members, key=lambda m: texts[m].prompt + texts[m].completion)
    lengths = [len(texts[m].completion) for m in order]
    for part in packed_ranges([texts[m].prompt for m in order], lengths, max_tokens):
        yield order[part.start : part.stop]
