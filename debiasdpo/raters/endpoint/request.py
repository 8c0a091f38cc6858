"""What an endpoint is sent for a question: the whole body, by which its reply is found again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import JSON_KEYS, RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.packing.tokens import stable_seed
from debiasdpo.prompts.rendering import content_bytes
from debiasdpo.raters.base import Question, Wanted
from debiasdpo.raters.endpoint.response import Usage

AGAIN = -1  # the repeat of a request that is sent once more, to learn of the endpoint
PREFILL = "Rating: "  # what an answer begins with, before its level

# The last thing that an endpoint reads which cannot go on from a begun answer.
_ALONE = 'Answer with this line and nothing else: "Rating: <number>"'
_ALONE_TOKENS = 16  # of that answer
TOP = 20  # log-probabilities at each place; the most that OpenAI gives

_TEMPLATE_TOKENS = 100  # around the messages, at most

REPEAT = "X-Debiasdpo-Repeat"  # header of a request: which of those with its body it is

Body = dict[str, Any]


class Request(NamedTuple):
    """One call of the endpoint. Two with one key are the same, and paid once."""

    key: str  # SHA-256 of base URL, body and repeat: 32 hex digits
    body: Body
    repeat: int
    question: str  # the key of its prompt, for messages

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of the messages' texts."""
        return content_bytes(self.body["messages"])

    @property
    def again(self) -> "Request":
        """The same once more: its key differs, and what is sent does not."""
        return self._replace(key=f"{self.key}again", repeat=AGAIN)

    @property
    def most_tokens(self) -> int:
        """That it may write."""
        return _limit(self.body)


@dataclass(frozen=True)
class Dialect:
    """What this endpoint calls things, and what it is spared, as the probe found."""

    limit: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    seed: bool = True
    response_format: bool = True


def wants_levels(wanted: Wanted, reading: RateConfig) -> bool:
    """Whether log-probabilities of the scale's levels are asked for."""
    return reading.readout == "expected" and wanted == "rating"


_REPEATS = 10**6  # of a prompt in one job: fewer


def most_written(config: EndpointConfig, wanted: Wanted, reading: RateConfig) -> int:
    """Tokens that a reply may have."""
    if wants_levels(wanted, reading):
        return 1 if config.prefill else _ALONE_TOKENS
    return reading.max_new_tokens


def request(
    config: EndpointConfig,
    dialect: Dialect,
    question: Question,
    wanted: Wanted,
    reading: RateConfig,
    seed: int,
    repeat: int,
) -> Request:
    """The call for one reply. `seed` is the job's; each prompt and repeat has its own from it. Where the
    endpoint takes none, another seed makes it another repeat, so that its reply is drawn anew."""
    if reading.draws and not dialect.seed:
        repeat += seed * _REPEATS
    body: Body = {"model": config.name}
    messages = [dict(message) for message in question.messages]
    if wants_levels(wanted, reading):
        if config.prefill:
            body |= _begun(messages)
        else:
            messages[-1]["content"] += f"\n\n{_ALONE}"
        body |= {"logprobs": True, "top_logprobs": TOP}
    elif reading.format == "json" and wanted != "text" and dialect.response_format:
        body["response_format"] = _json_form(question.scale)
    body["messages"] = messages
    body[dialect.limit] = most_written(config, wanted, reading)
    if reading.temperature is not None:
        body["temperature"] = reading.temperature
    if reading.top_p != 1:
        body["top_p"] = reading.top_p
    if reading.draws and dialect.seed:
        # 31 bits: some servers take it for a signed number of 32.
        body["seed"] = stable_seed(seed, question.messages, repeat) % 2**31
    body |= config.extra_body
    return Request(request_key(config.base_url, body, repeat), body, repeat, question.key)


def first_tokens(
    config: EndpointConfig, question: Question, repeat: int, count: int, *, begun: bool = False
) -> Request:
    """The call for the likeliest tokens that a reply begins with, and their log-probabilities. `begun`:
    behind "Rating: "."""
    body: Body = {"model": config.name, "max_tokens": count, "temperature": 0}
    messages = [dict(message) for message in question.messages]
    if begun:
        body |= _begun(messages)
    body |= {"messages": messages, "logprobs": True, "top_logprobs": TOP, **config.extra_body}
    return Request(request_key(config.base_url, body, repeat), body, repeat, question.key)


def _begun(messages: list[dict[str, str]]) -> Body:
    """Begin the answer; what is sent for an endpoint to go on from it, as vLLM wants it said: llama.cpp and
    Ollama do so by themselves."""
    messages.append({"role": "assistant", "content": PREFILL})
    return {"continue_final_message": True, "add_generation_prompt": False}


def most_used(prompt_bytes: int, asked: Mapping[str, Any]) -> Usage:
    """The most tokens that a call can take: each has a byte or more. `asked`: its body, whose messages may be
    left out."""
    return Usage(prompt_bytes + _TEMPLATE_TOKENS, 0, _limit(asked))


def _limit(asked: Mapping[str, Any]) -> int:
    return int(asked.get("max_completion_tokens") or asked["max_tokens"])


def request_key(base_url: str, body: Body, repeat: int) -> str:
    """By which a request's reply is found again."""
    whole = json.dumps([base_url, body, repeat], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def _json_form(scale: Scale) -> Mapping[str, object]:
    reasoning, rating = JSON_KEYS
    levels = [int(level) if points(level).isdigit() else level for level in scale.levels]
    schema = {
        "type": "object",
        "properties": {reasoning: {"type": "string"}, rating: {"enum": levels}},
        "required": [reasoning, rating],
        "additionalProperties": False,
    }
    form = {"name": "rating", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": form}
