"""What `debiasdpo replay` serves: tables of prompts and replies, a judge's labels in them, or the replies
that a finished audit of an endpoint was given."""

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from debiasdpo.config.model import EndpointConfig
from debiasdpo.config.sameness import same_text
from debiasdpo.config.shown import counted
from debiasdpo.documents.delimited import delimited_columns, rows_with
from debiasdpo.documents.files import files_below, is_hidden, passed_over
from debiasdpo.elicitation.base import LABELS
from debiasdpo.elicitation.judge import judge_messages, second_look_messages
from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import Run, open_run
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.jobs.run_folder import STATUS
from debiasdpo.raters.endpoint.rater import REPLIES, replies_folder
from debiasdpo.raters.endpoint.request import AGAIN, request_key
from debiasdpo.raters.endpoint.response import is_whole
from debiasdpo.raters.endpoint.serving import Answered, Body, chat_reply, failure
from debiasdpo.storage.files import user_path
from debiasdpo.storage.reading import read_rows

PROMPT, RESPONSE = "PROMPT", "RESPONSE"
_SHOWN = 80  # characters of a prompt in an error


class Recordings(Protocol):
    """Recorded replies."""

    models: list[str]
    told: str  # what there is, in a line

    def asked_by(self, url: str) -> str:
        """What a job is given for it to ask these replies, which are served at this URL."""

    def answer(self, body: Body, repeat: int | None = None) -> Answered:
        """The next reply to this request, an error where none is recorded."""


def open_recordings(paths: Sequence[str], judge: Sequence[str]) -> Recordings:
    """Of the folders or files at these paths. `judge`: columns with labels; none: replies are served.
    `UserError` where nothing there can be served."""
    folders = [user_path(path).absolute() for path in paths]
    runs = [folder for folder in folders if (folder / STATUS).is_file()]
    if not runs:
        return TableReplies(*_tables(folders), judge)
    if judge or len(folders) > 1:
        raise UserError(f"{runs[0]}: a run is served alone, with the replies that it was given")
    return RunReplies(open_run(runs[0], any_task=True))


class TableReplies:
    """Tables (CSV) with a row a reply. A prompt is found by what it says, white space aside; where it has
    several replies, they are given in the order of the tables, and then again from the first."""

    def __init__(self, files: Sequence[Path], others: Sequence[Path], judge: Sequence[str]) -> None:
        """`others`: what lies beside the tables, and is told to be passed over as tables are that lack the
        columns."""
        self.models = ["replay"]
        self._role = "judge" if judge else "model"
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()
        found: defaultdict[str, list[str]] = defaultdict(list)
        left_out = 0
        beside = [file.name for file in others]
        for file in files:
            pairs = _labels(file, judge) if judge else _replies(file)
            if pairs is None:
                beside.append(file.name)
                continue
            for asked, text in pairs:
                if text is None:
                    left_out += 1
                else:
                    found[same_text(asked)].append(text)
        self._replies = dict(found)
        kind = ("judgement", "judgements") if judge else ("reply", "replies")
        total = sum(map(len, found.values()))
        tables = len(files) + len(others) - len(beside)
        self.told = (
            f"{counted(total, *kind)} to {counted(len(found), 'prompt', 'prompts')} from"
            f" {counted(tables, 'table', 'tables')}"
        )
        self.told += "".join(
            f"; {count} {what}" for what, count in passed_over(beside, "PATH").items()
        )
        if several := sum(len(set(replies)) > 1 for replies in found.values()):
            those = counted(several, "prompt has", "prompts have")
            self.told += f"; {those} different ones, given in turn: serve one model's tables"
        if left_out:
            self.told += f"; {counted(left_out, 'row', 'rows')} without a label left out"
        if not found:
            columns = ", ".join((PROMPT, RESPONSE, *judge[:1]))
            looked_at = counted(len(files), "CSV file was", "CSV files were")
            raise UserError(
                f"no table there has anything to serve: {looked_at} looked at, for the columns {columns}"
            )

    def asked_by(self, url: str) -> str:
        role = self._role
        return f"{role}=endpoint {role}.base_url={url} {role}.name={self.models[0]}"

    def answer(self, body: Body, repeat: int | None = None) -> Answered:
        if body.get("logprobs"):
            return failure(
                400,
                "no_logprobs",
                "recorded tables hold texts alone; leave logprobs out, or set rate=text",
            )
        asked = same_text("\n".join(str(message["content"]) for message in body["messages"]))
        replies = self._replies.get(asked)
        if replies is None:
            shown = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}.."
            return failure(
                404, "prompt_not_recorded", f"no reply to this prompt is recorded: {shown!r}"
            )
        with self._lock:
            turn = self._turns[asked]
            self._turns[asked] += 1
        return chat_reply(body, replies[turn % len(replies)])


def _tables(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The tables there, and the other files of folders, but those that a system keeps for itself."""
    tables: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if not path.is_dir():
            tables.append(path)
            continue
        for file in sorted(files_below(path)):
            if not is_hidden(file):
                is_table = file.suffix.lower() == ".csv" and file.is_file()  # no link to nothing
                (tables if is_table else others).append(file)
    return _once(tables), _once(others)


def _once(files: Iterable[Path]) -> list[Path]:
    """By the names by which they are reached first."""
    found: dict[str, Path] = {}
    for file in files:
        found.setdefault(os.path.realpath(file), file)
    return list(found.values())


Pairs = Iterator[tuple[str, str | None]]  # what is asked, and the reply; None: there is none


def _replies(file: Path) -> Pairs | None:
    columns = (PROMPT, RESPONSE)
    if not set(columns) <= set(delimited_columns(file, columns)):
        return None
    return ((row[PROMPT], row[RESPONSE]) for _, row in rows_with(file, columns, "PATH"))


def _labels(file: Path, judge: Sequence[str]) -> Pairs | None:
    """What a judge is asked of each row's reply, and its label, in the first of the columns that is there.
    M is what it says when it looks at a refusal again."""
    there = delimited_columns(file, (PROMPT, RESPONSE, *judge))
    column = next((name for name in judge if name in there), None)
    if column is None or not {PROMPT, RESPONSE} <= set(there):
        return None
    columns = (PROMPT, RESPONSE, column)
    return _judgements((row for _, row in rows_with(file, columns, "PATH")), column)


def _judgements(rows: Iterable[Mapping[str, str]], column: str) -> Pairs:
    for row in rows:
        label, said = row[column].strip(), (row[PROMPT], row[RESPONSE])
        (first,) = judge_messages(*said)
        if label not in LABELS:
            yield first["content"], None
            continue
        yield first["content"], f"Label: {'R' if label == 'M' else label}"
        if label in ("R", "M"):
            (second,) = second_look_messages(*said)
            yield second["content"], f"Label: {label}"


class RunReplies:
    """The replies that a finished run was given by its endpoints, refusals of parameters among them: the same
    job with another `base_url` of each gets them all again, found by the whole request."""

    def __init__(self, run: Run) -> None:
        self._endpoints: list[tuple[str, dict[str, Any], list[int]]] = []
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.models = []
        count = 0
        endpoints = endpoints_of(run)
        self._keys = [f"{role}.base_url" for role in endpoints]
        for config in endpoints.values():
            records: dict[str, Any] = {}
            folder = replies_folder(cache_folder(run.config) / REPLIES, config)
            for file in sorted(folder.glob("*.jsonl")):
                for record in read_rows(file, {}, [])[0]:
                    key = record.get("key")
                    if key and (key not in records or is_whole(record)):
                        records[key] = record
            repeats = sorted({int(record["repeat"]) for record in records.values()})
            self._endpoints.append((config.base_url, records, repeats))
            self.models.append(config.name)
            count += len(records)
        replies = f"{counted(count, 'reply', 'replies')} of {', '.join(self.models)}"
        self.told = f"{replies}, kept with {run.folder.name}, its own among them"
        if not count:
            raise UserError(f"{run.folder}: no reply of an endpoint is kept with it")

    def asked_by(self, url: str) -> str:
        overrides = " ".join(f"{key}={url}" for key in self._keys)
        return f"the same job with {overrides} and another output_dir"

    def answer(self, body: Body, repeat: int | None = None) -> Answered:
        of_each = [_of_body(*endpoint, body) for endpoint in self._endpoints]
        told = [records[repeat] for records in of_each if repeat in records]
        if told:
            return Answered(int(told[0]["http"]), told[0]["response"])
        records = [record for found in of_each for record in found.values()]
        if not records:
            return failure(
                404,
                "request_not_recorded",
                "the run did not send this request; start the same job with the same names of models, seed"
                f" and settings, and nothing but {' and '.join(self._keys)} and output_dir changed",
            )
        turn_of = request_key("", dict(body), 0)
        with self._lock:
            turn = self._turns[turn_of]
            self._turns[turn_of] += 1
        record = records[turn % len(records)]
        return Answered(int(record["http"]), record["response"])


def _of_body(
    base_url: str, records: Mapping[str, Any], repeats: Sequence[int], body: Body
) -> dict[int, Any]:
    """Records of a request by its repeat, in the order in which they were asked for: that of the probe's
    second look (a repeat below 0) after the first."""
    first = request_key(base_url, dict(body), 0)
    keys = {0: first, AGAIN: f"{first}again"}
    keys |= {n: request_key(base_url, dict(body), n) for n in repeats if n > 0}
    return {repeat: records[key] for repeat, key in keys.items() if key in records}


def endpoints_of(run: Run) -> dict[str, EndpointConfig]:
    """The endpoints that a run asked, by their sections: its model's, and its judge's."""
    found = {"model": run.config.model, "judge": run.config.judge}
    return {role: config for role, config in found.items() if isinstance(config, EndpointConfig)}
