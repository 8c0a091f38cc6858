"""A model's chat template, as text: what it makes of messages, and what it adds to them or refuses.

What it does is found out by rendering known words and looking at what stands around them.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from debiasdpo.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a template gets as today's date, by the letters of strftime: the one that Llama 3.1 falls back
# on. With the real one, a prompt would be another one every day.
_DATE = {
    "Y": "2024", "y": "24", "m": "07", "B": "July", "b": "Jul", "d": "26", "j": "208", "A": "Friday",
    "a": "Fri", "u": "5", "w": "5", "e": "26", "F": "2024-07-26", "H": "00", "I": "12", "M": "00",
    "S": "00", "p": "AM", "-d": "26", "-m": "7",
}  # fmt: skip

# What decides token ids beside the tokenizer's files. Raise `rules` when they are made differently.
IDENTITY = {"rules": 1, "date": _DATE["F"]}

# The names under which templates are told that the model shall not think first.
SILENT = {"enable_thinking": False, "thinking": False}

# <think>, </think>, [THINK], <|START_THINKING|>, <seed:think>, <|end_of_thought|>
THOUGHT_TAG = re.compile(
    r"[<\[◁][^\s<>\[\]◁▷]{0,12}(?:think|thought|reason)[^\s<>\[\]◁▷]{0,6}[>\]▷]", re.IGNORECASE
)

_QUERY, _ANSWER, _SYSTEM = "sentinelquery", "sentinelanswer", "sentinelsystem"
_ASKED = {"role": "user", "content": _QUERY}
_ANSWERED = {"role": "assistant", "content": _ANSWER}


class Template:
    """The chat template of one tokenizer: its `source`, and what is rendered (`used`), in which the date is
    fixed."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
        """`name`: of the model, in messages. Raises `UserError` where the tokenizer has no template."""
        self._tokenizer, self.name = tokenizer, name
        self.source = _source(tokenizer, name)
        self.dated = "strftime_now" in self.source  # it may write today's date
        self.used = f"{_date_macro()}\n{self.source}" if self.dated else self.source

    def render(
        self,
        messages: Sequence[dict[str, str]],
        *,
        thinking: bool = False,
        answered: bool = False,
    ) -> str:
        """The conversation, up to where the model's answer begins. `answered`: it ends with the answer.

        `thinking`: the model may think first, where it does so by itself; else it is told not to, where the
        template can tell it. Raises `UserError` where the template refuses the messages.
        """
        from jinja2 import TemplateError

        told: dict[str, Any] = {} if thinking else dict(SILENT)
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=self.used,
                    add_generation_prompt=not answered,
                    tokenize=False,
                    **told,
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            roles = " + ".join(message["role"] for message in messages)
            raise UserError(
                f"model.path: the chat template of {self.name} refuses the messages {roles}: {error}"
            ) from error

    def opened_thought(self, *, thinking: bool) -> str:
        """The end of the prompt from `<think>` on, where it opens a thought and leaves the rest of it to the
        model; else empty."""
        _, _, end = self.render([_ASKED], thinking=thinking).partition(_QUERY)
        tags = list(THOUGHT_TAG.finditer(end))
        return end[tags[-1].start() :] if tags and not _closes(tags[-1][0]) else ""

    @cached_property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers, unless it is told not to."""
        willing, silent = (self.render([_ASKED], thinking=told) for told in (True, False))
        return willing != silent or bool(self.opened_thought(thinking=True))

    @cached_property
    def prompt(self) -> str:
        """A short prompt, without a thought."""
        return self.render([_ASKED])

    @cached_property
    def lead(self) -> str:
        """What it writes between the end of the prompt and the model's answer: most often nothing, else a
        blank, or what the model itself writes first. `UserError` where the prompt's end is no place for an
        answer."""
        if self.opened_thought(thinking=False):
            raise UserError(
                f"model.path: the chat template of {self.name} always opens a thought, so that no answer"
                " follows its prompt; set rate=text, rate.format=text and method=none"
            )
        before, _ = self.answered
        # Some leave out of an answer that was given what the prompt for it ends with, as a closed thought.
        return before[len(self.prompt) :] if before.startswith(self.prompt) else ""

    @cached_property
    def answered(self) -> tuple[str, str]:
        """What stands before and after the answer in a conversation that ends with it."""
        before, found, after = self.render([_ASKED, _ANSWERED], answered=True).rpartition(_ANSWER)
        if not found:
            raise UserError(
                f"model.path: the chat template of {self.name} leaves out the model's answers; choose a"
                " model with a template for chats"
            )
        return before, after

    @cached_property
    def closing(self) -> str:
        """What it writes after an answer, whether the conversation goes on or not; where it writes another
        end then, that of a conversation that ends."""
        _, after = self.answered
        with contextlib.suppress(UserError):
            _, _, going_on = self.render([_ASKED, _ANSWERED, _ASKED]).rpartition(_ANSWER)
            shared = os.path.commonprefix([after, going_on])  # noqa: RUF071 (of characters)
            return shared if shared.strip() else after
        return after

    def system_message(self, *, thinking: bool) -> str:
        """The system message that stands for none: what the template writes where none is given, or empty.

        A prompt that has it differs by a statement alone from one with the statement added to it. Raises
        `UserError` where there is no such message, since the template refuses or drops system messages.
        """
        key = "prompt.context_position=system"
        cure = "set prompt.context_position=after_query or before_document"
        try:
            given = self.render([_system(_SYSTEM), _ASKED], thinking=thinking)
        except UserError as error:
            refusal = str(error).removeprefix("model.path: ")
            raise UserError(f"{key}: {refusal}; {cure}") from error
        if given.count(_SYSTEM) != 1:
            raise UserError(
                f"{key}: the chat template of {self.name} drops system messages; {cure}"
            )
        before, after = given.split(_SYSTEM)
        plain, own = self.render([_ASKED], thinking=thinking), ""
        if plain.startswith(before) and plain[len(before) :].endswith(after):
            own = plain[len(before) : len(plain) - len(after)]
        if self.render([_system(own), _ASKED], thinking=thinking) != before + own + after:
            raise UserError(
                f"{key}: the chat template of {self.name} drops an empty system message, so that prompts with"
                f" and without a statement there differ by more than the statement; {cure}"
            )
        return own


def _source(tokenizer: "PreTrainedTokenizerBase", name: str) -> str:
    if getattr(tokenizer, "chat_template", None) is not None:
        with contextlib.suppress(ValueError):  # it has several, and none of them is for plain chats
            return tokenizer.get_chat_template()
    raise UserError(
        f"model.path: {name} has no chat template; choose the instruction-tuned version of the model"
    )


def _closes(tag: str) -> bool:
    return "/" in tag or "end" in tag.lower()


def _system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def _date_macro() -> str:
    """Jinja that stands in place of the function `strftime_now`, which templates are given."""
    filters = "".join(f" | replace('%{letter}', '{text}')" for letter, text in _DATE.items())
    return "{% macro strftime_now(form) %}{{ form" + filters + " }}{% endmacro %}"
