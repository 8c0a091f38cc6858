"""How quick rating is with the shape of Llama-3.1-8B in bfloat16 (NF4 where memory is small): expected
ratings of a document, and the reasoning that pairs are made of.

Random weights, which no token stops; transformers' `generate` on the same weights beside it.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks import common, models
from benchmarks import rating as ways
from benchmarks.common import Sizes
from benchmarks.models import ModelOptions
from debiasdpo.packing.memory import is_out_of_memory

SIZES = Sizes(2930, 8, 40, 4, 30, 1, 1)
TOKENS = 64  # of a text

_ROOM = 30e9  # bytes of memory with which 8 billion weights in 16 bits are rated


def rows(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Expected ratings, then generation from one and from four documents' worth of prompts."""
    options = ModelOptions("tiny" if small else "llama8b", dtype="float32" if small else "bfloat16",
                           nf4=not small and _memory() < _ROOM)  # fmt: skip
    model = models.base_model(options)  # without a tree, its attention is transformers' own
    chat = common.chat_of(options, model)
    precision = "nf4" if options.nf4 else options.dtype
    sizes = Sizes(60, 2, 8, 2, 8, 1, 1) if small else SIZES
    rubrics = common.prompts(sizes, models.vocabulary_size(model))
    prompts = [prompt for rubric in rubrics for prompt in rubric[1:]]
    tokens = 4 if small else TOKENS
    expected = {
        "tree": partial(ways.tree_ratings, model, chat, prompts, "auto"),
        "prompt by prompt": partial(ways.plain_ratings, model, chat, prompts),
    }
    written = {
        "forest": partial(ways.forest, model, prompts, tokens, "auto"),
        "forest, no graph": partial(ways.forest, model, prompts, tokens, "auto", "fixed"),
        "batch": partial(ways.batch, model, prompts, tokens),
    }
    for what, done in (("expected ratings", expected), ("generation", written)):
        for name, way in done.items():
            row = {"what": what, "way": name, "precision": precision, "prompts": len(prompts)}
            ours = name not in ("prompt by prompt", "batch")
            count = tokens if what == "generation" else None
            yield row | _timed(way, len(prompts), count, until, runs=2 if ours else 1)


def _timed(way: Any, prompts: int, tokens: int | None, until: float, runs: int) -> dict[str, Any]:
    """The last run counts: kernels are compiled in the first."""
    try:
        for _ in range(runs):
            if time.monotonic() > until:
                return {"left_out": "no time left"}
            with common.measure() as measured:
                way()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {"left_out": "out of memory"}
    found = {"seconds": measured.seconds, "peak_mb": common.largest([measured.peak]),
             "prompts_per_s": prompts / measured.seconds}  # fmt: skip
    if tokens is not None:
        found["tokens_per_s"] = prompts * tokens / measured.seconds
    return found


def _memory() -> float:
    """Bytes of the GPU."""
    return torch.cuda.get_device_properties(0).total_memory
