"""What the stages of one job share: its configuration, its files, and the model in memory."""

import importlib.metadata
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo import adapters, distributed, interrupt, model_source, models
from debiasdpo.config import JobConfig
from debiasdpo.costs import Cost, Meter
from debiasdpo.runs import MANIFEST, RunFolder, Stage, Store, now, read_json
from debiasdpo.tracking import Tracker

if TYPE_CHECKING:
    from debiasdpo.raters.local import LocalRater

log = logging.getLogger(__name__)


@dataclass
class Job:
    """What the stages of one job share."""

    config: JobConfig
    store: Store
    run: RunFolder
    tracker: Tracker
    costs: dict[str, Cost] = field(default_factory=dict)  # of each stage, when it was made
    _stage: dict[str, Any] = field(default_factory=dict)  # the one at work: name, since, before
    _spent: Callable[[], None] = lambda: None  # notes what it has cost so far
    _loaded: "tuple[object, LocalRater] | None" = None

    def rater(self, weights: Path | None = None) -> "LocalRater":
        """The base model (None), or the one trained into `weights`; one at a time is in memory."""
        if self._loaded is None or self._loaded[0] != weights:
            self._loaded = None  # frees the other one first
            self._loaded = (weights, load_rater(self.config, self.store, weights))
        return self._loaded[1]

    def release(self) -> None:
        """Forget the model in memory: training changes it."""
        self._loaded = None

    def make(
        self,
        title: str,
        stage: Stage,
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
                return meter.read(distributed.size()).after(earlier)

            self._spent = lambda: stage.note_spent(spent())
            names = work()
            stage.commit(names, spent() if cost is None else cost())
        else:
            log.info("%s: found in %s", title, stage.folder)
        self.costs[title] = stage.cost
        self.run.keep(stage, stage.files or (), into)

    def progress(self, done: int, total: int) -> None:
        """Say how far the stage at work is; what the first call tells was there before."""
        interrupt.check()
        self._stage.setdefault("before", done)
        if self.run.progress(**self._stage, done=done, total=total):
            self._spent()

    def model_inputs(self, weights: Path | None) -> dict[str, object]:
        """What decides a model's outputs, besides what it is given."""
        config = self.config.model
        trained: dict[str, object] = {}
        if weights is not None:  # the files of the weights alone: the rest of the stage has times
            files = read_json(weights.parent / MANIFEST)["files"]
            trained = {name: e for name, e in files.items() if name.startswith("weights/")}
        return {
            "model": model_source.identity(config.path, config.revision),
            "nf4": config.nf4,
            "dtype": config.dtype,
            "attention": config.attention,
            "weights": trained,
            "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers")},
        }


def load_rater(config: JobConfig, store: Store, weights: Path | None) -> "LocalRater":
    """The job's model as it is (None), or as trained into `weights`."""
    from debiasdpo.raters.local import LocalRater

    model_config = config.model
    trained_whole = weights is not None and config.train.adapter == "full"
    if trained_whole:
        model_config = model_config.model_copy(update={"path": str(weights)})
    model: Any
    model, tokenizer = models.load_model(model_config, store.root)
    if config.method.trains and config.train.adapter == "lora":
        adapters.check_targets(model, config.model.lora)  # now, not after hours of rating
    if weights is not None and not trained_whole:
        model = adapters.load_adapter(model, weights)
    return LocalRater(model, tokenizer, config.rate, config.seed, model_config.attention)
