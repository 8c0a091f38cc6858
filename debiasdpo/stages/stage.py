"""What a declaration of a stage consists of, and what those of many have in common."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from debiasdpo.config.job import JobConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.raters.base import Wanted
from debiasdpo.stages.asked import Groups
from debiasdpo.stages.workload import Workload


@dataclass(frozen=True)
class Stage:
    """One stage: when a job has it, what goes in, what comes out, and how many tokens it runs."""

    title: str  # in logs, status.json, metrics.json (`time/<title>_s`) and plans
    store: str  # its folder in the cache; stages of one kind share it
    outputs: tuple[str, ...]
    needed: Callable[[JobConfig], bool]
    settings: Callable[[JobConfig], Mapping[str, object]]  # all keys that decide the result
    after: tuple[str, ...] = ()  # titles of stages whose outputs go in, where the job has them
    part: str | None = None  # of the documents, that its prompts are about
    prompts: Callable[[JobConfig, SplitCorpus], Groups] | None = None
    wanted: Callable[[JobConfig], Wanted] = lambda config: "rating"
    reading: Callable[[JobConfig], RateConfig] = lambda config: config.rate
    tokens: Callable[[JobConfig, Workload, "Stage"], float] | None = None  # None: runs no model

    def inputs(self, config: JobConfig, **content: object) -> dict[str, object]:
        """What the stage's fingerprint is computed from. `content`: digests of what earlier stages made."""
        wanted = {"wanted": self.wanted(config)} if self.store == "ratings" else {}
        return {"title": self.title, **self.settings(config), **wanted, **content}


def asking_settings(
    config: JobConfig, reading: RateConfig, unread: Collection[str]
) -> dict[str, object]:
    """Settings of every stage that asks a rater. The rater and its prompts are content, not settings.
    `unread`: keys of `rate` that decide no reply."""
    return {
        "rate": reading.model_dump(mode="json", exclude=set(unread)),
        "batching": config.batching.model_dump(mode="json", exclude={"shards"}),
        "samples": config.seed if reading.draws else None,
    }
