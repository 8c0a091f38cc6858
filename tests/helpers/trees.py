"""Prefix trees for tests."""

import random

from debiasdpo.packing.prefix_tree import PrefixTree, pack


def answers_tree(prompt: int, branches: int, length: int) -> PrefixTree:
    """A prompt of so many tokens, and answers of `length` tokens."""
    rng = random.Random(0)
    document = [rng.randrange(1000) for _ in range(prompt)]
    rows = [[*document, *(rng.randrange(1000) for _ in range(length))] for _ in range(branches)]
    return pack(rows, [range(prompt, len(row)) for row in rows])


def forked_tree() -> PrefixTree:
    """242 tokens: three answers to a prompt of 135, of which one forks. Of its blocks of 128 x 128 tokens one
    is attended to in full, two in part and one not at all."""
    rng = random.Random(0)

    def draw(count: int) -> list[int]:
        return [rng.randrange(1000) for _ in range(count)]

    prompt, thought = draw(135), draw(30)
    ends = [thought + draw(10), thought + draw(12), draw(30), draw(25)]
    return pack([prompt + end for end in ends], [[len(prompt + end)] for end in ends])
