"""The local rater against the plain way: one prompt at a time, one forward pass an answer."""

import codecs
import copy
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import regex

from debiasdpo.config.method import MethodConfig
from debiasdpo.config.rate import Readout
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.models.chat import Chat
from debiasdpo.packing.logprobs import Completion
from debiasdpo.raters.base import Question
from debiasdpo.raters.json_form import HEAD
from debiasdpo.raters.levels import answer_logprobs, expected_ratings, normalised, reasoning_of
from debiasdpo.raters.reading import whole_sentences
from debiasdpo.training.data import tokenize
from debiasdpo.training.pairs import Pair
from tests.helpers.models import Loaded, LoadedCopy, greedy, logprobs_alone, with_large_token
from tests.helpers.parrot import parrot
from tests.helpers.raters import LESSON, local_rater, question, reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]


@pytest.fixture
def loaded(tiny_llama: Path, loaded_copy: LoadedCopy) -> Loaded:
    return loaded_copy(tiny_llama)


@pytest.fixture(params=["tiny_llama", pytest.param("tiny_qwen2", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, loaded_copy: LoadedCopy) -> Loaded:
    """For what depends on the architecture: the figures themselves."""
    return loaded_copy(request.getfixturevalue(request.param))


def prompts_of(loaded: Loaded, *texts: str) -> list[Ids]:
    return [loaded[1].prompt_ids(({"role": "user", "content": text},)) for text in texts]


def plain(loaded: Loaded, prompts: Sequence[Ids], count: int = 8) -> list[str]:
    """One prompt at a time, and one token at a time, without a cache."""
    import torch

    model, chat = loaded
    texts = []
    stop = model.generation_config.eos_token_id  # type: ignore[union-attr]
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(count):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == stop:
                break
        texts.append(_text(chat.tokenizer, ids[len(prompt) :]))
    return texts


def _text(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def test_expected_ratings_are_those_of_separate_passes(either: Loaded) -> None:
    import torch

    model, chat = either
    tokenizer = chat.tokenizer
    prompts = prompts_of(either, LESSON, LESSON + "The teacher is new.", "Hello.", LESSON)
    # On 0..10, the tokens of 1 begin those of 10, and with half points those of 1.5: only with the end of the
    # turn is it one answer.
    scales = [Scale(1, 7), Scale(0, 10), Scale(1, 3, 0.5), Scale(-2, 2)]
    expected = []
    every = [range(1, 8), range(11), (1, 1.5, 2, 2.5, 3), range(-2, 3)]
    for prompt, written in zip(prompts, every, strict=True):
        end = (tokenizer.eos_token_id,) if 10 in written or 1.5 in written else ()
        answers = [(*tokenizer(f"Rating: {k}")["input_ids"], *end) for k in written]
        scores = logprobs_alone(model, [Completion(prompt, ids) for ids in answers]).double()
        levels = torch.tensor([*written], dtype=torch.float64)
        expected.append(float((scores.softmax(0) * levels).sum()))
    found = expected_ratings(model, prompts, list(map(chat.level_ids, scales)), scales)
    assert found == pytest.approx(expected, rel=1e-5)
    assert len({round(e, 3) for e in expected}) == 4


def _questions() -> list[Question]:
    return [question("neutral", LESSON), question("contextual", LESSON + "The teacher is new.")]


def _expected(loaded: Loaded, prompts: Sequence[Ids]) -> list[float]:
    """On 1 to 7."""
    scales = [Scale(1, 7)] * len(prompts)
    return expected_ratings(loaded[0], prompts, list(map(loaded[1].level_ids, scales)), scales)


def _ids(loaded: Loaded, questions: Sequence[Question]) -> list[Ids]:
    return [loaded[1].prompt_ids(q.messages) for q in questions]


def test_it_says_what_it_is_and_can_do_without_being_loaded() -> None:
    rater = local_rater(lambda: pytest.fail("loaded"))
    assert rater.identity == {"model": "tiny"}
    assert rater.capabilities == {"text", "expected", "json"}


def test_prompts_that_leave_no_room_to_answer_are_refused_before_any_is_rated(
    loaded: Loaded,
) -> None:
    questions = [*_questions(), question("long", LESSON * 3)]
    lengths = [len(ids) for ids in _ids(loaded, questions)]
    longest = max(len(q.messages[0]["content"].encode()) for q in questions)
    fitting = local_rater(lambda: loaded, max_length=lengths[2] + 8)
    fitting.check(questions, (), longest, reading("text", 8))
    short = local_rater(lambda: loaded, max_length=lengths[2] + 7)
    with pytest.raises(UserError) as refusal:
        short.check(questions, (), longest, reading("text", 8))
    message = str(refusal.value)
    assert f"1 of 3 prompts are too long: long has {lengths[2]} tokens" in message
    assert f"leaves {lengths[2] - 1} beside rate.max_new_tokens=8" in message
    with pytest.raises(UserError, match="3 of 3 prompts"):
        local_rater(lambda: loaded, max_length=20).check(questions, (), longest, reading("text", 8))


@pytest.mark.parametrize("eos", ["<|endoftext|>", "<|im_start|>"])
def test_what_the_tokenizer_takes_for_the_end_of_a_text_changes_no_rating(
    loaded: Loaded, model_config: Any, tmp_path: Path, eos: str
) -> None:
    """Some models end turns with another token, as Gemma 2 and Phi-3 do."""
    model, chat = loaded
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.eos_token = eos
    tokenizer.save_pretrained(folder)
    other = loading.load_model(model_config(folder), tmp_path, device="cpu")
    assert other[1].tokenizer.eos_token == eos
    questions = [q._replace(scale=Scale(1, 10)) for q in _questions()]  # scores the end of the turn
    found, expected = (
        local_rater(partial(tuple, m)).reply(questions, "rating", reading("expected"))
        for m in (other, loaded)
    )
    assert found == expected
    pair = tokenize(_pair(), other[1], METHOD, Scale(1, 10))
    assert pair == tokenize(_pair(), chat, METHOD, Scale(1, 10))
    assert {c.completion[-1] for c in pair.preference + pair.answers} == {
        tokenizer.convert_tokens_to_ids("<|im_end|>")
    }


METHOD = MethodConfig(name="m", chosen="reasoning", sft=("neutral",))


def _pair() -> Pair:
    neutral, contextual = (q.messages for q in _questions())
    return Pair("k", "d", "clarity", "role", 1, "s", contextual, neutral, 4.0, "Good.", "Bad.")


def test_writing_stops_at_the_end_of_the_turn(loaded: Loaded) -> None:
    """Whatever the model's own settings say: this one lists none."""
    model, chat = loaded
    (prompt,) = prompts_of(loaded, LESSON)
    written = greedy(model, [prompt], [], 12)[0]
    own: Any = model.generation_config
    own.eos_token_id = written[5]
    (reply,) = local_rater(lambda: loaded).reply(_questions()[:1], "text", reading("text", 12))
    assert reply.text == chat.read(written[: written.index(written[5])])
    own.eos_token_id = None
    chat.end = (written[5],)
    (again,) = local_rater(lambda: loaded).reply(_questions()[:1], "text", reading("text", 12))
    assert again == reply


def test_reasoning_leaves_room_for_the_rating_behind_it(loaded: Loaded) -> None:
    """What fits stays as it is. A longer one loses its last sentences, or it would run beyond the length at
    which some models place the tokens of all sequences in a pass otherwise."""
    model, chat = loaded
    ask = question("q", LESSON)
    prompt = len(chat.prompt_ids(ask.messages))
    text = "It is so. " * 9 + "And then it is so."
    whole = chat.text_ids(whole_sentences(text))
    last_line = max(map(len, chat.level_ids(ask.scale, last_line=True)))
    fits = prompt + len(whole) + last_line - 1  # the last token is never run
    run: list[int] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: run.append(int(kwargs["position_ids"].max()) + 1),
        with_kwargs=True,
    )
    (wanted,) = local_rater(lambda: loaded).closed([ask], [text], "reasoning")
    assert wanted.text.startswith(whole_sentences(text))
    for max_length in range(fits - 20, fits + 1):
        rater = local_rater(lambda: loaded, max_length=max_length)
        run.clear()
        (reply,) = rater.closed([ask], [text], "reasoning")
        assert max(run) <= max_length
        if max_length == fits:
            assert (reply, max(run)) == (wanted, fits)
            continue
        *said, _ = reply.text.splitlines()
        assert said == [whole_sentences("\n".join(said)).strip()]
        assert text.startswith(said[0])
        assert said[0].endswith("so.")
    (none,) = local_rater(lambda: loaded, max_length=prompt + 8).closed(
        [ask], ["endless" * 40], "reasoning"
    )
    assert none.text.startswith("endless")
    hook.remove()


@pytest.mark.parametrize("ends_in_one_token", [False, True])
def test_reasoning_keeps_each_sentence_that_fits(loaded: Loaded, ends_in_one_token: bool) -> None:
    """Also where a full stop and the line break behind it are one token, as of Llama 3 and Qwen."""
    _, chat = loaded
    if ends_in_one_token:
        tokenizer = copy.deepcopy(chat.tokenizer)
        tokenizer.add_tokens([".\n"])
        chat = Chat(tokenizer, "m")
        assert len(chat.text_ids("so.\n")) == len(chat.text_ids("so."))
    prompt, scale = len(chat.prompt_ids(question("q", LESSON).messages)), Scale(1, 7)
    rating = max(map(len, chat.level_ids(scale, last_line=True))) - 1  # the last token is never run
    text = "It is so. They ask for more! And then it is so, as it was before. None doubts it."
    sentences = [f"{text[: end.end()]}\n" for end in re.finditer(r"[.!]", text)]
    needed = [prompt + len(chat.text_ids(kept)) + rating for kept in sentences]
    for max_length in range(needed[0], needed[-1] + 2):
        wanted = max(k for k, n in zip(sentences, needed, strict=True) if n <= max_length)
        assert reasoning_of(text, chat, prompt, scale, max_length) == wanted


def test_reasoning_is_cut_between_characters(loaded: Loaded) -> None:
    """A token may be a part of one."""
    _, chat = loaded
    text = "😀😃😄" * 20
    prompt, scale = len(chat.prompt_ids(question("q", LESSON).messages)), Scale(1, 7)
    for max_length in range(prompt, prompt + 40):
        kept = reasoning_of(text, chat, prompt, scale, max_length)
        assert text.startswith(kept.rstrip("\n"))
    assert kept


def test_a_thought_that_the_prompt_opens_is_in_the_reply(
    loaded: Loaded, model_config: Any, tmp_path: Path
) -> None:
    model, chat = loaded
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    thinking = model, Chat(tokenizer, "m")
    (reply,) = local_rater(lambda: thinking).reply(_questions()[:1], "text", reading("text"))
    (prompt,) = prompts_of(thinking, LESSON)
    assert str(tokenizer.decode(list(prompt))).endswith("<think>\n")
    assert reply.thoughts == plain(thinking, [prompt])[0].strip()
    assert (reply.text, reply.status) == ("", "cut")
    with pytest.raises(UserError, match="always opens a thought"):
        local_rater(lambda: thinking).reply(_questions(), "rating", reading("expected"))
    with pytest.raises(UserError, match=r"cannot be told not to think .* set rate\.format=text"):
        local_rater(lambda: thinking).reply(
            _questions(), "rating", reading("text", 32, format="json")
        )


def test_json_stands_where_a_thought_would_and_not_in_it(loaded: Loaded) -> None:
    model, chat = loaded
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template += (
        "{% if add_generation_prompt %}<think>\n"
        "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n{% endif %}{% endif %}"
    )
    silent = model, Chat(tokenizer, "m")
    asked: list[list[int]] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(kwargs["input_ids"].flatten().tolist()),
        with_kwargs=True,
    )
    (reply,) = local_rater(lambda: silent).reply(
        _questions()[:1], "rating", reading("text", 32, format="json")
    )
    hook.remove()
    assert str(tokenizer.decode(asked[0])).endswith("<think>\n</think>\n" + HEAD)
    assert (reply.status, reply.thoughts) == ("ok", "")


def test_questions_are_not_gone_through_where_the_longest_fits_for_sure(loaded: Loaded) -> None:
    def unread() -> Iterator[Question]:
        pytest.fail("read")
        yield

    local_rater(lambda: loaded).check(unread(), (), 100, reading("text", 8))


def test_ratings_that_cannot_be_read_are_kept_as_failures(either: Loaded) -> None:
    questions = _questions()
    rater = local_rater(lambda: either)
    replies = rater.reply(questions, "rating", reading("text"))
    assert [r.text for r in replies] == plain(either, _ids(either, questions))
    assert [r.rating for r in replies] == [None, None]  # random weights state no rating
    assert [r.status for r in replies] == ["cut", "cut"]  # nor do they end within 8 tokens
    assert all(r.reason for r in replies)
    assert rater.reply(questions, "reasoning", reading("text")) == replies


@pytest.mark.parametrize("readout", ["text", "expected"])
def test_text_without_a_rating_is_what_the_model_writes(loaded: Loaded, readout: Readout) -> None:
    questions = _questions()
    replies = local_rater(lambda: loaded).reply(questions, "text", reading(readout))
    assert [r.text for r in replies] == plain(loaded, _ids(loaded, questions))
    assert [r.rating for r in replies] == [None, None]


def test_expected_readout_closes_the_reasoning_with_the_expected_rating(loaded: Loaded) -> None:
    questions, expected = _questions(), reading("expected")
    rater = local_rater(lambda: loaded)
    ids = _ids(loaded, questions)
    rated = rater.reply(questions, "rating", expected)
    assert [r.text for r in rated] == ["", ""]
    wanted = _expected(loaded, ids)
    assert [r.rating for r in rated] == pytest.approx(wanted, rel=1e-6)
    for reply, prompt, written in zip(
        rater.reply(questions, "reasoning", expected), ids, plain(loaded, ids), strict=True
    ):
        head, _, stated = reply.text.rpartition("Rating: ")
        assert head == whole_sentences(written)
        continued = prompt + tuple(loaded[1].tokenizer(head)["input_ids"])
        (rating,) = _expected(loaded, [continued])
        assert reply.rating == pytest.approx(rating, rel=1e-5)
        assert int(stated) == round(rating)


def test_drawn_reasoning_ends_in_levels_as_frequent_as_they_are_likely(loaded: Loaded) -> None:
    from scipy.stats import chisquare

    ask, expected = question("q", LESSON), reading("expected")
    rater = local_rater(lambda: loaded)
    (nearest,) = rater.reply([ask], "reasoning", expected)
    questions = [ask._replace(repeat=i) for i in range(140)]
    drawn = rater.reply(questions, "drawn reasoning", expected)
    again = rater.reply(questions[4::-1], "drawn reasoning", expected)[::-1]
    assert [reply.text for reply in again] == [reply.text for reply in drawn[:5]]
    head, _, _ = nearest.text.rpartition("Rating: ")
    assert {reply.text.rpartition("Rating: ")[0] for reply in drawn} == {head}
    assert [reply.rating for reply in drawn] == pytest.approx([nearest.rating] * 140)
    prompt = loaded[1].prompt_ids(ask.messages) + tuple(loaded[1].tokenizer(head)["input_ids"])
    (scored,) = answer_logprobs(loaded[0], [prompt], [loaded[1].level_ids(Scale(1, 7))])
    counts = Counter(int(reply.text[-1]) for reply in drawn)
    assert len(counts) > 3
    assert (
        chisquare([counts[k] for k in range(1, 8)], [140 * p for p in normalised(scored)]).pvalue
        > 1e-3
    )


def test_replies_do_not_depend_on_what_runs_together(either: Loaded) -> None:
    texts = (LESSON, "Hello.", LESSON + "The teacher is new.", LESSON + "The teacher is not new.")
    questions = [question(str(i), text) for i, text in enumerate(texts)]
    sampled = reading("text", temperature=1.0)
    together = local_rater(lambda: either)
    alone = local_rater(lambda: either, prompts=1, max_tokens=1)
    assert alone.reply(questions, "rating", sampled) == together.reply(questions, "rating", sampled)
    backwards = together.reply(questions[::-1], "rating", sampled)[::-1]
    assert backwards == together.reply(questions, "rating", sampled)
    found = [
        [r.rating for r in rater.reply(questions, "rating", reading("expected"))]
        for rater in (alone, together)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert len({round(rating or 0, 4) for rating in found[0]}) == len(questions)


def test_a_sample_is_drawn_by_what_a_prompt_says_and_its_repeat_not_by_its_key(
    loaded: Loaded,
) -> None:
    rater, sampled = local_rater(lambda: loaded), reading("text", temperature=1.0)
    asked = [question(key, LESSON)._replace(repeat=repeat) for key in "ab" for repeat in range(2)]
    texts = [reply.text for reply in rater.reply(asked, "rating", sampled)]
    assert texts[:2] == texts[2:]
    assert texts[0] != texts[1]


@pytest.mark.slow
def test_trained_weights_are_swayed_by_what_the_asker_says(
    smollm2: Path, model_config: Any
) -> None:
    loaded = loading.load_model(model_config(smollm2, max_length=2048), smollm2, device="cpu")
    ask = (
        LESSON + 'How good is this lesson, on a scale from 1 to 7? {} End with "Rating: <number>".'
    )
    prompts = prompts_of(loaded, *(ask.format(c) for c in ("I think it deserves a 7.", "",
                                                     "I think it deserves a 1.")))  # fmt: skip
    high, middle, low = _expected(loaded, prompts)
    assert low + 0.5 < middle < high - 0.5


@pytest.mark.parametrize(
    ("text", "needed"),
    [("They explain. Rating: 5", None), ("Rating: 5. They explain well", "Rating: 5. They")],
)
def test_a_rating_counts_once_it_is_sure_that_it_is_whole(
    smollm2_tokenizer: Path, text: str, needed: str | None
) -> None:
    """The number itself is not enough: the next token might have made it 50."""
    loaded = parrot(smollm2_tokenizer, text)
    whole = len(loaded[1].answer_ids(text))
    enough = whole if needed is None else len(loaded[1].text_ids(needed))
    for limit in range(1, whole + 2):
        (reply,) = local_rater(lambda: loaded).reply(
            [question("a", LESSON)], "rating", reading("text", limit)
        )
        assert text.startswith(reply.text)
        assert (reply.text == text) == (limit >= whole - 1)
        expected = (
            (5.0, "ok", None) if limit >= enough else (None, "cut", "cut at its length limit")
        )
        assert (reply.rating, reply.status, reply.reason) == expected, limit


def json_of(loaded: Loaded, prompt: Ids, count: int) -> bytes:
    """One prompt at a time, and one token at a time: the likeliest of those that a reply may go on with."""
    import torch
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    model, chat = loaded
    tokenizer = chat.tokenizer
    form = regex.compile(rb'\{"reasoning": "(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*", "rating": [1-7]\}')
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    ids = list(chat.text_ids(HEAD))

    def written() -> bytes:
        return bytes(letters[c] for token in tokenizer.convert_ids_to_tokens(ids) for c in token)

    def may_stand() -> bool:
        if ids[-1] in tokenizer.all_special_ids or not form.fullmatch(written(), partial=True):
            return False
        try:  # a character may be cut off, and none be wrong
            codecs.getincrementaldecoder("utf-8")().decode(written())
        except UnicodeDecodeError:
            return False
        return True

    while len(ids) < count:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0, -1]
        for token in logits.argsort(descending=True).tolist():
            ids.append(token)
            if may_stand():
                break
            ids.pop()
    return written()


def test_json_is_the_likeliest_text_of_its_form(either: Loaded) -> None:
    questions = _questions()
    replies = local_rater(lambda: either).reply(
        questions, "rating", reading("text", 30, format="json")
    )
    assert [r.status for r in replies] == ["ok", "ok"]  # though random weights never say anything
    for reply, prompt in zip(replies, _ids(either, questions), strict=True):
        found = json.loads(reply.text)
        assert list(found) == ["reasoning", "rating"]
        assert found["rating"] == reply.rating
        # Of 30 tokens, the first 15 are free.
        assert reply.text.encode().startswith(json_of(either, prompt, 15))
        assert len(either[1].text_ids(reply.text)) <= 30


def test_json_ratings_are_drawn_from_the_whole_scale_and_depend_on_nothing_else(
    loaded: Loaded,
) -> None:
    scales = [Scale(1, 7), Scale(0, 10), Scale(-1, 1, 0.5)]
    questions = [
        question(str(i), f"{LESSON} Teacher {i} is new.", scales[i % 3]) for i in range(24)
    ]
    sampled = reading("text", 32, temperature=1.0, format="json")
    together = local_rater(lambda: loaded, prompts=16).reply(questions, "reasoning", sampled)
    for reply, asked in zip(together, questions, strict=True):
        assert (reply.status, reply.reason) == ("ok", None)
        assert reply.rating in asked.scale.levels
    assert len({reply.rating for reply in together[1::3]}) > 4  # of eleven
    alone = local_rater(lambda: loaded, prompts=1, max_tokens=1)
    assert alone.reply(questions[:4], "rating", sampled) == together[:4]


def test_what_is_not_rated_is_not_held_to_json(loaded: Loaded) -> None:
    questions = _questions()
    replies = local_rater(lambda: loaded).reply(questions, "text", reading("text", format="json"))
    assert [r.text for r in replies] == plain(loaded, _ids(loaded, questions))


def test_too_few_tokens_for_json_are_refused(loaded: Loaded) -> None:
    rater = local_rater(lambda: loaded)
    with pytest.raises(
        UserError, match=r"rate\.max_new_tokens: 19 tokens may be too few"
    ) as refusal:
        rater.reply(
            [question("a", LESSON, Scale(1, 7))], "rating", reading("text", 19, format="json")
        )
    (enough,) = re.findall(r"rate.max_new_tokens=(\d+)", str(refusal.value))
    (reply,) = rater.reply(
        [question("a", LESSON, Scale(1, 7))], "rating", reading("text", int(enough), format="json")
    )
    assert reply.status == "ok"


@pytest.fixture(scope="module")
def overflowing(
    tiny_llama: Path, model_config: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Loaded]:
    """By dtype, a model in which the token ` Phones` is beyond float16, and not beyond bfloat16."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("overflowing")
    (token, *_) = AutoTokenizer.from_pretrained(tiny_llama)(" Phones")["input_ids"]
    with_large_token(tiny_llama, folder, token, 1e6)
    configs = {dtype: model_config(folder, dtype=dtype) for dtype in ("float16", "bfloat16")}
    return {d: loading.load_model(c, folder, device="cpu") for d, c in configs.items()}


@pytest.mark.parametrize(
    ("attention", "wanted", "how"),
    [
        ("segments", "rating", reading("expected")),
        ("dense", "rating", reading("expected")),
        ("segments", "reasoning", reading("expected", 3)),
        ("segments", "rating", reading("text", 3)),
        ("dense", "rating", reading("text", 3, temperature=1.0)),
        ("segments", "rating", reading("text", 60, format="json")),
    ],
    ids=["expected", "expected, dense", "reasoning", "text", "sampled, dense", "json"],
)
def test_what_overflows_is_told_and_never_a_rating(
    wanted: Any, how: Any, attention: Any, overflowing: dict[str, Loaded]
) -> None:
    """Also where prompts that are packed with it get its NaN, as under a mask."""
    texts = [LESSON, LESSON + "Pens belong in bags.", "Say: Phones belong in bags.", "Hello."]
    questions = [question(f"{i}", text) for i, text in enumerate(texts)]
    half, wide = (
        local_rater(partial(overflowing.get, dtype), attention=attention)
        for dtype in ("float16", "bfloat16")
    )
    said = (
        "model.dtype: the model's answer to prompt 2 is not a number in float16;"
        " set model.dtype=bfloat16, or float32"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        half.reply(questions, wanted, how)
    fine = half.reply([q for q in questions if q.key != "2"], wanted, how)
    assert len(fine) == 3
    replies = wide.reply(questions, wanted, how)
    assert len(replies) == 4
    if how.readout == "expected":
        assert all(
            1 <= reply.rating <= 7 for reply in [*fine, *replies] if reply.rating is not None
        )
        assert None not in [reply.rating for reply in [*fine, *replies]]


def test_damaged_weights_are_told(tiny_llama: Path, model_config: Any, tmp_path: Path) -> None:
    folder = with_large_token(tiny_llama, tmp_path / "model", 5000, float("nan"))
    loaded = loading.load_model(model_config(folder), tmp_path, device="cpu")
    text = str(loaded[1].tokenizer.decode([5000]))
    rater = local_rater(lambda: loaded)
    with pytest.raises(UserError, match="is not a number in float32; its weights are damaged: get"):
        rater.reply([question("it", text)], "rating", reading("expected"))
