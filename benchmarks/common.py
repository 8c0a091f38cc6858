"""Options, synthetic pairs, timing, memory and tables: what all benchmarks share."""

import argparse
import contextlib
import ctypes
import gc
import importlib.metadata
import json
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import END, SEED, SHAPES, START, ModelOptions, device, vocabulary_size
from debiasdpo.cluster.cpu import cpuinfo
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.packing.logprobs import Completion
from debiasdpo.prompts.rendering import answer
from debiasdpo.training.data import TokenPair

# Ids that the synthetic vocabulary names; all others are words without a meaning.
UNKNOWN, RATING = 0, 3
LEVELS = {k: RATING + k for k in range(1, 8)}  # "1" to "7"
FIRST_WORD = RATING + len(LEVELS) + 1


@dataclass(frozen=True)
class Sizes:
    """Tokens of one document's pairs: a pair for each rubric and context.

    neutral prompt = document, rubric; contextual prompt = document, rubric, context. A context's
    tokens include the instruction that ends the prompt.
    """

    prefix: int
    contexts: int
    context_tokens: int
    rubrics: int
    rubric_tokens: int
    chosen: int
    rejected: int
    answer: int = 4


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of `python -m benchmarks.NAME`; the description is the first line of its docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--shape", choices=SHAPES, default="smollm2", help="random weights")
    group.add_argument("--model", metavar="PATH", help="a folder with a model, instead of --shape")
    group.add_argument("--layers", type=positive, help="so many layers, instead of the shape's")
    group.add_argument("--vocabulary", type=positive, help="so many tokens, instead of the shape's")
    group.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32",
                       help="of the weights that are not in 4 bits")  # fmt: skip
    group.add_argument("--nf4", action="store_true", help="weights in 4 bits (bitsandbytes)")
    group.add_argument("--attention", choices=["auto", "dense", "segments", "flex"],
                       default="auto", help="how packed trees attend (model.attention)")  # fmt: skip
    group.add_argument("--threads", type=positive, help="CPU threads")


def add_size_options(parser: argparse.ArgumentParser, contexts: int, rubrics: int) -> None:
    group = parser.add_argument_group("tokens")
    group.add_argument("--prefix", type=positive, default=1024, help="tokens of the document")
    group.add_argument(
        "--contexts", type=positive, default=contexts, help="contexts of each rubric"
    )
    group.add_argument("--context-tokens", type=positive, default=40, help="tokens of each context")
    group.add_argument("--rubrics", type=positive, default=rubrics, help="rubrics of the document")
    group.add_argument("--rubric-tokens", type=positive, default=30, help="tokens of each rubric")


def sizes(args: argparse.Namespace, *, chosen: int, rejected: int) -> Sizes:
    """What `add_size_options` asked for, with completions of these lengths."""
    return Sizes(
        args.prefix, args.contexts, args.context_tokens, args.rubrics, args.rubric_tokens,
        chosen, rejected,
    )  # fmt: skip


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=positive, default=3, help="runs of each way; medians are shown"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")


def positive(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def run(main: Callable[[], None]) -> None:
    """A command line whose errors that users can mend are one line."""
    try:
        main()
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None


def model_options(args: argparse.Namespace) -> ModelOptions:
    """What `add_model_options` asked for; sets the number of threads."""
    if args.threads:
        torch.set_num_threads(args.threads)
    return ModelOptions(
        args.shape,
        args.model,
        args.layers,
        args.vocabulary,
        args.dtype,
        args.nf4,
        getattr(args, "checkpointing", False),
        args.attention,
    )


def chat_of(options: ModelOptions, model: Any) -> Chat:
    """The model's own, or the synthetic one for random weights."""
    if options.path is None:
        return Chat(tokenizer(vocabulary_size(model)), "random weights")
    from transformers import AutoTokenizer

    return Chat(AutoTokenizer.from_pretrained(options.path), options.path)


def tokenizer(size: int) -> Any:
    """Words divided by blanks, one id each: text and ids stand for each other exactly."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [_word(i) for i in range(size)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=words[UNKNOWN],
        bos_token=words[START],
        eos_token=words[END],
        pad_token=words[END],
        chat_template="{% for message in messages %}{{ message.content }} {% endfor %}",
    )


def text(ids: Sequence[int]) -> str:
    return "".join(f" {_word(i)}" for i in ids)


def _word(i: int) -> str:
    named = {UNKNOWN: "<unk>", START: "<s>", END: "</s>", RATING: answer(1).split()[0]}
    return named.get(i) or next((str(k) for k, n in LEVELS.items() if n == i), f"w{i}")


def prompts(sizes: Sizes, size: int) -> list[list[tuple[int, ...]]]:
    """Of each rubric, the neutral prompt, then one with each context; the same tokens each time."""
    draw = _words(random.Random(SEED), size)
    document = (START, *draw(sizes.prefix - 1))
    heads = [document + draw(sizes.rubric_tokens) for _ in range(sizes.rubrics)]
    contexts = [draw(sizes.context_tokens) for _ in range(sizes.contexts)]
    return [[head, *(head + context for context in contexts)] for head in heads]


def pairs(sizes: Sizes, size: int) -> list[TokenPair]:
    """A document's pairs. Those of a rubric share their chosen text: it is the neutral one."""
    draw = _words(random.Random(SEED + 1), size)
    found = []
    for rubric, (neutral, *contextual) in enumerate(prompts(sizes, size)):
        chosen = (*draw(sizes.chosen - 1), END)
        score = Completion(neutral, (*draw(sizes.answer - 1), END))
        found += [
            TokenPair(
                f"{rubric}/{context}",
                "document",
                (
                    Completion(prompt, chosen),
                    Completion(prompt, (*draw(sizes.rejected - 1), END)),
                ),
                (score,),
            )
            for context, prompt in enumerate(contextual)
        ]
    return found


def _words(source: random.Random, size: int) -> Callable[[int], tuple[int, ...]]:
    return lambda count: tuple(source.randrange(FIRST_WORD, size) for _ in range(count))


@dataclass
class Measured:
    """Filled when the block that `measure` guards ends."""

    seconds: float = 0.0
    peak: int | None = None  # bytes above what was held before; None where it cannot be told


@contextlib.contextmanager
def measure() -> Iterator[Measured]:
    """Time a block, and the most memory that it held beyond what was held before it."""
    measured = Measured()
    gc.collect()
    on_gpu = device().type == "cuda"
    before: int | None
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.synchronize()
    else:
        before = _reset_peak()
    started = time.perf_counter()
    yield measured
    if on_gpu:
        torch.cuda.synchronize()
    measured.seconds = time.perf_counter() - started
    after = torch.cuda.max_memory_allocated() if on_gpu else _resident("VmHWM")
    if before is not None and after is not None:
        measured.peak = max(0, after - before)


def _reset_peak() -> int | None:
    """Give free memory back and start the kernel's high-water mark anew; resident bytes."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed
        return None
    return _resident("VmRSS")


def _resident(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(n.split()[1]) * 1024 for n in lines if n.startswith(f"{name}:")), None)


def largest(peaks: Sequence[int | None]) -> float | None:
    """In MB, of the peaks that could be told."""
    known = [p for p in peaks if p is not None]
    return round(max(known) / 1e6, 1) if known else None


def environment(options: ModelOptions | None) -> dict[str, Any]:
    """What a result depends on, beside the sizes."""
    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes")
    name = torch.cuda.get_device_name() if device().type == "cuda" else _cpu()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        **({"dtype": options.dtype, "nf4": options.nf4} if options else {}),
        "versions": {p: _version(p) for p in packages},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    for line in cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned, as Markdown; None is an empty cell."""
    cells = [list(header), *([_cell(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| "
        + " | ".join(
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    lines.insert(
        1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    )
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        small = value != 0 and abs(value) < 0.01
        return f"{value:.1e}" if small else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def report(result: dict[str, Any], file: Path | None) -> None:
    """The result as one line of JSON, and in a file if one is named."""
    line = json.dumps(result)
    print(line)
    if file is not None:
        file.write_text(line + "\n")
