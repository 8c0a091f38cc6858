import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debiasdpo.config.data import AnyDataConfig, SplitConfig
from debiasdpo.documents import corpus
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.documents.split import PARTS, draw, split_groups
from debiasdpo.errors import UserError
from tests.helpers.jobs import JobConfigs

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
            split_groups(names, split, seed)
        return
    part_of = split_groups(names, split, seed)
    assert part_of == split_groups(sorted(names), split, seed)
    assert set(part_of) <= set(names)
    assert set(part_of.values()) == wanted
    if sum(shares) == total:
        assert abs(len(part_of) - len(set(names))) <= 2  # rounding


def test_shares_and_seed() -> None:
    names = [f"g{i}" for i in range(100)]
    split = SplitConfig(train=0.5, validation=0.2, test=0.3)
    part_of = split_groups(names, split, 0)
    assert Counter(part_of.values()) == {"train": 50, "validation": 20, "test": 30}
    assert part_of != split_groups(names, split, 1)


def test_limits_take_as_many_of_each_group_as_they_can() -> None:
    many = [f"g{group}" for group in range(4) for _ in range(5)]
    chosen = draw(many, 10, "key")
    assert set(Counter(many[i] for i in chosen).values()) == {2, 3}
    assert chosen == sorted(chosen)
    assert chosen == draw(many, 10, "key") != draw(many, 10, "other")
    assert set(draw(many, 4, "key")) <= set(chosen)
    assert draw(many, 20, "key") == list(range(20))


ESSAY = {"group": "a", "text": "An essay.", "clarity": 3}


@pytest.fixture
def split(tmp_path: Path, job_config: JobConfigs) -> Callable[..., SplitCorpus]:
    """Rows of a table, split in three."""

    file = tmp_path / "essays.jsonl"

    @functools.cache
    def data(*overrides: str) -> AnyDataConfig:
        return job_config(
            "data=table", f"data.path={file}",
            "data.rubrics={clarity:{question:How clear?,low:1,high:5}}",
            "data.split={train:0.4,validation:0.2,test:0.4}", *overrides,
        ).data  # fmt: skip

    def write(rows: list[dict[str, object]], *overrides: str) -> SplitCorpus:
        whole = ({"id": i, **ESSAY, **row} for i, row in enumerate(rows))
        file.write_text("".join(json.dumps(row) + "\n" for row in whole))
        config = data(*overrides)
        corpus.write(config, 0, tmp_path)
        return corpus.open_corpus(tmp_path, corpus.rubrics_of(config))

    return write


def test_the_same_text_in_two_parts_is_a_leak(split: Callable[..., SplitCorpus]) -> None:
    rows: list[dict[str, object]] = [{"group": f"g{i}", "text": f"text {i}"} for i in range(9)]
    split(rows)
    twice = [{**row, "text": "the same"} for row in rows]
    with pytest.raises(
        UserError, match=r"leakage: document '\d' of the \w+ part has the same text"
    ):
        split(twice)
    corpus = split([*rows, {"group": "g0", "text": "text 0"}])  # of one group, so of one part
    assert sum(map(len, corpus.parts.values())) == 10
    # What is in no part cannot leak, nor hide a leak.
    with pytest.raises(UserError, match="leakage"):
        split([*rows, *({"group": f"g{i}", "text": "text 0", "clarity": None} for i in range(9)),
               *({"group": f"g{i}", "text": "text 0"} for i in range(9))])  # fmt: skip
    left_out = [{"group": f"g{i}", "text": "text 0", "clarity": None} for i in range(1, 9)]
    assert split([*rows, *left_out]).notes["documents without any score"] == 8


def test_a_test_part_without_documents_is_told(split: Callable[..., SplitCorpus]) -> None:
    unscored = [{"group": f"g{i}", "text": f"text {i}", "clarity": None} for i in range(9)]
    with pytest.raises(UserError, match="the test part is empty"):
        split(unscored)
    with pytest.raises(UserError, match="no rows"):
        split([])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(st.data())
def test_parts_are_read_back_as_they_were_written(
    split: Callable[..., SplitCorpus], data: st.DataObject
) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
    found = data.draw(st.lists(texts, min_size=3, max_size=12, unique_by=str.strip))
    rows = [{"group": f"g{i % 5}", "text": text} for i, text in enumerate(found)]
    corpus = split(rows)
    for part, members in corpus.parts.items():
        assert list(members) == list(members)
        assert len(list(members)) == len(members), part
    read = {d.id: d for members in corpus.parts.values() for d in members}
    assert {i: d.text for i, d in read.items()} == {
        str(i): text.strip() for i, text in enumerate(found)
    }
    groups = [{d.group for d in members} for members in corpus.parts.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
