"""Which pairs make a step, and which of a step are run together."""

import itertools
import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.packing.logprobs import Completion, pack_completions
from debiasdpo.training.data import Pass, TokenPair, assign_passes, pack_passes, plan_steps

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=8)  # pairs of each document


def pairs_of(sizes: list[int]) -> list[TokenPair]:
    row = Completion((0,), (1,))
    return [
        TokenPair(f"{d}|{k}", f"d{d}", (row, row), (row,))
        for d, size in enumerate(sizes)
        for k in range(size)
    ]


@settings(deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(1, 12), st.integers(0, 3))
def test_steps_hold_every_pair_once_an_epoch_from_enough_documents(
    sizes: list[int], batch: int, documents: int, seed: int
) -> None:
    documents = min(documents, batch)
    pairs = pairs_of(sizes)
    steps = plan_steps(pairs, 2, batch, documents, seed)
    assert steps == plan_steps(pairs, 2, batch, documents, seed)
    each = math.ceil(len(pairs) / batch)
    assert len(steps) == 2 * each
    for epoch in (steps[:each], steps[each:]):
        assert [len(s) for s in epoch[:-1]] == [batch] * (each - 1)
        assert sorted(p.key for s in epoch for p in s) == sorted(p.key for p in pairs)
        left = Counter(p.document for p in pairs)
        for step in epoch:
            given = Counter(p.document for p in step)
            assert len(given) >= min(documents, len(left), len(step))
            quota = math.ceil(batch / min(documents, len(left)))
            if max(given.values()) > quota:  # only where the others have no more to give
                assert all(given[name] >= min(quota, count) for name, count in left.items())
            # Those of a document are neighbours.
            assert len(list(itertools.groupby(p.document for p in step))) == len(given)
            left -= given


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(2, 8), st.integers(1, 12), st.integers(1, 12))
def test_documents_with_equally_many_pairs_make_steps_that_are_all_mixed(
    size: int, count: int, batch: int, documents: int
) -> None:
    documents = min(documents, batch, count)
    steps = plan_steps(pairs_of([size] * count), 1, batch, documents, seed=0)
    for step in steps[:-1]:  # the last has what is left
        assert len({p.document for p in step}) >= documents


def test_a_large_document_is_spread_over_the_epoch() -> None:
    pairs = pairs_of([8, 2, 2, 2, 2])
    for seed in range(20):
        for step in plan_steps(pairs, 1, 4, 2, seed):
            assert Counter(p.document for p in step)["d0"] == 2


def test_one_document_a_step_keeps_its_pairs_in_a_row() -> None:
    pairs = pairs_of([4, 4, 4])
    assert [[p.document for p in s] for s in plan_steps(pairs, 1, 4, 1, seed=0)] in (
        [[f"d{i}"] * 4 for i in order] for order in itertools.permutations(range(3))
    )


def test_documents_come_in_an_order_of_each_epoch_and_seed() -> None:
    pairs = pairs_of([3] * 8)

    def orders(seed: int) -> list[tuple[str, ...]]:
        keys = [p.key for s in plan_steps(pairs, 3, 6, 2, seed) for p in s]
        return [tuple(keys[i : i + 24]) for i in range(0, 72, 24)]

    assert len({*orders(0), *orders(1)}) == 6


@st.composite
def prompted(draw: st.DrawFn) -> list[TokenPair]:
    """Pairs of few documents, whose sequences share beginnings, or all they have."""
    ids = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple)
    found = []
    for d, size in enumerate(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))):
        lesson = draw(ids)
        for k in range(size):
            contextual = lesson + draw(ids)
            chosen, rejected = Completion(contextual, draw(ids)), Completion(contextual, draw(ids))
            answer = Completion(lesson, draw(ids))
            found.append(TokenPair(f"{d}|{k}", f"d{d}", (chosen, rejected), (answer,)))
    return found


@settings(deadline=None)
@given(prompted(), st.integers(1, 60), st.integers(1, 20))
def test_passes_hold_neighbours_of_one_document_up_to_both_bounds(
    pairs: list[TokenPair], max_tokens: int, max_branches: int
) -> None:
    def fits(members: list[TokenPair]) -> bool:
        completions = [c for p in members for c in p.completions]
        run = {c.prompt + c.completion[:-1] for c in completions}
        return len(pack_completions(completions).ids) <= max_tokens and len(run) <= max_branches

    passes = pack_passes(pairs, max_tokens, max_branches)
    assert [p for one in passes for p in one.pairs] == pairs
    for one in passes:
        assert len({p.document for p in one.pairs}) == 1
        assert fits(one.pairs) or len(one.pairs) == 1
        assert one.tokens == len(
            pack_completions([c for p in one.pairs for c in p.completions]).ids
        )
    for one, following in itertools.pairwise(passes):  # none ends early
        next_pair = following.pairs[0]
        assert next_pair.document != one.pairs[0].document or not fits([*one.pairs, next_pair])


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(1, 5))
def test_processes_share_the_passes_of_a_step(tokens: list[int], size: int) -> None:
    passes = [Pass([], count) for count in tokens]
    shares = [assign_passes(passes, rank, size) for rank in range(size)]
    assert sorted(p.tokens for share in shares for p in share) == sorted(tokens)
    together = [assign_passes(passes, rank, size, together=True) for rank in range(size)]
    assert [[p for p in share if p.counts] for share in together] == shares
    assert {len(share) for share in together} == {max(map(len, shares))}
    assert {p.tokens for share in together for p in share if not p.counts} <= {min(tokens)}
