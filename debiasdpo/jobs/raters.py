"""The rater that a configuration describes."""

from pathlib import Path

from debiasdpo.config.job import JobConfig
from debiasdpo.models.held import HeldModel, model_identity
from debiasdpo.raters.local import LocalRater


def hold_model(config: JobConfig, cache: Path) -> HeldModel:
    """The job's local model, not loaded yet."""
    full = config.train.adapter == "full"
    adapts = config.method.trains and not full
    return HeldModel(config.local_model, cache, full=full, adapts=adapts)


def local_rater(config: JobConfig, held: HeldModel, weights: Path | None) -> LocalRater:
    """The job's model as it is (None), or as trained into `weights`."""
    model = config.local_model
    return LocalRater(
        lambda: held.load(weights),
        identity=model_identity(model, weights),
        max_length=model.max_length,
        attention=model.attention,
        batching=config.batching,
        seed=config.seed,
    )
