"""Keys of `prompt`, `rate` and `batching`: what is asked, how a rating is read, how much runs together."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from debiasdpo.schema import Count, NonNegative, Section, Text

ContextPosition = Literal["after_query", "before_document", "system"]
Readout = Literal["text", "expected", "samples"]
Format = Literal["text", "json"]
Calibration = Literal["none", "linear", "isotonic"]
JSON_KEYS = ("reasoning", "rating")  # of the object that a reply is with rate.format=json


class PromptConfig(Section):
    """Keys of `prompt`: what is asked about a document, and where a statement stands."""

    instruction: Text | Mapping[Format, Text]  # a mapping: one for each `rate.format`
    context_position: ContextPosition

    def instruction_for(self, form: Format) -> str | None:
        """The instruction of replies in this form; None where there is none."""
        if isinstance(self.instruction, str):
            return self.instruction
        return self.instruction.get(form)


class RateConfig(Section):
    """Keys of `rate=`: how a rating is read."""

    readout: Readout
    samples: Count  # replies whose mean is the rating, with readout=samples
    format: Format  # of replies with readout=text and samples
    max_new_tokens: Count
    calibration: Calibration  # of expected ratings, to the experts' scores
    temperature: NonNegative | None  # None: not sent to an endpoint, which takes its own
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn, so that the same prompt may get two replies."""
        return self.temperature is None or self.temperature > 0

    @property
    def varies(self) -> bool:
        """Whether the same prompt, rated twice, may get two ratings."""
        return self.readout != "expected" and self.draws

    @property
    def thinks(self) -> bool:
        """Whether a model that thinks before it answers may do so."""
        return self.readout == "text" and self.format == "text"


class BatchingConfig(Section):
    """Keys of `batching`: how much is rated together. Ratings do not depend on `max_tokens` and `shards`."""

    prompts: Count  # generated together
    max_tokens: Count  # packed tokens of one forward pass without generation
    shards: Count  # parts in which several processes rate
