"""Rate some of the prompts of a stage, in this process or in another, resuming after a kill.

Prompts and rows are gone through one after the other and never all kept, so that memory does not grow
with their number.
"""

import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from debiasdpo.cluster.threads import ONE_THREAD, Threads, in_order
from debiasdpo.config.job import JobConfig
from debiasdpo.config.rate import RateConfig
from debiasdpo.config.scale import Scale
from debiasdpo.costs import Cost, Meter
from debiasdpo.prompts.contexts import Statement
from debiasdpo.prompts.rendering import Prompt, Twins, flat, place, twins
from debiasdpo.raters.base import (
    REASONING,
    Question,
    Rater,
    Reply,
    Wanted,
    rated,
    threads_of,
)
from debiasdpo.stages.asked import Groups
from debiasdpo.storage.files import Progress
from debiasdpo.storage.journal import Journal
from debiasdpo.storage.store import OpenStage, Store

Item = TypeVar("Item")


@dataclass(frozen=True)
class PromptIndex:
    """What is known of prompts before they are rated, by batch: `batches` always makes the same batches."""

    digests: bytes  # 16 of each batch, of its prompts
    sizes: "array[int]"  # prompts of each batch
    longest: int  # bytes of the longest prompt
    twins: Sequence[Twins]  # the first of each statement in each place

    @property
    def whole(self) -> range:
        """All batches."""
        return range(len(self.sizes))

    def prompts(self, part: range) -> int:
        """How many there are in some batches."""
        return sum(self.sizes[part.start : part.stop])

    def fingerprint(self, part: range) -> str:
        """Of the prompts of some batches."""
        digests = self.digests[16 * part.start : 16 * part.stop]
        return hashlib.sha256(digests).hexdigest()[:16]


def index_prompts(groups: Groups, size: int) -> PromptIndex:
    """Go through all prompts once. `size`: prompts of a batch."""
    digests, sizes, longest = bytearray(), array("i"), 0
    found: dict[tuple[Statement, object], Twins | None] = {}
    for batch in batches(groups, size):
        prompts = flat(batch)
        texts = [json.dumps([p.key, p.messages], ensure_ascii=False).encode() for p in prompts]
        digests += hashlib.blake2b(b"\n".join(texts), digest_size=16).digest()
        sizes.append(len(prompts))
        longest = max(longest, *map(len, texts))
        neutral = {(p.document, p.rubric): p for p in prompts if p.statement is None}
        for p in prompts:
            plain = neutral.get((p.document, p.rubric))
            if plain is not None and p.statement is not None:
                key = p.statement, place(plain.messages, p.messages)
                if key not in found:
                    found[key] = twins(plain.messages, p.messages)
    return PromptIndex(bytes(digests), sizes, longest, list(filter(None, found.values())))


def rating_row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    statement = prompt.statement
    return {
        "key": prompt.key,
        "document": prompt.document,
        "rubric": prompt.rubric,
        "category": statement and statement.category,
        "polarity": statement and statement.polarity,
        "statement": statement and statement.text,
        "repeat": prompt.repeat,
        "thoughts": reply.thoughts,
        "text": reply.text,
        "rating": reply.rating,
        "status": reply.status,
        "reason": reply.reason,
        **({"cut": True} if reply.cut else {}),
        **({} if reply.call is None else {"call": reply.call}),
    }


@dataclass(frozen=True)
class RatingTask:
    """All that a process needs to rate some batches of a stage's prompts; it can be sent to other
    processes."""

    config: JobConfig
    reading: RateConfig
    title: str
    wanted: Wanted
    groups: Groups
    scales: Mapping[str, Scale]  # by rubric
    weights: Path | None
    inputs: Mapping[str, object]  # of the stage, less the prompts
    index: PromptIndex
    row: Callable[[Prompt, Reply], dict[str, Any]] = rating_row

    @property
    def file(self) -> str:
        return f"{self.title}.jsonl"

    @property
    def written(self) -> bool:
        """Whether it is for the configured writer: the reasoning of pairs."""
        return self.wanted in REASONING

    @property
    def whole(self) -> range:
        """All batches."""
        return self.index.whole

    def parts(self, count: int) -> list[range]:
        """The batches in up to `count` parts of neighbours."""
        n = len(self.whole)
        ends = sorted({(i + 1) * n // count for i in range(count)})
        return [range(start, end) for start, end in itertools.pairwise([0, *ends]) if end > start]

    def stage_inputs(self, part: range) -> dict[str, object]:
        """What decides the ratings of a part, however it was cut."""
        return {**self.inputs, "prompts": self.index.fingerprint(part)}

    def batches(self, part: range) -> Iterator[list[Collection[Prompt]]]:
        every = batches(self.groups, self.config.batching.prompts)
        return itertools.islice(every, part.start, part.stop)


def make_part(
    task: RatingTask, part: range, stage: OpenStage, rater: Rater, progress: Progress
) -> list[str]:
    """Rate some batches, as far as the stage's journal does not hold them yet; returns the name of the
    file with their rows. Batches are the same whatever was done before, and however they are cut into
    parts, so that the ratings are too."""
    every = (q for batch in task.batches(part) for q in questions_of(flat(batch), task.scales))
    rater.check(every, task.index.twins, task.index.longest, task.reading)

    def rows(prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
        return _rate_batch(task, prompts, rater)

    total = task.index.prompts(part)
    threads = threads_of(rater, task.wanted, task.reading)
    in_batches(task.batches(part), total, stage.journal(), task.title, progress, rows, threads)
    return [stage.journal_as(task.file)]


def in_batches(
    every: Iterable[Sequence[Collection[Item]]],
    total: int,
    journal: Journal,
    title: str,
    progress: Progress,
    rows: Callable[[Sequence[Item]], Iterable[Mapping[str, Any]]],
    threads: Threads = ONE_THREAD,
) -> None:
    """Add the `rows` of each batch to the journal, one a prompt (or whatever stands for one), as far as it
    does not hold them yet. `every`: the batches, the same each time; `total`: their prompts. `threads`: in
    which `rows` is called."""
    progress(journal.count, total)

    def unfinished() -> Iterator[tuple[int, list[Item]]]:
        """Each with the number of prompts before it."""
        position, done = 0, journal.count
        for batch in every:
            after = position + sum(len(group) for group in batch)
            if after > done:
                yield position, flat(batch)
            position = after

    def work(batch: tuple[int, list[Item]]) -> list[Mapping[str, Any]]:
        return list(rows(batch[1]))

    with tqdm(total=total, desc=title, unit="prompt", disable=None, initial=journal.count) as bar:
        for (position, batch), found in in_order(unfinished(), work, threads):
            journal.cut(position)  # of a batch that was cut off, its beginning may be there
            journal.append(found)
            bar.update(position + len(batch) - bar.n)
            progress(position + len(batch), total)


def _rate_batch(
    task: RatingTask, prompts: Sequence[Prompt], rater: Rater
) -> Iterator[dict[str, Any]]:
    """A row for each prompt."""
    replies = rater.reply(questions_of(prompts, task.scales), task.wanted, task.reading)
    if task.wanted != "text":
        replies = [rated(reply) for reply in replies]
    return (task.row(p, reply) for p, reply in zip(prompts, replies, strict=True))


class Made(NamedTuple):
    """A part that is finished."""

    cost: Cost
    here: bool  # by this process, now


def make_part_if_free(
    task: RatingTask, part: range, store: Store, rater: Rater, progress: Progress
) -> Made | None:
    """Make a part, as a stage of its own beside the whole; None if another process is making it."""
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


def questions_of(prompts: Sequence[Prompt], scales: Mapping[str, Scale]) -> list[Question]:
    """The prompts as a rater gets them."""
    return [Question(p.key, p.messages, scales[p.rubric], p.rubric, p.repeat) for p in prompts]


def reply_of(row: Mapping[str, Any]) -> Reply:
    """The reply that a row of `rating_row` holds."""
    text, rating, status, reason = (row[name] for name in ("text", "rating", "status", "reason"))
    cut = row.get("cut", False)
    return Reply(text, rating, status, reason, row["thoughts"], call=row.get("call"), cut=cut)


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
