"""How prompts are cut into packed passes, and the seeds with which they are gone on with."""

from collections.abc import Sequence

from debiasdpo.packing.prefix_tree import common_prefix
from debiasdpo.prompts.rendering import Messages
from debiasdpo.storage.files import fingerprint


def packed_ranges(
    prompts: Sequence[tuple[int, ...]], extra: Sequence[int], max_tokens: int
) -> list[range]:
    """Cut the prompts, in order, into ranges whose trees have up to max_tokens tokens.

    `extra`: tokens that follow each prompt. A single prompt may exceed the bound. What a prompt adds
    is counted against its neighbour, so neighbours should be those that share most.
    """
    ranges: list[range] = []
    start = size = 0
    for i, prompt in enumerate(prompts):
        shared = common_prefix(prompts[i - 1], prompt) if i > start else 0
        added = len(prompt) - shared + extra[i]
        if i > start and size + added > max_tokens:
            ranges.append(range(start, i))
            start, size, added = i, 0, len(prompt) + extra[i]
        size += added
    return [*ranges, range(start, len(prompts))] if prompts else []


def stable_seed(seed: int, messages: Messages, repeat: int) -> int:
    """A seed of its own for each prompt and repeat, by what the prompt says: what is drawn depends neither
    on what runs with it nor on what anything in it is called."""
    return int(fingerprint([seed, messages, repeat])[:8], 16)
