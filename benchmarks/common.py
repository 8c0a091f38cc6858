"""Models with random weights, synthetic pairs, timing, memory and tables: what all benchmarks share."""

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
from torch import Tensor

from debiasdpo.adapters import LoraSettings, add_adapter
from debiasdpo.errors import UserError
from debiasdpo.logprobs import Completion
from debiasdpo.models import ModelConfig, keep_weights_trainable, load_model
from debiasdpo.prompts import answer
from debiasdpo.training.data import TokenPair
from debiasdpo.tree_attention import NAME, Choice, register

SEED = 0
RANK = 16

# Ids that the synthetic vocabulary names; all others are words without a meaning.
UNKNOWN, START, END, RATING = 0, 1, 2, 3
LEVELS = {k: RATING + k for k in range(1, 8)}  # "1" to "7"
FIRST_WORD = RATING + len(LEVELS) + 1


@dataclass(frozen=True)
class Shape:
    """The sizes of an architecture."""

    kind: str  # transformers' name of the architecture
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool  # output projection = embeddings


SHAPES = {
    "tiny": Shape("llama", 64, 128, 2, 4, 2, 512, True),
    "smollm2": Shape("llama", 576, 1536, 30, 9, 3, 49152, True),  # SmolLM2-135M
    "qwen0.5b": Shape("qwen2", 896, 4864, 24, 14, 2, 151936, True),  # Qwen2.5-0.5B
    "llama3b": Shape("llama", 3072, 8192, 28, 24, 8, 128256, True),  # Llama-3.2-3B
    "qwen3b": Shape("qwen2", 2048, 11008, 36, 16, 2, 151936, True),  # Qwen2.5-3B
    "llama8b": Shape("llama", 4096, 14336, 32, 32, 8, 128256, False),  # Llama-3.1-8B
    "qwen7b": Shape("qwen2", 3584, 18944, 28, 28, 4, 152064, False),  # Qwen2.5-7B
}


@dataclass(frozen=True)
class ModelOptions:
    """Which weights, and in which precision."""

    shape: str
    path: str | None = None  # a folder with a real model, instead of random weights
    layers: int | None = None
    vocabulary: int | None = None
    dtype: str = "float32"
    nf4: bool = False
    checkpointing: bool = False
    attention: Choice = "auto"

    @property
    def bf16(self) -> bool:
        """Whether steps run under autocast: on a GPU, as training does it there."""
        return self.dtype == "bfloat16" and device().type == "cuda"


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


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def base_model(options: ModelOptions, *, stock: bool = False) -> Any:
    """The model without adapter, in `eval()`, the same weights each time.

    `stock`: with transformers' own SDPA attention, as anyone else would run it.
    """
    if options.path is not None:
        config = ModelConfig.model_validate({
            "path": options.path, "revision": None, "nf4": options.nf4, "dtype": options.dtype,
            "attention": options.attention, "lora": lora(), "max_length": 1,
        })  # fmt: skip
        model: Any = load_model(config, Path("outputs"))[0]  # a folder: nothing is cached
        model.set_attn_implementation("sdpa" if stock else NAME)
        return model
    return _random_model(options, "sdpa" if stock else NAME)


def _random_model(options: ModelOptions, attention: str) -> Any:
    """Parameter by parameter on the device, so that no more than one is there in full precision."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    register()
    shape = SHAPES[options.shape]
    config = AutoConfig.for_model(
        shape.kind,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=options.layers or shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=options.vocabulary or shape.vocabulary,
        max_position_embeddings=131072,
        tie_word_embeddings=shape.tied,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    dtype = getattr(torch, options.dtype)
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention
        )
    model.tie_weights()
    generator = torch.Generator(device()).manual_seed(SEED)
    # The larger a model, the smaller its weights; small ones would hide a wrong mask or position.
    scale = shape.hidden**-0.5
    for name, parameter in list(model.named_parameters()):
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if parameter.dim() == 1 and leaf == "weight":  # of a norm
            values = torch.ones(parameter.shape, dtype=dtype, device=device())
        else:
            values = torch.empty(parameter.shape, dtype=dtype, device=device())
            values.normal_(std=scale, generator=generator)
        quantised = options.nf4 and leaf == "weight" and isinstance(module, torch.nn.Linear)
        if quantised and module is not model.get_output_embeddings():
            model.set_submodule(path, _four_bits(values, module.bias, dtype))
        else:
            setattr(module, leaf, torch.nn.Parameter(values, requires_grad=False))
    model.tie_weights()
    if options.nf4:
        model.is_loaded_in_4bit = True  # peft and TRL look at it
        keep_weights_trainable(model)
    return model.to(device()).eval()


def _four_bits(values: Tensor, bias: Any, dtype: torch.dtype) -> Any:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    rows, columns = values.shape
    with torch.device("meta"):
        layer: Any = Linear4bit(  # type: ignore[no-untyped-call]
            columns, rows, bias=bias is not None, compute_dtype=dtype, quant_type="nf4"
        )
    packed: Any = Params4bit(
        values, requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    layer.weight = packed.to(values.device)  # quantises
    if bias is not None:
        layer.bias = bias  # its values come next
    return layer


def lora() -> LoraSettings:
    return LoraSettings(rank=RANK, alpha=2 * RANK, dropout=0.0, targets="all-linear")


def adapted(model: Any, options: ModelOptions) -> Any:
    """The model with LoRA on every linear layer, as in the middle of a training: B is not 0."""
    peft = add_adapter(model, lora(), SEED)
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            values = torch.empty(parameter.shape).normal_(std=0.02, generator=generator)
            parameter.data.copy_(values)
    return checkpointed(peft, options)


def checkpointed(peft: Any, options: ModelOptions) -> Any:
    """The model, keeping activations between layers only if the options say so."""
    if options.checkpointing:
        peft.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    return peft


def vocabulary_size(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


def tokenizer_of(options: ModelOptions, model: Any) -> Any:
    """The model's own, or the synthetic one for random weights."""
    if options.path is None:
        return tokenizer(vocabulary_size(model))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(options.path)


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
                Completion(prompt, chosen),
                Completion(prompt, (*draw(sizes.rejected - 1), END)),
                score,
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


def environment(options: ModelOptions) -> dict[str, Any]:
    """What a result depends on, beside the sizes."""
    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes")
    name = torch.cuda.get_device_name() if device().type == "cuda" else _cpu()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "nf4": options.nf4,
        "versions": {p: _version(p) for p in packages},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
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
