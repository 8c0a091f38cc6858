"""Local weights whose reasoning a server of the same weights writes (`writer=vllm`): on a GPU, writing is the
slow part of what goes into training pairs, and servers are built for it.

The ratings are read here: with `rate.readout=expected`, what was written is closed by the weights that will
be trained, as if they had written it (`LocalRater.closed`).
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from debiasdpo.config.rate import RateConfig
from debiasdpo.errors import UserError
from debiasdpo.prompts.rendering import Twins
from debiasdpo.raters.base import Capability, Question, Reply, Wanted
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.raters.endpoint.response import Token
from debiasdpo.raters.local import LocalRater

log = logging.getLogger(__name__)

_TOKENS = 16  # of a reply, by which weights are compared
# Nats a token by which the log-probability of that reply may differ: more than rounding to 4 bits makes, and
# less than another model does (docs/cluster.md has what was measured).
_MOST_APART = 0.5


class WrittenRater:
    """The model here is `own`; `writer` asks the server of its weights."""

    def __init__(self, own: LocalRater, writer: EndpointRater) -> None:
        self.identity: Mapping[str, object] = own.identity
        self.capabilities: frozenset[Capability] = frozenset({"text", "expected"})
        self._own, self._writer = own, writer

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """As of local weights; then the server is started and probed, and must have the same weights."""
        asked = list(questions)
        self._own.check(asked, twins, longest, reading)
        self._writer.check(asked, (), longest, _in_text(reading))
        if asked:
            self._require_same(asked[0])

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """One reply for each question. Its `call` is that of the server."""
        in_text = _in_text(reading)
        if reading.readout == "text":
            return self._writer.reply(questions, wanted, in_text)
        written = self._writer.reply(questions, "text", in_text)
        there = [reply.status in ("ok", "cut", "empty") for reply in written]
        kept = [(q, r.text) for q, r, ok in zip(questions, written, there, strict=True) if ok]
        closed = iter(self._own.closed([q for q, _ in kept], [text for _, text in kept], wanted))
        return [
            replace(next(closed), call=reply.call) if ok else reply
            for reply, ok in zip(written, there, strict=True)
        ]

    def close(self) -> None:
        """Stop the server, where the job has started it."""
        self._writer.close()

    def _require_same(self, question: Question) -> None:
        """`UserError` where what the server writes is as improbable here as if another model wrote it."""
        answer = self._writer.beginning(question, _TOKENS)
        text = ""
        told: list[float] = []
        for token, logprob in _likeliest(answer.tokens):
            if not answer.text.strip().startswith((text + token).strip()):
                break  # the end of the turn
            text, told = text + token, [*told, logprob]
        if not told:
            log.warning(
                "the writer tells no log-probabilities: whether its weights are these cannot be seen"
            )
            return
        ((here,),) = self._own.logprobs({question.key: question.messages}, [[text]])
        apart = abs(here - sum(told)) / len(told)
        log.info(
            "the writer's log-probabilities differ by %.3g nats a token from those here", apart
        )
        if apart > _MOST_APART:
            raise UserError(
                f"writer: the server has other weights, or another chat template, than model.path: the"
                f" log-probability of its reply {text!r} differs by {apart:.2g} nats a token from that here;"
                " serve the job's model"
            )


def _in_text(reading: RateConfig) -> RateConfig:
    return reading.model_copy(update={"readout": "text"})


def _likeliest(tokens: Sequence[Token]) -> Iterator[tuple[str, float]]:
    """Each token's text and log-probability, as far as they are told."""
    for token in tokens:
        known = dict(token.top)
        if token.text not in known:
            return
        yield token.text, known[token.text]
