"""NCTE: elementary mathematics lessons, cut into the chapters that raters scored by CLASS or MQI.

The transcripts have no time stamps. A chapter's text is its even share of the lesson's words, in
whole utterances. The files come by form from the data's owners; none of it is in this project.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debiasdpo.config.data import Instrument, NcteConfig
from debiasdpo.config.sameness import normal_text, same_name, same_text
from debiasdpo.config.scale import exact_mean
from debiasdpo.config.shown import counted
from debiasdpo.documents.base import Corpus, Document, scored_by
from debiasdpo.documents.cells import means_nothing, number_of, score_of
from debiasdpo.documents.columns import column_name
from debiasdpo.documents.delimited import delimited_columns, rows_with
from debiasdpo.documents.files import data_file
from debiasdpo.errors import UserError

_SHOWN = 20  # rows of another teacher, beyond which only their number is told

_LABELS = {"teacher": "Teacher", "student": "Student", "multiple students": "Students"}

_MISSING = frozenset({"998", "999"})  # the published codes for what is not scored
# What R and pandas write for a missing text. Not "none" or "null", which may be spoken.
_NO_TEXT = frozenset({"NA", "<NA>", "nan", "NaN"})


@dataclass(frozen=True)
class Lesson:
    """A transcript: its teacher and its utterances in order, each as a line `Teacher: ...`."""

    teacher: str
    lines: tuple[str, ...]


@dataclass
class Rated:
    """What one instrument says of one lesson."""

    chapters: int  # the highest CHAPNUM, scored or not: a gap is still a part of the lesson
    scores: dict[tuple[int, str, str], list[float]]  # (CHAPNUM, RATERID, rubric) -> scores


def source_files(config: NcteConfig) -> list[Path]:
    """Transcripts and score files of the rubrics in use, sorted. `UserError` names all absent."""
    wanted = {"data.transcripts": config.transcripts}
    for instrument, value in config.score_files.items():
        if value and any(rubric.file == instrument for rubric in config.used.values()):
            wanted[f"data.{instrument}_scores"] = value
    files, problems = set(), []
    for key, value in wanted.items():
        try:
            files.add(data_file(value, key))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return sorted(files)


def read(config: NcteConfig) -> Corpus:
    """A document per scored chapter (and rater), sorted by id, grouped by teacher (NCTETID).

    The id is `OBSID-CHAPNUM`. Where CLASS and MQI count a lesson's chapters differently, the two
    cut it at different places: the ids then end in `/class` or `/mqi`. With `raters: separate`
    follows `/rater=RATERID`; with `average`, a document's `experts` are in the order of RATERID.
    Rows of a chapter with the same RATERID, or without one, are one rater's, whose score is their
    mean. `UserError` with file, row and column for whatever is wrong.
    """
    source_files(config)
    notes: Counter[str] = Counter()
    lessons = _lessons(config, notes)
    others: list[str] = []
    rated = {
        instrument: _rated(config, instrument, lessons, notes, others)
        for instrument in sorted({rubric.file for rubric in config.used.values()})
    }
    _refuse_other_teachers(others)
    scored = {obsid for by_lesson in rated.values() for obsid in by_lesson}
    excluded = {str(obsid) for obsid in config.exclude_obsids}
    notes["scored lessons without a transcript"] = len(scored - set(lessons) - excluded)
    notes["transcripts without a scored chapter"] = len(set(lessons) - scored)
    documents: list[Document] = []
    for obsid in sorted(scored & set(lessons)):
        cuts: dict[int, dict[str, Rated]] = defaultdict(dict)
        for instrument, by_lesson in rated.items():
            if obsid in by_lesson:
                cuts[by_lesson[obsid].chapters][instrument] = by_lesson[obsid]
        notes["lessons that CLASS and MQI cut differently"] += len(cuts) > 1
        for chapters, by_instrument in cuts.items():
            suffix = "/" + "".join(by_instrument) if len(cuts) > 1 else ""
            scores: dict[tuple[int, str, str], list[float]] = {}
            for one in by_instrument.values():
                scores |= one.scores
            documents += _documents(
                obsid, suffix, lessons[obsid], Rated(chapters, scores), config, notes
            )
    if not documents:
        raise UserError(
            f"data.transcripts: no chapter of {config.transcripts} is scored. Check that the"
            f" files belong together; left out so far: {dict(+notes)}."
        )
    documents.sort(key=lambda document: document.id)
    return Corpus(tuple(documents), config.used, dict(sorted((+notes).items())))


def spread(words: Sequence[int], parts: int) -> list[int]:
    """Part (0 to `parts` - 1) of each utterance, given the utterances' lengths in words.

    Every part covers an equal stretch of the words; an utterance belongs to the part that its
    middle word falls in. Order is kept: the parts never decrease.
    """
    total = max(1, sum(words))
    before = 0
    result = []
    for count in words:
        # In halves of a word, so that integers decide and no rounding does.
        result.append(min(parts - 1, (2 * before + count) * parts // (2 * total)))
        before += count
    return result


def _documents(
    obsid: str, suffix: str, lesson: Lesson, rated: Rated, config: NcteConfig, notes: Counter[str]
) -> Iterator[Document]:
    """The chapters of one lesson that have text and a score."""
    lines: dict[int, list[str]] = defaultdict(list)
    part_of_line = spread([_words(line) for line in lesson.lines], rated.chapters)
    for line, part in zip(lesson.lines, part_of_line, strict=True):
        lines[part + 1].append(line)
    grouped: dict[tuple[int, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (chapter, rater, rubric), scores in sorted(rated.scores.items(), key=_by_rater):
        tail = f"/rater={rater}" if config.raters == "separate" else ""
        grouped[chapter, tail][rubric].append(exact_mean(scores))
    cut = set()
    for (chapter, tail), by_rubric in grouped.items():
        if not lines[chapter]:
            notes["scored chapters that no utterance falls into"] += 1
            continue
        kept = _capped(lines[chapter], config.max_words)
        if len(kept) < len(lines[chapter]):
            cut.add(chapter)
        yield Document(
            id=f"{obsid}-{chapter}{suffix}{tail}",
            group=lesson.teacher,
            text="\n".join(kept),
            **scored_by(by_rubric),
        )
    notes["chapters cut at max_words"] += len(cut)


def _by_rater(item: tuple[tuple[int, str, str], list[float]]) -> tuple[int, int, str, str]:
    """What scores are put in order by: CHAPNUM, then RATERID, where 9 comes before 12, then rubric."""
    (chapter, rater, rubric), _ = item
    return chapter, len(rater), rater, rubric


def _words(line: str) -> int:
    return len(line.split()) - 1  # the speaker's label was not said


def _capped(lines: list[str], max_words: int | None) -> list[str]:
    """The first lines of at most `max_words` words together, and never fewer than one line."""
    total = 0
    for index, line in enumerate(lines):
        total += _words(line)
        if max_words is not None and total > max_words and index:
            return lines[:index]
    return lines


def _lessons(config: NcteConfig, notes: Counter[str]) -> dict[str, Lesson]:
    path = data_file(config.transcripts, "data.transcripts")
    columns = ("OBSID", "NCTETID", "turn_idx", "speaker", "text")
    excluded = {str(obsid) for obsid in config.exclude_obsids}
    teachers: dict[str, str] = {}
    turns: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for where, cells in rows_with(path, columns, "data.transcripts"):
        obsid, teacher = _identifier(cells["OBSID"]), _identifier(cells["NCTETID"])
        speaker = re.sub(r" ?\d+$", "", same_text(cells["speaker"]).lower())  # "Student 1"
        label = _LABELS.get(speaker)
        text = " ".join(normal_text(cells["text"]).split())
        if obsid in excluded:
            notes["utterances of excluded lessons"] += 1
        elif not obsid or not teacher:
            notes["utterances without OBSID or NCTETID"] += 1
        elif label is None:
            notes["utterances without a known speaker"] += 1
        elif not text:
            notes["utterances without a text"] += 1
        elif text in _NO_TEXT:
            notes[f"utterances with a missing text ({text})"] += 1
        elif teachers.setdefault(obsid, teacher) != teacher:
            raise UserError(
                f"{where}, column NCTETID: {teacher}, but lesson {obsid} began with"
                f" {teachers[obsid]}. A lesson has one teacher: correct it, or add {obsid} to"
                " data.exclude_obsids, beside those that are there."
            )
        else:
            turn = _number(cells["turn_idx"], f"{where}, column turn_idx")
            turns[obsid].append((turn, f"{label}: {text}"))
    return {
        obsid: Lesson(
            teachers[obsid],
            tuple(line for _, line in sorted(lines, key=lambda turn_and_line: turn_and_line[0])),
        )
        for obsid, lines in turns.items()
    }


def _rated(
    config: NcteConfig,
    instrument: Instrument,
    lessons: Mapping[str, Lesson],
    notes: Counter[str],
    others: list[str],
) -> dict[str, Rated]:
    """Chapters and scores of every lesson in one score file, by OBSID. `others`: gets what there is to say of
    each row with a score whose teacher is not that of the lesson's transcript. From such a row without one
    nothing is taken, not even its CHAPNUM."""
    key = f"data.{instrument}_scores"
    path = data_file(config.score_files[instrument] or "", key)
    rubrics = {name: rubric for name, rubric in config.used.items() if rubric.file == instrument}
    columns = ("OBSID", "RATERID", "CHAPNUM", *(("SEGMENT",) if instrument == "mqi" else ()))
    if column_name("NCTETID") in delimited_columns(path, (*columns, *rubrics)):
        columns = (*columns, "NCTETID")
    result: dict[str, Rated] = {}
    # Rows without a RATERID of each lesson, chapter and rubric: of how many people they are is not known.
    unnamed: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for where, cells in rows_with(path, (*columns, *rubrics), f"{key} or data.rubrics"):
        obsid, rater = _identifier(cells["OBSID"]), _identifier(cells["RATERID"])
        if instrument == "mqi" and _identifier(cells["SEGMENT"]) != "1":
            notes["MQI rows that are not of a chapter"] += 1
            continue
        if not obsid or _missing(cells["CHAPNUM"]):
            notes[f"{instrument.upper()} rows without OBSID or CHAPNUM"] += 1
            continue
        chapter = _number(cells["CHAPNUM"], f"{where}, column CHAPNUM")
        if chapter < 1 or not chapter.is_integer():
            raise UserError(
                f"{where}, column CHAPNUM: {chapter:g}. Chapters count from 1; correct it, or"
                " leave the cell empty."
            )
        scores = {}
        for name, rubric in rubrics.items():
            if code := _missing(cells[name], rubric.low):
                notes[f"scores missing ({code})"] += 1
                continue
            score = score_of(cells[name], rubric, f"{where}, column {name}")
            assert score is not None
            scores[name] = score
        teacher = cells.get("NCTETID", "")
        own = lessons[obsid].teacher if obsid in lessons else ""
        if own and not _missing(teacher) and _identifier(teacher) != own:
            if scores:
                others.append(
                    f"{where}, column NCTETID: lesson {obsid} has teacher {_identifier(teacher)}, but"
                    f" {own} in {config.transcripts}."
                )
            else:
                notes[f"{instrument.upper()} rows of another teacher, without a score"] += 1
            continue
        lesson = result.setdefault(obsid, Rated(0, {}))
        lesson.chapters = max(lesson.chapters, int(chapter))
        for name, score in scores.items():
            lesson.scores.setdefault((int(chapter), rater, name), []).append(score)
            if not rater and obsid in lessons:
                unnamed[obsid, int(chapter), name].add(where)
    merged = {where for rows in unnamed.values() if len(rows) > 1 for where in rows}
    told = f"{instrument.upper()} rows of a chapter without a RATERID, taken as one rater's"
    notes[told] += len(merged)
    return {obsid: lesson for obsid, lesson in result.items() if lesson.scores}


def _refuse_other_teachers(others: Sequence[str]) -> None:
    """`UserError` if any row's teacher is not that of the lesson's transcript."""
    if not others:
        return
    told = list(others[:_SHOWN])
    if more := others[_SHOWN:]:
        told.append(f"... and {counted(len(more), 'more such row', 'more such rows')}.")
    cure = (
        "If the files number their lessons differently, the scores are of other lessons: give files that"
        " belong together. If a row is wrong, correct its NCTETID, or add its lesson to"
        " data.exclude_obsids, beside those that are there."
    )
    raise UserError("\n".join([*told, cure]))


def _identifier(cell: str) -> str:
    """An id as text: `2065` whether the file says 2065, " 2065", 2065.0 or 002065; empty where it says
    nothing."""
    return "" if means_nothing(cell) else same_name(cell)


def _missing(cell: str, low: float = 0) -> str:
    """The code of a cell that holds no score, such as 998 or -9; empty for one that does. `low`: the lowest
    score there is."""
    code = same_name(cell)
    if means_nothing(code) or code in _MISSING:
        return code or "blank"
    return code if low >= 0 and code.startswith("-") else ""


def _number(cell: str, where: str) -> float:
    number = number_of(same_text(cell))
    if number is None:
        raise UserError(
            f"{where}: {cell.strip()!r} is not a number. Correct it, or remove the row."
        )
    return number
