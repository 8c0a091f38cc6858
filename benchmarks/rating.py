"""Time of rating one document under many contexts: greedy generation, and the scale's distribution.

    python -m benchmarks.rating --repeats 3

Generation by the package's forest, by transformers on a left-padded batch, and row by row; expected
ratings from one prefix tree, and from one forward pass a prompt; and on a CPU with more than one core trees
of several documents, one after the other and as the rater runs them. Same weights, interleaved.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import common, models
from debiasdpo.cluster.threads import ONE_THREAD, Threads, for_passes, in_order
from debiasdpo.config.model import Attention
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.packing.generation import Way, generate
from debiasdpo.packing.logprobs import Completion, separate_logprobs, sequence_logprobs
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.writing import Sampling
from debiasdpo.prompts.rendering import answer
from debiasdpo.raters.levels import expected_ratings

Prompts = Sequence[tuple[int, ...]]
SCALE = Scale(1, 7)
DOCUMENTS = 4  # rated one after the other, or several at once


def forest(
    model: Any, prompts: Prompts, new_tokens: int, attention: Attention, way: Way | None = None
) -> list[list[int]]:
    found = generate(
        model,
        prompts,
        [0] * len(prompts),
        stop=(),
        max_new_tokens=new_tokens,
        sampling=Sampling(temperature=0.0, top_p=1.0),
        rows=BatchLimit(len(prompts)),
        attention=attention,
        way=way,
    )
    return [one.ids for one in found]


def batch(model: Any, prompts: Prompts, new_tokens: int) -> list[list[int]]:
    """transformers' `generate` on a left-padded batch."""
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), models.END)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    found = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        # No token stops it: so many tokens are so many tokens.
        generation_config=GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, pad_token_id=models.END
        ),
    )
    written: list[list[int]] = found[:, longest:].tolist()
    return written


def row_by_row(model: Any, prompts: Prompts, new_tokens: int) -> list[list[int]]:
    return [batch(model, [prompt], new_tokens)[0] for prompt in prompts]


def tree_ratings(model: Any, chat: Chat, prompts: Prompts, attention: Attention) -> list[float]:
    """Expected ratings of all prompts in one packed pass."""
    levels = [chat.level_ids(SCALE)] * len(prompts)
    return list(expected_ratings(model, prompts, levels, [SCALE] * len(prompts), attention))


def plain_ratings(model: Any, chat: Chat, prompts: Prompts) -> list[float]:
    """Expected ratings by one forward pass a prompt: the next token's distribution after `Rating: `,
    over the scale's levels."""
    answers = [chat.text_ids(answer(k)) for k in SCALE.levels]
    if len({ids[:-1] for ids in answers}) > 1:
        raise UserError("--model: its tokenizer has no single token for each level of the scale")
    levels = torch.tensor([ids[-1] for ids in answers], device=model.device)
    values = torch.tensor(SCALE.levels, dtype=torch.float64)
    found = []
    with torch.no_grad():
        for prompt in prompts:
            ids = torch.tensor([prompt + answers[0][:-1]], device=model.device)
            logits = model(ids, use_cache=False, logits_to_keep=1).logits[0, -1]
            found.append(float(torch.softmax(logits[levels].double().cpu(), 0) @ values))
    return found


def several_trees(
    model: Any, chat: Chat, documents: Sequence[Prompts], attention: Attention, threads: Threads
) -> list[float]:
    """Expected ratings of the prompts of each document, a tree each."""
    rate = partial(tree_ratings, model, chat, attention=attention)
    return [rating for _, found in in_order(documents, rate, threads) for rating in found]


def interleaved(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, Any]]:
    """Of each way: median seconds, its runs, peak memory, and what it returned first."""
    runs: dict[str, list[common.Measured]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            with common.measure() as measured:
                result = way()
            runs[name].append(measured)
            found.setdefault(name, result)
    first = next(iter(ways))
    medians = {name: statistics.median(m.seconds for m in run) for name, run in runs.items()}
    return {
        name: {
            "seconds": medians[name],
            "ratio": medians[name] / medians[first],
            "runs_s": [m.seconds for m in run],
            "peak_mb": common.largest([m.peak for m in run]),
            "found": found[name],
        }
        for name, run in runs.items()
    }


def differences(texts: list[list[int]], known: list[list[int]]) -> dict[str, Any]:
    """In how many rows two ways wrote other tokens, and from which token on."""
    firsts = [
        next((i for i, (a, b) in enumerate(zip(text, other, strict=True)) if a != b), None)
        for text, other in zip(texts, known, strict=True)
    ]
    differing = [i for i in firsts if i is not None]
    return {
        "rows": len(texts),
        "rows_that_differ": len(differing),
        "first_differing_tokens": differing,  # from 0
    }


def likelihood(model: Any, prompts: Prompts, texts: list[list[int]]) -> torch.Tensor:
    """log p of each text a token, each sequence alone: (n,)."""
    completions = [Completion(p, tuple(t)) for p, t in zip(prompts, texts, strict=True)]
    with torch.no_grad():
        return separate_logprobs(model, completions).cpu() / len(texts[0])


def packed_difference(
    model: Any, prompts: Prompts, texts: list[list[int]], how: Attention
) -> float:
    """Largest difference of a text's log-probability between one tree and each sequence alone."""
    completions = [Completion(p, tuple(t)) for p, t in zip(prompts, texts, strict=True)]
    with torch.no_grad():
        together = sequence_logprobs(model, completions, how)
        return float((together - separate_logprobs(model, completions)).abs().max())


def parser() -> argparse.ArgumentParser:
    found = common.parser("rating", __doc__)
    common.add_model_options(found)
    common.add_size_options(found, contexts=8, rubrics=3)
    found.add_argument("--new-tokens", type=common.positive, default=50, help="tokens to generate")
    common.add_run_options(found)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    options = common.model_options(args)
    sizes = common.sizes(args, chosen=1, rejected=1)
    ours = models.base_model(options)
    stock = models.base_model(options, stock=True)
    chat = common.chat_of(options, ours)
    rubrics = common.prompts(sizes, models.vocabulary_size(ours))
    one = rubrics[0][1:]  # the first rubric under each context
    every = [prompt for rubric in rubrics for prompt in rubric[1:]]

    for prompts in ([p[-8:] for p in one], [p[-8:] for p in every]):  # what first calls cost
        forest(ours, prompts, 2, options.attention)
        batch(stock, prompts, 2)
        plain_ratings(stock, chat, prompts)
    written = interleaved(
        {
            "forest": partial(forest, ours, one, args.new_tokens, options.attention),
            "batch": partial(batch, stock, one, args.new_tokens),
            "row by row": partial(row_by_row, stock, one, args.new_tokens),
        },
        args.repeats,
    )
    rated = interleaved(
        {
            "tree": partial(tree_ratings, ours, chat, every, options.attention),
            "prompt by prompt": partial(plain_ratings, stock, chat, every),
        },
        args.repeats,
    )
    threads = for_passes(ours)
    trees = partial(several_trees, ours, chat, [every] * DOCUMENTS, options.attention)
    ways: dict[str, Callable[[], Any]] = {"one tree at a time": partial(trees, ONE_THREAD)}
    if threads.count > 1:
        ways[f"{threads.count} at once"] = partial(trees, threads)
    at_once = interleaved(ways, args.repeats)

    texts = {name: row.pop("found") for name, row in written.items()}
    known = texts["row by row"]
    likely = likelihood(stock, one, known)
    for name, row in written.items():
        row |= differences(texts[name], known)
        row["tokens_per_s"] = len(one) * args.new_tokens / row["seconds"]
        gap = likelihood(stock, one, texts[name]) - likely
        row["logprob_per_token_difference"] = float(gap.abs().max())
    ratings = {name: row.pop("found") for name, row in rated.items()}
    plain = ratings["prompt by prompt"]
    for name, row in rated.items():
        gaps = [abs(a - b) for a, b in zip(ratings[name], plain, strict=True)]
        row["rating_difference"] = max(gaps)
        row["prompts_per_s"] = len(every) / row["seconds"]

    print(
        f"Greedy generation: {len(one)} contexts of one document, {args.new_tokens} new tokens.\n"
    )
    columns = ["seconds", "ratio", "tokens_per_s", "peak_mb", "rows_that_differ"]
    header = ["", "seconds", "x forest", "tokens/s", "peak MB", "rows unlike row by row",
              "first such token", "d log p a token"]  # fmt: skip
    lines = [
        [
            name,
            *(row[c] for c in columns),
            min(row["first_differing_tokens"], default=None),
            row["logprob_per_token_difference"],
        ]
        for name, row in written.items()
    ]
    print(common.table(header, lines))
    print(f"\nExpected ratings: {len(every)} prompts, {sizes.rubrics} rubrics.\n")
    columns = ["seconds", "ratio", "prompts_per_s", "peak_mb", "rating_difference"]
    header = ["", "seconds", "x tree", "prompts/s", "peak MB", "d rating"]
    print(common.table(header, [[name, *(row[c] for c in columns)] for name, row in rated.items()]))
    print(f"\nExpected ratings of {DOCUMENTS} such documents, a tree each.\n")
    for row in at_once.values():
        row["prompts_per_s"] = DOCUMENTS * len(every) / row["seconds"]
        same = ratings["tree"] * DOCUMENTS
        row["rating_difference"] = max(
            abs(a - b) for a, b in zip(row.pop("found"), same, strict=True)
        )
    header[2] = "x one at a time"
    print(
        common.table(header, [[name, *(row[c] for c in columns)] for name, row in at_once.items()])
    )
    print()
    common.report(
        {
            "benchmark": "rating",
            "model": vars(options),
            "sizes": vars(sizes) | {"new_tokens": args.new_tokens},
            "environment": common.environment(options),
            "generation": written,
            "packed_logprob_difference": packed_difference(ours, one, known, options.attention),
            "expected": rated,
            "several_documents": at_once,
        },
        args.json,
    )


if __name__ == "__main__":
    common.run(main)
