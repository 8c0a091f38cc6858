"""Raters turn prompts into ratings. Today: a local model (`local`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """What a rater made of one prompt. `rating` is None where none could be read; `text` is empty
    where nothing was generated (rate.readout=expected)."""

    text: str
    rating: float | None
