"""Hydra's way to a sweep of debiasdpo; Hydra takes sweepers and launchers from `hydra_plugins` only.

There is no more in here than what calls `debiasdpo.sweep`, since Hydra imports this at every start.
"""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class Sweeper(BasicSweeper):
    """Hydra's own, but for its check that every job can be composed, which the launcher does, and for its
    file of the whole configuration, in which nothing would be masked."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        assert self.hydra_context is not None
        assert self.launcher is not None
        assert self.config is not None
        from debiasdpo.errors import JobsFailed

        given = [*self._parse_config(), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        self.overrides = self.split_arguments(parser.parse_overrides(given), self.max_batch_size)
        # Of a folder that cannot be, once for all jobs.
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        returns: list[Sequence[JobReturn]] = []
        failed: list[str] = []
        first = 0
        while not self.is_done():
            batch = self.get_job_batch()
            try:
                returns.append(self.launcher.launch(batch, initial_job_idx=first))
            except JobsFailed as error:  # which ends no other batch
                failed.append(str(error))
            first += len(batch)
        if failed:
            raise JobsFailed("\n".join(failed))
        return returns


class SweepLauncher(Launcher):
    """Leaves finished jobs out and hands the others to what `cluster=` says."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from debiasdpo.sweep.launch import launch
        from debiasdpo.tasks.entry import run_job  # importable by the processes that it is sent to

        return launch(self.hydra_context, self.config, job_overrides, initial_job_idx, run_job)


class PlanLauncher(SweepLauncher):
    """`debiasdpo plan`: says what the jobs will take, and launches nothing."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from debiasdpo.stages.reckoning import Reckoner
        from debiasdpo.sweep.launch import plan_jobs

        say = functools.partial(print, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            reckon = Reckoner(Path(folder))
            return plan_jobs(self.hydra_context, self.config, job_overrides, reckon, say)
