"""What an endpoint sent back, and what it means, read from the record of a call, which has it as it came."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from debiasdpo.raters.base import Status

Record = Mapping[str, Any]  # of one call, as `records.ReplyStore` keeps it

# Why a reply ended that is not whole, in lower case: OpenAI's words, Mistral's, Anthropic's and Gemini's.
_CUT = {"length", "max_tokens", "model_length"}
_WITHHELD = {
    "content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii",
}  # fmt: skip
_BROKEN = {"error", "abort"}  # OpenRouter's and vLLM's, of a model that was lost in the midst of it

# What an error speaks of that says "flagged".
_OF_A_PROMPT = re.compile(r"prompt|input|moderation|\bcontent\b")
# Of what was done to one, and not of what may be done: "your account may be banned".
_OF_AN_ACCOUNT = re.compile(
    r"\b(?:account|organi[sz]ation|workspace|api key)\b"
    r"(?:(?!\b(?:may|will|could|might|can)(?: \w+)? (?:be|get)\b)[^.]){0,60}"
    r"\b(?:flagged|suspended|disabled|deactivated|banned|terminated|revoked)"
)


class Response(NamedTuple):
    """What came back, whatever it is. `data` is JSON where it was, else text."""

    http: int  # 0: nothing came, and `data` says why
    data: Any
    retry_after: float | None = None  # seconds, where the endpoint says so
    latency_s: float = 0.0
    lost: bool = False  # it was sent, and nothing came back: it may be billed all the same


class Usage(NamedTuple):
    """Tokens that a call is billed for."""

    input: int = 0
    cached: int = 0  # of the input
    output: int = 0
    reasoning: int = 0  # of the output

    @classmethod
    def of(cls, data: Any) -> Self | None:
        """From a response; None where it does not say."""
        said = _mapping(_mapping(data).get("usage"))
        if not said:
            return None
        inside = _mapping(said.get("prompt_tokens_details"))
        written = _mapping(said.get("completion_tokens_details"))
        read, cached = _count(said.get("prompt_tokens")), _count(inside.get("cached_tokens"))
        if cached > read:  # some count what was cached beside the input
            read += cached
        # And some reasoning in the total alone.
        output = max(_count(said.get("completion_tokens")), _count(said.get("total_tokens")) - read)
        return cls(read, cached, output, _count(written.get("reasoning_tokens")))

    def __add__(self, other: object) -> Self:
        assert isinstance(other, Usage)
        return type(self)(*(mine + its for mine, its in zip(self, other, strict=True)))


class Token(NamedTuple):
    """One place of a reply: what was written there, and what else could have been."""

    text: str
    top: Sequence[tuple[str, float]]  # texts and log-probabilities


class Answer(NamedTuple):
    """A reply as far as the endpoint says what became of it; its rating is not read yet."""

    status: Status  # ok, empty, cut, filtered, refused, error
    reason: str | None
    text: str = ""
    thoughts: str = ""
    finish: str | None = None
    usage: Usage | None = None
    model: str | None = None  # that answered
    tokens: Sequence[Token] = ()


def answer_of(record: Record) -> Answer:
    """Never raises: what cannot be understood is an error."""
    response = record.get("response")
    failure = failure_of(response)
    if record.get("http") != 200 or failure is not None:
        if is_filtered(response):
            return Answer("filtered", "withheld by the service", usage=Usage.of(response))
        return Answer("error", f"HTTP {record.get('http')}", usage=Usage.of(response))
    data = _mapping(response)
    choice = _choice(data)
    message = _mapping(choice.get("message"))
    if not message:
        return Answer("error", "no reply in the response", usage=Usage.of(data))
    finish = choice.get("finish_reason")
    thoughts = _text(message.get("reasoning_content") or message.get("reasoning"))
    refusal = _text(message.get("refusal"))
    text = _text(message.get("content"))
    model = data.get("model")
    found = Answer(
        "ok",
        None,
        text or refusal,
        thoughts,
        finish if isinstance(finish, str) else None,
        Usage.of(data),
        model if isinstance(model, str) else None,
        _tokens(choice.get("logprobs")),
    )
    ended = _ended(choice)
    if ended in _WITHHELD:
        return found._replace(status="filtered", reason="withheld by the service")
    if refusal:
        return found._replace(status="refused", reason="not given")
    if ended in _CUT:
        return found._replace(status="cut", reason="cut at its length limit")
    if not text.strip():
        return found._replace(status="empty", reason="nothing was written")
    return found


def failure_of(data: Any) -> Mapping[str, Any] | None:
    """What a response says went wrong; None where nothing did. Routers send it with HTTP 200, too, and beside
    the part of a reply that was written before; Gemini's layer, in a list."""
    if isinstance(data, list) and len(data) == 1:
        (data,) = data
    choice = _choice(data)
    for error in (_mapping(data).get("error"), choice.get("error")):
        if isinstance(error, str) and error:
            return {"message": error}
        if isinstance(error, Mapping) and error:
            return error
    if _ended(choice) in _BROKEN:
        return {"message": f"the reply was broken off (finish_reason={choice['finish_reason']})"}
    return None


def is_filtered(data: Any) -> bool:
    """Whether the prompt was withheld from the model: Azure's 400, OpenRouter's 403."""
    failure = failure_of(data) or {}
    said = str(failure).lower()
    if _OF_AN_ACCOUNT.search(str(failure.get("message")).lower()):
        return False
    if "flagged" in said and _OF_A_PROMPT.search(said):
        return True
    return any(sign in said for sign in ("content_filter", "responsibleaipolicy"))


def may_be_billed(record: Record) -> bool:
    """Whether a model may have written for this call, whatever came back of it."""
    written = record.get("http") == 200 or has_reply(record.get("response"))
    return written or bool(record.get("lost"))


def has_reply(data: Any) -> bool:
    """Whether a model has replied, if only with a part that was broken off."""
    return bool(_choice(data))


def is_whole(record: Record) -> bool:
    """Whether a reply has all that was asked for, so that it need not be asked for again. Of one with
    log-probabilities, the first tokens are all."""
    answer = answer_of(record)
    begun = answer.status == "cut" and len(answer.tokens) > 0
    return answer.status in ("ok", "refused") or begun


def _choice(data: Any) -> Mapping[str, Any]:
    """The first reply of a response; empty where there is none."""
    choices = _mapping(data).get("choices")
    return _mapping(choices[0]) if isinstance(choices, list) and choices else {}


def _ended(choice: Mapping[str, Any]) -> str:
    return _text(choice.get("finish_reason")).lower()


def _tokens(logprobs: Any) -> Sequence[Token]:
    found = []
    places = _mapping(logprobs).get("content")
    for place in places if isinstance(places, list) else ():
        top = [
            (entry["token"], float(entry["logprob"]))
            for entry in map(_mapping, _mapping(place).get("top_logprobs") or ())
            if isinstance(entry.get("token"), str) and isinstance(entry.get("logprob"), int | float)
        ]
        found.append(Token(_text(_mapping(place).get("token")), top))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _text(value: Any) -> str:
    """Of a text, or of its parts."""
    if isinstance(value, list):
        return "".join(_text(_mapping(part).get("text")) for part in value)
    return value if isinstance(value, str) else ""
