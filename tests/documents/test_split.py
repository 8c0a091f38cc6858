import functools
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debiasdpo.config.data import AnyDataConfig, SplitConfig
from debiasdpo.config.sameness import normal_text, same_text
from debiasdpo.documents import corpus
from debiasdpo.documents.cells import means_nothing
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
    names = sorted(set(groups))
    wanted = {p for p in PARTS if getattr(split, p) > 0}
    if len(names) < len(wanted):
        with pytest.raises(UserError, match="cannot be split into"):
            split_groups(names, split, seed)
        return
    part_of = split_groups(names, split, seed)
    assert set(part_of) <= set(names)
    assert set(part_of.values()) == wanted
    if sum(shares) == total:
        assert abs(len(part_of) - len(names)) <= 2  # rounding


def test_shares_and_seed() -> None:
    names = range(100)
    split = SplitConfig(train=0.5, validation=0.2, test=0.3)
    part_of = split_groups(names, split, 0)
    assert Counter(part_of.values()) == {"train": 50, "validation": 20, "test": 30}
    assert part_of != split_groups(names, split, 1)


def test_limits_take_as_many_of_each_group_as_they_can() -> None:
    many = [group for group in range(4) for _ in range(5)]
    chosen = draw(many, 10, "key")
    assert set(Counter(many[i] for i in chosen).values()) == {2, 3}
    assert chosen == sorted(chosen)
    assert chosen == draw(many, 10, "key") != draw(many, 10, "other")
    assert set(draw(many, 4, "key")) <= set(chosen)
    assert draw(many, 20, "key") == list(range(20))


FORMS: Sequence[Literal["NFC", "NFD"]] = ("NFC", "NFD")
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
        ).documents  # fmt: skip

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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zo\u00eb wrote it.", "Zoe\u0308 wrote it."),
        ("Two lines.\r\nSecond.", "Two lines. \nSecond."),
        ("No break.", "No\u00a0break.\u200b"),
    ],
)
def test_the_same_text_in_another_form_is_a_leak(
    split: Callable[..., SplitCorpus], one: str, other: str
) -> None:
    rows: list[dict[str, object]] = [
        {"group": f"g{i}", "text": (one, other)[i % 2]} for i in range(9)
    ]
    with pytest.raises(UserError, match=r"leakage: document '\d' .* has the same text as '\d'"):
        split(rows)


def test_a_group_is_one_however_it_is_written(split: Callable[..., SplitCorpus]) -> None:
    """In two parts, a teacher would be trained on and tested on."""
    forms = [
        ("Zo\u00eb", "Zoe\u0308"),
        ("101", "101.0"),
        ("7", "007"),
        ("a b", " a\u00a0 b"),
        ("c", "c\u200b"),
    ]
    rows: list[dict[str, object]] = [
        {"group": form, "text": f"text {form!a}"} for both in forms for form in both
    ]
    rows += [{"group": "005", "text": "alone"}, {"group": 5.5, "text": "and alone"}]
    found = split(rows)
    groups = {part: {d.group for d in members} for part, members in found.parts.items()}
    # A name that is written in one way stays as it is.
    assert set.union(*groups.values()) == {"Zo\u00eb", "101", "7", "a b", "c", "005", "5.5"}
    assert sum(map(len, groups.values())) == 7
    assert found.notes == {"group(s) written in more than one way, each taken as one": 5}


def test_what_looks_like_one_document_or_group_twice_is_told(
    split: Callable[..., SplitCorpus],
) -> None:
    whole = "data.split={train:0,validation:0,test:1}"
    rows = [("Kim", "a"), ("kim", "b"), ("Lee", "c"), ("Roe", "c"), ("Poe", "d"), ("Poe", "d")]
    found = split([{"group": group, "text": text} for group, text in rows], whole, "method=none")
    assert found.notes == {
        "groups that differ from another by capitals alone, each taken as one of its own": 2,
        "documents with the text of another group's, as if they were independent": 2,
    }


def told(found: SplitCorpus) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """What each part holds, in its order, but for names."""
    return {
        part: [(d.text, dict(d.scores)) for d in members] for part, members in found.parts.items()
    }


def parting(found: SplitCorpus) -> set[frozenset[str]]:
    """Which texts are of one group."""
    groups: dict[str, set[str]] = {}
    for members in found.parts.values():
        for document in members:
            groups.setdefault(document.group, set()).add(document.text)
    return {frozenset(texts) for texts in groups.values()}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(st.data())
def test_names_places_and_coding_decide_nothing(
    split: Callable[..., SplitCorpus], data: st.DataObject
) -> None:
    count = data.draw(st.integers(6, 20))
    of_group = data.draw(st.lists(st.integers(0, 7), min_size=count, max_size=count))
    of_group[:3] = [0, 1, 2]
    rows: list[dict[str, object]] = [
        # The texts of a group may be equal: then scores tell documents apart.
        {"id": f"d{i}", "group": f"g{g}", "text": f"caf\u00e9 {g}\n{i % 9}", "clarity": 1 + i % 5}
        for i, g in enumerate(of_group)
    ]
    overrides = ("data.limit={train:3,validation:2,test:4}",) if data.draw(st.booleans()) else ()
    groups = [f"g{i}" for i in range(8)]
    renamed = dict(
        zip(groups, data.draw(st.permutations([*groups, "\u00fc", "100"])), strict=False)
    )
    form = data.draw(st.sampled_from(FORMS))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    others = [
        {
            "id": data.draw(st.sampled_from([f"x{9 * i % 31}", str(i)])),
            "group": unicodedata.normalize(form, renamed[str(row["group"])]),
            "text": unicodedata.normalize(form, str(row["text"]).replace("\n", end)),
            "clarity": row["clarity"],
        }
        for i, row in enumerate(rows)
    ]
    found = split(rows, *overrides)
    expected, of_one_group = told(found), parting(found)
    found = split(data.draw(st.permutations(others)), *overrides)
    assert told(found) == expected
    assert parting(found) == of_one_group


def test_the_order_has_nothing_of_the_files(split: Callable[..., SplitCorpus]) -> None:
    """Nor of how many texts a group has: each is as likely in any part."""
    rows = [
        {"group": f"g{g}", "text": f"{g}/{i}"} for g in range(120) for i in range(1 + 9 * (g % 2))
    ]
    found = split(rows)
    many = {
        part: sum(int(group[1:]) % 2 for group in {d.group for d in members})
        for part, members in found.parts.items()
    }
    assert many["train"] == pytest.approx(24, abs=9)  # 60 of 120 have many; 48 are to train on
    places = [int(d.text.split("/")[0]) for d in found.parts["test"]]
    assert np.corrcoef(places, np.arange(len(places)))[0, 1] == pytest.approx(0, abs=0.2)


def test_groups_that_rounding_leaves_out_are_told(split: Callable[..., SplitCorpus]) -> None:
    """Of six groups, shares of 0.4, 0.2 and 0.4 are 2, 1 and 2."""
    scored = [{"group": f"g{i % 6}", "text": f"text {i}", "clarity": 1 + i % 5} for i in range(24)]
    found = split(scored)
    assert sum(len(part) for part in found.parts.values()) == 20
    assert found.notes == {
        "documents of groups in no part (data.split, rounded to whole groups)": 4
    }


def test_a_test_part_without_documents_is_told(split: Callable[..., SplitCorpus]) -> None:
    unscored = [{"group": f"g{i}", "text": f"text {i}", "clarity": None} for i in range(9)]
    with pytest.raises(UserError, match=r"data.rubrics.clarity: no document has a score on it"):
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
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
    texts = texts.filter(lambda text: not means_nothing(text))
    found = data.draw(st.lists(texts, min_size=3, max_size=12, unique_by=same_text))
    rows = [{"group": f"g{i % 5}", "text": text} for i, text in enumerate(found)]
    corpus = split(rows)
    for part, members in corpus.parts.items():
        assert list(members) == list(members)
        assert len(list(members)) == len(members), part
    read = {d.id: d for members in corpus.parts.values() for d in members}
    assert {i: d.text for i, d in read.items()} == {
        str(i): normal_text(text) for i, text in enumerate(found)
    }
    groups = [{d.group for d in members} for members in corpus.parts.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
