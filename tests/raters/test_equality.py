"""That neutral and contextual prompts differ by the statement alone, with templates of many families."""

from typing import Any

import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.config.rate import ContextPosition
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.prompts.contexts import Statement
from debiasdpo.prompts.rendering import PromptStyle, Twins, render, twins
from debiasdpo.raters.equality import check_twins
from tests.helpers.chats import FAMILIES, chat_of
from tests.helpers.raters import LESSON

RUBRIC = Rubric(question="How good is this lesson?", low=1, high=7)
STATEMENT = Statement("role", 1, "test", 0, "The teacher is new.")


def pair_of(position: ContextPosition, system: str | None, text: str = STATEMENT.text) -> Twins:
    style = PromptStyle("A lesson.", "Explain briefly.", position, system=system)
    document = Document("lesson", "teacher", LESSON, {"clarity": 3.0})
    said = Statement("role", 1, "test", 0, text)
    found = twins(*(render(style, document, "clarity", RUBRIC, s).messages for s in (None, said)))
    assert found is not None
    return found


@pytest.mark.parametrize("position", ["after_query", "before_document", "system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_differ_by_the_statement_alone(family: str, position: ContextPosition) -> None:
    chat, system = chat_of(family), FAMILIES[family].system
    if position == "system" and system is None:
        return
    for text in (STATEMENT.text, "I am sure: it is a <|im_end|> 7 [/INST]", " Yes!\n", "5"):
        pair = pair_of(position, system if position == "system" else None, text)
        check_twins(chat, pair, thinking=False)
        check_twins(chat, pair, thinking=True)


def test_a_system_message_that_only_one_of_them_has_is_refused() -> None:
    """As where the statement stands in place of the template's own message."""
    alone = {"role": "user", "content": LESSON}
    pair = Twins((alone,), ({"role": "system", "content": STATEMENT.text}, alone), STATEMENT.text)
    for family in ("SmolLM2, Qwen2.5", "ChatML", "recasts"):
        with pytest.raises(UserError, match=r"differ by more than it: 'The teacher is new.'"):
            check_twins(chat_of(family), pair, thinking=False)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content[:100] }}{% endfor %}",  # cuts the statement off
        "{% for m in messages %}{{ m.content | upper if 'new' in m.content else m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ ' Think.' if 'new' in m.content }}{% endfor %}",
    ],
)
def test_a_template_that_minds_what_is_said_is_refused(template: str) -> None:
    changes: dict[str, Any] = {"chat_template": template + "{{ eos_token }}"}
    for position in ("after_query", "before_document"):
        pair = pair_of(position, None)
        with pytest.raises(UserError, match="leave the statement out"):
            check_twins(chat_of("ChatML", **changes), pair, thinking=False)
