"""Small trainings for tests, as they are and interrupted."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from debiasdpo.cluster.threads import ONE_THREAD, Threads
from debiasdpo.config.method import LossConfig
from debiasdpo.config.model import Attention, LoraSettings, ModelConfig
from debiasdpo.config.train import TrainConfig
from debiasdpo.models import adapters, loading
from debiasdpo.packing.logprobs import Completion, sequence_logprobs
from debiasdpo.training import trainer
from debiasdpo.training.data import TokenPair
from debiasdpo.training.selection import BIASES
from debiasdpo.training.terms import Reference
from tests.helpers.models import VOCABULARY

Dtype = Literal["float32", "bfloat16"]

STEPS, SAVE_EVERY, AUDIT_EVERY = 12, 2, 3
TIMES = ("train/tokens_per_s", "train/pairs_per_s")


def pairs(vocabulary: int = VOCABULARY) -> list[TokenPair]:
    rng = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(n))

    found = []
    for d in range(4):
        lesson = ids(20)
        for k in range(2):
            contextual = lesson + ids(4)
            chosen, rejected = Completion(contextual, ids(3)), Completion(contextual, ids(5))
            answer = Completion(lesson, ids(2))
            found.append(TokenPair(f"{d}|{k}", f"d{d}", (chosen, rejected), (answer,)))
    return found


REFERENCE = {p.key: (-40.0, -60.0) for p in pairs()}


def audit(model: Any) -> dict[str, float]:
    """Bias falls as the answers become likelier, so that the kept weights change with each audit: none has
    lost all of it, as `target_reduction` asks for, and the least biased is kept."""
    import torch

    model.eval()
    with torch.no_grad():
        answers = sequence_logprobs(model, [p.answers[0] for p in pairs()])
    return audited(-answers.mean().item())


def audited(bias: float, spearman: float = 0.5) -> dict[str, float]:
    """An audit that found this trained bias, at a spread of 1."""
    found = {"trained": bias, "unseen": math.nan, "placebo": 0.0}
    both = {f"{of}_{kind}": value for of in BIASES for kind, value in found.items()}
    return {**both, "spread": 1.0, "spearman": spearman}


def model_of(source: Path, dropout: float, dtype: Dtype = "float32") -> ModelConfig:
    return ModelConfig(
        kind="local", path=str(source), revision=None, nf4=False, dtype=dtype,
        attention="auto", max_length=512,
        lora=LoraSettings(rank=4, alpha=8, dropout=dropout, targets="all-linear"),
    )  # fmt: skip


def train(
    folder: Path,
    source: Path,
    *,
    adapter: str = "lora",
    audit: Callable[[Any], dict[str, float]] = audit,
    on_log: Callable[[dict[str, float], int], None] = lambda row, step: None,
    preference: str = "sigmoid",
    dropout: float = 0.1,
    attention: Attention = "auto",
    dtype: Dtype = "float32",
    last_layers: int | None = None,
    targets: Sequence[str] | None = None,
    trained: Sequence[TokenPair] | None = None,
    reference: Reference = REFERENCE,
    threads: Threads = ONE_THREAD,
    **changes: Any,
) -> dict[str, Any]:
    """`dtype`: of the model, and what is trained is computed with in. `trained`: `pairs()`, unless given."""
    config = model_of(source, dropout, dtype)
    model: Any
    model, chat = loading.load_model(config, folder, device="cpu")
    if adapter == "lora":
        last = {"last_layers": last_layers, "targets": ["q_proj", "down_proj"]}
        named = {} if targets is None else {"targets": targets}
        lora = config.lora.model_copy(update=last if last_layers else named)
        model = adapters.add_adapter(model, lora, seed=0)
    values = {
        "adapter": adapter, "nf4": False, "epochs": 3, "batch_pairs": 2, "batch_documents": 1,
        "warmup": 0.1, "engine": "tree",
        "tree": {"max_tokens": 60, "max_branches": 64},
        "learning_rate": 1e-2 if adapter == "lora" else 1e-3, "schedule": "cosine",
        "optimizer": "adamw",
        "gradient_checkpointing": False, "audit_every": AUDIT_EVERY,
        "save_every": SAVE_EVERY, "target_reduction": 1.0,
    }  # fmt: skip
    loss = {
        "preference": preference, "label_smoothing": 0.2, "w_dpo": 1.0, "w_sft": 0.1,
        "w_consistency": 0.0, "w_ranking": 0.0, "w_imitation": 0.0,
        "w_activation": 0.0, "beta": 0.1, "temperature": 0.5,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    return trainer.train(
        model,
        chat,
        trained or pairs(),
        reference,
        loss=LossConfig.model_validate(loss),
        config=TrainConfig.model_validate(values | changes),
        seed=0,
        folder=folder,
        attention=attention,
        bf16=dtype == "bfloat16",
        threads=threads,
        audit=audit,
        on_log=on_log,
    )


def rows(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


def assert_same_training(folder: Path, expected: Path) -> None:
    from safetensors.torch import load_file

    for name in ("steps.jsonl", "validation.jsonl"):
        assert repr(rows(folder / name)) == repr(rows(expected / name))  # repr: NaN equals NaN
    assert (folder / "best_step.json").read_text() == (expected / "best_step.json").read_text()
    names = {p.name for p in (expected / "weights").iterdir()}
    assert {p.name for p in (folder / "weights").iterdir()} == names
    (file,) = (expected / "weights").glob("*.safetensors")
    wanted, found = load_file(file), load_file(folder / "weights" / file.name)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name] - tensor).abs().max() <= 1e-7, name
