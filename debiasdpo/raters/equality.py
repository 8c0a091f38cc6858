"""The proof that a neutral and a contextual prompt, as a model gets them, differ by the statement alone."""

import re

from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.packing.prefix_tree import common_prefix
from debiasdpo.prompts.rendering import Twins, inserted

# Tokens of the neutral prompt that may merge with the edges of the statement in the contextual one.
_EDGES = 4


def check_twins(chat: Chat, twins: Twins, *, thinking: bool) -> None:
    """Raise `UserError` unless the second prompt, as text and as token ids, is the first with the statement
    put in."""
    pair = twins.neutral, twins.contextual
    # White space aside, which templates trim.
    without, with_it = (
        re.sub(r"\s+", "", chat.template.render(messages, thinking=thinking)) for messages in pair
    )
    more = inserted(without, with_it)
    neutral, contextual = (chat.prompt_ids(messages, thinking=thinking) for messages in pair)
    shared = common_prefix(neutral, contextual)
    left = neutral[shared:][::-1], contextual[shared:][::-1]
    changed = len(left[0]) - common_prefix(*left)
    if more is None or len(more) != len(re.sub(r"\s+", "", twins.statement)) or changed > _EDGES:
        raise UserError(
            f"model.path: with the chat template of {chat.template.name}, prompts with and without this"
            f" statement differ by more than it: {twins.statement.strip()!r}; set"
            " prompt.context_position=after_query, or leave the statement out"
        )
