"""Raters for tests, and what they are asked."""

from collections.abc import Callable
from typing import Any

from debiasdpo.config.model import Attention
from debiasdpo.config.rate import BatchingConfig, Format, RateConfig, Readout
from debiasdpo.config.scale import Scale
from debiasdpo.raters.base import Question
from debiasdpo.raters.local import LocalRater

LESSON = "Teacher: What is one half of a half? Student: A quarter! " * 3


def local_rater(
    load: Callable[[], Any],
    *,
    max_length: int = 512,
    attention: Attention = "auto",
    **batching: int,
) -> LocalRater:
    """A model and its chat, which `load` returns."""
    return LocalRater(
        load,
        identity={"model": "tiny"},
        max_length=max_length,
        attention=attention,
        batching=BatchingConfig(**{"prompts": 4, "max_tokens": 1000, "shards": 1} | batching),
        seed=0,
    )


def reading(
    readout: Readout,
    max_new_tokens: int = 8,
    temperature: float = 0.0,
    format: Format = "text",
    samples: int = 3,
) -> RateConfig:
    return RateConfig(
        readout=readout,
        samples=samples,
        format=format,
        max_new_tokens=max_new_tokens,
        calibration="none",
        temperature=temperature,
        top_p=1.0,
    )


SEVEN = Scale(1, 7)


def question(key: str, text: str, scale: Scale = SEVEN) -> Question:
    return Question(key, ({"role": "user", "content": text},), scale)
