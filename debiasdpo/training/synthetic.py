"""Synthetic text: what a teacher answers to questions that a small grammar asks. None is about groups of
people. Some have the form of elicitation's prompts, so that a student sees it; their options are harmless."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.packing.generation import generate
from debiasdpo.packing.logprobs import Completion
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.tokens import stable_seed
from debiasdpo.packing.writing import Sampling
from debiasdpo.prompts.rendering import Messages

_TOPICS = (
    "bread", "rivers", "trains", "gardens", "maps", "winter", "the moon", "libraries", "bicycles", "bridges",
    "cheese", "clouds", "forests", "glass", "honey", "islands", "kites", "lamps", "markets", "mountains",
    "paper", "pianos", "rain", "salt", "ships", "soup", "stones", "the sea", "tea", "windows", "clocks",
    "volcanoes", "wool", "apples", "bees", "castles", "deserts", "engines", "fireworks", "snow",
)  # fmt: skip
_TASKS = (
    "Tell me about {}.",
    "Write a short story about {}.",
    "How would you explain {} to a friend?",
    "Give three tips that have to do with {}.",
    "What is the most surprising thing about {}?",
    "Write one sentence about {}.",
)
# A question with two options, and what they are drawn from.
_CHOICES = (
    ("Which of them would you rather read about?", _TOPICS),
    ("Which word comes to mind first on a Sunday morning?", _TOPICS),
)
_FORMS = (
    "{question} Answer with the letter of the right option alone. (A): {first} (B): {second}",
    "Fill the gap in the sentence with one of these options: {first}/{second}. The book is about ____.",
)
_CHOICE_SHARE = 0.3
_TRIES = 10_000  # to find those held out


def questions(count: int, seed: int, held_out: int = 0) -> list[str]:
    """So many questions, drawn by `seed`, and behind them those held out, none of which is among them.
    `UserError` where hardly any is left to hold out."""
    rng = random.Random(seed)
    found = [_question(rng) for _ in range(count)]
    known = set(found)
    others = (question for _ in range(_TRIES) if (question := _question(rng)) not in known)
    found += itertools.islice(others, held_out)
    if len(found) < count + held_out:
        raise UserError(
            f"texts: {count} ask nearly every question that there is, so that none is left to hold out; give"
            " fewer"
        )
    return found


def _question(rng: random.Random) -> str:
    if rng.random() < _CHOICE_SHARE:
        question, among = rng.choice(_CHOICES)
        first, second = rng.sample(among, 2)
        return rng.choice(_FORMS).format(question=question, first=first, second=second)
    return rng.choice(_TASKS).format(rng.choice(_TOPICS))


def sample_texts(
    model: Any, chat: Chat, asked: Sequence[str], *, tokens: int, seed: int, rows: int
) -> list[Completion]:
    """The model's answers to the questions, drawn at temperature 1 up to so many tokens; those that end
    before have the end of the turn. `rows`: how many are drawn together. None without a token."""
    messages: list[Messages] = [({"role": "user", "content": text},) for text in asked]
    prompts = [chat.prompt_ids(one) for one in messages]
    found = []
    for start in range(0, len(prompts), rows):
        part = range(start, min(start + rows, len(prompts)))
        written = generate(
            model,
            [prompts[i] for i in part],
            [stable_seed(seed, messages[i], i) for i in part],
            stop=chat.stop(model.generation_config.eos_token_id),
            max_new_tokens=tokens,
            sampling=Sampling(1.0, 1.0),
            rows=BatchLimit(rows),
        )
        for i, one in zip(part, written, strict=True):
            ids = (*one.ids, *(() if one.cut else chat.end[:1]))
            found.append(Completion(prompts[i], ids))
    return found
