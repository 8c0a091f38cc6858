"""Token ids of chats: nothing but the template makes control tokens, and an answer is what it writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.prompts.rendering import Messages, answer
from tests.helpers.chats import FAMILIES, THOUGHT_TAGS, chat_of, tokenizer_of

CHATS: dict[str, Chat] = {}
ANSWERING = [f for f in FAMILIES if f != "DeepSeek-R1"]
FAMILY = st.sampled_from(sorted(FAMILIES))
# What looks like a control token somewhere, whole, cut, overlapping, in other letters.
MARKERS = sorted(
    {t for family in FAMILIES.values() for t in family.tokens} | {"<think>", "</think>"}
)
ALIKE = [
    "< |im_end|>",
    "\uff1c|im_end|\uff1e",
    "[inst]",
    "<|IM_END|>",
    "<<|im_end|>>",
    "\n",
    "\n\n",
    " ",
]
PIECES = st.sampled_from([*MARKERS, *(m[1:] for m in MARKERS), *(m[:-1] for m in MARKERS), *ALIKE])
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
TEXTS = st.lists(PIECES | WORDS, max_size=8).map("".join)
PLAIN = st.text(st.sampled_from("abc teacher.,:!?59\n"), max_size=40)


def known(family: str) -> Chat:
    if family not in CHATS:
        CHATS[family] = chat_of(family)
    return CHATS[family]


def asked(text: str) -> Messages:
    return ({"role": "user", "content": text},)


def controls(chat: Chat, family: str, ids: Sequence[int]) -> list[str]:
    """The control tokens among the ids, by what the family's documentation lists."""
    tokens = set(FAMILIES[family].tokens)
    if family in THOUGHT_TAGS:
        tokens |= {"<think>", "</think>"}
    return [token for token in chat.tokenizer.convert_ids_to_tokens(list(ids)) if token in tokens]


@settings(max_examples=300)
@given(FAMILY, TEXTS)
def test_no_content_makes_control_tokens(family: str, text: str) -> None:
    chat = known(family)
    found = chat.prompt_ids(asked(f"x{text}y"))
    assert controls(chat, family, found) == controls(chat, family, chat.prompt_ids(asked("xy")))
    rendered = chat.template.render(asked(f"x{text}y"))
    assert _shown(chat, found) == _squeezed(rendered)


def _shown(chat: Chat, ids: Sequence[int]) -> str:
    return _squeezed(str(chat.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)))


def _squeezed(text: str) -> str:
    """Without white space, of which sentencepiece adds some (as ▁) and role tokens take some away."""
    return "".join(text.replace("▁", "").split())


@settings(max_examples=200)
@given(FAMILY, PLAIN)
def test_ordinary_contents_get_the_tokenizers_own_ids(family: str, text: str) -> None:
    chat = known(family)
    theirs: Any = chat.tokenizer.apply_chat_template(
        list(asked(text)), chat_template=chat.template.used, add_generation_prompt=True,
        enable_thinking=False, thinking=False, return_dict=False,
    )  # fmt: skip
    assert chat.prompt_ids(asked(text)) == tuple(theirs)


@settings(max_examples=100)
@given(TEXTS)
def test_control_tokens_in_a_content_are_tokenised_as_by_a_tokenizer_without_them(
    text: str,
) -> None:
    """Of a tokenizer of bytes, a segment's ids do not depend on what is around it."""
    chat = known("ChatML")
    tokenizer = chat.tokenizer
    begin, end = map(tokenizer.convert_tokens_to_ids, ("<|im_start|>", "<|im_end|>"))

    def plain(segment: str) -> list[int]:
        return tokenizer(segment, split_special_tokens=True)["input_ids"]

    expected = [begin, *plain(f"user\n{text}"), end, *plain("\n"), begin, *plain("assistant\n")]
    assert chat.prompt_ids(asked(text)) == tuple(expected)


@pytest.mark.parametrize("family", ANSWERING)
def test_answers_are_what_the_template_writes(family: str) -> None:
    chat = known(family)
    for text in ("Rating: 5", "The lesson is good.\nRating: 10", "Hm, 3?"):
        whole: Any = chat.template.render(
            [*asked("How good?"), {"role": "assistant", "content": text}], answered=True
        )
        ids = tuple(chat.tokenizer(whole, add_special_tokens=False)["input_ids"])
        written = chat.prompt_ids(asked("How good?")) + chat.answer_ids(text)
        if family == "Hunyuan":  # leaves the closed thought out of answers that were given
            left = tuple(chat.tokenizer("<think>\n\n</think>\n")["input_ids"])
            at = len(written) - len(chat.answer_ids(text)) - len(left)
            assert written[at : at + len(left)] == left
            written = written[:at] + written[at + len(left) :]
        if family == "open end":  # which ends a turn with a line break alone
            assert written[-1] == chat.tokenizer.eos_token_id
            written = written[:-1]
        assert ids[: len(written)] == written
        assert chat.read(chat.answer_ids(text)).strip().removeprefix("final") == text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_ends_as_the_template_ends_it(family: str) -> None:
    chat = known(family)
    token = chat.tokenizer.convert_tokens_to_ids(FAMILIES[family].end)
    assert chat.end[-1] == token
    if family in ANSWERING:
        assert chat.answer_ids("Rating: 5")[-1] == token
    eos = chat.tokenizer.eos_token_id
    assert chat.stop(None) == tuple(dict.fromkeys([token, eos]))
    assert chat.stop([7, eos]) == tuple(dict.fromkeys([token, eos, 7]))


def test_which_token_the_tokenizer_calls_the_last_makes_no_difference() -> None:
    chats = [chat_of("ChatML", eos_token=token) for token in ("<|im_end|>", "<|endoftext|>")]
    chats.append(chat_of("ChatML", eos_token=None))
    assert len({chat.answer_ids("Rating: 5") for chat in chats}) == 1
    assert len({tuple(chat.level_ids(Scale(1, 10))) for chat in chats}) == 1
    with pytest.raises(UserError, match="nothing ends a turn of open end"):
        chat_of("open end", eos_token=None)


@pytest.mark.parametrize("family", ANSWERING)
def test_levels_are_answers_of_their_own_and_last_lines(family: str) -> None:
    chat = known(family)
    for scale, ends in ((Scale(1, 7), False), (Scale(0, 10), None), (Scale(1, 3, 0.5), None)):
        for last in (False, True):
            levels = chat.level_ids(scale, last_line=last)
            texts = [answer(level) for level in scale.levels]
            whole = [chat.answer_ids(text, last_line=last) for text in texts]
            ended = levels == whole
            assert ended or levels == [ids[: -len(chat.end)] for ids in whole]
            assert ends is None or ended == ends
            # None begins another, so that their probabilities are of different answers.
            assert not [1 for a in levels for b in levels if a != b and b[: len(a)] == a]
    lines = chat.text_ids("Good.\n") + chat.answer_ids("Rating: 4", last_line=True)
    assert lines == chat.answer_ids("Good.\nRating: 4")


@settings(max_examples=200)
@given(st.sampled_from(ANSWERING), TEXTS)
def test_no_text_of_an_answer_makes_control_tokens(family: str, text: str) -> None:
    chat = known(family)
    found = controls(chat, family, chat.text_ids(f"x{text}y"))
    assert found == controls(chat, family, chat.text_ids("xy"))


@given(st.sampled_from(["\n", "\n\n", " ", "  ", "\t"]), PLAIN)
def test_white_space_at_the_beginning_of_an_answer_stays_there(blank: str, text: str) -> None:
    """Though it would make one token with the end of the prompt."""
    for family in ("ChatML", "Llama 3"):
        chat = known(family)
        alone = chat.tokenizer(blank + text)["input_ids"]
        assert chat.text_ids(blank + text) == tuple(alone)


@pytest.mark.parametrize(
    ("template", "lead"),
    [
        ("{% for m in messages %}{{ m.role + ': ' + m.content + '</s>' }}{% endfor %}", " "),
        ("{% for m in messages %}{{ m.role + ':\n' + m.content + '</s>' }}{% endfor %}", "\n"),
    ],
)
def test_what_a_model_wrote_is_tokenised_as_it_wrote_it(template: str, lead: str) -> None:
    """Also where the template leaves the blank before an answer to the model."""
    template += "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    chat = chat_of("open end", chat_template=template)
    assert chat.template.lead == lead
    text = "The lesson is good.\nRating: 5"
    prompt, written = chat.prompt_ids(asked("How good?")), chat.answer_ids(text)
    whole = chat.template.render(
        [*asked("How good?"), {"role": "assistant", "content": text}], answered=True
    )
    assert prompt + written == tuple(chat.tokenizer(whole)["input_ids"])
    assert chat.read(written) == lead + text
    assert chat.answer_ids(chat.read(written)) == written
    assert chat.text_ids(lead + text) == written[: -len(chat.end)]


def test_tags_of_thoughts_are_read_and_other_control_tokens_are_not() -> None:
    chat = known("DeepSeek-R1")
    ids = chat.tokenizer("So 4.\n</think>\n\nRating: 4" + FAMILIES["DeepSeek-R1"].end)["input_ids"]
    assert chat.read(ids) == "So 4.\n</think>\n\nRating: 4"
    special = tokenizer_of("Mistral")
    special.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    chat = Chat(special, "Magistral")
    ids = special("[THINK]So 4.[/THINK]Rating: 4</s>", add_special_tokens=False)["input_ids"]
    assert chat.read(ids).replace("▁", " ").strip() == "[THINK]So 4.[/THINK]Rating: 4"


@pytest.mark.parametrize(("family", "mark"), [("Llama 2", "[INST]"), ("Zephyr", "<|user|>")])
def test_marks_of_turns_that_are_ordinary_text_are_told_once(
    family: str, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat = chat_of(family)
    for text in ("A lesson.", f"A lesson {mark}.", f"{mark} again"):
        chat.prompt_ids(asked(text))
        known("ChatML").prompt_ids(asked(text))  # whose marks are control tokens
    (said,) = caplog.messages
    assert said.startswith(f"a text holds {mark}, with which the chat template of {family} marks")


def test_a_tokenizer_that_splits_control_tokens_takes_the_templates_own_whole() -> None:
    split = chat_of("ChatML", split_special_tokens=True)
    assert split.prompt_ids(asked("A.<|im_end|>")) == known("ChatML").prompt_ids(
        asked("A.<|im_end|>")
    )
    assert split.answer_ids("Rating: 5") == known("ChatML").answer_ids("Rating: 5")


def test_a_tokenizer_that_is_not_made_of_parts_refuses_control_tokens_in_texts() -> None:
    from transformers import ByT5Tokenizer

    template = "{% for message in messages %}{{ message.content }}</s>{% endfor %}"
    chat = Chat(ByT5Tokenizer(chat_template=template), "byt5")
    assert chat.prompt_ids(asked("A")) == (ord("A") + 3, 1)
    assert chat.end == (1,)
    with pytest.raises(UserError, match="the tokenizer of byt5 can only read as a control token"):
        chat.prompt_ids(asked("A</s>B"))


def test_an_added_word_is_a_word_in_a_text(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("ChatML", pad_token="!")
    tokenizer.add_tokens(["teacher", "assistant", "\n\n"])
    chat = Chat(tokenizer, "m")
    text = "A teacher!\n\nNew assistant!"
    theirs: Any = tokenizer.apply_chat_template(
        list(asked(text)), add_generation_prompt=True, return_dict=False
    )
    assert chat.prompt_ids(asked(text)) == tuple(theirs)
    assert "teacher" in tokenizer.convert_ids_to_tokens(theirs)


def test_a_text_may_hold_the_marks_that_tell_contents_apart() -> None:
    chat = known("ChatML")
    marks = "".join(map(chr, range(0xFDD0, 0xFDEF)))
    text = f"a{marks}b<|im_end|>c"
    shown = chat.tokenizer.decode(list(chat.prompt_ids(asked(text))))
    assert str(shown).startswith(f"<|im_start|>user\n{text}<|im_end|>")
    with pytest.raises(UserError, match="noncharacters"):
        chat.prompt_ids(asked(f"{marks}\ufdef"))
    forged = f"\U0010fffe{chat.end[-1]}\U0010ffff"
    with pytest.raises(UserError, match="can only read as a control token"):
        chat.prompt_ids(asked(f"<|im_end|>{forged}"))
    assert forged in str(chat.tokenizer.decode(list(chat.prompt_ids(asked(forged)))))
