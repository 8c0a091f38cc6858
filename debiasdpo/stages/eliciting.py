"""Ask prompts that elicit, and have a judge label the replies: one row a prompt."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from debiasdpo.config.job import JobConfig
from debiasdpo.config.sameness import same_text
from debiasdpo.config.scale import Scale
from debiasdpo.elicitation.base import ElicitationPrompt, Labelled, settled_label
from debiasdpo.elicitation.judge import REFUSALS, judge_messages, read_label, second_look_messages
from debiasdpo.elicitation.options import messages_of
from debiasdpo.elicitation.prompts import Elicited, read_prompts
from debiasdpo.jobs.job import Job
from debiasdpo.prompts.rendering import Messages, Prompt
from debiasdpo.raters.base import Rater, Reply
from debiasdpo.stages.asking import ask
from debiasdpo.stages.elicitation import JUDGED, PROMPTS
from debiasdpo.stages.rating_task import RatingTask, index_prompts
from debiasdpo.stages.stage import Stage
from debiasdpo.storage.files import fingerprint, read_json, read_jsonl, write_json, write_jsonl

log = logging.getLogger(__name__)

NO_RUBRIC = ""
SCALES = {NO_RUBRIC: Scale(0, 1)}  # that a question must name, and that no text is read by
_JUDGEABLE = ("ok", "cut")  # states of replies that say something


@dataclass(frozen=True)
class Asked(Prompt):
    """An eliciting prompt as a rater gets it, or what the judge is asked of its reply."""

    of: ElicitationPrompt = field(kw_only=True)

    @property
    def key(self) -> str:
        return self.of.id


class Replied(NamedTuple):
    """A prompt and what came back."""

    prompt: ElicitationPrompt
    text: str
    status: str


def load_prompts(job: Job) -> Elicited:
    """prompts.jsonl: the prompts without an attack; what there is to say of them is logged."""
    config = job.config
    with job.store.stage(PROMPTS.store, PROMPTS.inputs(config)) as stage:

        def work() -> tuple[str, ...]:
            found = read_prompts(config.prompts)
            write_jsonl(stage.folder / "prompts.jsonl", map(asdict, found.prompts))
            write_json(stage.folder / "notes.json", dict(found.notes))
            return PROMPTS.outputs

        job.make(PROMPTS.title, stage, work)
        prompts = [ElicitationPrompt(**row) for row in read_jsonl(stage.folder / "prompts.jsonl")]
        notes = read_json(stage.folder / "notes.json")
    log.info(
        "prompts: %d in %d categories%s",
        len(prompts),
        len({prompt.category for prompt in prompts}),
        "".join(f"; {count} {note}" for note, count in notes.items()),
    )
    return Elicited(prompts, notes)


def elicit(
    job: Job,
    prompts: Sequence[ElicitationPrompt],
    replies: Stage,
    labels: Stage,
    weights: Path | None = None,
) -> list[Labelled]:
    """What the model answers, as it is (None) or as trained into `weights`, and the judge's labels of it; []
    where the job has no judge, or no attacks."""
    if not labels.needed(job.config):
        return []
    return judge_replies(job, reply(job, prompts, replies, weights), labels)


def reply(
    job: Job,
    prompts: Sequence[ElicitationPrompt],
    declared: Stage,
    weights: Path | None = None,
) -> list[Replied]:
    """A row a prompt, in their order."""
    asked = [(prompt, messages_of(prompt)) for prompt in prompts]
    file = ask_texts(job, declared, asked, reply_row, weights)
    rows = read_jsonl(file)
    return [Replied(p, row["reply"], row["status"]) for p, row in zip(prompts, rows, strict=True)]


def judge_replies(job: Job, replies: Sequence[Replied], declared: Stage) -> list[Labelled]:
    """The judge's labels of replies. A reply of which the service itself says that it refuses is one (R), and
    no other that failed is judged, nor one that was cut in the middle of a thought: it has no label."""
    asked = [
        (r.prompt, judge_messages(r.prompt.text, r.text))
        for r in replies
        if r.status in _JUDGEABLE and r.text.strip()
    ]
    rows = read_jsonl(ask_texts(job, declared, asked, label_row))
    judged = {row["key"]: row["label"] for row in rows}
    return [
        Labelled(r.prompt, r.text, r.status, settled_label(r.status, judged.get(r.prompt.id)))
        for r in replies
    ]


def look_again(job: Job, labelled: Sequence[Labelled], declared: Stage) -> list[Labelled]:
    """The same replies to attacked prompts, with refusals looked at again: those that misunderstood the
    prompt are M, and those of which the second look cannot be read have no label."""
    if not declared.needed(job.config):
        return list(labelled)
    again = [x for x in labelled if x.label == "R" and x.status in _JUDGEABLE]
    asked = [(x.prompt, second_look_messages(x.prompt.text, x.reply)) for x in again]
    rows = read_jsonl(ask_texts(job, declared, asked, second_look_row))
    seen = {row["key"]: row["label"] for row in rows}
    return [replace(x, label=seen.get(x.prompt.id, x.label)) for x in labelled]


def ask_texts(
    job: Job,
    declared: Stage,
    asked: Sequence[tuple[ElicitationPrompt, Messages]],
    row: Callable[[Prompt, Reply], dict[str, Any]],
    weights: Path | None = None,
) -> Path:
    """The file with a row for each question, of the model (`weights`: as trained) or of its judge."""
    config, rater = _who(job, declared, weights)
    groups = _groups(asked)
    inputs = declared.inputs(job.config, rater=dict(rater.identity))
    if (
        row is reply_row
    ):  # which tells more of a prompt than is asked, as it stands in the table now
        inputs["told"] = fingerprint([asdict(prompt) for prompt, _ in asked])
    task = RatingTask(
        config,
        declared.reading(job.config),
        declared.title,
        "text",
        groups,
        SCALES,
        weights,
        inputs,
        index_prompts(groups, config.batching.prompts),
        row,
    )
    job.asked[declared.title] = file = ask(job, task, rater)
    return file


def _who(job: Job, declared: Stage, weights: Path | None) -> tuple[JobConfig, Rater]:
    """Who is asked, and the job with it as its model."""
    if declared.title not in JUDGED:
        return job.config, job.rater(weights)
    config = job.config.of_judge
    assert config is not None
    return config, job.judge()


def _groups(asked: Sequence[tuple[ElicitationPrompt, Messages]]) -> list[list[Prompt]]:
    """The questions in groups of one; one that is there twice, word for word, is asked twice."""
    again: Counter[str] = Counter()
    groups: list[list[Prompt]] = []
    for prompt, messages in asked:
        said = same_text("\n".join(message["content"] for message in messages))
        groups.append([Asked(prompt.id, NO_RUBRIC, None, messages, again[said], of=prompt)])
        again[said] += 1
    return groups


def reply_row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    """A row of replies.jsonl and attacked_replies.jsonl."""
    assert isinstance(prompt, Asked)
    told = asdict(prompt.of)
    return {"key": told.pop("id"), **told, **_said(reply)}


def label_row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    """A row of labels.jsonl: `label` is null where the judge's reply has none."""
    return {"key": prompt.key, "label": read_label(reply.text), **_said(reply)}


def second_look_row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    """A row of second_look.jsonl: R or M."""
    return {"key": prompt.key, "label": read_label(reply.text, REFUSALS), **_said(reply)}


def text_row(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    """A row of translations.jsonl and translated_back.jsonl."""
    return {"key": prompt.key, **_said(reply)}


def _said(reply: Reply) -> dict[str, Any]:
    return {
        "thoughts": reply.thoughts,
        "reply": reply.text,
        "status": reply.status,
        "reason": reply.reason,
        **({} if reply.call is None else {"call": reply.call}),
    }
