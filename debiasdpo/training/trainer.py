"""Train on preference pairs: a `transformers.Trainer` with our loss, which keeps the best checkpoint by
audits on validation documents."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster import processes
from debiasdpo.cluster.threads import ONE_THREAD, Threads
from debiasdpo.config.method import LossConfig
from debiasdpo.config.model import Attention
from debiasdpo.config.train import TrainConfig
from debiasdpo.errors import UserError
from debiasdpo.models.adapters import without_casts
from debiasdpo.models.chat import Chat
from debiasdpo.models.modes import begin_training
from debiasdpo.packing.finite import overflow
from debiasdpo.packing.frozen import keeping_frozen_states
from debiasdpo.packing.logprobs import causal_model
from debiasdpo.storage.files import Progress, no_progress, read_json, write_json
from debiasdpo.storage.journal import Journal
from debiasdpo.training.checkpoints import (
    KeptWeights,
    Log,
    cut_after,
    last_whole_checkpoint,
    mark_complete,
    replay,
    save_weights,
    step_of,
)
from debiasdpo.training.data import Pass, TokenPair, assign_passes, plan_passes, plan_steps
from debiasdpo.training.gradients import (
    COLUMNS,
    Figures,
    all_reduce_gradients,
    backward_each,
)
from debiasdpo.training.objective import PairTerms
from debiasdpo.training.ranking import Ranks, rank_step
from debiasdpo.training.selection import Choose, select_checkpoint
from debiasdpo.training.sharding import Shards, number, sharding_trainer
from debiasdpo.training.terms import Reference, Terms, pair_terms, present_terms, scorer
from debiasdpo.training.whole import Unsharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Audit = Callable[["PreTrainedModel"], dict[str, float]]

_OPTIMIZERS = {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}
_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_MAX_GRAD_NORM = 1.0  # longer gradients are shortened to it


def train(
    model: "PreTrainedModel",
    chat: Chat,
    pairs: Sequence[TokenPair],
    reference: Reference,
    *,
    loss: LossConfig,
    config: TrainConfig,
    seed: int,
    folder: Path,
    attention: Attention = "auto",
    bf16: bool = False,
    threads: Threads = ONE_THREAD,
    audit: Audit,
    choose: Choose | None = None,
    on_log: Log,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train `model` (with its adapter) in place and return which step was kept, with its audit.

    In `folder`: `weights/` is the chosen adapter (or model), `steps.jsonl` what each step logged,
    `validation.jsonl` the audits, `best_step.json` which step was kept and why. A killed training goes
    on from its last whole checkpoint and ends in the same weights. `attention`: that of packed trees.
    `bf16`: compute in bfloat16 whatever the weights are in. `threads`: in which a step's passes are made.

    Several processes (`cluster.processes`) share the passes of every step and sum their gradients; where all
    weights are trained, these are spread over them (`training.sharding`). The first process audits, writes
    and logs, and the others return nothing. `choose`: which of the audits so far is kept, where it is not for
    `select_checkpoint` to say.
    """
    import torch
    from transformers import PrinterCallback, TrainerCallback, TrainingArguments

    steps = plan_steps(pairs, config.epochs, config.batch_pairs, config.batch_documents, seed)
    passes = [plan_passes(step, config) for step in steps]
    checkpoints = folder / "checkpoints"
    on_gpu = model.device.type != "cpu"
    terms_of: Terms
    score = scorer(config, attention)
    shards: Shards | None = None
    full = config.adapter == "full"
    if full and processes.size() > 1:
        shards = Shards(model, bf16=bf16)
        score = shards.scorer(score)
    rated = shards or Unsharded(model, full=full)
    if config.engine == "trl":
        from debiasdpo.training.trl_engine import TrlTerms

        terms_of = TrlTerms(
            model,
            chat,
            reference,
            loss=loss,
            folder=checkpoints,
            bf16=bf16,
        )
    else:
        terms_of = partial(pair_terms, reference=reference, loss=loss, score=score)
    chosen = choose or partial(select_checkpoint, target=config.target_reduction)
    logged = {"loss", *present_terms(pairs[0])}
    first = processes.rank() == 0
    resume = None
    if first:
        kept = KeptWeights(folder)
        history, audits = (Journal(folder / f"{name}.jsonl") for name in ("steps", "validation"))
        resume = last_whole_checkpoint(checkpoints, lambda s: kept.has_best(audits, s, chosen))
        done = step_of(resume) if resume else 0
        progress(done, len(steps))
        cut_after(done, history, audits)
        if resume:
            log.info("training goes on after step %d of %d", done, len(steps))
        replay(folder, on_log)  # a tracker sees the whole run, also what a killed job logged
    resume = processes.broadcast(resume)

    class PairTrainer(sharding_trainer()):  # type: ignore[misc]
        """One dataset item is one optimiser step; its passes are accumulated in `training_step`."""

        terms: dict[str, float]

        def get_train_dataloader(self):  # type: ignore[no-untyped-def]
            # In the order of the plan; and every process sees every step, of which it takes a share.
            items: Any = self.train_dataset
            return torch.utils.data.DataLoader(items, batch_size=1, collate_fn=self.data_collator)

        def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
            with without_casts(self.model, bf16):
                return self.one_step(inputs)

        def one_step(self, inputs: Any) -> "torch.Tensor":
            # Not `model`, which may be wrapped to average gradients: processes have different passes.
            plain: Any = self.model
            begin_training(plain)
            started = time.perf_counter()
            step = [pair for group in inputs["passes"] for pair in group.pairs]
            keys = [pair.key for pair in step]
            count = len(keys)
            with self.accelerator.autocast():
                ranks = rank_step(
                    plain, step, config=config, score=score, temperature=loss.temperature
                )
            figures = Figures()
            trained = [p for p in plain.parameters() if p.requires_grad]

            def forward(group: Pass) -> "tuple[PairTerms, torch.Tensor]":
                with self.accelerator.autocast():
                    terms = terms_of(plain, group.pairs, ranks)
                # Sharded gradients are averaged over the processes, all others added.
                times = group.counts * (processes.size() if shards else 1)
                return terms, times * terms.loss.sum() / count

            mine = assign_passes(
                inputs["passes"], processes.rank(), processes.size(), together=shards is not None
            )
            backward = self.accelerator.backward
            for group, terms in backward_each(mine, forward, backward, trained, threads):
                figures.add(group, terms)
            if shards is None:
                all_reduce_gradients(trained)
            sums, faulty = figures.collect()
            processes.all_reduce(sums)
            if not isfinite(sums[0]):
                at_fault = torch.zeros(count)  # of each pair, once all processes have told
                for group in faulty:
                    at_fault[[keys.index(pair.key) for pair in group.pairs]] = 1
                processes.all_reduce(at_fault)
                members = [pair for pair, fault in zip(step, at_fault, strict=True) if fault]
                key = processes.broadcast(self.at_fault(members, ranks))
                raise self.overflow(f"the loss of pair {key}")
            gradients = [p.grad for p in plain.parameters() if p.grad is not None]
            if not isfinite(number(torch.nn.utils.get_total_norm(gradients))):
                raise self.overflow("the gradient")
            seconds = time.perf_counter() - started
            means = (sums / count).tolist()
            self.terms = {
                **{name: mean for name, mean in zip(COLUMNS, means, strict=True) if name in logged},
                "tokens_per_s": sum(group.tokens for group in inputs["passes"]) / seconds,
                "pairs_per_s": count / seconds,
            }
            return torch.tensor(means[0], device=self.args.device)

        def at_fault(self, members: Sequence[TokenPair], ranks: Ranks) -> str:
            """Key of the first whose loss is no number by itself: those that run with it share its NaN."""
            plain: Any = shards.whole() if shards else model
            with torch.no_grad(), self.accelerator.autocast():
                for pair in members if first else ():
                    if not bool(terms_of(plain, [pair], ranks).loss.isfinite().all()):
                        return pair.key
            return members[0].key

        def overflow(self, what: str) -> UserError:
            where = f"at step {self.state.global_step + 1} of {len(steps)}"
            return overflow(f"{what} {where}", self.model, "lower train.learning_rate")

        def save_model(self, output_dir=None, _internal_call=False):  # type: ignore[no-untyped-def]
            if first and shards is None:
                save_weights(self.model, Path(output_dir or checkpoints))

        def log(self, logs, start_time=None):  # type: ignore[no-untyped-def]
            if "grad_norm" in logs:  # a step's log, not the summary at the end
                logs = {**logs, **self.terms}
            super().log(logs, start_time)

    class Watch(TrainerCallback):
        """Audits on validation documents, keeps the best weights, and writes what happened."""

        def on_train_begin(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            if resume is None:
                self._audit(0)

        def on_log(self, args, state, control, logs=None, **_):  # type: ignore[no-untyped-def]
            if first and "grad_norm" in logs:
                row = {f"train/{k}": float(v) for k, v in logs.items() if k != "epoch"}
                history.append([{"step": state.global_step, **row}])
                on_log(row, state.global_step)

        def on_step_end(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            progress(state.global_step, len(steps))
            if state.global_step % config.audit_every == 0 or state.global_step == len(steps):
                self._audit(state.global_step)

        def on_save(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            processes.wait_for_all()
            if first:
                mark_complete(checkpoints / f"checkpoint-{state.global_step}")
                kept.forget_all_but(read_json(folder / "best_step.json")["step"], checkpoints)

        def _audit(self, step: int) -> None:
            model = rated.whole()
            if not first or model is None:
                return
            was_training = model.training
            metrics = audit(model)
            model.train(was_training)
            audits.append([{"step": step, **metrics}])
            on_log({f"validation/{k}": v for k, v in metrics.items()}, step)
            if metrics:
                self._tell(step, metrics)
            best, why = chosen(audits.rows)
            if best == len(audits.rows) - 1:
                kept.save(model, step)
            write_json(folder / "best_step.json", {**audits.rows[best], "why": why})

        def _tell(self, step: int, metrics: dict[str, float]) -> None:
            log.info(
                "step %d of %d: validation bias %.3f (trained), %.3f (unseen), %.3f (placebo);"
                " bias / spread %.2f (trained), %.2f (placebo); spearman %.2f",
                step, len(steps), metrics["bias_trained"], metrics["bias_unseen"], metrics["bias_placebo"],
                metrics["relative_bias_trained"], metrics["relative_bias_placebo"], metrics["spearman"],
            )  # fmt: skip

    every = config.gradient_checkpointing
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULES[config.schedule],
        warmup_steps=round(config.warmup * len(steps)),
        weight_decay=0.0,
        max_grad_norm=_MAX_GRAD_NORM,
        optim=_OPTIMIZERS[config.optimizer],
        activation_checkpointing=every is not False,
        activation_checkpointing_kwargs={"every_n_layers": every if isinstance(every, int) else 1},
        logging_steps=1,
        save_steps=config.save_every,
        save_total_limit=2,
        seed=seed,
        use_cpu=not on_gpu,
        bf16=bf16 and shards is None,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),
    )
    # Else what `accelerate config` stored, or its command line, would decide, outside of what a job is.
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    trainer = PairTrainer(
        shards,
        model=model,
        args=arguments,
        train_dataset=[{"passes": step} for step in passes],
        data_collator=lambda items: items[0],
        callbacks=[Watch()],
    )
    trainer.remove_callback(PrinterCallback)
    with keeping_frozen_states(causal_model(model)), warnings.catch_warnings():
        # bitsandbytes says on every CPU that its pages stay in memory, which is what they are for.
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if not first:
        return {}
    best: dict[str, Any] = read_json(folder / "best_step.json")
    kept.settle(best["step"])
    named = f"step {best['step']}" if best["step"] else "the weights it began with"
    log.info("kept: %s: %s", named, best["why"])
    return best
