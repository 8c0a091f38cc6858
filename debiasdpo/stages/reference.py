"""The reference stage: log-probabilities under the untrained model, once for all losses."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from debiasdpo.cluster import processes
from debiasdpo.cluster.threads import for_passes
from debiasdpo.config.job import JobConfig
from debiasdpo.config.scale import Scale
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.models.adapters import without_casts
from debiasdpo.models.chat import Chat
from debiasdpo.prompts.rendering import place, twins
from debiasdpo.raters.equality import check_twins
from debiasdpo.stages.declarations import REFERENCE
from debiasdpo.storage.files import fingerprint, read_jsonl, write_jsonl
from debiasdpo.training.data import TokenPair, plan_passes, tokenize
from debiasdpo.training.pairs import Pair, to_row
from debiasdpo.training.targets import level_weights, shift_weights
from debiasdpo.training.terms import reference_logprobs, scorer
from debiasdpo.training.whole import computes_in_16_bits

log = logging.getLogger(__name__)


def score_reference(
    job: Job, scales: Mapping[str, Scale], pairs: Sequence[Pair], start: Path | None = None
) -> dict[str, list[float]]:
    """Log-probabilities of what the method needs, by the pair's key: under the untrained model, or that with
    the weights `start`. `scales`: by rubric."""
    config = job.config
    inputs = REFERENCE.inputs(
        config,
        rater=dict(job.model.identity(start)),
        pairs=fingerprint([to_row(p) for p in pairs]),
        **reference_precision(config, start),
    )
    with job.store.stage(REFERENCE.store, inputs) as stage:

        def work() -> tuple[str, ...]:
            model, chat = job.model.load(start)
            # Whatever other terms leave out: another method may find this reference.
            known = [p.for_reference() for p in _tokenized(config, chat, scales, pairs)]
            fitting = [p for p in known if p.length <= config.local_model.max_length]
            passes = plan_passes(fitting, config.train)
            score = scorer(config.train, config.local_model.attention)
            journal = stage.journal()
            with _as_trained(job, model, start):
                reference_logprobs(model, passes, score, journal, job.progress, for_passes(model))
            write_jsonl(stage.folder / "reference.jsonl", journal.rows)
            return REFERENCE.outputs

        job.make(REFERENCE.title, stage, work)
        rows = read_jsonl(stage.folder / "reference.jsonl")
    return {row["pair"]: row["logprobs"] for row in rows}


def reference_precision(config: JobConfig, start: Path | None) -> dict[str, str]:
    """How a reference is computed, which goes into its inputs and those of the training that is compared with
    it; empty where the model is computed with as it was loaded. `start`: weights that it goes on from."""
    if config.trains_rounded:
        if not computes_in_16_bits(config.local_model):
            return {"precision": "float32"}
        return {"precision": "gathered" if processes.size() > 1 else "autocast"}
    # An adapter that is new adds nothing, in whatever precision.
    adapted = config.train.adapter == "lora" and start is not None
    return (
        {"precision": "as trained"} if adapted and computes_in_16_bits(config.local_model) else {}
    )


@contextmanager
def _as_trained(job: Job, model: Any, start: Path | None) -> Iterator[None]:
    """The model as training begins from it, so that no rounding is taken for a preference."""
    import torch

    how, place = reference_precision(job.config, start).get("precision"), model.device.type
    if how == "as trained":
        with torch.autocast(place, torch.bfloat16), without_casts(model, True):
            yield
        return
    if how in (None, "gathered"):  # from GPUs, in 16 bits, as it is here
        yield
        return
    model.float()
    with torch.autocast(place, torch.bfloat16, enabled=how == "autocast"):
        yield
    job.model.release()  # it is no longer as it was loaded


def token_pairs(
    config: JobConfig, chat: Chat, scales: Mapping[str, Scale], pairs: Sequence[Pair]
) -> list[TokenPair]:
    """The pairs as token ids, without those beyond model.max_length, which the log counts."""
    limit, method = config.local_model.max_length, config.method
    known = _tokenized(config, chat, scales, pairs)
    fitting = [pair for pair in known if pair.length <= limit]
    if len(fitting) < len(known):
        log.warning(
            "%d of %d pairs are longer than model.max_length=%d tokens and are left out",
            len(known) - len(fitting), len(known), limit,
        )  # fmt: skip
    if not fitting:
        raise UserError(
            f"All {len(known)} pairs are longer than model.max_length={limit} tokens (the shortest:"
            f" {min(p.length for p in known)}). Raise model.max_length or shorten the documents."
        )
    # What is left out has no part in them.
    kept = [of for of, pair in zip(pairs, known, strict=True) if pair.length <= limit]
    even = [1.0] * len(kept)
    of_levels = level_weights(kept, scales) if method.balanced else even
    of_shifts = shift_weights(kept) if method.weigh_by_shift else even
    return [
        replace(pair, weight=by_level, preference_weight=by_shift)
        for pair, by_level, by_shift in zip(fitting, of_levels, of_shifts, strict=True)
    ]


def _tokenized(
    config: JobConfig, chat: Chat, scales: Mapping[str, Scale], pairs: Sequence[Pair]
) -> list[TokenPair]:
    if not config.learns_prompts:  # a neutral wording is no prompt less a statement
        _check_twins(chat, pairs)
    return [tokenize(pair, chat, config.method, scales[pair.rubric]) for pair in pairs]


def _check_twins(chat: Chat, pairs: Sequence[Pair]) -> None:
    """Refuse pairs whose prompts differ by more than their statement, of which each is looked at once in each
    place: not all methods have had them rated before."""
    first: dict[object, Pair] = {}
    for pair in pairs:
        key = pair.category, pair.statement, place(pair.neutral_prompt, pair.contextual_prompt)
        first.setdefault(key, pair)
    for pair in first.values():
        found = twins(pair.neutral_prompt, pair.contextual_prompt)
        assert found is not None
        check_twins(chat, found, thinking=False)
