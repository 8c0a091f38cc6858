import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo import documents
from debiasdpo.documents import PARTS, Document, SplitCorpus
from debiasdpo.documents.base import SplitConfig
from debiasdpo.errors import UserError

SHARES = st.tuples(*[st.integers(0, 10)] * 3).filter(lambda s: s[2] > 0 and sum(s) <= 20)


@given(st.lists(st.integers(0, 30), min_size=3, max_size=60), SHARES, st.integers(0, 3))
def test_groups_are_never_cut_and_every_wanted_part_gets_one(
    groups: list[int], shares: tuple[int, int, int], seed: int
) -> None:
    total = max(10, sum(shares))
    split = SplitConfig(**dict(zip(PARTS, (s / total for s in shares), strict=True)))
    names = [f"g{g}" for g in groups]
    wanted = {p for p in PARTS if getattr(split, p) > 0}
    if len(set(names)) < len(wanted):
        with pytest.raises(UserError, match="cannot be split into"):
            documents.split_groups(names, split, seed)
        return
    part_of = documents.split_groups(names, split, seed)
    assert part_of == documents.split_groups(sorted(names), split, seed)
    assert set(part_of) <= set(names)
    assert set(part_of.values()) == wanted
    if sum(shares) == total:
        assert abs(len(part_of) - len(set(names))) <= 2  # rounding


def test_shares_and_seed() -> None:
    names = [f"g{i}" for i in range(100)]
    split = SplitConfig(train=0.5, validation=0.2, test=0.3)
    part_of = documents.split_groups(names, split, 0)
    assert Counter(part_of.values()) == {"train": 50, "validation": 20, "test": 30}
    assert part_of != documents.split_groups(names, split, 1)


def _documents(groups: int, each: int) -> list[Document]:
    return [
        Document(f"{g}-{i}", f"g{g}", f"text {g} {i}", {"clarity": 1.0})
        for g in range(groups)
        for i in range(each)
    ]


def test_limits_take_as_many_of_each_group_as_they_can() -> None:
    many = _documents(groups=4, each=5)
    chosen = documents.draw(many, 10, "key")
    assert set(Counter(d.group for d in chosen).values()) == {2, 3}
    assert [d for d in many if d in chosen] == list(chosen)
    assert chosen == documents.draw(many, 10, "key") != documents.draw(many, 10, "other")
    assert all(d in chosen for d in documents.draw(many, 4, "key"))
    assert documents.draw(many, 20, "key") == documents.draw(many, None, "key") == tuple(many)


def _corpus(**parts: list[Document]) -> SplitCorpus:
    return SplitCorpus({p: tuple(parts.get(p, [])) for p in PARTS}, {}, {})


def test_leaks_are_refused() -> None:
    one, other, third = (Document(i, i, f"text {i}", {}) for i in "abc")
    documents.check_split(_corpus(train=[one], validation=[other], test=[third]))
    same_text = Document("x", "x", "text a", {})
    same_group = Document("y", "a", "text y", {})
    with pytest.raises(UserError, match=r"leakage: document 'x' of the test .* same text .* train"):
        documents.check_split(_corpus(train=[one], test=[same_text]))
    with pytest.raises(UserError, match=r"'y' of the validation .* same group .* train"):
        documents.check_split(_corpus(train=[one], validation=[same_group], test=[third]))
    documents.check_split(_corpus(test=[one, same_text, same_group]))
    with pytest.raises(UserError, match="test part is empty"):
        documents.check_split(_corpus(train=[one]))


def test_rows_come_back_from_json(job_config: Any) -> None:
    config = job_config("data.teachers=6").data
    corpus = documents.load(config, seed=0)
    rows = json.loads(json.dumps(documents.to_rows(corpus)))
    assert documents.from_rows(rows, documents.rubrics_of(config), corpus.notes) == corpus
    assert {p: len({d.group for d in corpus.parts[p]}) for p in PARTS} == {
        "train": 2, "validation": 1, "test": 3,
    }  # fmt: skip
