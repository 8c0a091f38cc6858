"""What chat templates of many families do beside writing messages down."""

import re
from datetime import datetime
from typing import Any

import pytest

from debiasdpo.errors import UserError
from debiasdpo.models.template import Template
from tests.helpers.chats import FAMILIES, tokenizer_of

ASKED = {"role": "user", "content": "How good is it?"}


def template_of(family: str, **changes: Any) -> Template:
    return Template(tokenizer_of(family, **changes), family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_system_message_that_stands_for_none(family: str) -> None:
    template, expected = template_of(family), FAMILIES[family].system
    if expected is None:
        with pytest.raises(UserError, match=r"^prompt.context_position=system: .*=after_query or"):
            template.system_message(thinking=False)
        return
    assert template.system_message(thinking=False) == expected
    given = template.render([{"role": "system", "content": expected}, ASKED])
    if expected:  # the template's own
        assert given == template.render([ASKED])
    longer = f"{expected}\n\nBe kind.".strip()
    extended = template.render([{"role": "system", "content": longer}, ASKED])
    assert extended.replace(longer, expected, 1) == given != extended


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("Gemma 2", "refuses the messages system + user: System role not supported"),
        ("drops", "drops system messages"),
        ("Phi-3", "drops an empty system message"),
        ("gpt-oss", "drops an empty system message"),
    ],
)
def test_why_a_template_takes_no_system_message(family: str, reason: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"the chat template of {family} {reason}")):
        template_of(family).system_message(thinking=False)


@pytest.mark.parametrize(
    ("family", "thinks", "opened"),
    [
        ("ChatML", False, ""),
        ("Llama 3", False, ""),
        ("Qwen3", True, ""),  # it may open one itself
        ("Hunyuan", True, "<think>"),
        ("DeepSeek-R1", True, "<think>\n"),
    ],
)
def test_thoughts_that_a_template_has_its_model_think(
    family: str, thinks: bool, opened: str
) -> None:
    template = template_of(family)
    assert template.thinks == thinks
    assert template.opened_thought(thinking=True) == opened
    assert template.render([ASKED], thinking=True).endswith(opened)


def test_a_model_that_can_be_told_not_to_think_is_told_so() -> None:
    for family, closed in (
        ("Qwen3", "<think>\n\n</think>\n\n"),
        ("Hunyuan", "<think>\n\n</think>\n"),
    ):
        template = template_of(family)
        assert template.render([ASKED]).endswith(closed)
        assert not template.opened_thought(thinking=False)
        assert template.lead == ""
    with pytest.raises(
        UserError, match=r"always opens a thought.*set rate=text, rate.format=text and method=none"
    ):
        _ = template_of("DeepSeek-R1").lead


@pytest.mark.parametrize(("family", "form"), [("Llama 3", "%d %b %Y"), ("gpt-oss", "%Y-%m-%d")])
def test_the_date_is_always_the_same(family: str, form: str) -> None:
    template = template_of(family)
    rendered = template.render([ASKED])
    assert datetime(2024, 7, 26).strftime(form) in rendered
    assert datetime.now().strftime(form) not in rendered
    messages: Any = [ASKED]  # all but the date is as transformers renders it
    theirs = tokenizer_of(family).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert rendered.replace("26 Jul 2024", "").replace("2024-07-26", "") == str(theirs).replace(
        datetime.now().strftime(form), ""
    )


def test_every_letter_of_a_date_has_its_text() -> None:
    letters = "YymBbdjAauweFHIMSp"
    source = "{% for form in messages[0].content %}{{ strftime_now('%' + form) }}|{% endfor %}"
    asked = {"role": "user", "content": letters}
    found = template_of("ChatML", chat_template=source).render([asked])
    day = datetime(2024, 7, 26)
    assert found == "".join(f"{day.strftime(f'%{letter}')}|" for letter in letters)
    calls = "{{ strftime_now('%-d.%-m.') }}{{ (strftime_now('%Y') | int) + 1 }} {{ strftime_now is defined }}"
    assert template_of("ChatML", chat_template=calls).render([asked]) == "26.7.2025 True"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "ChatML has no chat template; choose the instruction-tuned version"),
        ({"tool_use": "", "rag": ""}, "ChatML has no chat template"),
        ("{{ messages[0].content.nothing() }}", "refuses the messages user"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "leaves out"),
    ],
)
def test_templates_that_cannot_be_used(template: Any, reason: str) -> None:
    with pytest.raises(UserError, match=f"^model.path: .*{reason}"):
        _ = template_of("ChatML", chat_template=template).answered
