"""The rating stages: prompts of a part in, one row a prompt out, going on after a kill.

Documents, prompts and rows are gone through one after the other and never all kept, so that memory does
not grow with their number.
"""

import hashlib
import itertools
import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from debiasdpo import distributed
from debiasdpo.audit import audit_prompts
from debiasdpo.config import JobConfig, RateConfig
from debiasdpo.costs import Cost, Meter
from debiasdpo.documents import Rubric, SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.job import Job
from debiasdpo.prompts import Prompt, PromptStyle, flat
from debiasdpo.raters import Output
from debiasdpo.runs import Journal, Progress, Stage, Store

if TYPE_CHECKING:
    from debiasdpo.raters.local import LocalRater

How = Literal["rate", "reason", "write"]
Groups = Iterable[Collection[Prompt]]  # the prompts of each document; gone through more than once


def style(job: Job) -> PromptStyle:
    rate = job.config.rate
    return PromptStyle(job.config.data.heading, rate.instruction, rate.context_position)


def rate_test(job: Job, corpus: SplitCorpus, name: str, weights: Path | None) -> Path:
    """ratings_<name>.jsonl: the test part rated by the base (None) or the trained model."""
    prompts = audit_prompts(job.config, style(job), corpus.parts["test"], corpus.rubrics)
    return rate(job, corpus, f"ratings_{name}", prompts, weights)


def rate(
    job: Job,
    corpus: SplitCorpus,
    title: str,
    groups: Groups,
    weights: Path | None,
    *,
    how: How = "rate",
    max_new_tokens: int | None = None,
) -> Path:
    """The file with one row a prompt, in their order: key, document, rubric, category, polarity,
    statement, repeat, text, rating.

    `how` the rater's method of that name makes them; `max_new_tokens`: None is rate.max_new_tokens.
    """
    from debiasdpo import shards

    config = job.config.rate
    if max_new_tokens is not None:
        config = config.model_copy(update={"max_new_tokens": max_new_tokens})
    inputs = {
        **job.model_inputs(weights),
        "rate": config.model_dump(mode="json", exclude={"shards"}),
        "seed": job.config.seed if config.temperature > 0 else None,
        "how": how,
        "title": title,
        "scales": {name: list(r.scale) for name, r in corpus.rubrics.items()},
    }
    survey = _survey(groups, config.batch_size)
    task = RatingTask(
        job.config, config, title, how, groups, corpus.rubrics, weights, inputs, survey
    )
    with job.store.stage("ratings", task.stage_inputs(task.whole)) as stage:
        parts = task.parts(max(config.shards, distributed.size()))
        if len(parts) > 1:
            shards.make(job, stage, task, parts)
        else:

            def work() -> list[str]:
                return make_part(task, task.whole, stage, job.rater(weights), job.progress)

            job.make(title, stage, work)
        return stage.folder / task.file


@dataclass(frozen=True)
class Survey:
    """What is known of prompts before they are rated, by batch: `batches` makes the same ones always."""

    digests: bytes  # 16 of each batch, of its prompts
    sizes: "array[int]"  # prompts of each batch
    longest: int  # bytes of the longest prompt

    def prompts(self, part: range) -> int:
        """How many there are in some batches."""
        return sum(self.sizes[part.start : part.stop])


@dataclass(frozen=True)
class RatingTask:
    """All that a process needs to rate some batches of a stage's prompts; it can be sent elsewhere."""

    config: JobConfig
    rate: RateConfig
    title: str
    how: How
    groups: Groups
    rubrics: Mapping[str, Rubric]
    weights: Path | None
    inputs: Mapping[str, object]  # of the stage, less the prompts
    survey: Survey

    @property
    def file(self) -> str:
        return f"{self.title}.jsonl"

    @property
    def whole(self) -> range:
        """All batches."""
        return range(len(self.survey.sizes))

    def parts(self, count: int) -> list[range]:
        """The batches in up to `count` parts of neighbours."""
        n = len(self.whole)
        ends = sorted({(i + 1) * n // count for i in range(count)})
        return [range(start, end) for start, end in itertools.pairwise([0, *ends]) if end > start]

    def stage_inputs(self, part: range) -> dict[str, object]:
        """What decides the ratings of a part, however it was cut."""
        digests = self.survey.digests[16 * part.start : 16 * part.stop]
        return {**self.inputs, "prompts": hashlib.sha256(digests).hexdigest()[:16]}


def _survey(groups: Groups, size: int) -> Survey:
    digests, sizes, longest = bytearray(), array("i"), 0
    for batch in batches(groups, size):
        prompts = flat(batch)
        texts = [json.dumps([p.key, p.messages], ensure_ascii=False).encode() for p in prompts]
        digests += hashlib.blake2b(b"\n".join(texts), digest_size=16).digest()
        sizes.append(len(prompts))
        longest = max(longest, *map(len, texts))
    return Survey(bytes(digests), sizes, longest)


def make_part(
    task: RatingTask, part: range, stage: Stage, rater: "LocalRater", progress: Progress
) -> list[str]:
    """Rate some batches, as far as the stage's journal does not hold them yet; returns the name of the
    file with their rows. Batches are the same whatever was done before, and however they are cut into
    parts, so that the ratings are too."""
    from tqdm import tqdm

    rater = rater.configured(task.rate)
    _check_lengths(task, part, rater.tokenizer)
    journal = stage.journal()
    total, position = task.survey.prompts(part), 0
    progress(journal.count, total)
    with tqdm(
        total=total, desc=task.title, unit="prompt", disable=None, initial=journal.count
    ) as bar:
        for batch in _batches_of(task, part):
            after = position + sum(len(group) for group in batch)
            if after > journal.count:
                journal.cut(position)  # of a batch that was cut off, its beginning may be there
                _rate_batch(task, flat(batch), rater, journal)
                bar.update(after - position)
                progress(after, total)
            position = after
    return [stage.journal_as(task.file)]


def _rate_batch(
    task: RatingTask, prompts: Sequence[Prompt], rater: "LocalRater", journal: Journal
) -> None:
    outputs = getattr(rater, task.how)(prompts, scales(task.rubrics, prompts))
    journal.append(rating_row(p, o) for p, o in zip(prompts, outputs, strict=True))


class Made(NamedTuple):
    """A part that is finished."""

    cost: Cost
    here: bool  # by this process, now


def make_part_if_free(
    task: RatingTask, part: range, store: Store, rater: "LocalRater", progress: Progress
) -> Made | None:
    """A part as a stage of its own in the whole's folder; None if another process is at it."""
    with part_store(task, store).stage_if_free("ratings", task.stage_inputs(part)) as stage:
        if stage is None:
            return None
        here = stage.files is None
        if here:
            meter, earlier = Meter(), stage.spent()
            names = make_part(task, part, stage, rater, progress)
            stage.commit(names, meter.read(1).after(earlier))
        return Made(stage.cost, here)


def part_store(task: RatingTask, store: Store) -> Store:
    """Where the parts of a stage are kept until they are joined: no other stage may have them."""
    return Store(store.folder("ratings", task.stage_inputs(task.whole)) / "parts")


def _check_lengths(task: RatingTask, part: range, tokenizer: Any) -> None:
    """Refuse prompts that leave no room to answer, before anything is rated."""
    from debiasdpo.raters.local import token_ids

    limit = task.config.model.max_length - task.rate.max_new_tokens
    empty = tuple({"role": role, "content": ""} for role in ("system", "user"))
    if task.survey.longest + len(token_ids(tokenizer, empty)) <= limit:
        return  # a token has a byte or more
    lengths = {
        p.key: len(token_ids(tokenizer, p.messages))
        for batch in _batches_of(task, part)
        for p in flat(batch)
    }
    beyond = [key for key, length in lengths.items() if length > limit]
    if beyond:
        longest = max(beyond, key=lambda key: lengths[key])
        raise UserError(
            f"{len(beyond)} of {len(lengths)} prompts are too long: {longest} has"
            f" {lengths[longest]} tokens, and model.max_length={task.config.model.max_length} leaves"
            f" {limit} beside rate.max_new_tokens={task.rate.max_new_tokens}. Raise"
            " model.max_length as far as the model allows, or give shorter documents (data.max_words)."
        )


def rating_row(prompt: Prompt, output: Output) -> dict[str, Any]:
    statement = prompt.statement
    return {
        "key": prompt.key,
        "document": prompt.document,
        "rubric": prompt.rubric,
        "category": statement and statement.category,
        "polarity": statement and statement.polarity,
        "statement": statement and statement.text,
        "repeat": prompt.repeat,
        "text": output.text,
        "rating": output.rating,
    }


def scales(rubrics: Mapping[str, Rubric], prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """Lowest and highest score of each prompt's rubric."""
    return [rubrics[p.rubric].scale for p in prompts]


def batches(groups: Groups, size: int) -> Iterator[list[Collection[Prompt]]]:
    """Groups one after the other, several in a batch while they have up to `size` prompts."""
    batch: list[Collection[Prompt]] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _batches_of(task: RatingTask, part: range) -> Iterator[list[Collection[Prompt]]]:
    return itertools.islice(batches(task.groups, task.rate.batch_size), part.start, part.stop)
