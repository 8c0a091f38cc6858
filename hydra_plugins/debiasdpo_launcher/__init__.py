"""Hydra's way to a sweep of debiasdpo; Hydra takes launchers from `hydra_plugins` only."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class SweepLauncher(Launcher):
    """Hands a sweep's jobs to `debiasdpo.sweep`. It does nothing else, since Hydra imports it at every
    start."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from debiasdpo import sweep

        return sweep.launch(self.hydra_context, self.config, job_overrides, initial_job_idx)
