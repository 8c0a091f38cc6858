"""Train a student on a teacher's soft labels, and assess it along a grid of durations.

Texts are replies behind chat prompts. They share the template's beginning, and often a prompt: a pass is a
prefix tree (`packing`). After its warm-up the learning rate is constant, so that the student at step n of a
long training is the student of a training of n steps: one training gives all durations.
"""

import copy
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from debiasdpo.models.modes import begin_training
from debiasdpo.packing.finite import overflow
from debiasdpo.packing.logits import float32_logits
from debiasdpo.packing.logprobs import Completion, causal_model
from debiasdpo.storage.files import whole_file
from debiasdpo.storage.journal import Journal
from debiasdpo.training.soft_labels import Labels, passes, scored_states, soft_label_terms

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_MAX_GRAD_NORM = 1.0  # longer gradients are shortened to it

Assess = Callable[["PreTrainedModel", int], dict[str, Any]]  # a student, and its duration in steps


class Recipe(NamedTuple):
    """How a student is trained."""

    durations: tuple[int, ...]  # steps at which it is assessed, ascending; 0: before the first
    batch: int  # texts a step
    temperature: float
    hard_share: float
    learning_rate: float
    warmup: int  # steps
    max_tokens: int  # of a packed pass


def layers_of(depth: int, layers: int) -> list[int]:
    """Which of a teacher's layers a student of fewer begins with: evenly spread, the first and last among
    them."""
    return [round(float(place)) for place in np.linspace(0, depth - 1, layers)]


def student_of(teacher: Any, layers: int, *, random_start: bool, seed: int) -> Any:
    """A model of the teacher's shape with so many of its layers, or with layers drawn at random, in float32.
    Embeddings, and the projection to the vocabulary, are the teacher's and are not trained."""
    import torch

    config = copy.deepcopy(teacher.config)
    chosen = layers_of(config.num_hidden_layers, layers)
    config.num_hidden_layers = layers
    if hasattr(config, "quantization_config"):  # the teacher's: a student that is kept is whole
        del config.quantization_config
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in chosen]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student: Any = type(causal_model(teacher))(config).to(torch.float32)
    own, known = student.get_decoder(), causal_model(teacher).get_decoder()
    student.get_input_embeddings().load_state_dict(known.get_input_embeddings().state_dict())
    head = student.get_output_embeddings()
    head.load_state_dict(causal_model(teacher).get_output_embeddings().state_dict())
    if not random_start:
        own.norm.load_state_dict(known.norm.state_dict())
        for layer, of_teacher in zip(own.layers, chosen, strict=True):
            layer.load_state_dict(known.layers[of_teacher].state_dict())
    for frozen in (student.get_input_embeddings(), head):
        frozen.requires_grad_(False)
    student.generation_config = teacher.generation_config
    return student.to(teacher.device)


def distil(
    student: Any,
    texts: Sequence[Completion],
    labels: Labels,
    recipe: Recipe,
    *,
    seed: int,
    folder: Path,
    assess: Assess,
) -> list[dict[str, Any]]:
    """Train the student in place, and return what `assess` found at each of the durations, with `step`.

    In `folder`: `steps.jsonl`, `assessments.jsonl`, and while it goes on `checkpoint.safetensors`. A killed
    training goes on from the last assessment and ends in the same weights. Which texts a step has is drawn
    by `seed`: pass after pass over all of them.
    """
    import torch

    assessed = Journal(folder / "assessments.jsonl")
    if assessed.count and assessed.rows[-1]["step"] == recipe.durations[-1]:
        return assessed.rows
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=recipe.learning_rate, weight_decay=0.0)
    checkpoint = folder / "checkpoint.safetensors"
    done = _restore(checkpoint, trained, optimizer) if checkpoint.exists() else -1
    history = Journal(folder / "steps.jsonl")
    for journal in (assessed, history):  # what came after the checkpoint is done again
        journal.cut(sum(row["step"] <= done for row in journal.rows))
    batches = _batches(len(texts), recipe.batch, seed)
    for step in range(recipe.durations[-1] + 1):
        batch = next(batches) if step else ()
        if step <= done:
            continue
        if step:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * min(1, step / max(recipe.warmup, 1))
            means = _gradient(student, texts, labels, batch, recipe)
            norm = torch.nn.utils.clip_grad_norm_(trained.values(), _MAX_GRAD_NORM)
            if not bool(norm.isfinite()):
                raise overflow(f"the gradient at step {step}", student, "lower learning_rate")
            optimizer.step()
            optimizer.zero_grad()
            history.append([{"step": step, **means, "grad_norm": float(norm)}])
        if step in recipe.durations:
            student.eval()
            assessed.append([{"step": step, **assess(student, step)}])
            _save(checkpoint, trained, optimizer, step)
    checkpoint.unlink()
    return assessed.rows


def _gradient(
    student: Any,
    texts: Sequence[Completion],
    labels: Labels,
    batch: Sequence[int],
    recipe: Recipe,
) -> dict[str, float]:
    """Backpropagate the loss of these texts, pass after pass, and return its mean terms."""
    import torch

    begin_training(student)
    starts = np.cumsum([0, *(len(t.completion) for t in texts)])
    count = sum(len(texts[b].completion) for b in batch)
    sums = np.zeros(2)
    for members in passes(texts, batch, recipe.max_tokens):
        hidden = scored_states(student, [texts[m] for m in members])
        logits = float32_logits(student.get_output_embeddings(), hidden)
        rows = np.concatenate([np.arange(starts[m], starts[m + 1]) for m in members])
        top, logp, hard = (torch.as_tensor(c[rows], device=logits.device) for c in labels)
        kl, cross = soft_label_terms(logits, top.long(), logp, hard.long(), recipe.temperature)
        h = recipe.hard_share
        loss = ((1 - h) * recipe.temperature**2 * kl + h * cross).sum() / count
        loss.backward()
        sums += [float(kl.detach().sum()), float(cross.detach().sum())]
    kl_mean, cross_mean = sums / count
    return {"kl": float(kl_mean), "cross_entropy": float(cross_mean)}


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Numbers of texts, `size` a step, all of them in another order each time round."""
    rng, left = random.Random(seed), list[int]()
    while True:
        while len(left) < size:
            left += rng.sample(range(count), count)
        yield left[:size]
        del left[:size]


def _save(path: Path, trained: "dict[str, Tensor]", optimizer: Any, step: int) -> None:
    """Weights and the optimiser's moments, whole or not at all."""
    import torch
    from safetensors.torch import save_file

    tensors = {"step": torch.tensor(step)}
    for name, parameter in trained.items():
        tensors[name] = parameter.detach()
        tensors |= {f"{name}|{key}": value for key, value in optimizer.state[parameter].items()}
    with whole_file(path) as part:
        save_file(tensors, part)


def _restore(path: Path, trained: "dict[str, Tensor]", optimizer: Any) -> int:
    """Put back what `_save` wrote, and return its step."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
            state = {k.partition("|")[2]: t for k, t in tensors.items() if k.startswith(f"{name}|")}
            if state:
                optimizer.state[parameter] = {
                    k: t if k == "step" else t.to(parameter.device) for k, t in state.items()
                }
    step = int(tensors["step"])
    log.info("training goes on after step %d", step)
    return step
