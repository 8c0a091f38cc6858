"""TalkMoves workbooks as published: who says what, in which turn, with which tag; whose lesson."""

import datetime
import difflib
import importlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from debiasdpo.config.sameness import same_text
from debiasdpo.errors import UserError

Role = Literal["teacher", "student", "other"]


@dataclass(frozen=True)
class Sentence:
    """One row of a workbook. `tag` is the leading digit of the speaker's own tag, None without."""

    role: Role
    label: str  # "Teacher", "Student", "Students" or "Other"
    turn: tuple[str, str]  # rows with an equal turn, one after the other, are one turn
    text: str
    tag: int | None


def lesson_series(stems: Iterable[str]) -> dict[str, str]:
    """File name without extension -> lesson series, which is the group: its parts share a teacher.

    A series is the name's letters without part number, grade and the collection's name; names that
    differ by a slip of the pen are one series. `TalkBack.Year1.Davies.Fall.100319` is `davies`.
    """
    groups: dict[str, str] = {}
    series: list[list[str]] = []
    for stem in sorted(stems):
        teacher = re.match(r"talkback\.year\d+\.([a-z]+)", stem.lower())
        if teacher:  # names of persons are not compared: Carter is not Parker
            groups[stem] = teacher[1]
            continue
        name = _series_name(stem)
        near = [group for group in series if any(_same_series(name, other) for other in group)]
        merged = sorted({name, *(other for group in near for other in group)})
        series = [group for group in series if group not in near] + [merged]
        groups[stem] = name
    canonical = {name: group[0] for group in series for name in group}
    return {stem: canonical.get(name, name) for stem, name in groups.items()}


_NOT_SERIES = re.compile(
    r"\bcopy of\b|\bvideo mos(?:ai|ia)c\b|\btranscript\b|\b(?:grade|pt|part) ?\d+\b"
    r"|\bpart [a-z]\b|\b(?:\d+(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth) grade\b"
)


def _series_name(stem: str) -> str:
    words = re.sub(r"[\W_]+", " ", same_text(stem).lower())
    return re.sub(r"[\d ]", "", _NOT_SERIES.sub(" ", words)) or words.strip()


def _same_series(name: str, other: str) -> bool:
    if min(len(name), len(other)) < 8:  # one letter is the country in "mathau", "mathus"
        return name == other
    return difflib.SequenceMatcher(None, name, other).ratio() >= 0.9


def read_sentences(path: Path, notes: Counter[str]) -> list[Sentence]:
    """The usable rows of one workbook, in order; the others are counted in `notes`."""
    rows = _rows(path, notes)
    tagged = Counter[tuple[str, bool]]()
    for row in rows:
        # A teacher's tag 7 (context) stands on what a *student* said, so it does not tell.
        of_teacher = row["student tag"] is None and row["teacher tag"] not in (None, 7)
        if of_teacher or row["student tag"] is not None:
            tagged[row["speaker"], of_teacher] += 1
    sentences = []
    turn = ""
    for row in rows:
        turn = row["turn"] or turn
        speaker = row["speaker"]
        if not re.search(r"\w", row["sentence"]):
            notes["rows without words"] += 1
            continue
        if not speaker and row["teacher tag"] is None and row["student tag"] is None:
            notes["rows without speaker and tag"] += 1  # scene notes, figures, time stamps
            continue
        role, label = _role(speaker, tagged[speaker, True] > tagged[speaker, False])
        tag = row[f"{role} tag"] if role != "other" else None
        notes["sentences without a tag of their speaker"] += role != "other" and tag is None
        sentences.append(Sentence(role, label, (speaker, turn), row["sentence"], tag))
    return sentences


_TEACHER = re.compile(r"t ?\d*|teacher|(?:mr|mrs|ms|miss|dr)\b.*")

_STUDENT = re.compile(r"s ?\d*|sn|student ?\d*")

_STUDENTS = re.compile(r"\b(?:ss|students|class|all|both|everyone|group|team|children|and)\b")

_OTHER = re.compile(r"o|.*\b(?:video|record\w*|machine|automated|computer|ivr|intercom|voice)\b.*")


def _role(speaker: str, tagged_as_teacher: bool) -> tuple[Role, str]:
    """Who speaks, and the label in the text. A bare name is told by the tags it carries mostly."""
    if _OTHER.fullmatch(speaker):
        return "other", "Other"
    if _TEACHER.fullmatch(speaker):
        return "teacher", "Teacher"
    if _STUDENTS.search(speaker):
        return "student", "Students"
    if tagged_as_teacher and not _STUDENT.fullmatch(speaker):
        return "teacher", "Teacher"
    return "student", "Student"


def _rows(path: Path, notes: Counter[str]) -> list[dict[str, Any]]:
    """Non-empty rows of the sheet with the lesson: text by column name, tags as digit or None. Other sheets
    that hold anything are counted in `notes`."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError as error:
        raise UserError(
            "data=talkmoves reads .xlsx workbooks with openpyxl, which is not installed."
            " Install it: pip install openpyxl"
        ) from error
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheets = []
            for sheet in workbook.worksheets:
                sheet.reset_dimensions()  # the size written in the file is often wrong
                sheets.append(list(sheet.iter_rows(values_only=True)))
        finally:
            workbook.close()
    except (
        Exception
    ) as error:  # a damaged file shows as almost any exception of zip, XML or openpyxl
        raise UserError(
            f"{path}: not a readable workbook ({type(error).__name__}: {error})."
            " Download it again, or remove it from the folder."
        ) from error
    headers = []
    for rows in sheets:
        header = [same_text(_plain(cell)).lower() for cell in rows[0]] if rows else []
        missing = [
            name for name in ("sentence", "teacher tag", "student tag") if name not in header
        ]
        if not missing:
            columns = {name: header.index(name) for name in header if name}
            # A few workbooks misspell "Speaker"; it is always the column before the sentence.
            columns.setdefault("speaker", columns["sentence"] - 1)
            others = (other for other in sheets if other is not rows)
            filled = (any(map(_plain, itertools.chain.from_iterable(other))) for other in others)
            notes["sheet(s) passed over beside the lesson's"] += sum(filled)
            return [_record(row, columns) for row in rows[1:] if any(map(_plain, row))]
        headers.append(", ".join(filter(None, header)) or "nothing")
    raise UserError(
        f"{path}: no sheet has the columns Speaker, Sentence, Teacher Tag and Student Tag in row 1"
        f" (found: {' | '.join(headers) or 'no sheet'}). Name the columns so, or remove the file."
    )


def _record(row: Sequence[object], columns: Mapping[str, int]) -> dict[str, Any]:
    cells = {
        name: row[columns[name]] if columns.get(name, len(row)) < len(row) else None
        for name in ("turn", "speaker", "sentence", "teacher tag", "student tag")
    }
    record: dict[str, Any] = {name: _plain(cell) for name, cell in cells.items()}
    # A number or a time as speaker is a time stamp that slipped one column to the right.
    speaker = record["speaker"] if isinstance(cells["speaker"], str) else ""
    record["speaker"] = re.sub(r"[\s:`]+", " ", speaker).strip().lower()
    for name, last in (("teacher tag", 9), ("student tag", 5)):
        digit = re.match(rf"([1-{last}])(?!\d)", record[name])
        record[name] = int(digit[1]) if digit else None
    return record


def _plain(cell: object) -> str:
    """A cell as one line of text. Spreadsheets turn a spoken 3/4 into a date and 12 into 12.0."""
    if cell is None:
        return ""
    if isinstance(cell, datetime.date):
        return f"{cell.month}/{cell.day}"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return " ".join(str(cell).split())
