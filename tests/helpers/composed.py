"""Configurations as the command line composes them: the options of groups once for all tests of a process."""

import functools

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from debiasdpo.run import conf_dir
from debiasdpo.sweep.compose import Composer


def composed(*overrides: str) -> DictConfig:
    """The configuration of a job with these overrides; raises as Hydra does (tests/sweep/test_compose.py)."""
    return _composer().compose(overrides)[0]


@functools.cache
def hydra_of_a_sweep() -> tuple[HydraContext, DictConfig]:
    """What Hydra gives a launcher, and the configuration that it composes the jobs of a sweep from."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        whole = loader.load_configuration("config", [], RunMode.MULTIRUN)
    return HydraContext(config_loader=loader, callbacks=Callbacks()), whole


@functools.cache
def _composer() -> Composer:
    return Composer(*hydra_of_a_sweep())
