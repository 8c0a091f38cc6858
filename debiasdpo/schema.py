"""The base of every configuration section: typed, frozen, and closed against unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One group of `conf/`. Strict types (no "3" for 3), no unknown keys, no infinity, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

Positive = Annotated[float, Field(gt=0.0)]

NonNegative = Annotated[float, Field(ge=0.0)]

Count = Annotated[int, Field(ge=1)]

TEXT = r"\S"
Text = Annotated[str, Field(min_length=1, pattern=TEXT)]
