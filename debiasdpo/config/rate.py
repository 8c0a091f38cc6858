"""Keys of `prompt`, `rate` and `batching`: what is asked, how a rating is read, how much runs together."""

from typing import Annotated, Literal

from pydantic import Field

from debiasdpo.schema import Count, NonNegative, Section, Text

ContextPosition = Literal["after_query", "before_document", "system"]
Readout = Literal["text", "expected"]


class PromptConfig(Section):
    """Keys of `prompt`: what is asked about a document, and where a statement stands."""

    instruction: Text
    context_position: ContextPosition


class RateConfig(Section):
    """Keys of `rate=`: how a rating is read."""

    readout: Readout
    max_new_tokens: Count
    temperature: NonNegative
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]

    @property
    def samples(self) -> bool:
        """Whether the same prompt, rated twice, may get two ratings."""
        return self.readout == "text" and self.temperature > 0


class BatchingConfig(Section):
    """Keys of `batching`: how much is rated together. Ratings do not depend on `max_tokens` and `shards`."""

    prompts: Count  # generated together
    max_tokens: Count  # packed tokens of one forward pass without generation
    shards: Count  # parts in which several processes rate
