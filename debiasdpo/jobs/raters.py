"""The rater that a configuration describes."""

from collections.abc import Callable, Mapping
from pathlib import Path

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig
from debiasdpo.jobs.identity import cache_folder, settings_key
from debiasdpo.models.held import HeldModel
from debiasdpo.packing.kept_states import KeptStates
from debiasdpo.raters.base import Rater
from debiasdpo.raters.endpoint.rater import REPLIES, EndpointRater
from debiasdpo.raters.head import HeadRater, load_heads
from debiasdpo.raters.local import LocalRater
from debiasdpo.raters.passes import Load
from debiasdpo.raters.written import WrittenRater


def configured_rater(
    config: JobConfig,
    held: Callable[[], HeldModel],
    weights: Path | None,
    *,
    written: bool = False,
    purse: str = "",
) -> Rater:
    """The rater of `config.model`, untrained (None) or as trained into `weights`. `held`: the local model, of
    a job that has one. `written`: what it writes is written by `config.writer`. `purse`: what
    `audit.max_cost` is for; empty: the job. A further kind of rater is made here (docs/extending.md)."""
    if isinstance(config.model, EndpointConfig):
        return _endpoint_rater(config, config.model, purse)
    model = held()
    if written and isinstance(config.writer, EndpointConfig):
        adapter = None if weights is None else str(weights)
        writer = config.writer.model_copy(update={"adapter": adapter})
        return WrittenRater(
            local_rater(config, lambda: model.load(weights), model.identity(weights)),
            _endpoint_rater(config, writer, purse, lambda: model.folder, model.identity()),
        )
    if weights is not None and not config.method.trains_weights:
        untrained = local_rater(config, model.load, model.identity(weights), model.kept)
        return HeadRater(untrained, load_heads(weights))
    kept = model.kept if weights is None else None
    return local_rater(config, lambda: model.load(weights), model.identity(weights), kept)


def _endpoint_rater(
    config: JobConfig,
    model: EndpointConfig,
    purse: str,
    weights: Callable[[], Path] | None = None,
    served: Mapping[str, object] | None = None,
) -> EndpointRater:
    return EndpointRater(
        model,
        cache_folder(config) / REPLIES,
        seed=config.seed,
        job=f"{settings_key(config)}{purse}",
        max_cost=config.audit.max_cost,
        weights=weights,
        served=served,
    )


def hold_model(config: JobConfig, cache: Path) -> HeldModel:
    """The job's local model, not loaded yet. Where a head is to rate what the model itself rated before, it
    keeps the states of that."""
    head = None if config.method.trains_weights else config.method.head
    return HeldModel(
        config.local_model,
        cache,
        full=config.train.adapter == "full",
        trains=config.method.trains_weights,
        thinks=config.rate.thinks,
        kept=None if head is None else KeptStates(head.layers),
    )


def local_rater(
    config: JobConfig,
    load: Load,
    identity: Mapping[str, object],
    kept: KeptStates | None = None,
) -> LocalRater:
    """A model that `load` has ready, or loads, read as the job reads ratings. `kept`: its states."""
    model = config.local_model
    return LocalRater(
        load,
        identity=identity,
        max_length=model.max_length,
        attention=model.attention,
        batching=config.batching,
        seed=config.seed,
        kept=kept,
    )
