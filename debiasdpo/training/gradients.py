"""Gradients of a step: the sum over its passes, and over processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from debiasdpo.cluster import processes
from debiasdpo.cluster.threads import Threads, in_order
from debiasdpo.training.data import Pass
from debiasdpo.training.objective import PairTerms

if TYPE_CHECKING:
    from torch import Tensor


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
