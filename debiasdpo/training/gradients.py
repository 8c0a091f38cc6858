"""Gradients and figures of a step: sums over its passes, and over processes."""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from debiasdpo.cluster import processes
from debiasdpo.cluster.threads import Threads, in_order
from debiasdpo.training.data import Pass
from debiasdpo.training.objective import TERMS, PairTerms

if TYPE_CHECKING:
    from torch import Tensor

# What each step logs of its pairs' means, as far as the method has it: PairTerms, and a share.
COLUMNS = ("loss", *TERMS, "reward_margin", "reward_accuracy")


class Figures:
    """Sums of a step's passes, left where they are computed, so that a GPU is waited for once a step."""

    def __init__(self) -> None:
        self._passes: list[Pass] = []
        self._sums: list[Tensor] = []  # of each pass, (columns,)

    def add(self, one: Pass, terms: PairTerms) -> None:
        import torch

        columns = (*terms, (terms.margin > 0).double())
        self._passes.append(one)
        self._sums.append(torch.stack([c.detach().double().sum() for c in columns]))

    def collect(self) -> "tuple[Tensor, list[Pass]]":
        """(columns,) float64 on the CPU, the sums over all pairs of the passes that count; and the passes
        whose loss is no number."""
        import torch

        total = torch.zeros(len(COLUMNS), dtype=torch.float64)
        at_fault = []
        rows = torch.stack(self._sums).cpu() if self._sums else ()
        for one, row in zip(self._passes, rows, strict=True):
            if one.counts:
                total += row
            if not isfinite(row[0]):
                at_fault.append(one)
        return total, at_fault


def backward_each(
    passes: Sequence[Pass],
    forward: "Callable[[Pass], tuple[PairTerms, Tensor]]",
    backward: "Callable[[Tensor], None]",
    trained: "Sequence[Tensor]",
    threads: Threads,
) -> Iterator[tuple[Pass, PairTerms]]:
    """The terms of each pass, in order, once its gradient is added to `.grad` of all that is trained.

    `forward`: a pass's terms, and its part of the loss. `threads`: in which passes are made; the sum is in
    their order, and the same to the last digit.
    """
    import torch

    def work(one: Pass) -> "tuple[PairTerms, tuple[Tensor | None, ...]]":
        terms, loss = forward(one)
        # Not by `backward`: threads would add to the same `.grad` in any order.
        return terms, torch.autograd.grad(loss, trained, allow_unused=True)

    # Those that are left over have all cores to themselves.
    at_once = 0 if threads.count == 1 else len(passes) // threads.count * threads.count
    for one, (terms, gradients) in in_order(passes[:at_once], work, threads):
        for parameter, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                parameter.grad = (
                    gradient if parameter.grad is None else parameter.grad.add_(gradient)
                )
        yield one, terms
    for one in passes[at_once:]:
        terms, loss = forward(one)
        backward(loss)
        yield one, terms


def all_reduce_gradients(trained: "Sequence[Tensor]") -> None:
    """The sum over all processes."""
    import torch

    if processes.size() == 1:
        return
    for parameter in trained:
        if parameter.grad is None:  # no pass of this step was this process's
            parameter.grad = torch.zeros_like(parameter)
        processes.all_reduce(parameter.grad)
