"""What the stages of one job share: its configuration, its files, and its rater."""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from debiasdpo.cluster import interrupts, processes
from debiasdpo.config.job import JobConfig
from debiasdpo.costs import Cost, Meter
from debiasdpo.jobs.raters import configured_rater, hold_model
from debiasdpo.jobs.run_folder import RunFolder, now
from debiasdpo.models.held import HeldModel
from debiasdpo.raters.base import Closing, Rater, require
from debiasdpo.storage.store import OpenStage, Store
from debiasdpo.tracking.tracker import Tracker

log = logging.getLogger(__name__)


@dataclass
class Job:
    """What the stages of one job share."""

    config: JobConfig
    store: Store
    run: RunFolder
    tracker: Tracker
    given: Rater | None = None  # from Python; None: the one that the configuration describes
    costs: dict[str, Cost] = field(default_factory=dict)  # of each stage, when it was made
    asked: dict[str, Path] = field(default_factory=dict)  # rows of each stage that asks a rater
    _raters: dict[tuple[Path | Literal["judge"] | None, bool], Rater] = field(default_factory=dict)
    _stage: dict[str, Any] = field(default_factory=dict)  # the one at work: name, since, before
    _spent: Callable[[], None] = lambda: None  # notes what it has cost so far

    @cached_property
    def model(self) -> HeldModel:
        """The local model, which is loaded when it is first needed."""
        return hold_model(self.config, self.store.root)

    def rater(self, weights: Path | None = None, *, written: bool = False) -> Rater:
        """The rater given; else the configured one, untrained (None) or as trained into `weights`. `written`:
        what it writes is written by the configured writer."""
        written = written and self.config.writer.kind != "self"
        if (weights, written) not in self._raters:
            rater = self.given or configured_rater(
                self.config, lambda: self.model, weights, written=written
            )
            require(rater, self.config.rate.readout)
            if self.config.rate.format == "json" and "json" not in rater.capabilities:
                log.warning(
                    "rate.format=json: this rater can be asked for that form, and not held to it; a reply of"
                    " another form is a failure"
                )
            self._raters[weights, written] = rater
        return self._raters[weights, written]

    def judge(self) -> Rater:
        """The configured judge, which may be the job's rater itself; only for jobs that have one."""
        config = self.config.of_judge
        assert config is not None
        if config.model == self.config.model:
            return self.rater()
        if ("judge", False) not in self._raters:
            held = functools.cache(lambda: hold_model(config, self.store.root))
            self._raters["judge", False] = configured_rater(config, held, None)
        return self._raters["judge", False]

    def part(self, config: JobConfig) -> "Job":
        """A part of the job, with a configuration of its own and all else in common."""
        return replace(self, config=config)

    def close(self) -> None:
        """Give back what its own raters hold."""
        for rater in self._raters.values():
            if rater is not self.given and isinstance(rater, Closing):
                rater.close()

    def make(
        self,
        title: str,
        stage: OpenStage,
        work: Callable[[], Iterable[str]],
        into: str = "",
        cost: Callable[[], Cost] | None = None,
    ) -> None:
        """Do `work` unless the stage is finished; it returns the names of the files it wrote, which the
        run folder gets too, in its folder `into`. `cost`: what it took, if others had a part in it."""
        if stage.files is None:
            self._stage = {"stage": title, "since": now()}
            self.run.status("running", **self._stage)
            log.info("%s ...", title)
            meter, earlier = Meter(), stage.spent()

            def spent() -> Cost:
                return meter.read(processes.size()).after(earlier)

            self._spent = lambda: stage.note_spent(spent())
            names = work()
            stage.commit(names, spent() if cost is None else cost())
        else:
            log.info("%s: found in %s, made on %s", title, stage.folder, stage.made)
        self.costs[title] = stage.cost
        self.run.keep(stage, stage.files or (), into)

    def progress(self, done: int, total: int) -> None:
        """Report how far the running stage is. The first call's `done` is what an earlier process made."""
        interrupts.check()
        self._stage.setdefault("before", done)
        if self.run.progress(**self._stage, done=done, total=total):
            self._spent()
