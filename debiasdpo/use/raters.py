"""The rater of a finished run: trained, with changed prompts, or as it was before."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import CallableConfig, ModelConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import SplitCorpus, rubrics_of
from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import Model, Run
from debiasdpo.jobs.identity import cache_folder, model_source
from debiasdpo.jobs.raters import configured_rater, hold_model
from debiasdpo.metrics import Knots
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.prompts.rendering import Twins
from debiasdpo.raters.base import Bounded, Question, Rater, Reply, Wanted
from debiasdpo.stages.asked import rewrite_prompts, rewriting_reading
from debiasdpo.stages.calibration import load_calibration
from debiasdpo.stages.declarations import RATINGS_BASE, RATINGS_TUNED
from debiasdpo.stages.rating_task import questions_of
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import JsonlFile


@dataclass(frozen=True)
class RunRater:
    """One model of a run, which is loaded at its first question."""

    run: Run
    model: Model
    rater: Rater

    @property
    def config(self) -> JobConfig:
        return self.run.config

    @property
    def declared(self) -> Stage:
        """The stage in which the run asked it."""
        return RATINGS_TUNED if self.model == "tuned" else RATINGS_BASE

    @property
    def calibration(self) -> Mapping[str, Knots]:
        """What the run maps its ratings on each rubric by; empty where it does not."""
        if self.config.rate.calibration == "none":
            return {}
        return load_calibration(self.run.folder / f"calibration_{self.model}.json")

    def prompts(self, documents: Collection[Document], statements: int | None = 0) -> RatingPrompts:
        """The neutral prompts about documents without scores, as the run asks them, and as many of the
        audit's statements of each category (None: all), in turn; but for those that are made from a column,
        as nothing but their texts is known of these documents."""
        audit = self.config.audit.model_copy(update={"statements": statements})
        config = self.config.model_copy(update={"audit": audit})
        corpus = SplitCorpus({"test": documents}, rubrics_of(config.documents), {})
        assert self.declared.prompts is not None
        asked = self.declared.prompts(config, corpus)
        assert isinstance(asked, RatingPrompts)
        of_all = [([s for s in pool if s.column is None], count) for pool, count in asked.turns]
        turns = [] if statements == 0 else [(pool, count) for pool, count in of_all if pool]
        asked = replace(asked, turns=turns, repeats=0, unscored=True)
        rewrites = self.model == "tuned" and config.method.rewrite is not None
        return self._rewritten(asked) if rewrites else asked

    def _rewritten(self, prompts: RatingPrompts) -> RatingPrompts:
        """With what is asked in the model's own words: those of the run, as far as it had them written."""
        asked = rewrite_prompts(self.config, prompts)
        rows = JsonlFile(self.run.folder / "rewrites.jsonl")
        written = {row["key"]: row["text"].strip() for row in rows}
        new = [prompt for prompt in asked.values() if prompt.key not in written]
        scales = {name: rubric.scale for name, rubric in prompts.rubrics.items()}
        replies = self.rater.reply(
            questions_of(new, scales), "text", rewriting_reading(self.config)
        )
        written |= {p.key: reply.text.strip() for p, reply in zip(new, replies, strict=True)}
        return replace(
            prompts, requests={r: written[p.key] for r, p in asked.items() if written[p.key]}
        )


class Sparing:
    """A rater that leaves out the questions that are too long for it, and says of each why."""

    def __init__(self, rater: Rater, bound: Bounded) -> None:
        """`bound`: the same rater."""
        self._rater, self._bound = rater, bound
        self.identity, self.capabilities = rater.identity, rater.capabilities

    def check(
        self,
        questions: Iterable[Question],
        twins: Iterable[Twins],
        longest: int,
        reading: RateConfig,
    ) -> None:
        """Of twins alone: how long questions are is looked at when they are asked."""
        self._rater.check((), twins, longest, reading)

    def reply(
        self, questions: Sequence[Question], wanted: Wanted, reading: RateConfig
    ) -> list[Reply]:
        """Of a question that is too long: an error, with how many tokens it has."""
        why = [self._bound.too_long(question, reading) for question in questions]
        asked = [q for q, reason in zip(questions, why, strict=True) if reason is None]
        replies = iter(self._rater.reply(asked, wanted, reading) if asked else ())
        return [Reply("", None, "error", reason) if reason else next(replies) for reason in why]


def categories_asked(prompts: RatingPrompts) -> set[str]:
    """The categories of the statements that documents come with."""
    return {members[0].category for members, _ in prompts.turns}


def statements_asked(prompts: RatingPrompts) -> int:
    """How many social statements each prompt of a document comes with, one at a time."""
    counts = [
        len(members) if count is None else min(count, len(members))
        for members, count in prompts.turns
        if members[0].category != PLACEBO
    ]
    return sum(counts)


def rater_of(run: Run, model: Model, max_cost: float | None = None) -> RunRater:
    """`max_cost`: US dollars that an endpoint may be paid for all new documents; None: as much as the run was
    allowed. `UserError` where the run's model cannot be had any more."""
    config = run.config
    if isinstance(config.model, CallableConfig):
        raise UserError(
            f"{run.folder}: a Python function rated it, which a run does not keep; call the function, or"
            " debiasdpo.audit (docs/python.md)"
        )
    cache = cache_folder(config)
    require_model(run)
    weights = run.weights if model == "tuned" else None
    if max_cost is not None:
        audit = config.audit.model_copy(update={"max_cost": max_cost})
        config = config.model_copy(update={"audit": audit})
    rater = configured_rater(config, lambda: hold_model(config, cache), weights, purse="/rate")
    return RunRater(run, model, Sparing(rater, rater) if isinstance(rater, Bounded) else rater)


def require_model(run: Run) -> None:
    """`UserError` unless the local model that the run began with is there, as it was, or the adapter that its
    endpoint serves."""
    model = run.config.model
    if model_source(model, cache_folder(run.config)) != run.versions.get("model"):
        key = "path" if isinstance(model, ModelConfig) else "adapter"
        raise UserError(
            f"model.{key}: {getattr(model, key)} is another model than when the run was made; put the files"
            " back that it had, or run the same command again"
        )
