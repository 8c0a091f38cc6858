"""What a call costs, in US dollars: by `model.prices`, else by the table of the package genai-prices."""

import functools
from typing import Any

from debiasdpo.config.model import EndpointConfig
from debiasdpo.raters.endpoint.request import most_used
from debiasdpo.raters.endpoint.response import Record, Usage, may_be_billed
from debiasdpo.storage.packages import installed

_MILLION = 1e6
BATCH = 0.5  # what a call in a batch costs of what it costs by itself


def dollars(amount: float) -> str:
    """As people read it: cents, and more digits of less than a dollar."""
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}"


class PriceList:
    """The prices of one model at one endpoint."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config

    @functools.cached_property
    def source(self) -> str | None:
        """Where they are from, and which version; None: no price is known."""
        if self._config.prices is not None:
            return "model.prices"
        if self._listed(Usage(input=1)) is None:
            return None
        return f"genai-prices {installed('genai-prices')['genai-prices']}"

    def cost(self, usage: Usage | None) -> float:
        """Of one call; 0 where no price or no usage is known."""
        if usage is None or self.source is None:
            return 0.0
        prices = self._config.prices
        if prices is None:
            return self._listed(usage) or 0.0
        cached = prices.input if prices.cached is None else prices.cached
        whole = usage.input - usage.cached
        paid = whole * prices.input + usage.cached * cached + usage.output * prices.output
        return paid / _MILLION

    def of_record(self, record: Record) -> float:
        """Of a call by its record: the most that it can have cost, where it may be billed and no usage says
        what for."""
        usage = Usage.of(record.get("response"))
        if usage is None and may_be_billed(record):
            usage = most_used(record["prompt_bytes"], record["asked"])
        return self.cost(usage) * (BATCH if record.get("batch") else 1)

    def _listed(self, usage: Usage) -> float | None:
        """By the package's table, which the package brings with it: nothing is downloaded."""
        try:
            import genai_prices
        except ImportError:  # an extra
            return None
        tokens: dict[str, Any] = {"input_tokens": usage.input, "output_tokens": usage.output}
        tokens["cache_read_tokens"] = usage.cached  # which are among input_tokens
        try:
            found = genai_prices.calc_price(
                genai_prices.Usage(**tokens),
                self._config.name,
                provider_api_url=self._config.base_url,
            )
        except LookupError:
            return None
        return float(found.total_price)
