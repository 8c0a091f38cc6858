"""Rows of text that are written together, a token of each at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from debiasdpo.packing.constrained import Constraint
from debiasdpo.packing.decoding import DecodingAttention
from debiasdpo.packing.finite import NotFinite
from debiasdpo.packing.fixed_decoding import FixedAttention
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import causal_model, run_packed

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else drawn from the most likely
    tokens that make up `top_p`, at that temperature."""

    temperature: float
    top_p: float


class Generated(NamedTuple):
    """What was generated from one prompt."""

    ids: list[int]  # without the token that ended them
    cut: bool  # at `max_new_tokens`: it had not ended by itself


class Held(NamedTuple):
    """What holds all that is generated to a form."""

    constraint: Constraint
    starts: Sequence[int]  # the state in which each prompt's text begins


class Rows:
    """The rows, on the model's device. Writing a token changes their tensors in place and tells the host
    nothing: with `FixedAttention`, it is the same work each time, and may be a CUDA graph."""

    def __init__(
        self,
        model: Any,
        attend: DecodingAttention | FixedAttention,
        states: "Tensor",
        depth: "Tensor",
        seeds: Sequence[int],
        stop: Sequence[int],
        max_new_tokens: int,
        sampling: Sampling,
        held: Held | None,
    ) -> None:
        """states (rows, hidden size) and depth (rows,): of each prompt's last token. What a row draws comes
        from a random generator of its own seed."""
        import torch

        count, device = len(states), states.device
        self.model, self.attend, self.sampling = model, attend, sampling
        self.head = causal_model(model).get_output_embeddings()
        self.max_new_tokens = max_new_tokens
        self.numbers = list(range(count))  # of the rows that are still here
        self.found: dict[int, Generated] = {}  # of the others
        self.constraint = held.constraint if held else None
        self.stop = torch.as_tensor(np.array(stop, np.int64), device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)  # tokens of each row
        # Of each row:
        self.states, self.depth = states, depth
        self.written = torch.zeros(count, max_new_tokens, dtype=torch.long, device=device)
        self.lengths = torch.zeros(count, dtype=torch.long, device=device)  # of what it says
        self.ended = torch.zeros(count, dtype=torch.bool, device=device)
        starts = np.array(held.starts if held else [0] * count, np.int64)
        self.places = torch.as_tensor(starts, device=device)  # in the form
        self.draws = _draws(seeds, max_new_tokens if sampling.temperature else 0).to(device)

    def choose(self) -> None:
        """The next token of each row."""
        logits = float32_logits(self.head, self.states)
        # A model may rule out some tokens with -inf, but not all.
        self.finite &= (logits.amax(-1).isfinite() | self.ended).all()
        if self.constraint is not None:
            left = self.max_new_tokens - self.step
            logits = self.constraint.masked(logits, self.places, left)
        chosen = choose(logits, self.sampling, self.draws, self.step)
        self.written.index_copy_(1, self.step, chosen[:, None])
        if self.constraint is not None:
            self.lengths += ~self.ended
            places = self.constraint.follow(logits, self.places, chosen)
            self.places.copy_(places.where(~self.ended, self.places))
            self.ended |= self.constraint.ends(logits, self.places)
        else:
            self.ended |= (chosen[:, None] == self.stop).any(1)
            self.lengths += ~self.ended
        self.step += 1

    def write(self) -> None:
        """Run the last token of each row, and choose the next."""
        self.attend.next_token()
        last = self.written.index_select(1, self.step - 1)[:, 0]
        self.states.copy_(run_packed(self.model, last, self.depth + self.step, self.attend))
        self.choose()

    def going(self) -> list[int]:
        """Which of the rows have not ended. Waits for the device. Raises `NotFinite` where a logit was not a
        number."""
        import torch

        finite, *ended = torch.cat([self.finite[None], self.ended]).tolist()
        if not finite:
            raise NotFinite
        return [row for row, has_ended in enumerate(ended) if not has_ended]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these alone; the others are found."""
        gone = [row for row in range(len(self.numbers)) if row not in set(rows)]
        lengths, ended = self.lengths[gone].tolist(), self.ended[gone].tolist()
        for row, ids, length, end in zip(
            gone, self.written[gone].tolist(), lengths, ended, strict=True
        ):
            self.found[self.numbers[row]] = Generated(ids[:length], cut=not end)
        self.numbers = [self.numbers[row] for row in rows]
        if not rows:
            return
        for name in ("states", "depth", "written", "lengths", "ended", "places", "draws"):
            setattr(self, name, getattr(self, name)[list(rows)])
        self.attend.keep(rows)


def _draws(seeds: Sequence[int], count: int) -> "Tensor":
    """(rows, count), uniform in [0, 1), on the CPU: the same for every device."""
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in generators])


def choose(logits: "Tensor", sampling: Sampling, draws: "Tensor", step: "Tensor") -> "Tensor":
    """The next token of each row: logits (rows, vocabulary), draws (rows, steps), step (1,) -> (rows,)."""
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    if sampling.temperature == 0:
        return logits.argmax(-1)
    unused: Any = None  # the warpers look at the logits only
    logits = TemperatureLogitsWarper(sampling.temperature)(unused, logits)
    if sampling.top_p < 1:
        logits = TopPLogitsWarper(sampling.top_p)(unused, logits)
    cumulated = logits.double().softmax(-1).cumsum(-1)
    wanted = draws.index_select(1, step) * cumulated[:, -1:]
    drawn = torch.searchsorted(cumulated, wanted, right=True)
    return drawn[:, 0].clamp(max=logits.shape[-1] - 1)
