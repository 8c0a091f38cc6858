"""What an endpoint takes, drops or refuses: found out by asking it, before money is spent.

Nothing is concluded from a model's name. Two of the job's own questions are asked, the shortest and the
longest, whose replies count like all others; the shortest once more, to see whether the same request gets the
same reply, and, where replies are drawn, with another seed, to see whether they are. What was found is kept,
so that the same job asks only once.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.config.shown import points
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Question
from debiasdpo.raters.endpoint.asking import Asker, NoMore
from debiasdpo.raters.endpoint.client import complaint
from debiasdpo.raters.endpoint.context import context
from debiasdpo.raters.endpoint.levels import expected_rating
from debiasdpo.raters.endpoint.request import TOP, Dialect, Request
from debiasdpo.raters.endpoint.response import Answer, Record, Response, answer_of
from debiasdpo.raters.json_reply import read_json
from debiasdpo.storage.files import read_json as read_file
from debiasdpo.storage.files import write_json

log = logging.getLogger(__name__)

_OTHERWISE = 1  # the repeat that draws another reply to it, of which many stages have use
_DATED = re.compile(r"\d{4}-?\d{2}-?\d{2}|-\d{4}\b|@")
_LOCAL = re.compile(r"://(localhost|127\.|\[::1\]|10\.|192\.168\.)")
_LONGER = 1.1  # times the longest prompt asked so far: from there on, it is tried whether it fits

_NO_LEVELS = "rate=expected cannot be read here; set rate=text, or rate=samples"
# What a user changes where a parameter is refused that cannot be left out without a word.
_CURES = {
    "temperature": (
        "set rate.temperature=null, which sends none, or, where it is the judge,"
        " elicitation.judge_temperature=null"
    ),
    "top_p": "set rate.top_p=1, which sends none",
    "logprobs": _NO_LEVELS,
    "top_logprobs": _NO_LEVELS,
    "continue_final_message": "set model.prefill=false",
    "add_generation_prompt": "set model.prefill=false",
}

# What decides no reply, and is left out, or called otherwise, where it is refused.
_SPARED = ("max_completion_tokens", "seed", "response_format")

Make = Callable[[Dialect, Question, int], Request]  # of a dialect, a question and a repeat


@dataclass(frozen=True)
class Found:
    """What was found out."""

    dialect: Dialect = field(default_factory=Dialect)
    bytes_per_token: float | None = None  # of prompts
    longest: int = 0  # bytes of the longest prompt that was asked
    table: dict[str, str] = field(default_factory=dict)  # what was looked at, and what was found


def load(file: Path) -> Found | None:
    """What was found before; None where nothing was."""
    try:
        known = read_file(file)
        return Found(**known | {"dialect": Dialect(**known["dialect"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_for(file: Path, prompt_bytes: int) -> Found | None:
    """The same, if so long a prompt was asked, or nearly."""
    found = load(file)
    return found if found and prompt_bytes <= _LONGER * found.longest else None


def bytes_per_token(folder: Path) -> float | None:
    """Of prompts, as any probe of this endpoint's replies `folder` found; None where none did."""
    found = (load(file) for file in sorted((folder / "probes").glob("*.json")))
    return next((f.bytes_per_token for f in found if f and f.bytes_per_token), None)


def probe(
    asker: Asker,
    make: Make,
    config: EndpointConfig,
    reading: RateConfig,
    shortest: Question,
    longest: Question,
    file: Path,
) -> Found:
    """Ask, log a table of what was found, and keep it in `file`. `UserError` where the job cannot be done."""
    dialect, record = _agree(asker, make, shortest)
    first = make(dialect, shortest, 0)
    again = first.again
    second = make(dialect, longest, 0)
    drawn = [make(dialect, shortest, _OTHERWISE)] if reading.draws else []
    records = asker.ask([again, second, *drawn])
    answers = [answer_of(r) for r in (record, records[again.key], records[second.key])]
    if answers[2].status == "error":
        raise UserError(
            f"The longest prompt, {longest.key}, is not answered: {_said(records[second.key])}. Give shorter"
            " documents (data.max_words), or a model that reads more."
        )
    table = {
        "model that answered": _model(config, answers[0]),
        "limit of tokens": _limit(first, answers),
        "temperature": _temperature(
            reading, answers[0], [answer_of(records[r.key]) for r in drawn]
        ),
        "same request, same reply": _same(answers, reading, dialect),
    }
    if reading.format == "json":
        table["structured output"] = _structured(dialect, answers[0], shortest)
    if reading.readout == "expected":
        table["log-probabilities"] = _levels(config, answers, (shortest, longest))
        table["begun answer"] = (
            "gone on from" if config.prefill else "not used (model.prefill=false)"
        )
    usage = [a.usage for a in answers if a.usage and a.usage.input]
    if len(usage) < len(answers):
        table["usage"] = "not told: neither costs nor cut prompts can be seen"
        if asker.purse.limit is not None:
            raise UserError(
                "audit.max_cost: this endpoint does not tell how many tokens it used, so that costs are not"
                " known; set audit.max_cost=null"
            )
        ratio = None
    else:
        table["usage"] = (
            f"{usage[2].input} input, {usage[2].output} output tokens of the longest prompt"
        )
        ratio, table["context"] = context(first, second, usage, file.parents[1])
    found = Found(dialect, ratio, second.prompt_bytes, table)
    write_json(file, asdict(found))
    lines = "".join(f"\n  {what:26}{said}" for what, said in table.items())
    log.info("what %s takes at %s:%s", config.name, config.base_url, lines)
    return found


def _agree(asker: Asker, make: Make, question: Question) -> tuple[Dialect, Record]:
    """Leave out what is refused and decides no reply, until the question is answered."""
    dialect = Dialect()
    while True:
        request = make(dialect, question, 0)
        try:
            record = asker.ask([request])[request.key]
        except NoMore as error:
            record = error.record
            # 403 may be about what was asked for, and not about who asks.
            if record["http"] != 403 or _named(record, request) not in {*_SPARED, *_CURES}:
                raise
        if record["http"] == 200:
            return dialect, record
        if answer_of(record).status == "filtered":
            return dialect, record  # the parameters were not what it was about
        said = _said(record)
        name = _named(record, request)
        if name == "max_completion_tokens" and dialect.limit == name:
            dialect = replace(dialect, limit="max_tokens")
        elif name == "seed":
            dialect = replace(dialect, seed=False)
        elif name == "response_format":
            dialect = replace(dialect, response_format=False)
        elif name in _CURES:
            raise UserError(f"The endpoint refuses {name} ({said}): {_cure(name, record)}.")
        else:
            raise UserError(f"The endpoint refuses the first request: {said}. See `model`.")
        log.info("the endpoint refuses %s, which is left out: %s", name, said)


def _named(record: Record, request: Request) -> str | None:
    """The parameter that a refusal is about: as it says, else the first that its text names."""
    text = str(record["response"]).lower()
    param = re.search(r"'param': '(\w+)", text)
    names = [param[1]] if param else []
    names += [m[0] for m in re.finditer(r"\w+", text)]
    sent = set(request.body) - {"model", "messages"}
    return next((name for name in names if name in sent), None)


def _cure(name: str, record: Record) -> str:
    """What a user changes where a parameter is refused. Of log-probabilities, fewer may be allowed."""
    text = str(record["response"]).lower()
    numbers = [int(n) for n in re.findall(r"(?<![\w.-])\d{1,2}(?![\w-]|\.\d)", text)]
    fewer = max((n for n in numbers if 1 < n < TOP), default=None)
    if "top_logprobs" not in text or fewer is None:
        return _CURES[name]
    return (
        f"set model.extra_body.top_logprobs={fewer}, which may do for a scale of up to {fewer} levels; else"
        " set rate=text, or rate=samples"
    )


def _said(record: Record) -> str:
    return complaint(Response(record["http"], record["response"]))


def _model(config: EndpointConfig, answer: Answer) -> str:
    name = answer.model or "not told"
    if not _LOCAL.search(config.base_url) and not _DATED.search(config.name):
        log.warning(
            "model.name=%s has no date: what it names may change from one day to the next; ask for a dated"
            " name where there is one",
            config.name,
        )
        return f"{name} (undated)"
    return name


def _limit(request: Request, answers: list[Answer]) -> str:
    name = "max_completion_tokens" if "max_completion_tokens" in request.body else "max_tokens"
    most = max((a.usage.output for a in answers if a.usage), default=0)
    if most > request.most_tokens:
        log.warning("%s=%d is not kept: %d tokens were written", name, request.most_tokens, most)
        return f"{name}, dropped: {most} written of at most {request.most_tokens}"
    return f"{name}, taken"


def _temperature(reading: RateConfig, answer: Answer, drawn: list[Answer]) -> str:
    if reading.temperature is None:
        return "left to the endpoint"
    if any(other.text == answer.text for other in drawn):
        log.warning(
            "rate.temperature=%s: two seeds got the same reply, as if it were dropped: %r",
            points(reading.temperature), answer.text[:80],
        )  # fmt: skip
        return "sent; two seeds got the same reply, as if it were dropped"
    return "taken"


def _same(answers: list[Answer], reading: RateConfig, dialect: Dialect) -> str:
    same = answers[0].text == answers[1].text
    seed = "" if not reading.draws else ", seed sent" if dialect.seed else ", seed refused"
    if reading.draws and dialect.seed and not same:
        return "no: the seed is dropped"
    return ("yes" if same else "no") + seed


def _structured(dialect: Dialect, answer: Answer, question: Question) -> str:
    if not dialect.response_format:
        return "refused: asked for in words only"
    rating, reason = read_json(answer.text, question.scale)
    return "taken" if rating is not None else f"dropped or cut: {reason}"


def _levels(
    config: EndpointConfig, answers: list[Answer], questions: tuple[Question, Question]
) -> str:
    """How much of the probability the levels hold, of the shortest and the longest question."""
    told = []
    for answer, question in zip((answers[0], answers[2]), questions, strict=True):
        cut = answer.status == "cut"
        found = expected_rating(answer.tokens, question.scale, config.min_mass, cut=cut)
        if not answer.tokens or found.reason == "no log-probabilities":
            raise UserError(
                "rate.readout: this endpoint answers without log-probabilities, though it was asked for them;"
                " set rate=text, or rate=samples"
            )
        if found.rating is None:
            cure = (
                ""
                if config.prefill
                else ", or, where it goes on from a begun answer, model.prefill=true"
            )
            raise UserError(
                f"rate.readout: no expected rating of {question.key}: {found.reason} (levels:"
                f" {found.mass:.3f} of it, model.min_mass={points(config.min_mass)}; reply:"
                f" {answer.text[:80]!r}); set rate=text, or rate=samples{cure}"
            )
        told.append(f"{found.mass:.3f}")
    return f"taken; the levels hold {' and '.join(told)} of the probability"
