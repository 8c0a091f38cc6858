"""Whether packed computation is exact on this device: trees against each sequence alone, in float32, bfloat16
and NF4, and generation and expected ratings against transformers' own.

The oracle is always the same weights in float32, each sequence alone by transformers' attention. In 16 bits
every way of computing is rounded; the tree is right where it is rounded no more than sequences alone are.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks import common, models, rating
from benchmarks.common import Sizes
from benchmarks.methods import LOSS
from benchmarks.models import ModelOptions
from debiasdpo.config.model import Attention
from debiasdpo.packing import cuda_graph
from debiasdpo.packing.logprobs import Completion, Scorer, separate_logprobs, sequence_logprobs
from debiasdpo.packing.tree_attention import choose, head_size
from debiasdpo.training.data import TokenPair
from debiasdpo.training.terms import pair_terms

# Of the models that the project is for: 9 heads over 3 of keys and values, 32 over 8, 28 over 4.
SHAPES = {"smollm2": 6, "llama8b": 2, "qwen7b": 2}  # layers
PRECISIONS = ("float32", "bfloat16", "nf4")
# The most that float32 may be off: of a log-probability a token, and of the gradient relative to its norm.
BOUNDS = {"logprob": 1e-5, "gradient": 1e-3}
# In 16 bits the tree's error may be so much larger than that of sequences alone, which is chance as well; and
# no larger than this.
SLACK, LARGEST = 1.5, 0.1


def rows(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """A row for each model and precision, then for each way to rate."""
    for shape, layers in ({"tiny": 2} if small else SHAPES).items():
        for precision in PRECISIONS:
            row = {"model": shape, "precision": precision}
            if time.monotonic() > until:
                yield row | {"left_out": "no time left"}
                continue
            try:
                yield row | compare(ModelOptions(shape, layers=layers), precision, small)
            except ModuleNotFoundError as error:  # bitsandbytes, which only NF4 needs
                yield row | {"left_out": f"{error.name} is not installed"}
    yield from ratings(small)
    yield graphs(small)


def compare(options: ModelOptions, precision: str, small: bool) -> dict[str, Any]:
    """Errors of the tree and of sequences alone, against sequences alone in float32."""
    low = "float32" if precision == "float32" else "bfloat16"
    nf4 = precision == "nf4"
    ours = models.adapted(models.base_model(_with(options, low, nf4)), options)
    oracle = models.adapted(models.base_model(_with(options, "float32"), stock=True), options)
    copy_weights(ours, oracle)
    sizes = Sizes(40, 2, 8, 2, 8, 6, 6) if small else Sizes(900, 3, 40, 2, 30, 60, 60)
    pairs = common.pairs(sizes, models.vocabulary_size(ours))
    known = measured(oracle, pairs, alone)
    attention: Attention = choose(
        "auto", models.device(), getattr(torch, low), head_size(models.architecture(options))
    )
    ways: dict[str, Scorer] = {
        kind: partial(sequence_logprobs, attention=kind)
        for kind in dict.fromkeys((attention, "dense"))
    }
    found: dict[str, Any] = {}
    for name, score in {"separate": cast("Scorer", separate_logprobs), **ways}.items():
        logprob, gradient = errors(measured(ours, pairs, score), known, pairs)
        found |= {f"{name}_logprob": logprob, f"{name}_gradient": gradient}
    bounds = {
        error: bound if low == "float32" else min(SLACK * found[f"separate_{error}"], LARGEST)
        for error, bound in BOUNDS.items()
    }
    found["right"] = all(
        found[f"{kind}_{error}"] <= bound for kind in ways for error, bound in bounds.items()
    )
    of_tree = {f"tree_{error}": found[f"{attention}_{error}"] for error in bounds}
    return {"attention": attention, **of_tree, **found}


def _with(options: ModelOptions, dtype: str, nf4: bool = False) -> ModelOptions:
    return ModelOptions(options.shape, layers=options.layers, dtype=dtype, nf4=nf4)


def copy_weights(source: Any, target: Any) -> None:
    """Give `target`, in float32, exactly the weights that `source` has in 16 or 4 bits."""
    theirs = dict(target.named_parameters())
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            theirs[name].copy_(_whole(parameter))


def _whole(parameter: Any) -> Tensor:
    if not hasattr(parameter, "quant_state"):
        return cast("Tensor", parameter)
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(parameter.data, parameter.quant_state)


def alone(model: Any, completions: Sequence[Completion], *, states: object = None) -> Tensor:
    """log p of each completion by transformers alone, with nothing of this package: (n,)."""
    found = []
    for c in completions:
        ids = torch.tensor([c.prompt + c.completion], device=model.device)
        logits = model(ids, use_cache=False).logits[0, len(c.prompt) - 1 : -1]
        targets = ids[0, len(c.prompt) :, None]
        found.append(torch.log_softmax(logits, -1).gather(1, targets).sum())
    return torch.stack(found)


def measured(
    model: Any, pairs: Sequence[TokenPair], score: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities of all sequences, and the gradient of the pairs' loss of every trained parameter."""
    completions = [c for pair in pairs for c in pair.completions]
    model.zero_grad(set_to_none=True)
    model.train()
    reference = {pair.key: (-10.0, -11.0) for pair in pairs}
    terms = pair_terms(model, pairs, reference=reference, loss=LOSS, score=score)
    terms.loss.mean().backward()
    gradients = {n: p.grad.float().cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.eval()
    with torch.no_grad():
        return score(model, completions).cpu(), gradients


def errors(
    found: tuple[Tensor, dict[str, Tensor]],
    known: tuple[Tensor, dict[str, Tensor]],
    pairs: Sequence[TokenPair],
) -> tuple[float, float]:
    """Of a log-probability a token, the root of the mean square over all sequences; and of all gradients
    together, relative to their norm."""
    lengths = torch.tensor([len(c.completion) for pair in pairs for c in pair.completions])
    logprob = float(((found[0] - known[0]) / lengths).square().mean().sqrt())
    gap = sum(float((found[1][n] - g).norm() ** 2) for n, g in known[1].items())
    whole = sum(float(g.norm() ** 2) for g in known[1].values())
    return logprob, (gap / whole) ** 0.5


def ratings(small: bool) -> Iterator[dict[str, Any]]:
    """Greedy texts of a packed forest against row by row, and expected ratings, in float32."""
    options = ModelOptions("tiny" if small else "smollm2", layers=2 if small else 6)
    model = models.base_model(options)
    stock = models.base_model(options, stock=True)
    chat = common.chat_of(options, model)
    sizes = Sizes(60, 3, 8, 2, 8, 1, 1) if small else Sizes(900, 8, 40, 3, 30, 1, 1)
    rubrics = common.prompts(sizes, models.vocabulary_size(model))
    prompts = [prompt for rubric in rubrics for prompt in rubric[1:]]
    tokens = 5 if small else 50
    texts = rating.forest(model, prompts, tokens, "auto")
    differing = rating.differences(texts, rating.row_by_row(stock, prompts, tokens))[
        "rows_that_differ"
    ]
    yield {"model": options.shape, "precision": "float32", "checked": "greedy texts",
           "rows_that_differ": differing, "right": differing == 0}  # fmt: skip
    packed = rating.tree_ratings(model, chat, prompts, "auto")
    plain = rating.plain_ratings(stock, chat, prompts)
    gap = max(abs(a - b) for a, b in zip(packed, plain, strict=True))
    yield {"model": options.shape, "precision": "float32", "checked": "expected ratings",
           "rating_difference": gap, "right": gap < 1e-4}  # fmt: skip


def graphs(small: bool) -> dict[str, Any]:
    """Greedy texts by CUDA graphs of a decoding step, captured anew as caches grow, against the same steps
    without; and whether there were graphs, which a CPU has none of."""
    dtype = "float32" if small else "bfloat16"
    options = ModelOptions("tiny" if small else "llama8b", layers=2, dtype=dtype)
    model = models.base_model(options)
    sizes = Sizes(60, 3, 8, 2, 8, 1, 1) if small else Sizes(900, 8, 40, 3, 30, 1, 1)
    rubrics = common.prompts(sizes, models.vocabulary_size(model))
    prompts = [prompt for rubric in rubrics for prompt in rubric[1:]]
    tokens = 5 if small else 150
    handler = logging.Handler()
    refused: list[str] = []
    handler.emit = lambda record: refused.append(record.getMessage())  # type: ignore[method-assign]
    cuda_graph.log.addHandler(handler)
    texts = rating.forest(model, prompts, tokens, "auto", "graph")
    cuda_graph.log.removeHandler(handler)
    known = rating.forest(model, prompts, tokens, "auto", "fixed")
    differing = rating.differences(texts, known)["rows_that_differ"]
    said = refused or ["captured" if models.device().type == "cuda" else "none on a CPU"]
    return {"model": options.shape, "precision": dtype, "checked": "texts by CUDA graphs",
            "rows_that_differ": differing, "graphs": said[0],
            "right": differing == 0 and not refused}  # fmt: skip
