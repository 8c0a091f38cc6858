"""TalkMoves: annotated mathematics lessons (one workbook a lesson), cut into segments and scored.

A score follows from the experts' own annotation: the share of the teacher's (or the students')
sentences in a segment that carry one of a rubric's tags. `read` returns that share; `scale_scores`
turns it into points once the split is known, because the cuts are quantiles of the training part.
"""

import bisect
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from debiasdpo.config.data import TalkmovesConfig, TalkmovesRubric
from debiasdpo.config.sameness import normal_text
from debiasdpo.documents.base import Corpus, Document
from debiasdpo.documents.files import data_file, files_below, is_hidden, passed_over
from debiasdpo.documents.talkmoves_workbook import Sentence, lesson_series, read_sentences
from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path


def source_files(config: TalkmovesConfig) -> list[Path]:
    """All workbooks under `config.path`, sorted. `UserError` if there are none."""
    root = user_path(config.path)
    if not root.is_dir():
        raise UserError(
            f"data.path: no folder {root} (looked in {Path.cwd()}). Give the folder with the"
            " TalkMoves workbooks: data=talkmoves data.path=PATH"
        )
    files = [data_file(str(p), "data.path") for p in files_below(root) if _is_workbook(p)]
    if not files:
        raise UserError(
            f"data.path: no .xlsx workbook in {root} or its subfolders. Give the folder that the"
            " TalkMoves data was unpacked to."
        )
    return sorted(files)


def read(config: TalkmovesConfig) -> Corpus:
    """All segments of all lessons, sorted by id (`WORKBOOK#NUMBER`), grouped by lesson series.

    `Document.scores` holds rates between 0 and 1, not yet points: see `scale_scores`.
    `UserError` for a workbook that cannot be read or lacks a column.
    """
    root = user_path(config.path)
    files = source_files(config)
    groups = lesson_series([path.stem for path in files])
    beside = [path.name for path in files_below(root) if not _is_workbook(path)]
    notes: Counter[str] = Counter(passed_over(beside, "data.path"))
    documents = []
    for path in files:
        sentences = read_sentences(path, notes)
        name = path.relative_to(root).with_suffix("").as_posix()
        for number, segment in enumerate(_segments(sentences, config, notes), 1):
            scores = {
                rubric_name: rate
                for rubric_name, rubric in sorted(config.rubrics.items())
                if (rate := _rate(segment, rubric, config.min_sentences)) is not None
            }
            notes["segments without a score on some rubric"] += len(scores) < len(config.rubrics)
            document_id = f"{name}#{number:03d}"
            documents.append(Document(document_id, groups[path.stem], _text(segment), scores))
    if not documents:
        raise UserError(
            f"data.path: {len(files)} workbooks in {root}, but no segment of {config.min_words}"
            " words or more. Lower data.min_words."
        )
    documents.sort(key=lambda document: document.id)
    return Corpus(tuple(documents), dict(config.rubrics), dict(sorted((+notes).items())))


def _is_workbook(path: Path) -> bool:
    return path.suffix.lower() == ".xlsx" and not is_hidden(path)


def scale_scores(corpus: Corpus, ids: Collection[str]) -> Corpus:
    """Replace the rates of `corpus` by levels of each rubric's scale.

    The scale is cut so that the documents in `ids` (all of the training part, before any limit; where
    there is none, all documents) fall on its levels in equal numbers, from the lowest rate upwards. Equal
    rates share a level, so a frequent rate (0, mostly) may fill its level with more than an equal part;
    what lies above is spread evenly over the levels left, and the highest ends on the highest. A higher
    rate never gets a lower score. `UserError` if fewer of these documents have a rate than the scale has
    levels.
    """
    wanted = frozenset(ids)
    cuts = {}
    levels_of = {name: rubric.scale.levels for name, rubric in corpus.rubrics.items()}
    for name, rubric in corpus.rubrics.items():
        levels = len(rubric.scale.levels)
        rates = [
            document.scores[name]
            for document in corpus.documents
            if document.id in wanted and name in document.scores
        ]
        if len(rates) < levels:
            raise UserError(
                f"data.rubrics.{name}: only {len(rates)} segments to set a scale of {levels} levels by."
                " Raise data.split.train, or lower data.min_sentences."
            )
        cuts[name] = _cuts(rates, levels)
    return replace(
        corpus,
        documents=tuple(
            replace(
                document,
                scores={
                    name: levels_of[name][bisect.bisect_left(cuts[name], rate)]
                    for name, rate in document.scores.items()
                },
            )
            for document in corpus.documents
        ),
    )


def _cuts(rates: Iterable[float], levels: int) -> list[float]:
    """Highest rate of each level but the last: ascending, `levels - 1` of them, or none at all.

    A level that nothing is left for has the cut of the one before it, so that no score falls there.
    """
    rest = sorted(rates)
    cuts: list[float] = []
    for levels_left in range(levels, 1, -1):
        top = rest[math.ceil(len(rest) / levels_left) - 1]
        if top == rest[-1]:  # the highest rate fills all the levels left: cut right below it
            below = bisect.bisect_left(rest, top)
            if not below:
                break
            top = rest[below - 1]
        cuts.append(top)
        rest = rest[bisect.bisect_right(rest, top) :]
    return cuts + cuts[-1:] * (levels - 1 - len(cuts))  # the highest rates get the highest score


def _segments(
    sentences: Sequence[Sentence], config: TalkmovesConfig, notes: Counter[str]
) -> Iterator[list[Sentence]]:
    """Cut a lesson into segments of whole turns, each `min_words` to `max_words` long.

    A turn that would leave a segment too short is cut between two sentences instead. Only a single
    sentence longer than the room left makes a segment longer than `max_words`.
    """
    segment: list[Sentence] = []
    words = 0
    for turn in _turns(sentences):
        if words >= config.min_words and words + _words(turn) > config.max_words:
            yield segment
            segment, words = [], 0
        for sentence in turn:
            if words >= config.min_words and words + _words([sentence]) > config.max_words:
                yield segment
                segment, words = [], 0
            segment.append(sentence)
            words += _words([sentence])
    if words >= config.min_words:
        yield segment
    elif segment:
        notes["ends of lessons below min_words"] += 1


def _turns(sentences: Iterable[Sentence]) -> Iterator[list[Sentence]]:
    turn: list[Sentence] = []
    for sentence in sentences:
        if turn and turn[0].turn != sentence.turn:
            yield turn
            turn = []
        turn.append(sentence)
    if turn:
        yield turn


def _words(sentences: Iterable[Sentence]) -> int:
    return sum(len(sentence.text.split()) for sentence in sentences)


def _text(segment: Sequence[Sentence]) -> str:
    """One line a turn: `Teacher: ...`."""
    lines = (
        f"{turn[0].label}: {' '.join(sentence.text for sentence in turn)}"
        for turn in _turns(segment)
    )
    return normal_text("\n".join(lines))


def _rate(segment: Iterable[Sentence], rubric: TalkmovesRubric, min_sentences: int) -> float | None:
    """Share of the side's tagged sentences with one of the rubric's tags; None if too few."""
    tags = [s.tag for s in segment if s.role == rubric.speaker and s.tag is not None]
    if len(tags) < min_sentences:
        return None
    return sum(tag in rubric.tags for tag in tags) / len(tags)
