import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from debiasdpo.config.context import PLACEBO, Category, ContextConfig
from debiasdpo.prompts.contexts import statements

FRAMES = {
    "one": "{claim}.",
    "several": "{claim}, {other}.",
    "contradictory": "{claim}: {opposite}.",
}
FOLDER = Path(__file__).parents[2] / "conf/category"
NAMES = ("certification", "education", "experience", "gender", "placebo", "race", "role",
         "sycophancy")  # fmt: skip


def load(name: str) -> Category:
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return Category.model_validate_json(json.dumps(values))


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[\w{}]+", text.lower()))


def context(train: dict[str, bool], categories: dict[str, Category]) -> ContextConfig:
    return ContextConfig(
        train=train, categories=categories, generated=0, frames=FRAMES, positions=None
    )


ALL = context({"experience": True}, {name: load(name) for name in NAMES})


def test_every_category_has_a_file() -> None:
    assert {f.stem for f in FOLDER.glob("*.yaml")} == {*NAMES, "all"}


@pytest.mark.parametrize("name", NAMES)
def test_each_side_has_statements_to_train_and_others_to_test(name: str) -> None:
    train, test = (statements(ALL, [name], wording) for wording in ("train", "test"))
    sides = {0} if name == PLACEBO else {1, -1}
    for found in (train, test):
        assert {s.polarity for s in found} == sides
        assert len({s.name for s in found}) == len(found)
    for side in sides:
        one, other = (
            {_words(s.text) for s in found if s.polarity == side} for found in (train, test)
        )
        assert len(one) + len(other) >= 4
        assert min(len(one), len(other)) >= 2
    texts = [_words(s.text) for s in (*train, *test)]
    assert len(set(texts)) == len(texts)  # also not in other letter case or punctuation
    for statement in (*train, *test):
        assert set(re.findall(r"\{.*?\}", statement.text)) <= {"{best}", "{worst}"}
        assert statement.text == " ".join(statement.text.split())


def test_statements_of_all_categories_are_told_apart() -> None:
    found = [s for w in ("train", "test") for s in statements(ALL, NAMES, w)]  # type: ignore[arg-type]
    assert len({s.name for s in found}) == len(found)
    assert len({_words(s.text) for s in found}) == len(found)


def test_order_is_that_of_what_is_said_and_neither_of_names_nor_of_the_configuration() -> None:
    assert statements(ALL, ["race", "role"], "test") == statements(ALL, ["role", "race"], "test")
    names = dict(zip(NAMES, ["h", "a", "g", "b", PLACEBO, "f", "c", "e"], strict=True))
    renamed = context({"g": True, "h": True}, {names[n]: ALL.categories[n] for n in NAMES[::-1]})
    assert set(renamed.train_categories) == {"h", "g"}
    for wording in ("train", "test"):
        found = [statements(c, list(c.categories), wording) for c in (ALL, renamed)]  # type: ignore[arg-type]
        assert [s.text for s in found[0]] == [s.text for s in found[1]]
        assert [names[s.category] for s in found[0]] == [s.category for s in found[1]]
    first = statements(ALL, ["experience"], "train")[0]
    assert (first.name, first.polarity) == ("experience+train0", 1)


def test_train_names_what_is_chosen() -> None:
    config = context({"role": True, "race": False, "experience": True}, dict(ALL.categories))
    assert config.train_categories == ("experience", "role")
    with pytest.raises(ValidationError, match="no such category: height; there are: cert"):
        context({"height": True}, dict(ALL.categories))


ONE = {"train": ("a",), "test": ("b",)}


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"flattering": {"train": ("a",), "test": ()}, "unflattering": ONE}, "test wording"),
        ({"flattering": {"train": (), "test": ("a",)}, "unflattering": ONE}, "train wording"),
        ({"flattering": {"train": (" ",), "test": ("a",)}, "unflattering": ONE}, "pattern"),
        ({"neutral": ONE, "positive": ONE}, "Extra inputs"),
    ],
)
def test_incomplete_categories_are_refused(sides: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Category.model_validate({"description": "x", **sides})


@pytest.mark.parametrize("category", ["race", "role"])
@pytest.mark.parametrize(
    "other", ["Zo\u00eb wrote it.", "Zoe\u0308  wrote\u00a0it.\u200b", "Zo\u00eb wrote\r\nit."]
)
def test_what_is_tested_on_is_trained_on_in_no_category_and_no_form(
    category: str, other: str
) -> None:
    def with_text(name: str, wording: str, text: str) -> Category:
        values = ALL.categories[name].model_dump()
        values["flattering"][wording] = (text,)
        return Category.model_validate(values)

    categories = {**ALL.categories, "race": with_text("race", "train", "Zo\u00eb wrote it.")}
    if category == "race":
        values = categories["race"].model_dump()
        values["unflattering"]["test"] = (other,)
        categories["race"] = Category.model_validate(values)
    else:
        categories["role"] = with_text("role", "test", other)
    with pytest.raises(
        ValidationError, match=r"the same statement is in categories.race.flattering.train and"
    ):
        context({"race": True}, categories)
