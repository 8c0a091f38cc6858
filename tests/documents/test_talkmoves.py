"""Messy workbooks as published: what is read, what is left out, how it is cut and scored."""

import datetime
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.data import TalkmovesConfig, TalkmovesRubric
from debiasdpo.documents.base import Corpus, Document
from debiasdpo.documents.corpus import open_corpus, write
from debiasdpo.documents.talkmoves import _segments, read, scale_scores, source_files
from debiasdpo.documents.talkmoves_workbook import Sentence, lesson_series
from debiasdpo.errors import UserError

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "talkmoves"
HEADER = (None, "TimeStamp", "Turn", "Speaker", "Sentence", "Teacher Tag", "Student Tag")
Row = Sequence[object]


def preset(path: Path, **changes: Any) -> TalkmovesConfig:
    values = yaml.safe_load((ROOT / "conf/data/talkmoves.yaml").read_text())
    return TalkmovesConfig.model_validate(values | {"path": str(path)} | changes)


def workbook(path: Path, rows: Sequence[Row], header: Row = HEADER) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (header, *rows):
        sheet.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def row(
    turn: object, speaker: object, text: object, teacher: object = None, student: object = None
) -> Row:
    return (0, None, turn, speaker, text, teacher, student)


def read_all(path: Path, **changes: Any) -> Corpus:
    return read(preset(path, **{"min_words": 1, "min_sentences": 1} | changes))


def test_rows_become_labelled_turns_without_tags_or_names(tmp_path: Path) -> None:
    workbook(
        tmp_path / "Towers 2_Grade 4.xlsx",
        [
            row(1, "T", "How tall\nis it?", "8 - preS for  accuracy"),
            row(1, "T", "Anyone?", "2 - keeping SS together"),
            row(2, " Erik: ", "Four, I counted.", "7 - context", "4 - making a cDavid"),
            row(3, "SS", "Four!", None, "4 - making a claim"),
            row(4, "Video", "Welcome to the lesson.", "1 - none"),
            row(5, "Ms. Kay", "Why?", "9 - press for reasoning"),
            row(6, "Dana", "Because.", None, 5),
        ],
    )
    (document,) = read_all(tmp_path).documents
    assert document.id == "Towers 2_Grade 4#001"
    assert document.text.splitlines() == [
        "Teacher: How tall is it? Anyone?",
        "Student: Four, I counted.",
        "Students: Four!",
        "Other: Welcome to the lesson.",
        "Teacher: Why?",
        "Student: Because.",
    ]
    assert document.scores == {"reasoning_press": pytest.approx(2 / 3), "student_reasoning": 1.0}


def test_a_bare_name_is_the_teacher_if_tagged_so_mostly(tmp_path: Path) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [
            row(1, "Jason C", "Let us begin.", "1 - none"),
            row(2, "Romina", "Two.", None, "4 - making a claim"),
            row(3, "Jason C", "Two?", "8 - press for accuracy"),
            row(4, "Romina", "Yes.", "1 - none"),
            row(5, "Romina", "Two.", "7 - context", "1 - none"),
        ],
    )
    (document,) = read_all(tmp_path).documents
    labels = [line.split(":")[0] for line in document.text.splitlines()]
    assert labels == ["Teacher", "Student", "Teacher", "Student", "Student"]
    assert document.scores == {"reasoning_press": 0.5, "student_reasoning": 0.5}


def test_sheets_beside_the_lesson_are_counted(tmp_path: Path) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [row(1, "T", "Why?", "9 - press")],
        (*HEADER[:4], "Sentence\u200b", *HEADER[5:]),
    )
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    for header in (HEADER, ("Codes",), ()):
        book.create_sheet().append(list(header))
    book.save(tmp_path / "a.xlsx")
    corpus = read_all(tmp_path)
    assert len(list(corpus.documents)) == 1
    assert corpus.notes["sheet(s) passed over beside the lesson's"] == 2


def test_rows_that_hold_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [
            row(1, "T", ".", "1 - none"),
            row(1, "T", None, 128),
            row(1, None, "[Figure S-14-22]"),
            row(1, datetime.time(12, 8), "End of class."),
            (None,) * 7,
            row(1, "T", "Good.", "\\"),
            row(1, None, "And you?", "3 - getting students to relate"),
        ],
    )
    corpus = read_all(tmp_path)
    assert next(iter(corpus.documents)).text == "Teacher: Good.\nTeacher: And you?"
    assert corpus.notes == {
        "rows without words": 2,
        "rows without speaker and tag": 2,
        "segments without a score on some rubric": 1,
        "sentences without a tag of their speaker": 1,
    }


def test_cells_that_are_not_text_are_read_as_they_were_said(tmp_path: Path) -> None:
    said = [27, 14.0, 4.8, datetime.datetime(2020, 8, 10), True]
    workbook(tmp_path / "a.xlsx", [row(1, "S", cell, None, "4 - making a claim") for cell in said])
    assert next(iter(read_all(tmp_path).documents)).text == "Student: 27 14 4.8 8/10 True"


@pytest.mark.parametrize(
    "header",
    [
        (None, "TImeStamp", "turn", "S", "Sentence", "Teacher Tag", "Student Tag"),
        (None, "Video Length", "Turn", " speaker", "SENTENCE ", "Teacher  Tag", "Student Tag", "x"),
        (None, "SS", "TURN", "Speaker", "Sentence", "Teacher Tag", "Student Tag"),
    ],
)
def test_headers_spelled_otherwise(tmp_path: Path, header: Row) -> None:
    workbook(tmp_path / "a.xlsx", [row(1, "T", "Why?", "9 - press")], header)
    assert next(iter(read_all(tmp_path).documents)).scores == {"reasoning_press": 1.0}


def test_columns_may_start_at_the_left_and_other_sheets_are_passed_over(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    tags, lesson = book.active, book.create_sheet("lesson")
    assert tags is not None
    tags.append(["1 - None", None, "1 - None"])
    lesson.append(HEADER[1:])
    lesson.append([None, 1, "T/R1", "Why?", "9 - press"])
    book.save(tmp_path / "a.xlsx")
    assert next(iter(read_all(tmp_path).documents)).text == "Teacher: Why?"


WORD_COUNTS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=40)


@given(turns=WORD_COUNTS, limits=st.tuples(st.integers(1, 20), st.integers(0, 30)))
def test_segments_keep_every_word_in_order_within_the_limits(
    turns: list[tuple[int, int]], limits: tuple[int, int]
) -> None:
    config = preset(Path(), min_words=limits[0], max_words=limits[0] + limits[1])
    sentences = [
        Sentence("teacher", "Teacher", ("t", str(turn)), f"{number} " * words, 1)
        for number, (turn, words) in enumerate(turns)
    ]
    notes: Counter[str] = Counter()
    segments = list(_segments(sentences, config, notes))
    kept = [sentence for segment in segments for sentence in segment]
    assert kept == sentences[: len(kept)]
    rest = sum(len(sentence.text.split()) for sentence in sentences[len(kept) :])
    assert rest < config.min_words
    assert (rest > 0) == (notes.total() == 1)
    for segment in segments:
        words = [len(sentence.text.split()) for sentence in segment]
        assert sum(words) >= config.min_words
        assert sum(words) <= config.max_words or sum(words[:-1]) < config.min_words


def test_a_turn_is_cut_only_where_it_is_too_long(tmp_path: Path) -> None:
    rows = [row(1, "T", "one two three", "1 - none")] * 2
    rows += [row(2, "S", "four five", None, "1 - none")] * 2
    rows += [row(3, "T", "six seven eight", "1 - none")] * 4
    workbook(tmp_path / "a.xlsx", rows)
    corpus = read_all(tmp_path, max_words=9, min_words=4)
    assert [document.text for document in corpus.documents] == [
        "Teacher: one two three one two three",
        "Student: four five four five",
        "Teacher: six seven eight six seven eight six seven eight",
    ]
    assert corpus.notes["ends of lessons below min_words"] == 1


def test_too_few_sentences_give_no_score(tmp_path: Path) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [row(1, "T", "Why?", "9 - press")] * 2 + [row(2, "S", "Well.", None, "1 - none")],
    )
    assert next(iter(read_all(tmp_path, min_sentences=2).documents)).scores == {
        "reasoning_press": 1.0
    }


def test_parts_of_a_series_share_a_group() -> None:
    together = [
        {"HILLARY LEWIS-WOLFSEN pt1", "HILLARY LEWIS-WOLFSEN pt 6_", "HILLARY LEWIS-WOLFSON pt 8"},
        {"Fraction as Number 1_Grade 4", "Fraction as Number 6_Grade 4"},
        {"Number lines 1_grade 4", "number-lines 2_Grade 4"},
        {"Ladder problem 1_ Grade 7", "Ladder problem 7_Grade 7"},
        {"Video Mosaic 11th grade pizza", "Video Mosiac 11th grade pizza 2"},
        {"Video Mosaic Grade 6 1 variable 3", "Video Mosaic Grade 6 2 variables 12"},
        {"Math US1 transcript", "Math US4 transcript"},
        {"Math AU 2 transcript"},
        {"Jeffs group 2_first grade", "Jeffs group 3_first grade"},
        {"TalkBack.Year1.Davies.Fall.100319", "TalkBack.Year2.Davies.Spring.012721-1"},
        {"TalkBack.Year1.Carter.Spring.012220"},
        {"TalkBack.Year2.Parker.Fall.110320"},
        {"Grade 4 1"},
    ]
    groups = lesson_series(set().union(*together))
    assert all(len({groups[stem] for stem in stems}) == 1 for stems in together)
    assert len(set(groups.values())) == len(together)
    assert groups["TalkBack.Year1.Davies.Fall.100319"] == "davies"


def rates(values: Sequence[float]) -> Corpus:
    rubric = TalkmovesRubric(question="q", low=1, high=7, speaker="teacher", tags=[8])
    return Corpus(
        tuple(Document(str(i), "g", "t", {"r": value}) for i, value in enumerate(values)),
        {"r": rubric},
    )


SHARES = st.lists(st.fractions(0, 1, max_denominator=9).map(float), min_size=7, max_size=60)


@pytest.mark.slow
@given(train=SHARES, other=SHARES)
def test_scale_is_monotone_and_on_the_scale(train: list[float], other: list[float]) -> None:
    scaled = scale_scores(rates(train + other), {str(i) for i in range(len(train))})
    pairs = sorted(zip(train + other, (d.scores["r"] for d in scaled.documents), strict=True))
    assert all(score in range(1, 8) for _, score in pairs)
    assert all(low[1] <= high[1] for low, high in itertools.pairwise(pairs))
    assert len({score for _, score in pairs}) <= len({rate for rate, _ in pairs})


def test_scale_spreads_training_documents_evenly() -> None:
    scaled = scale_scores(rates([i / 70 for i in range(70)] + [2.0]), {str(i) for i in range(70)})
    scores = [document.scores["r"] for document in scaled.documents]
    assert scores == [float(1 + i // 10) for i in range(70)] + [7.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0] * 8 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1] * 8 + [2, 3, 4, 5, 6, 7]),  # mostly 0
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6] + [1.0] * 8, [1, 1, 2, 2, 3, 3] + [7] * 8),  # mostly 1
        ([0.5] * 7, [1] * 7),
        ([0.0] * 6 + [1.0], [1] * 6 + [7]),
    ],
)
def test_ties_share_a_level(values: list[float], expected: list[int]) -> None:
    scaled = scale_scores(rates(values), {str(i) for i in range(len(values))})
    assert [document.scores["r"] for document in scaled.documents] == expected


def test_scale_does_not_look_at_other_documents() -> None:
    train = {str(i) for i in range(7)}
    values = [i / 10 for i in range(7)]
    alone = scale_scores(rates([*values, 0.35]), train)
    crowd = scale_scores(rates([*values, 0.35, 0.9, 0.9, 0.9]), train)
    assert list(alone.documents) == list(crowd.documents)[:8]


def test_scale_needs_training_documents() -> None:
    with pytest.raises(UserError, match=r"rubrics\.r: only 2 segments.*split\.train"):
        scale_scores(rates([0.0, 0.1, 0.2]), {"0", "2"})


def test_without_a_training_part_all_documents_set_the_scale(tmp_path: Path) -> None:
    """As `debiasdpo audit` splits them."""
    for press in range(6):  # so many of six sentences
        tags = ["8 - press for accuracy"] * press + ["1 - none"] * (6 - press)
        rows = [row(i, "T", f"Sentence {i} of {press}.", tag) for i, tag in enumerate(tags)]
        workbook(tmp_path / f"lesson{'abcdef'[press]}.xlsx", rows)
    question = {"question": "How much?", "low": 1, "high": 3, "speaker": "teacher", "tags": [8]}
    config = preset(
        tmp_path, min_words=1, min_sentences=1, rubrics={"press": question},
        split={"train": 0.0, "validation": 0.0, "test": 1.0},
        limit={"train": None, "validation": None, "test": None},
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    write(config, 0, out)
    parts = open_corpus(out, config.rubrics).parts
    assert not parts["train"]
    assert sorted(d.scores["press"] for d in parts["test"]) == [1, 1, 2, 2, 3, 3]


def _nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "~$open.xlsx").write_bytes(b"lock")


def _damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "broken.xlsx").write_bytes(b"PK\x03\x04 no zip")


def _columns(folder: Path) -> None:
    workbook(folder / "other.xlsx", [("T", "Why?", 8)], ("Speaker", "Sentence", "Tag"))


def _link(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.xlsx").symlink_to("gone.xlsx")


def _short(folder: Path) -> None:
    workbook(folder / "a.xlsx", [row(1, "T", "Why?", "9 - press")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no folder .*data=talkmoves data.path=PATH"),
        (_nothing, "no .xlsx workbook"),
        (_damaged, "broken.xlsx: not a readable workbook"),
        (_columns, r"other.xlsx: no sheet has the columns .*\(found: speaker, sentence, tag\)"),
        (_link, "a.xlsx is a link to gone.xlsx, which does not exist"),
        (_short, r"no segment of 80 words.*data\.min_words"),
    ],
)
def test_bad_folders_are_explained(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        read(preset(tmp_path / "data"))


def test_links_are_followed_and_other_files_said(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    workbook(elsewhere / "b.xlsx", [row(1, "T", "Why?", "9 - press")])
    workbook(folder / "a.xlsx", [row(1, "T", "How?", "9 - press")])
    (folder / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)  # a circle
    for name in ("README.md", "._a.xlsx", "~$a.xlsx", "a.xls"):
        (folder / name).write_text("no workbook")
    corpus = read_all(folder)
    assert [document.id for document in corpus.documents] == ["a#001", "more/b#001"]
    said = "file(s) passed over in data.path (._a.xlsx, README.md, a.xls, ~$a.xlsx)"
    assert corpus.notes[said] == 4


def test_missing_openpyxl_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _short(tmp_path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match="pip install openpyxl"):
        read(preset(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"min_words": 300},
        {"rubrics": {}},
        {
            "rubrics": {
                "r": {"question": "q", "low": 1, "high": 7, "speaker": "student", "tags": [8]}
            }
        },
        {
            "rubrics": {
                "r": {"question": "q", "low": 1, "high": 7, "speaker": "teacher", "tags": []}
            }
        },
    ],
)
def test_configuration_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must not exceed|is empty|must be some of"):
        preset(Path(), **change)


def test_folders_are_searched_in_order_and_expand_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.xlsx", "sub/a.XLSX", "a.xlsx"):
        workbook(tmp_path / name, [])
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = [tmp_path / "a.xlsx", tmp_path / "b.xlsx", tmp_path / "sub/a.XLSX"]
    assert source_files(preset(Path("~"))) == expected


def test_a_lesson_of_two_names_is_in_one_part(tmp_path: Path) -> None:
    """As some of those that were published are; its series cannot be told from the names, and nobody can give
    it another group."""

    def lesson(number: int) -> list[Row]:
        said = (" ".join(f"word{number}x{turn}x{i}" for i in range(12)) for turn in range(9))
        return [row(i, "T", text, f"{1 + i % 9}") for i, text in enumerate(said)]

    out = tmp_path / "out"
    out.mkdir()
    for number, name in enumerate("ABCDEFGH"):
        workbook(tmp_path / f"in/{name} lesson.xlsx", lesson(number))
    # The same in other capitals, and with a sentence before it.
    again = [(*rest[:4], str(rest[4]).upper(), *rest[5:]) for rest in (list(r) for r in lesson(0))]
    workbook(tmp_path / "in/Quite another.xlsx", [row(-1, "T", "Good morning.", "1"), *again])
    few = {"min_words": 20, "max_words": 40, "min_sentences": 1}
    rubrics = {"pressing": preset(tmp_path).rubrics["reasoning_press"].model_dump() | {"high": 2}}
    config = preset(tmp_path / "in", **few, rubrics=rubrics)
    left_out = 0
    for seed in range(8):
        write(config, seed, out)
        corpus = open_corpus(out, config.rubrics)
        parts = {
            part: {word for d in documents for word in d.text.lower().split() if "0x" in word}
            for part, documents in corpus.parts.items()
        }
        for one, other in itertools.combinations(parts, 2):
            assert not {w for w in parts[one] & parts[other] if w.startswith("word0x")}
        notes = corpus.notes
        left_out += notes.get(
            "documents left out, since another part has them nearly word for word", 0
        )
    assert left_out


@pytest.mark.skipif(not REAL.is_dir(), reason="no TalkMoves workbooks beside the repository")
def test_real_workbooks(tmp_path: Path) -> None:
    # A part of the workbooks, and among them the oddest ones; all of them take twenty seconds.
    odd = ("CECILIO", "Comparing Fractions 2", "Ribbons", "Maher", "Mosiac", "Year2.Wolfram", "NL4")
    files = [path for path in source_files(preset(REAL)) if any(name in path.name for name in odd)]
    assert len(files) > 10
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    corpus = read(preset(tmp_path))
    ids = [document.id for document in corpus.documents]
    assert ids == sorted(set(ids))
    assert {id.rsplit("#")[0] for id in ids} == {f.stem for f in files}
    spoken = re.compile(r"(Teacher|Students?|Other): .*\w")
    for document in corpus.documents:
        assert all(spoken.match(line) for line in document.text.splitlines())
        assert not re.search(r"\d - (press|preS|keeping|making|providing|none)", document.text)
        assert all(0 <= rate <= 1 for rate in document.scores.values())
    scaled = scale_scores(corpus, ids)
    for name in corpus.rubrics:
        scores = [d.scores[name] for d in scaled.documents if name in d.scores]
        assert {*scores} == {1, 2, 3, 4, 5, 6, 7}
