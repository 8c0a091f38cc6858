"""What is found out of an endpoint before money is spent: against a server that takes, drops or refuses."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.config.model import EndpointConfig, Prices
from debiasdpo.config.rate import RateConfig
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question
from debiasdpo.raters.endpoint.limiter import Limiter
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.raters.endpoint.response import Usage
from tests.helpers.endpoint_server import EndpointServer
from tests.helpers.raters import question, reading

Raters = Callable[..., EndpointRater]

TEXT = reading("text", max_new_tokens=64)
QUESTIONS = [
    question("short", "Rate it. " * 5),
    question("middle", "Rate it. " * 50),
    question("long", "Rate it. " * 500),
]


def check(rater: EndpointRater, how: RateConfig = TEXT, asked: list[Question] = QUESTIONS) -> None:
    rater.check(iter(asked), [], 0, how)


def table(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("replies/*/probes/*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_shortest_and_the_longest_are_asked_and_their_replies_count(
    server: EndpointServer, rater: Raters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "debiasdpo")
    one = rater()
    check(one)
    assert [len(body["messages"][0]["content"]) for body in server.bodies] in (
        [45, 45, 4500],
        [45, 4500, 45],
    )
    one.reply(QUESTIONS, "rating", TEXT)
    assert len(server.bodies) == 4  # only the middle one is left
    check(rater())
    assert len(server.bodies) == 4  # what was found is known
    found = table(tmp_path)
    assert found["bytes_per_token"] == pytest.approx(4.0, abs=0.01)
    assert found["table"] == {
        "model that answered": "served-2026-01-01",
        "limit of tokens": "max_completion_tokens, taken",
        "temperature": "taken",
        "same request, same reply": "yes",
        "usage": "1125 input, 10 output tokens of the longest prompt",
        "context": "the longest prompt fits, 4500 bytes at 4.0 a token",
    }
    assert "limit of tokens           max_completion_tokens, taken" in caplog.text


def test_jobs_that_begin_at_once_ask_for_one_probe(server: EndpointServer, rater: Raters) -> None:
    server.delay_s = 0.2
    with ThreadPoolExecutor(2) as jobs:
        list(jobs.map(check, [rater(), rater()]))
    assert len(server.bodies) == 3


def test_what_decides_no_reply_is_left_out_where_it_is_refused(
    server: EndpointServer, rater: Raters, tmp_path: Path
) -> None:
    server.refuses = {
        "max_completion_tokens": "Unrecognized request argument: max_completion_tokens",
        "seed": "seed is not supported",
        "response_format": "response_format is not supported",
    }
    how = reading("text", 64, temperature=1.0, format="json")
    one = rater()
    check(one, how)
    server.bodies.clear()
    one.reply(QUESTIONS[1:2], "rating", how)
    (body,) = server.bodies
    assert body["max_tokens"] == 64
    assert not set(server.refuses) & set(body)
    said = table(tmp_path)["table"]
    assert said["limit of tokens"] == "max_tokens, taken"
    assert said["structured output"] == "refused: asked for in words only"
    assert said["same request, same reply"] == "yes, seed refused"


def test_another_seed_draws_anew_where_the_endpoint_takes_none(
    server: EndpointServer, endpoint: Callable[..., EndpointConfig], tmp_path: Path
) -> None:
    """Else three seeds would be one reply, kept and found again."""
    server.refuses = {"seed": "seed is not supported"}
    how = reading("text", 64, temperature=1.0)
    asked = []
    for seed in (0, 1, 1):
        one = EndpointRater(endpoint(), tmp_path / "replies", seed=seed)
        check(one, how)
        server.bodies.clear()
        one.reply(QUESTIONS[1:2], "rating", how)
        asked.append(len(server.bodies))
    assert asked == [1, 1, 0]


@pytest.mark.parametrize(
    ("refused", "how", "cure"),
    [
        ("temperature", TEXT, "set rate.temperature=null"),
        ("logprobs", reading("expected"), "set rate=text, or rate=samples"),
        ("continue_final_message", reading("expected"), "set model.prefill=false"),
    ],
    ids=["temperature", "logprobs", "prefill"],
)
def test_what_decides_replies_is_not_left_out_without_a_word(
    server: EndpointServer, rater: Raters, refused: str, how: RateConfig, cure: str
) -> None:
    server.refuses[refused] = "Not here."
    with pytest.raises(UserError, match=f"refuses {refused} .*Not here.*{cure}"):
        check(rater(prefill=True), how)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("refused", "said", "how", "cure"),
    [
        (
            "logprobs",
            "You are not allowed to request logprobs from this model.",
            reading("expected"),
            "set rate=text, or rate=samples",
        ),
        ("temperature", "Temperature is forbidden.", TEXT, "set rate.temperature=null"),
    ],
)
def test_a_parameter_that_is_forbidden_has_the_cure_of_one_that_is_refused(
    server: EndpointServer, rater: Raters, refused: str, said: str, how: RateConfig, cure: str
) -> None:
    server.refusal, server.refuses = 403, {refused: said}
    with pytest.raises(UserError, match=f"refuses {refused} .*HTTP 403: {said}.*{cure}"):
        check(rater(), how)
    assert len(server.bodies) == 1
    # What decides no reply is left out.
    server.refuses = {"max_completion_tokens": "max_completion_tokens is not allowed here"}
    check(rater())
    assert "max_tokens" in server.bodies[-1]
    # And a refusal of who asks is what it was.
    server.refuses = {"messages": "Your key has no access to this model."}
    with pytest.raises(UserError, match="answers no more: HTTP 403: Your key has no access"):
        check(rater(name="another"))


def test_where_fewer_log_probabilities_are_allowed_the_error_says_how_to_ask_for_them(
    server: EndpointServer, rater: Raters
) -> None:
    server.most_logprobs = 5
    with pytest.raises(UserError, match=r"set model\.extra_body\.top_logprobs=5, which may do for"):
        check(rater(), reading("expected"))
    with pytest.raises(UserError, match="no expected rating of short"):  # of seven levels
        check(rater(extra_body={"top_logprobs": 5}), reading("expected"))
    assert server.bodies[-1]["top_logprobs"] == 5


def test_log_probabilities_that_are_dropped_without_a_word_are_missed_at_once(
    server: EndpointServer, rater: Raters
) -> None:
    server.logprobs = False
    with pytest.raises(UserError, match=r"answers without log-probabilities.*set rate=text"):
        check(rater(), reading("expected"))
    assert len(server.bodies) == 3


def test_levels_that_hold_little_are_no_rating(server: EndpointServer, rater: Raters) -> None:
    check(rater(min_mass=0.49), reading("expected"))
    with pytest.raises(UserError, match=r"hold little of the probability \(levels: 0.500"):
        check(rater(min_mass=0.51), reading("expected"))


def test_a_prompt_that_is_cut_without_a_word_is_seen_by_its_tokens(
    server: EndpointServer, rater: Raters
) -> None:
    server.context = 256
    with pytest.raises(
        UserError, match=r"long, was cut without a word: its 4500 bytes are counted as 256"
    ):
        check(rater())


def test_a_longer_prompt_than_the_pilots_is_tried_too(
    server: EndpointServer, rater: Raters
) -> None:
    server.context = 256
    check(rater(), asked=QUESTIONS[:2])
    asked = len(server.bodies)
    nearly = question("nearly", "Rate it. " * 54)
    check(rater(), asked=[*QUESTIONS[:2], nearly])
    assert len(server.bodies) == asked  # a tenth longer at most
    with pytest.raises(UserError, match="long, was cut without a word"):
        check(rater())


def test_a_prompt_that_may_have_been_cut_is_told(
    server: EndpointServer, rater: Raters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.context = 600  # of 1,125 tokens
    check(rater())
    assert (
        "may have been cut without a word: it has 4500 bytes at 7.5 a token, the shortest 4.1"
        in caplog.text
    )
    assert "may have been cut" in table(tmp_path)["table"]["context"]


LESSONS = [question(f"lesson {n}", "They speak of fractions. " * n) for n in range(400, 436, 3)]


@pytest.mark.parametrize(
    ("context", "kept", "lengths"),
    [
        (2048, None, (400, 435)),  # both are longer than the context, by little and by much
        (2048, None, (1200, 1320)),
        (1000, None, (400, 800)),  # no usual context
        (4096, 2050, (700, 820)),  # newer Ollamas keep half of a context: fewer than of what fits
        (4096, 2050, (400, 700)),
        (4096, 2050, (700, 1400)),
    ],
)
def test_prompts_that_are_all_cut_are_seen_by_their_tokens(
    server: EndpointServer,
    rater: Raters,
    context: int,
    kept: int | None,
    lengths: tuple[int, int],
) -> None:
    """Their bytes a token say nothing, since the shortest is cut, too."""
    server.context, server.kept = context, kept
    asked = [question(f"lesson {n}", "They speak of fractions. " * n) for n in lengths]
    with pytest.raises(
        UserError, match=rf"lesson {lengths[1]}, was cut without a word.* delete .*replies"
    ):
        check(rater(), asked=asked)


@pytest.mark.parametrize("kept", [None, 1026])
def test_replies_to_prompts_of_different_size_that_count_the_same_end_the_job(
    server: EndpointServer, rater: Raters, kept: int | None
) -> None:
    """As where a server gets a shorter context after the probe."""
    check(rater(), asked=LESSONS)
    server.context, server.kept = 2048, kept
    with pytest.raises(UserError, match=r"are all counted as (2048|1026) tokens.* delete .*repl"):
        rater(name="served again").reply(LESSONS, "rating", TEXT)
    assert len(server.bodies) == 3 + len(LESSONS)


def test_prompts_that_fit_are_not_taken_for_cut(
    server: EndpointServer, rater: Raters, caplog: pytest.LogCaptureFixture
) -> None:
    server.context = 4096
    check(rater(), asked=LESSONS)
    replies = rater().reply(LESSONS, "rating", TEXT)
    assert all(reply.status == "ok" for reply in replies)
    # Of one size, and of as many tokens.
    like = [question(f"like {n}", f"They speak of fractions. {n} " * 400) for n in range(10, 20)]
    check(rater(name="another"), asked=like)
    rater(name="another").reply(like, "rating", TEXT)
    assert "cut" not in caplog.text


def of_scripts(said: bytes) -> int:
    """Tokens as of a model of English: of digits one each, of other scripts one each, of prose few."""
    text = said.decode()
    prose = sum(character.isascii() and not character.isdigit() for character in text)
    return len(text) - prose + prose // 5


ENGLISH = "They speak of fractions. " * 170


@pytest.mark.parametrize(
    ("short", "hidden"),
    [
        ("शिक्षक ने कक्षा में कई खुले प्रश्न पूछे। " * 30, 0),
        ("Учитель задал много открытых вопросов. " * 30, 0),
        ("老师在课堂上提出了很多开放性的问题。" * 70, 0),
        ("17.25,83.07,4.5\n" * 50, 0),
        ("17.25,83.07,4.5\n" * 120, 0),
        ("Rate it. " * 20, 150),  # a gateway's preamble
        ("Rate it. " * 20, 680),
        ("Rate it. " * 150, 680),
    ],
    ids=["Hindi", "Russian", "Chinese", "table", "long table", "hidden", "many hidden", "longer"],
)
def test_a_longest_prompt_of_few_bytes_a_token_was_not_cut(
    short: str,
    hidden: int,
    server: EndpointServer,
    rater: Raters,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """However few the shortest has: it is of another script, or what the server adds is counted with it."""
    server.tokens_of = lambda said: hidden + of_scripts(said)
    check(rater(), asked=[question("short", short), question("long", ENGLISH)])
    assert "cut" not in caplog.text
    assert "the longest prompt fits" in table(tmp_path)["table"]["context"]


def test_a_longest_prompt_of_many_bytes_but_few_characters_a_token_is_told(
    server: EndpointServer, rater: Raters, caplog: pytest.LogCaptureFixture
) -> None:
    """A tokenizer may have long tokens for its script."""
    server.tokens_of = lambda said: len(said) // (6 if "й" in said.decode() else 2)
    asked = [question("short", "Rate it. " * 300), question("long", "Какой урок? " * 400)]
    check(rater(), asked=asked)
    assert "long, may have been cut without a word: it has 8400 bytes at 6.0 a token" in caplog.text


def test_a_count_that_leaves_out_what_is_cached_ends_no_job(
    server: EndpointServer, rater: Raters, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A longer prompt that begins as a shorter one did then counts few tokens, though it was read whole."""
    server.counts_cached = False
    check(rater(), asked=LESSONS)
    assert "the same prompt counts as 2500 tokens and then as 1" in caplog.text
    found = table(tmp_path)
    assert found["bytes_per_token"] == pytest.approx(4.0)
    assert "cannot be seen" in found["table"]["context"]
    rater().reply(LESSONS, "rating", TEXT)


def test_more_characters_a_token_than_texts_have_are_told(
    server: EndpointServer, rater: Raters, caplog: pytest.LogCaptureFixture
) -> None:
    """Of prompts of one size, which tell nothing beside each other."""
    server.context = 1100
    alike = [question(f"like {n}", f"They speak of fractions. {n} " * 400) for n in range(10, 20)]
    check(rater(), asked=alike)
    assert "may have been cut without a word: it has 11200 bytes at 10.2 a token" in caplog.text


@pytest.mark.parametrize(
    ("told", "read", "cached", "written"),
    [
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}, 32, 0, 103),
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 41}, 32, 0, 9),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 1000}}, 1010, 1000, 0),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, 10, 4, 0),
        (
            {
                "prompt_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 1000},
                "completion_tokens": 5,
                "total_tokens": 1015,
            },
            1010,
            1000,
            5,
        ),
    ],
    ids=["reasoning beside", "sum", "cache beside", "cache within", "cache beside, and a total"],
)
def test_usage_is_what_is_billed(
    told: dict[str, Any], read: int, cached: int, written: int, rater: Raters
) -> None:
    usage = Usage.of({"usage": told})
    assert usage is not None
    assert (usage.input, usage.cached, usage.output) == (read, cached, written)
    prices = rater(prices=Prices(input=1, cached=0.5, output=2)).prices
    assert prices.cost(usage) == pytest.approx((read - cached + cached / 2 + 2 * written) / 1e6)


def test_an_endpoint_that_tells_no_usage_has_no_limit_of_cost(
    server: EndpointServer, rater: Raters
) -> None:
    server.faults = lambda number, body: "no usage"
    check(rater())
    with pytest.raises(UserError, match="does not tell how many tokens"):
        check(rater(name="another", max_cost=1.0))


def test_a_model_without_a_known_price_has_no_limit_of_cost(rater: Raters) -> None:
    with pytest.raises(
        UserError, match=r"no price of served-2026-01-01 is known; set model\.prices="
    ):
        rater(prices=None, max_cost=1.0)


def test_prices_are_those_of_the_package_where_none_are_given(rater: Raters) -> None:
    from debiasdpo.raters.endpoint.response import Usage

    listed = rater(
        prices=None, name="gpt-4o-2024-11-20", base_url="https://api.openai.com/v1"
    ).prices
    assert listed.source is not None
    assert listed.source.startswith("genai-prices 0.")
    # $2.50, $1.25 and $10 for a million: 500 whole, 500 cached and 100 written tokens.
    assert listed.cost(Usage(1000, 500, 100)) == pytest.approx(0.002875)
    own = rater(prices={"input": 2.5, "cached": None, "output": 10.0}).prices
    assert own.cost(Usage(1000, 500, 100)) == pytest.approx(0.0035)
    assert own.source == "model.prices"


def test_the_number_at_once_grows_with_answers_and_shrinks_once_an_episode() -> None:
    now = [0.0]
    limiter = Limiter(100, clock=lambda: now[0])
    assert limiter.limit == 20
    for _ in range(20):
        limiter.answered()
    assert limiter.limit == 22
    limiter.refused()
    limiter.refused()
    assert limiter.limit == 17  # 0.8 of 22, once
    for _ in range(50):
        limiter.answered()
    assert limiter.limit == 17  # it rests
    now[0] = 16.0
    limiter.refused()
    assert limiter.limit == 13
    now[0] = 32.0
    for _ in range(13):
        limiter.answered()
    assert limiter.limit == 14
    assert [change.limit for change in limiter.history] == [20, 22, 17, 13, 14]
    assert Limiter(5).limit == 5
