"""The ways to process a batch of pairs that `benchmarks.training` compares."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol
from unittest import mock

import torch
from torch import Tensor

from benchmarks import common, models
from benchmarks.models import ModelOptions
from debiasdpo.config.method import LossConfig
from debiasdpo.config.train import TreeConfig
from debiasdpo.models.adapters import without_casts
from debiasdpo.models.quiet import quiet
from debiasdpo.packing.logprobs import (
    Completion,
    Scorer,
    States,
    packed_tokens,
    separate_logprobs,
    sequence_logprobs,
)
from debiasdpo.training.data import TokenPair, pack_passes
from debiasdpo.training.objective import weighted
from debiasdpo.training.terms import Reference, pair_terms

METHODS = ("tree", "pair", "separate", "trl", "official")
LOSS = LossConfig(
    preference="sigmoid", w_dpo=1.0, w_sft=0.1, w_consistency=0.0, w_ranking=0.0,
    w_imitation=0.0, w_activation=0.0, beta=0.1, temperature=1.0, label_smoothing=0.0,
)  # fmt: skip

Pairs = Sequence[TokenPair]


class Tokens(NamedTuple):
    """Tokens that go through the layers, padding included."""

    reference: int
    policy: int

    def passes(self, checkpointing: bool) -> int:
        """Token passes: forward 1; the gradient as much again, since the matrices are frozen and
        only activations have one; checkpointing runs the forward pass once more."""
        return self.reference + (3 if checkpointing else 2) * self.policy


class Method(Protocol):
    """A way to process a batch of pairs."""

    name: str
    model: Any

    def reference(self, pairs: Pairs) -> Reference: ...

    def step(self, pairs: Pairs, reference: Reference) -> Tensor:
        """Leaves gradients of the mean loss on the adapter; log-probs of chosen, rejected, answer,
        (P, 3)."""
        ...

    def tokens(self, pairs: Pairs) -> Tokens: ...


@dataclass
class Scored:
    """The package's objective, on log-probabilities that `score` finds for a group of pairs."""

    name: str
    model: Any
    score: Scorer
    run: Callable[[Sequence[Completion]], int]  # tokens that `score` runs
    groups: Callable[[Pairs], list[list[TokenPair]]]

    def reference(self, pairs: Pairs) -> Reference:
        self.model.eval()
        found: dict[str, tuple[float, float]] = {}
        with torch.no_grad(), self.model.disable_adapter():
            for group in self.groups(pairs):
                scored = self.score(self.model, _preferences(group)).view(-1, 2).tolist()
                found |= {p.key: (c, r) for p, (c, r) in zip(group, scored, strict=True)}
        return found

    def step(self, pairs: Pairs, reference: Reference) -> Tensor:
        scored: list[Tensor] = []

        def score(
            model: torch.nn.Module,
            completions: Sequence[Completion],
            *,
            states: States | None = None,
        ) -> Tensor:
            found = self.score(model, completions, states=states)
            scored.append(found.detach())
            return found

        self.model.train()
        low = models.in_16_bits(self.model)
        for group in self.groups(pairs):
            with without_casts(self.model, low):
                with torch.autocast(models.device().type, torch.bfloat16, enabled=low):
                    terms = pair_terms(
                        self.model, group, reference=reference, loss=LOSS, score=score
                    )
                (terms.loss.sum() / len(pairs)).backward()
        return torch.cat(scored).view(-1, 3).cpu()

    def tokens(self, pairs: Pairs) -> Tokens:
        groups = self.groups(pairs)
        return Tokens(
            sum(self.run(_preferences(group)) for group in groups),
            sum(self.run([c for p in group for c in p.completions]) for group in groups),
        )


def _preferences(pairs: Pairs) -> list[Completion]:
    return [c for pair in pairs for c in pair.preference]


def one_by_one(pairs: Pairs) -> list[list[TokenPair]]:
    return [[pair] for pair in pairs]


def trees(pairs: Pairs, bounds: TreeConfig) -> list[list[TokenPair]]:
    return [p.pairs for p in pack_passes(pairs, bounds.max_tokens, bounds.max_branches)]


def separate_tokens(completions: Sequence[Completion]) -> int:
    return sum(len(c.prompt + c.completion) - 1 for c in completions)


def whole_sequences(
    model: torch.nn.Module, completions: Sequence[Completion], *, states: States | None = None
) -> Tensor:
    """As the official recipe scores a pair: chosen and rejected in one padded batch, the neutral
    answer apart, each with logits over the whole vocabulary at every position: (n,). It has no `states`."""
    halves = completions[:2], completions[2:]
    return torch.cat([_padded_logprobs(model, half) for half in halves if half])


def _padded_logprobs(model: torch.nn.Module, completions: Sequence[Completion]) -> Tensor:
    device = next(model.parameters()).device
    rows = [torch.tensor(c.prompt + c.completion) for c in completions]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # (n, T)
    position = torch.arange(ids.shape[1], device=device)
    ends = torch.tensor([len(row) for row in rows], device=device)[:, None]
    starts = torch.tensor([len(c.prompt) for c in completions], device=device)[:, None]
    mask = (position < ends).long()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (n, T, vocabulary)
    logits = logits[:, :-1].float()
    chosen = logits.gather(2, ids[:, 1:, None])[..., 0]
    scored = (position >= starts) & (position < ends)
    logprobs: Tensor = (chosen - logits.logsumexp(-1)) * scored[:, 1:]
    return logprobs.sum(1)


def whole_tokens(completions: Sequence[Completion]) -> int:
    halves = completions[:2], completions[2:]
    return sum(len(h) * max(len(c.prompt + c.completion) for c in h) for h in halves if h)


class Trl:
    """TRL's DPOTrainer, by its public interface: it tokenises and collates its own dataset, and is
    called for the reference and the loss of its own batches of one pair.

    The neutral answer's term, which it lacks, is added as `separate` computes it.
    """

    name = "trl"

    def __init__(self, base: Any, adapter: Any, pairs: Pairs, options: ModelOptions, folder: str):
        """`base`: without adapter, as TRL's documentation has it; its reference is then the model
        with adapters disabled. `adapter`: the model whose LoRA settings and weights it is given."""
        import datasets
        import huggingface_hub.constants
        from transformers import PrinterCallback
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        # TRL would report the kind of model and device to its makers.
        huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
        datasets.disable_progress_bars()
        with mock.patch.dict(os.environ, TQDM_DISABLE="1"), quiet():
            self.trainer: Any = DPOTrainer(
                base,
                args=DPOConfig(
                    output_dir=folder,
                    beta=LOSS.beta,
                    max_length=None,  # else long pairs are dropped without a word
                    precompute_ref_log_probs=True,
                    per_device_train_batch_size=1,
                    activation_checkpointing=options.checkpointing,
                    use_cpu=models.device().type == "cpu",
                    bf16=False,  # its trainer's loop would, which is left out
                    report_to=[],
                    disable_tqdm=True,
                ),
                train_dataset=datasets.Dataset.from_list(
                    [
                        {
                            "prompt": common.text(chosen.prompt),
                            "chosen": common.text(chosen.completion),
                            "rejected": common.text(rejected.completion),
                        }
                        for chosen, rejected in (pair.preference for pair in pairs)
                    ]
                ),
                processing_class=common.tokenizer(models.vocabulary_size(base)),
                peft_config=adapter.peft_config["default"],
            )
        self.trainer.remove_callback(PrinterCallback)
        self.model = models.checkpointed(self.trainer.model, options)
        for name, parameter in adapter.named_parameters():
            if parameter.requires_grad:  # TRL turns those on 4-bit weights to bfloat16
                self.model.get_parameter(name).data = parameter.data.clone()
        self.batches = {}
        prepared: Any = self.trainer.train_dataset
        for pair, row in zip(pairs, prepared, strict=True):
            batch = self.trainer.data_collator([row])
            whole = [list(c.prompt + c.completion) for c in pair.preference]
            rows = zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
            if [ids[mask].tolist() for ids, mask in rows] != whole:
                raise RuntimeError("TRL has tokenised a pair in another way")
            self.batches[pair.key] = {k: v.to(models.device()) for k, v in batch.items()}

    def reference(self, pairs: Pairs) -> Reference:
        self.model.eval()
        found = {}
        for pair in pairs:
            scored = self.trainer.compute_ref_log_probs(self.model, self.batches[pair.key])
            chosen, rejected = torch.cat(scored).tolist()
            found[pair.key] = (chosen, rejected)
        return found

    def step(self, pairs: Pairs, reference: Reference) -> Tensor:
        self.model.train()
        scored = []
        for pair in pairs:
            chosen, rejected = (
                torch.tensor([value], device=models.device()) for value in reference[pair.key]
            )
            batch = self.batches[pair.key] | {
                "ref_chosen_logps": chosen,
                "ref_rejected_logps": rejected,
            }
            dpo = self.trainer.compute_loss(self.model, batch)
            answer = separate_logprobs(self.model, pair.answers)
            sft = -answer[0] / len(pair.answers[0].completion)
            terms = weighted(LOSS, dpo, {"dpo": dpo, "sft": sft})
            (terms.loss / len(pairs)).backward()
            measured: dict[str, float] = {}
            self.trainer.log(measured)  # adds what TRL has measured since it was last asked
            self.trainer.state.log_history.clear()
            logps = measured["logps/chosen"], measured["logps/rejected"], answer.item()
            scored.append(logps)
        return torch.tensor(scored)

    def tokens(self, pairs: Pairs) -> Tokens:
        reference = sum(whole_tokens(p.preference) for p in pairs)
        return Tokens(reference, reference + separate_tokens([p.answers[0] for p in pairs]))


def make_methods(
    names: Sequence[str],
    ours: Any,
    options: ModelOptions,
    sample: Pairs,
    bounds: TreeConfig,
    folder: str,
) -> list[Method]:
    """In the order of METHODS; those of the package on `ours`, TRL and the official recipe on a stock
    model with the same weights. `sample`: all pairs that TRL will be asked for; `bounds`: of a tree."""
    tree = partial(sequence_logprobs, attention=options.attention)
    whole = partial(trees, bounds=bounds)
    found: dict[str, Method] = {
        "tree": Scored("tree", ours, tree, packed_tokens, whole),
        "pair": Scored("pair", ours, tree, packed_tokens, one_by_one),
        "separate": Scored("separate", ours, separate_logprobs, separate_tokens, one_by_one),
    }
    if {"trl", "official"} & set(names):
        base = models.base_model(options, stock=True)
        if "trl" in names:
            found["trl"] = Trl(base, ours, sample, options, folder)
            stock = found["trl"].model
        else:
            stock = models.adapted(base, options)
        found["official"] = Scored("official", stock, whole_sequences, whole_tokens, one_by_one)
    return [found[name] for name in METHODS if name in names]
