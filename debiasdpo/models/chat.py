"""A model's chat as token ids: the only way from messages and texts to ids, and from ids to text."""

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.models.encoding import Encoding
from debiasdpo.models.template import THOUGHT_TAG, Template
from debiasdpo.packing.prefix_tree import common_prefix
from debiasdpo.prompts.rendering import Messages, answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]

log = logging.getLogger(__name__)

_MARK = re.compile(
    r"<\|\w+\|>|\[/?[A-Z]+\]|</?\w+>|#{2,} ?\w+:|\b[A-Z]{4,}:"
)  # as templates mark turns
_LINES = "x\n"  # stands for any text that ends in a line break


class Chat:
    """A tokenizer with its chat template, inspected once.

    `end`: the ids that the template writes after an answer, up to the token that ends the turn.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
        """`name`: of the model, in messages. Raises `UserError` where the tokenizer has no chat template,
        or nothing ends a turn."""
        self.tokenizer = tokenizer
        self.template = Template(tokenizer, name)
        self._encoding = Encoding(tokenizer, self.template.source, name)
        self.end, self._end_text = self._turn_end()
        ordinary = self.template.prompt + "".join(self.template.answered)
        self._lookalikes = {m for m in _MARK.findall(ordinary) if m not in self._encoding.controls}
        self._levels: dict[tuple[Scale, bool], list[Ids]] = {}
        # The tags of thoughts are special tokens in some models, and are read all the same.
        special = self._encoding.special.items()
        self._unread = frozenset(i for text, i in special if not THOUGHT_TAG.fullmatch(text))

    def prompt_ids(self, messages: Messages, *, thinking: bool = False) -> Ids:
        """The template's ids up to where the model's answer begins. `thinking`: it may think first."""
        contents = [message["content"] for message in messages]
        self._warn(contents)
        mark = self._encoding.mark(*contents)
        rendered = self.template.render(
            [{**m, "content": self._encoding.as_text(m["content"], mark)} for m in messages],
            thinking=thinking,
        )
        return self._encoding.ids(rendered, mark)

    def text_ids(self, text: str) -> Ids:
        """A text with which the model's answer begins, without the end of the turn."""
        return self._following("", text)

    def answer_ids(self, text: str, *, last_line: bool = False) -> Ids:
        """The model's answer and the end of its turn. `last_line`: the last line of an answer, after the
        ids that `text_ids` has for the lines before it."""
        return self._following(_LINES if last_line else "", text) + self.end

    def distinct_ids(self, texts: Sequence[str], *, last_line: bool = False) -> list[Ids]:
        """Texts as the model's answer, or as its last line, to tell which it gives. The end of the turn is
        there too where one text's tokens begin another's; else its scoring would only cost tokens."""
        answers = [self.answer_ids(text, last_line=last_line) for text in texts]
        open_ends = [ids[: -len(self.end)] for ids in answers]
        ambiguous = any(a != b and b[: len(a)] == a for a in open_ends for b in open_ends)
        return answers if ambiguous else open_ends

    def level_ids(self, scale: Scale, *, last_line: bool = False) -> list[Ids]:
        """`Rating: k` for every level k of the scale (1 and 10, 3 and 3.5), as `distinct_ids`."""
        if (scale, last_line) not in self._levels:
            texts = [answer(k) for k in scale.levels]
            self._levels[scale, last_line] = self.distinct_ids(texts, last_line=last_line)
        return self._levels[scale, last_line]

    def before_level(self, scale: Scale) -> Ids:
        """What the answers for all levels of the scale begin with: `Rating: `, as far as its tokens are
        theirs alike."""
        levels = self.level_ids(scale)
        shared = min(common_prefix(levels[0], other) for other in levels[1:])
        return levels[0][:shared]

    def stop(self, also: int | Sequence[int] | None) -> Ids:
        """The tokens at which the model stops writing: those that end a turn or a text, and the model's
        own (its `generation_config.eos_token_id`)."""
        own = [also] if isinstance(also, int) else also or ()
        ends = (self.end[-1], self.tokenizer.eos_token_id, *own)
        return tuple(dict.fromkeys(i for i in ends if i is not None))

    def read(self, ids: Sequence[int]) -> str:
        """The text of what the model wrote, without control tokens."""
        return str(self.tokenizer.decode([i for i in ids if i not in self._unread]))

    def _warn(self, contents: Sequence[str]) -> None:
        """Say once of each mark of a turn that is ordinary text to the tokenizer if a content has it too."""
        for mark in [m for m in self._lookalikes if any(m in content for content in contents)]:
            self._lookalikes.discard(mark)
            log.warning(
                "a text holds %s, with which the chat template of %s marks turns in ordinary text: the model"
                " cannot tell them apart; take it out, or choose another model",
                mark, self.template.name,
            )  # fmt: skip

    def _turn_end(self) -> tuple[Ids, str]:
        """The ids of the end of a turn, and the text of the token that ends it, where it has one."""
        (before, _), closing = self.template.answered, self.template.closing
        found = re.search(f"(?:{self._encoding.pattern.pattern})+", closing)
        if found is None:  # the template ends a turn with nothing, or with plain text
            end = self.tokenizer.eos_token_id
            if end is None:
                raise UserError(
                    f"model.path: nothing ends a turn of {self.template.name}, neither its chat template"
                    " nor a token of its tokenizer; choose the instruction-tuned version of the model"
                )
            return (end,), ""
        last = self._encoding.pattern.findall(found[0])[-1]
        head = self._encoding.ids(f"{before}x")
        whole = self._encoding.ids(f"{before}x{closing[: found.end()]}")
        return (whole[len(head) :] if whole[: len(head)] == head else whole[-1:]), last

    def _following(self, before: str, text: str) -> Ids:
        """The ids of `text` as the model goes on with it after a prompt, or after what it wrote `before`."""
        mark = self._encoding.mark(text)
        text = self._encoding.as_text(text, mark)
        prompt, lead = self.template.prompt, self.template.lead
        if not before:  # what a model wrote begins with the lead: it is there once
            text = text.removeprefix(lead)
        head = self._encoding.ids(prompt + lead + before if before else prompt)
        whole = self._encoding.ids(prompt + lead + before + text, mark)
        if whole[: len(head)] != head:
            # Its first characters would make one token with the prompt's last ones, which are there
            # already. After a control token it stands for itself.
            head = self._encoding.ids(self._end_text)
            whole = self._encoding.ids(self._end_text + (text if before else lead + text), mark)
        return whole[len(head) :]
