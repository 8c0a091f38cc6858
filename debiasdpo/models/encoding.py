"""From rendered chats to token ids, where only what the chat template writes becomes control tokens.

A document may hold `<|im_end|>` or `[INST]`. It is tokenised as the characters that it shows, as by a
tokenizer that has no such tokens. Chats whose contents hold none get exactly the tokenizer's own ids.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from debiasdpo.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Noncharacters, which Unicode keeps out of texts. One that is in no content breaks up control tokens
# there; the last two stand around the other names that control tokens get.
_MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
_OPEN, _CLOSE = "\U0010fffe", "\U0010ffff"


class Encoding:
    """A tokenizer, and which of its tokens are control tokens."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template: str, name: str) -> None:
        """`template`: the chat template's source. `name`: of the model, in messages."""
        self._tokenizer, self._name = tokenizer, name
        added = tokenizer.added_tokens_decoder
        self.special = {token.content: i for i, token in added.items() if token.special}
        self.special |= dict(
            zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
        )
        written = {
            token.content: i
            for i, token in added.items()
            if token.content in template or re.fullmatch(r"<\|.*\|>", token.content)
        }
        # An added token may be a word, a line break or "!" too, and these are text.
        self.controls = {
            text: i
            for text, i in (self.special | written).items()
            if re.search(r"\w", text) and not text.isalnum()
        }
        longest_first = sorted(self.controls, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def mark(self, *contents: str) -> str:
        """A character that is in none of the contents."""
        for mark in _MARKS:
            if not any(mark in content for content in contents):
                return mark
        raise UserError(
            "data: a text holds each of the noncharacters U+FDD0 to U+FDEF; take them out"
        )

    def as_text(self, content: str, mark: str) -> str:
        """The content with a mark after each character of the control tokens in it, so that they are told
        from the template's own in a rendered chat."""
        return self.pattern.sub(lambda found: mark.join(found[0]) + mark, content)

    def ids(self, chat: str, mark: str = "") -> tuple[int, ...]:
        """The ids of a rendered chat less its marks. Raises `UserError` where the tokenizer cannot but read a
        content as a control token."""
        own = [self.controls[found[0]] for found in self.pattern.finditer(chat)]
        marked = bool(mark) and mark in chat
        plain = chat.replace(mark, "") if marked else chat
        ids: Sequence[int] = self._tokenizer(
            plain, add_special_tokens=False, split_special_tokens=False
        )["input_ids"]
        if marked or self._adds(ids, own):
            if _OPEN in chat:
                raise UserError(self._refusal)
            renamed = self.pattern.sub(lambda found: self._other_names[found[0]], chat)
            renamed = renamed.replace(mark, "") if marked else renamed
            ids = self._renamed.encode(renamed, add_special_tokens=False).ids
        return tuple(ids)

    def _adds(self, ids: Sequence[int], own: Sequence[int]) -> bool:
        """Whether there are control tokens beside the template's own."""
        left = iter(own)
        return any(i in self._control_ids and i not in left for i in ids)

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        """Of all control tokens but the one that stands for unknown characters, which are text."""
        return frozenset(self.controls.values()) - {self._tokenizer.unk_token_id}

    @cached_property
    def _other_names(self) -> dict[str, str]:
        return {text: f"{_OPEN}{i}{_CLOSE}" for text, i in self.controls.items()}

    @property
    def _refusal(self) -> str:
        return (
            f"data: a text holds what the tokenizer of {self._name} can only read as a control token;"
            " take it out"
        )

    @cached_property
    def _renamed(self) -> "Tokenizer":
        """The tokenizer with other names for its control tokens, so that no text becomes one."""
        if not self._tokenizer.is_fast:
            raise UserError(self._refusal)
        names = self._other_names
        backend: Tokenizer = self._tokenizer.backend_tokenizer
        state = json.loads(backend.to_str())
        state |= {"post_processor": None, "truncation": None, "padding": None}
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model: dict[str, Any] = state["model"]
        if names.keys() & {"".join(pair) for pair in model.get("merges", ())}:
            raise UserError(self._refusal)  # a control token is a piece of text too
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {names.get(text, text): i for text, i in vocabulary.items()}
        else:  # of a unigram model: with a score each
            model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
        if (unknown := model.get("unk_token")) in names:
            model["unk_token"] = names[unknown]
        return type(backend).from_str(json.dumps(state))
