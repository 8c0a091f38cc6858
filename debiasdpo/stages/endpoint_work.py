"""What asking an endpoint takes, estimated before anything is sent: tokens, by prompts' bytes, and money."""

from collections.abc import Iterable

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.prompts.rendering import Messages, content_bytes, flat
from debiasdpo.raters.base import Wanted
from debiasdpo.raters.endpoint.prices import BATCH, PriceList
from debiasdpo.raters.endpoint.probe import bytes_per_token
from debiasdpo.raters.endpoint.rater import REPLIES, calls_of, replies_folder
from debiasdpo.raters.endpoint.request import most_written
from debiasdpo.raters.endpoint.response import Usage
from debiasdpo.stages.stage import Stage
from debiasdpo.stages.workload import sampled

# UTF-8 bytes of a token, where the endpoint was not asked yet: few for English, so that the estimate is high.
_BYTES_PER_TOKEN = 4.0
_TEMPLATE_TOKENS = 20  # around the messages of a chat


def endpoint_tokens(
    config: JobConfig, corpus: SplitCorpus, stage: Stage
) -> tuple[float, float | None]:
    """Tokens of one stage, of prompts and of replies at their greatest length, and US dollars; None: no price
    is known. What a service still has in its cache, and is cheaper, is not told apart."""
    assert stage.prompts is not None
    sample = sampled(corpus)
    part = stage.part
    scale = 1.0 if part is None else len(corpus.parts[part]) / max(len(sample.parts[part]), 1)
    messages = [prompt.messages for prompt in flat(stage.prompts(config, sample))]
    tokens, dollars = asking_work(config, messages, stage.wanted(config), stage.reading(config))
    return tokens * scale, None if dollars is None else dollars * scale


def asking_work(
    config: JobConfig, prompts: Iterable[Messages], wanted: Wanted, reading: RateConfig
) -> tuple[float, float | None]:
    """The same of asking the job's endpoint these prompts."""
    model = config.model
    assert isinstance(model, EndpointConfig)
    ratio = bytes_per_token(replies_folder(cache_folder(config) / REPLIES, model))
    calls = calls_of(wanted, reading)
    written = most_written(model, wanted, reading)
    prices = PriceList(model)
    tokens = dollars = 0.0
    for messages in prompts:
        size = content_bytes(messages)
        asked = round(size / (ratio or _BYTES_PER_TOKEN)) + _TEMPLATE_TOKENS
        tokens += calls * (asked + written)
        dollars += calls * prices.cost(Usage(asked, 0, written))
    dollars *= BATCH if model.batch else 1
    return tokens, None if prices.source is None else dollars
