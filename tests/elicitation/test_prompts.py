"""Prompts from the package, from the published folder and from tables; and what is said of broken ones."""

from collections import Counter
from pathlib import Path

import pytest

from debiasdpo.config.elicitation import ClearbiasConfig, PromptTableConfig, StereotypesConfig
from debiasdpo.elicitation.base import FORMS
from debiasdpo.elicitation.options import order_of
from debiasdpo.elicitation.prompts import (
    prompt_files,
    read_attacked,
    read_control,
    read_prompts,
)
from debiasdpo.errors import UserError
from tests.helpers.elicitations import HEAD, published_folder, write_csv
from tests.helpers.jobs import ROOT

REAL = ROOT.parent / "shared" / "clearbias"
OWN = StereotypesConfig(source="stereotypes")


def clearbias(folder: Path) -> ClearbiasConfig:
    return ClearbiasConfig(source="clearbias", path=str(folder))


def table(path: Path) -> PromptTableConfig:
    return PromptTableConfig(
        source="prompts", path=str(path), category_column="BIAS CATEGORY", form_column="FORM",
        stereotype_column="STEREOTYPE", counter_stereotype_column="COUNTER-STEREOTYPE",
        prompt_column="PROMPT",
    )  # fmt: skip


def test_our_own_prompts_are_balanced() -> None:
    found = read_prompts(OWN)
    cells = Counter((prompt.category, prompt.form) for prompt in found.prompts)
    assert len(cells) == 10 * 2
    assert set(cells.values()) == {4}
    assert not found.notes
    # Of each cell two prompts have the stereotype first, which for choices is the letter A.
    first = Counter((p.category, p.form) for p in found.prompts if order_of(p).stereotype_first)
    assert first == dict.fromkeys(cells, 2)
    for prompt in found.prompts:
        assert (prompt.text.count("____") == 1) == (prompt.form == "SC")
        assert prompt.stereotype in prompt.text
        assert prompt.counter_stereotype in prompt.text
        assert prompt.stereotype.casefold() != prompt.counter_stereotype.casefold()


def test_the_published_folder(tmp_path: Path) -> None:
    config = clearbias(published_folder(tmp_path))
    base = read_prompts(config).prompts
    assert [prompt.id for prompt in base[:4]] == [
        "age/SC/1", "age/SC/2", "age/SC/3", "gender_ethnicity/SC/1",
    ]  # fmt: skip
    assert {(p.stereotype, p.counter_stereotype) for p in base} == {("Old", "Young")}
    attacked = read_attacked(config, base)
    assert len(attacked) == len(base)
    assert attacked[1].id == "age/SC/2+role_playing/1"
    assert (attacked[1].base, attacked[1].attack, attacked[1].variant) == (
        "age/SC/2", "role_playing", "1",
    )  # fmt: skip
    assert attacked[1].text.startswith("Play a part! AGE SC 1,")
    control = read_control(config)
    assert [item.label for item in control[:6]] == ["S", "S", "CS", "D", "R", "R"]
    assert [item.form for item in control] == [form for form in FORMS for _ in range(6)]
    assert len(prompt_files(config)) == 2 + 2 + 2


def test_attacked_rows_that_are_not_those_of_the_base_are_refused(tmp_path: Path) -> None:
    config = clearbias(published_folder(tmp_path))
    base = read_prompts(config).prompts
    file = tmp_path / "jailbreak_prompts/sentence_completion/role_playing/role_playing_v1_SC.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"its 5 rows are not about the categories of the 6 rows"):
        read_attacked(config, base)
    file.rename(file.with_name("role_playing.csv"))
    with pytest.raises(UserError, match=r"are called ATTACK_vNUMBER_SC\.csv here"):
        read_attacked(config, base)


def test_a_table_with_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    rows = [
        ("Age", " old. ", "young", "Which? options: old/young. A ____ one.", "SC"),
        ("Age", "old", "young", "Who? (A): old (B): young", "CTO"),
        ("age", "old", "young", "Who?  (A): old (B): young", "CTO"),
    ]
    write_csv(file, (*HEAD, "FORM"), rows)
    found = read_prompts(table(file))
    assert [prompt.id for prompt in found.prompts] == ["age/SC/1", "age/CTO/1", "age/CTO/2"]
    assert found.prompts[0].stereotype == "old"
    # White space alone makes no other prompt.
    assert found.notes == {"prompt(s) that are there already, word for word; each counts": 1}
    rows[1] = (*rows[1][:4], "choice")
    write_csv(file, (*HEAD, "FORM"), rows)
    with pytest.raises(UserError, match=r"row 3, column 'FORM': 'choice' is no form of a prompt"):
        read_prompts(table(file))
    write_csv(file, HEAD, [row[:4] for row in rows])
    with pytest.raises(UserError, match=r"no column 'FORM'.* or change data\.form_column"):
        read_prompts(table(file))


def test_categories_are_told_apart_in_every_script_and_have_names(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    told = ("old", "young", "Which? options: old/young. A ____ one.", "SC")
    # Gender and people, which differ in vowel signs alone; one word with its accent composed, and apart.
    names = ["\u0932\u093f\u0902\u0917", "\u0932\u094b\u0917", "Ethnicit\u00e9", "Ethnicite\u0301"]
    write_csv(file, (*HEAD, "FORM"), [(name, *told) for name in names])
    assert [prompt.category for prompt in read_prompts(table(file)).prompts] == [
        *names[:2], "ethnicit\u00e9", "ethnicit\u00e9",
    ]  # fmt: skip
    write_csv(file, (*HEAD, "FORM"), [("Gender - Age", *told), ("gender/age", *told)])
    assert {prompt.category for prompt in read_prompts(table(file)).prompts} == {"gender_age"}
    write_csv(file, (*HEAD, "FORM"), [("Age <30", *told), ("Age >30", *told)])
    with pytest.raises(UserError, match=r"row 3.*'Age >30' would be one category with 'Age <30'"):
        read_prompts(table(file))
    write_csv(file, (*HEAD, "FORM"), [("age", *told), ("?", *told)])
    with pytest.raises(UserError, match=r"row 3, column 'BIAS CATEGORY': '\?' names no category"):
        read_prompts(table(file))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs CLEAR-Bias in ../shared")
def test_the_real_published_folder() -> None:
    config = clearbias(REAL)
    base = read_prompts(config)
    assert Counter(prompt.category for prompt in base.prompts) == dict.fromkeys(
        (
            "age", "disability", "ethnicity", "gender", "religion", "sexual_orientation",
            "socioeconomic", "gender_ethnicity", "gender_sexual_orientation",
            "ethnicity_socioeconomic",
        ),
        20,
    )  # fmt: skip
    assert list(base.notes.values()) == [1]
    attacked = read_attacked(config, base.prompts)
    assert Counter(Counter(p.attack for p in attacked).values()) == {600: 7}
    assert len({prompt.id for prompt in attacked}) == 4200
    assert len(read_control(config)) == 800
