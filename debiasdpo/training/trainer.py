"""Train on preference pairs: a `transformers.Trainer` whose loss is ours and whose end is the best
checkpoint by an audit on validation documents."""

import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.adapters import save_adapter
from debiasdpo.config import LossConfig, TrainConfig
from debiasdpo.logprobs import Completion, packed_tokens, sequence_logprobs
from debiasdpo.runs import Journal, digest, read_json, read_jsonl, write_json, write_jsonl
from debiasdpo.training.data import TokenPair, pack_passes, plan_steps
from debiasdpo.training.objective import PairTerms, debiasing_dpo
from debiasdpo.training.selection import better

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Reference = Mapping[str, tuple[float, float]]  # pair key -> log-prob of chosen, of rejected
Audit = Callable[["PreTrainedModel"], dict[str, float]]
Log = Callable[[dict[str, float], int], None]

_OPTIMIZERS = {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}
_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_MARK = "complete.json"  # written last into a checkpoint: without it, it was cut off


def pair_terms(
    model: "torch.nn.Module", pairs: Sequence[TokenPair], reference: Reference, loss: LossConfig
) -> PairTerms:
    """The objective's terms of pairs that are run in one packed pass, shape (P,) each."""
    import torch

    scored = sequence_logprobs(model, [c for pair in pairs for c in pair.completions]).view(-1, 3)
    chosen, rejected, answer = scored.unbind(1)  # (P,) each
    known = torch.tensor([reference[p.key] for p in pairs], device=scored.device)  # (P, 2)
    tokens = torch.tensor([len(p.answer.completion) for p in pairs], device=scored.device)
    return debiasing_dpo(
        chosen, rejected, known[:, 0], known[:, 1], answer, tokens,
        w_dpo=loss.w_dpo, w_sft=loss.w_sft, beta=loss.beta,
    )  # fmt: skip


def reference_logprobs(
    model: "torch.nn.Module", pairs: Sequence[TokenPair], max_tokens: int, journal: Journal
) -> None:
    """Score chosen and rejected of every pair under the untrained model, into the journal.

    Goes on after what the journal already holds.
    """
    import torch
    from tqdm import tqdm

    done = {row["pair"] for row in journal.rows}
    # The same passes whatever is done already: figures depend, in the last digit, on the packing.
    passes = [p for p in pack_passes(pairs, max_tokens) if not {m.key for m in p} <= done]
    model.eval()
    for members in tqdm(passes, desc="reference", unit="pass", disable=None):
        completions: list[Completion] = [c for p in members for c in (p.chosen, p.rejected)]
        with torch.no_grad():
            scored = sequence_logprobs(model, completions).view(-1, 2).tolist()
        journal.append(
            {"pair": pair.key, "chosen": chosen, "rejected": rejected}
            for pair, (chosen, rejected) in zip(members, scored, strict=True)
        )


def train(
    model: "PreTrainedModel",
    pairs: Sequence[TokenPair],
    reference: Reference,
    *,
    loss: LossConfig,
    config: TrainConfig,
    seed: int,
    folder: Path,
    bf16: bool = False,
    audit: Audit,
    on_log: Log,
) -> dict[str, Any]:
    """Train `model` (with its adapter) in place and return the choice made among its checkpoints.

    In `folder`: `weights/` is the chosen adapter (or model), `steps.jsonl` what each step logged,
    `validation.jsonl` the audits, `choice.json` which step was kept and why. A killed training goes
    on from its last whole checkpoint and ends in the same weights. `bf16`: on a GPU, compute in
    bfloat16 whatever the weights are in.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    steps = plan_steps(pairs, config.epochs, config.batch_pairs, seed)
    passes = [pack_passes(step, config.max_tokens) for step in steps]
    checkpoints = folder / "checkpoints"
    resume = _last_whole_checkpoint(checkpoints)
    done = int(resume.name.split("-")[1]) if resume else 0
    history = _truncated(folder / "steps.jsonl", done)
    audits = _truncated(folder / "validation.jsonl", done)
    replay(folder, on_log)  # a tracker sees the whole run, also what a killed job logged

    class PairTrainer(Trainer):
        """One dataset item is one optimiser step; its passes are accumulated in `training_step`."""

        terms: dict[str, float]

        def _get_train_sampler(self, train_dataset=None):  # type: ignore[no-untyped-def]
            return torch.utils.data.SequentialSampler(passes)  # the plan has its own order

        def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
            model.train()
            started = time.perf_counter()
            members = inputs["passes"]
            count = sum(len(group) for group in members)
            sums = torch.zeros(5, dtype=torch.float64)
            tokens = 0
            for group in members:
                with self.compute_loss_context_manager():
                    terms = pair_terms(model, group, reference, loss)
                self.accelerator.backward(terms.loss.sum() / count)
                accurate = (terms.margin > 0).double()
                columns = (terms.loss, terms.dpo, terms.sft, terms.margin, accurate)
                sums += torch.stack([c.detach().double().sum().cpu() for c in columns])
                tokens += packed_tokens([c for pair in group for c in pair.completions])
            seconds = time.perf_counter() - started
            means = (sums / count).tolist()
            names = ("loss", "dpo", "sft", "reward_margin", "reward_accuracy")
            self.terms = {
                **dict(zip(names, means, strict=True)),
                "tokens_per_s": tokens / seconds,
                "pairs_per_s": count / seconds,
            }
            return torch.tensor(means[0], device=self.args.device)

        def save_model(self, output_dir=None, _internal_call=False):  # type: ignore[no-untyped-def]
            _save_weights(self.model, Path(output_dir or checkpoints))

        def log(self, logs, start_time=None):  # type: ignore[no-untyped-def]
            if "grad_norm" in logs:  # a step's log, not the summary at the end
                logs = {**logs, **self.terms}
            super().log(logs, start_time)

    class Watch(TrainerCallback):
        """Audits on validation documents, keeps the best weights, and writes what happened."""

        def on_train_begin(self, args, state, control, model=None, **_):  # type: ignore[no-untyped-def]
            if not audits.rows:
                self._audit(0, model)

        def on_log(self, args, state, control, logs=None, **_):  # type: ignore[no-untyped-def]
            if "grad_norm" in logs:
                row = {f"train/{k}": float(v) for k, v in logs.items() if k != "epoch"}
                history.append([{"step": state.global_step, **row}])
                on_log(row, state.global_step)

        def on_step_end(self, args, state, control, model=None, **_):  # type: ignore[no-untyped-def]
            if state.global_step % config.audit_every == 0 or state.global_step == len(steps):
                self._audit(state.global_step, model)

        def on_save(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            _mark_complete(checkpoints / f"checkpoint-{state.global_step}")

        def _audit(self, step: int, model: "PreTrainedModel") -> None:
            was_training = model.training
            figures = audit(model)
            model.train(was_training)
            audits.append([{"step": step, **figures}])
            on_log({f"validation/{k}": v for k, v in figures.items()}, step)
            log.info(
                "step %d of %d: validation bias %.3f (trained), %.3f (unseen), %.3f (placebo); spearman %.2f",
                step, len(steps), figures["bias_trained"], figures["bias_unseen"],
                figures["bias_placebo"], figures["spearman"],
            )  # fmt: skip
            if better(audits.rows, config.accuracy_tolerance) == len(audits.rows) - 1:
                _replace_weights(model, folder / "weights")
                write_json(folder / "choice.json", {"step": step, **figures})

    trainer = PairTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            per_device_train_batch_size=1,
            num_train_epochs=1,
            learning_rate=config.learning_rate,
            lr_scheduler_type=_SCHEDULES[config.schedule],
            warmup_steps=round(config.warmup * len(steps)),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            optim=_OPTIMIZERS[config.optimizer],
            activation_checkpointing=config.gradient_checkpointing,
            logging_steps=1,
            save_steps=config.save_every,
            save_total_limit=2,
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=bf16 and torch.cuda.is_available(),
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=not sys.stderr.isatty(),
        ),
        train_dataset=[{"passes": step} for step in passes],
        data_collator=lambda items: items[0],
        callbacks=[Watch()],
    )
    trainer.remove_callback(PrinterCallback)
    with warnings.catch_warnings():
        # bitsandbytes says on every CPU that its pages stay in memory, which is what they are for.
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    choice: dict[str, Any] = read_json(folder / "choice.json")
    return choice


def replay(folder: Path, on_log: Log) -> None:
    """Log again what a training in `folder` has logged so far, steps first, then audits."""
    for name, prefix in (("steps", ""), ("validation", "validation/")):
        path = folder / f"{name}.jsonl"
        for row in read_jsonl(path) if path.exists() else ():
            on_log({f"{prefix}{k}": v for k, v in row.items() if k != "step"}, row["step"])


def _truncated(path: Path, step: int) -> Journal:
    """The journal up to `step`: what came after the checkpoint will be done, and logged, again."""
    journal = Journal(path)
    kept = [row for row in journal.rows if row["step"] <= step]
    if step == 0:
        kept = []
    if len(kept) < len(journal.rows):
        write_jsonl(path, kept)
        journal = Journal(path)
    return journal


def _replace_weights(model: Any, target: Path) -> None:
    """Save as safetensors beside the old ones, then swap, so that whole weights are always there."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    _save_weights(model, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _save_weights(model: Any, folder: Path) -> None:
    from peft import PeftModel

    if isinstance(model, PeftModel):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)


def _mark_complete(checkpoint: Path) -> None:
    write_json(checkpoint / _MARK, {p.name: digest(p) for p in sorted(checkpoint.iterdir())})


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:
            files = read_json(checkpoint / _MARK)
            if all(digest(checkpoint / name) == known for name, known in files.items()):
                return checkpoint
        except (OSError, ValueError):
            pass
        log.warning("%s was cut off or is damaged; an earlier one is used", checkpoint)
        shutil.rmtree(checkpoint)
    return None
