"""NCTE files in their published format: chapters, several raters, missing codes, bad input."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.data import NcteConfig
from debiasdpo.documents.base import Document
from debiasdpo.documents.ncte import read, source_files, spread
from debiasdpo.errors import UserError
from tests.helpers.ncte import CLASS_HEADER, MQI_HEADER, UTTERANCES, Cells, lesson, write

ROOT = Path(__file__).parents[2]
LESSON = lesson(
    7, 70,
    ("teacher", 'He said "three", then, well, four.'), ("student", "One two three."),
    ("multiple students", "Four!"), ("teacher", "Why is it four? Tell us."),
)  # fmt: skip


def preset(
    folder: Path,
    utterances: Sequence[Cells] = LESSON,
    class_rows: Sequence[Cells] | None = None,
    mqi_rows: Sequence[Cells] | None = None,
    **changes: Any,
) -> NcteConfig:
    values = yaml.safe_load((ROOT / "conf/data/ncte.yaml").read_text())
    path = write(folder / "single_utterances.csv", UTTERANCES, utterances, ",")
    values["transcripts"] = str(path)
    files = {
        "class": (class_rows, CLASS_HEADER, "36095-0001-Data.tsv"),
        "mqi": (mqi_rows, MQI_HEADER, "36095-0003-Data.tsv"),
    }
    for name, (rows, header, file) in files.items():
        if rows is not None:
            values[f"{name}_scores"] = str(write(folder / file, header, rows))
    if (class_rows is None) != (mqi_rows is None):
        only = "mqi" if class_rows is None else "class"
        values["use"] = [n for n, rubric in values["rubrics"].items() if rubric["file"] == only]
    return NcteConfig.model_validate(values | changes)


def by_id(config: NcteConfig) -> Mapping[str, Document]:
    documents = read(config).documents
    assert [d.id for d in documents] == sorted({d.id for d in documents})
    return {document.id: document for document in documents}


def test_both_files_score_the_same_chapters(tmp_path: Path) -> None:
    config = preset(
        tmp_path,
        class_rows=[(70, 7, 1, 1, 4, 1, 7, 2), (70, 7, 1, 2, 5, 1, 6, 998)],
        mqi_rows=[
            (70, 7, 3, 1, 1, 1, 2, 3, 1), (70, 7, 4, 1, 1, 2, 2, 3, 999),
            (70, 7, 3, 1, 2, 3, 3, 1, 1),
            (70, 7, 3, 0, 1, 3, 3, 3, 3), (70, 7, 3, 1, " ", 3, 3, 3, 3),
        ],
    )  # fmt: skip
    documents = by_id(config)
    assert documents["7-1"] == Document(
        "7-1",
        "70",
        'Teacher: He said "three", then, well, four.\nStudent: One two three.',
        {"CLPC": 4, "CLBM": 7, "CLINSTD": 2, "EXPL": 1.5, "REMED": 2, "LANGIMP": 3, "SMQR": 1},
        {"EXPL": (1, 2), "REMED": (2, 2), "LANGIMP": (3, 3)},
    )
    assert documents["7-2"].text == "Students: Four!\nTeacher: Why is it four? Tell us."
    assert documents["7-2"].scores.keys() == set(config.rubrics) - {"CLINSTD"}
    assert documents["7-2"].experts == {}
    assert not read(config).rubrics["LANGIMP"].high_is_good
    assert read(config).notes == {
        "MQI rows that are not of a chapter": 1,
        "MQI rows without OBSID or CHAPNUM": 1,
        "scores missing (998)": 1,
        "scores missing (999)": 1,
    }


def test_raters_may_be_kept_apart(tmp_path: Path) -> None:
    rows = [(70, 7, 12, 1, 1, 1, 2, 3, 1), (70, 7, 9, 1, 1, 3, 999, 1, 1)]
    config = preset(tmp_path, mqi_rows=rows, raters="separate")
    documents = by_id(config)
    assert documents["7-1/rater=12"].scores == {"EXPL": 1, "REMED": 2, "LANGIMP": 3, "SMQR": 1}
    assert documents["7-1/rater=9"].scores == {"EXPL": 3, "LANGIMP": 1, "SMQR": 1}
    assert len(documents) == 2
    assert len({document.text for document in documents.values()}) == 1
    assert not any(document.experts for document in documents.values())
    assert not config.several_raters


def test_each_raters_scores_are_kept_in_the_order_of_the_raters(tmp_path: Path) -> None:
    rows = [
        (70, 7, 12, 1, 1, 1, 2, 999, 1), (70, 7, 101, 1, 1, 2, 1, 3, 1),
        (70, 7, 9, 1, 1, 3, 999, 999, 1), (70, 7, "12.0", 1, 1, 2, 3, 999, 1),
    ]  # fmt: skip
    config = preset(tmp_path, mqi_rows=rows)
    (document,) = by_id(config).values()
    # Rater 12 scored twice, and is one rater with the mean of both.
    assert document.experts == {"EXPL": (3, 1.5, 2), "REMED": (2.5, 1), "SMQR": (1, 1, 1)}
    assert document.scores == {"EXPL": 6.5 / 3, "REMED": 1.75, "LANGIMP": 3, "SMQR": 1}
    assert config.several_raters


def test_rows_of_a_chapter_without_a_rater_are_counted(tmp_path: Path) -> None:
    note = "MQI rows of a chapter without a RATERID, taken as one rater's"
    unnamed = [
        (70, 7, "", 1, 1, 1, 2, 999, 1), (70, 7, " ", 1, 1, 3, 999, 999, 1),
        (70, 7, "NA", 1, 1, 999, 2, 3, 1),
    ]  # fmt: skip
    several = read(preset(tmp_path, mqi_rows=[*unnamed, (70, 7, 5, 1, 1, 2, 2, 3, 1)]))
    (document,) = several.documents
    assert document.experts["EXPL"] == (2, 2)
    assert several.notes[note] == 3
    # One in a chapter, or for a rubric, may be a rater.
    apart = [(70, 7, "", 1, 1, 1, 999, 3, 1), (70, 7, "", 1, 2, 1, 2, 3, 1),
             (70, 7, "", 1, 1, 999, 2, 999, 999), (70, 7, 5, 1, 1, 2, 2, 3, 1)]  # fmt: skip
    assert note not in read(preset(tmp_path, mqi_rows=apart)).notes
    # Nothing is taken from a lesson without a transcript.
    of_other = [(70, 8, *row[2:]) for row in unnamed]
    config = preset(tmp_path, class_rows=[GOOD], mqi_rows=of_other)
    assert note not in read(config).notes


def test_a_lesson_cut_differently_by_the_two_instruments(tmp_path: Path) -> None:
    config = preset(
        tmp_path,
        class_rows=[(70, 7, 1, 1, 4, 1, 7, 2)],
        mqi_rows=[(70, 7, 3, 1, 1, 1, 2, 3, 1), (70, 7, 3, 1, 2, 3, 3, 1, 1)],
    )
    documents = by_id(config)
    assert set(documents) == {"7-1/class", "7-1/mqi", "7-2/mqi"}
    assert len(documents["7-1/class"].text.splitlines()) == 4
    assert set(documents["7-1/class"].scores) == {"CLPC", "CLBM", "CLINSTD"}
    assert read(config).notes == {"lessons that CLASS and MQI cut differently": 1}


def test_a_chapter_without_a_row_keeps_its_part_of_the_lesson(tmp_path: Path) -> None:
    said = [("teacher", f"word{i}") for i in range(4)]
    rows = [(70, 7, 1, chapter, 4, 1, 7, 2) for chapter in (1, 4)]
    documents = by_id(preset(tmp_path, lesson(7, 70, *said), rows))
    assert {id: d.text for id, d in documents.items()} == {
        "7-1": "Teacher: word0",
        "7-4": "Teacher: word3",
    }


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    utterances = [
        *lesson(7, 70, ("teacher", "One."), ("unknown", "Two."), ("student", " ")),
        *lesson(2065, 70, ("teacher", "Out.")),
        *lesson(8, 71, ("teacher", "No scores.")),
        ("", "70", "", 0, "teacher", "Whose?", 1),
    ]
    rows: list[Cells] = [(70, 7, 1, chapter, 4, 1, 7, 2) for chapter in (1, 2)]
    rows += [(70, 2065, 1, 1, 4, 1, 7, 2), (72, 9, 1, 1, 4, 1, 7, 2), (70, 7, 1, 1, 6, 1, "", " ")]
    corpus = read(preset(tmp_path, utterances, rows))
    assert [document.id for document in corpus.documents] == ["7-2"]
    assert corpus.notes == {
        "scored chapters that no utterance falls into": 1,
        "scored lessons without a transcript": 1,
        "scores missing (blank)": 2,
        "transcripts without a scored chapter": 1,
        "utterances of excluded lessons": 1,
        "utterances without OBSID or NCTETID": 1,
        "utterances without a known speaker": 1,
        "utterances without a text": 1,
    }


def test_utterances_are_ordered_by_turn_and_ids_unified(tmp_path: Path) -> None:
    rows = [("7.0", "70.0", "", turn, "Teacher", f"at {turn}", 2) for turn in (10, 9, 2)]
    (document,) = by_id(preset(tmp_path, rows, [(70, 7, 1, 1, 4, 1, 7, 2)])).values()
    assert document.id == "7-1"
    assert document.group == "70"
    assert document.text.splitlines() == ["Teacher: at 2", "Teacher: at 9", "Teacher: at 10"]


def test_long_chapters_are_cut_at_whole_utterances(tmp_path: Path) -> None:
    config = preset(tmp_path, class_rows=[(70, 7, 1, 1, 4, 1, 7, 2)], max_words=9)
    corpus = read(config)
    assert [len(document.text.splitlines()) for document in corpus.documents] == [2]
    assert corpus.notes == {"chapters cut at max_words": 1}
    one = next(iter(read(config.model_copy(update={"max_words": 1})).documents))
    assert one.text.count("\n") == 0  # never fewer than one utterance


def test_other_columns_and_a_choice_of_rubrics(tmp_path: Path) -> None:
    rubric = {"question": "Cold?", "low": 1, "high": 7, "high_is_good": False, "file": "class"}
    rows = [(70, 7, 1, 1, 4, 2, 7, 2)]
    config = preset(tmp_path, class_rows=rows, rubrics={"CLNC": rubric}, use=None)
    corpus = read(config)
    assert next(iter(corpus.documents)).scores == {"CLNC": 2.0}
    assert set(corpus.rubrics) == {"CLNC"}
    assert source_files(config) == [
        tmp_path / "36095-0001-Data.tsv",
        tmp_path / "single_utterances.csv",
    ]


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 8))
def test_spreading_keeps_order_and_balance(words: list[int], parts: int) -> None:
    result = spread(words, parts)
    assert len(result) == len(words)
    assert result == sorted(result)
    assert all(part in range(parts) for part in result)
    longest = max(words, default=0)
    for part in range(parts):
        got = sum(count for count, where in zip(words, result, strict=True) if where == part)
        assert abs(got - sum(words) / parts) <= longest


def test_spreading_by_hand() -> None:
    assert spread([3, 3, 3, 3], 2) == [0, 0, 1, 1]
    assert spread([10, 1, 1, 1], 3) == [1, 2, 2, 2]
    assert spread([], 3) == []


GOOD = (70, 7, 1, 1, 4, 1, 7, 2)


@pytest.mark.parametrize(
    ("utterances", "rows", "message"),
    [
        (LESSON, [GOOD, (70, 7, 1, 2, 8, 1, 7, 2)], r"Data.tsv, row 3, column CLPC: 8 is off"),
        (LESSON, [(70, 7, 1, 1, "x", 1, 7, 2)], r"row 2, column CLPC: 'x' is not a number"),
        (LESSON, [(70, 7, 1, 0, 4, 1, 7, 2)], r"row 2, column CHAPNUM: 0\. Chapters count from 1"),
        (LESSON, [(70, 8, 1, 1, 4, 1, 7, 2)], r"no chapter of .* is scored.*'scored lessons"),
        (LESSON + lesson(7, 71, ("teacher", "Hm.")), [GOOD], r"row 6, column NCTETID: 71"),
        ([(7, 70, "", "b", "teacher", "Hm.", 1)], [GOOD], r"row 2, column turn_idx: 'b'"),
    ],
)
def test_bad_rows_are_explained(
    tmp_path: Path, utterances: list[Cells], rows: list[Cells], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(preset(tmp_path, utterances, rows))


def test_a_missing_column_is_named_with_the_closest(tmp_path: Path) -> None:
    rubric = {"question": "Cold?", "low": 1, "high": 7, "file": "class"}
    config = preset(tmp_path, class_rows=[GOOD], rubrics={"clinst": rubric}, use=None)
    with pytest.raises(UserError, match=r"no column 'clinst'.*CLPC.*Closest: 'CLINSTD'"):
        read(config)


def test_absent_files_are_explained(tmp_path: Path) -> None:
    config = preset(tmp_path, class_rows=[GOOD])
    absent = config.model_copy(update={"transcripts": "no/such.csv"})
    with pytest.raises(UserError, match=r"data.transcripts: no/such.csv does not exist"):
        source_files(absent)
    link = tmp_path / "scores.tsv"
    link.symlink_to("gone.tsv")
    with pytest.raises(
        UserError, match=r"data.class_scores: .* is a link to gone.tsv, which does not"
    ):
        source_files(config.model_copy(update={"class_scores": str(link)}))


EXPORTED = lesson(7, 70, ("Teacher ", "One two."), ("Student 1", "Three four."))


@pytest.mark.parametrize(
    ("obsid", "teacher"),
    [("7.0", "70.0"), ("7.00", "70"), ("000007", "0070"), (" 7", "70 "), ("\u200b7", "70\u00a0")],
)
def test_ids_are_the_same_however_they_are_exported(
    tmp_path: Path, obsid: str, teacher: str
) -> None:
    rows = [(teacher, obsid, "1.0", "1.00", "4.0", 1, "7", 2)]
    (document,) = by_id(preset(tmp_path, EXPORTED, rows)).values()
    assert (document.id, document.group) == ("7-1", "70")
    assert document.text == "Teacher: One two.\nStudent: Three four."
    utterances = [(obsid, teacher, *cells[2:]) for cells in EXPORTED]
    assert list(by_id(preset(tmp_path, utterances, [GOOD])).values()) == [
        replace(document, scores={"CLPC": 4, "CLBM": 7, "CLINSTD": 2})
    ]


@pytest.mark.parametrize(
    "code", ["998", "998.0", "999", "NA", ".", "nan", "", "-9", "-99.0", "NULL"]
)
def test_codes_for_a_missing_score(tmp_path: Path, code: str) -> None:
    rows = [(70, 7, 1, 1, 4, 1, 7, code), (70, 7, 2, 1, 5, 1, 7, 3), (70, 7, 1, code, 4, 1, 7, 2)]
    corpus = read(preset(tmp_path, EXPORTED, rows))
    (document,) = corpus.documents
    assert document.scores == {"CLPC": 4.5, "CLBM": 7, "CLINSTD": 3}
    name = {"998.0": "998", "-99.0": "-99", "": "blank"}.get(code, code)
    assert corpus.notes == {f"scores missing ({name})": 1, "CLASS rows without OBSID or CHAPNUM": 1}


def test_scores_of_another_teacher_are_refused(tmp_path: Path) -> None:
    """The files may number their lessons differently."""
    utterances = LESSON + lesson(8, 80, ("teacher", "Five."), ("student", "Six."))
    of_class = [GOOD, (71, 7, 1, 2, 4, 1, 7, 2), ("080.0", 8, 1, 1, 4, 1, 7, 2), ("NA", *GOOD[1:])]
    mqi = [(70, 7, 3, 1, 1, *[1] * 4), (81.0, 8, 3, 1, 1, *[1] * 4), (82, 8, 3, 0, 1, *[1] * 4)]
    config = preset(tmp_path, utterances, of_class, mqi)
    with pytest.raises(UserError) as error:
        read(config)
    *lines, cure = str(error.value).splitlines()
    assert lines == [
        f"{tmp_path / name}, row 3, column NCTETID: lesson {obsid} has teacher {there}, but {here} in"
        f" {config.transcripts}."
        for name, obsid, there, here in (
            ("36095-0001-Data.tsv", 7, 71, 70),
            ("36095-0003-Data.tsv", 8, 81, 80),
        )
    ]
    assert cure.endswith("add its lesson to data.exclude_obsids, beside those that are there.")
    with pytest.raises(
        UserError, match=r"^[^\n]*0003-Data.tsv, row 3[^\n]*81, but 80[^\n]*\n[^\n]*$"
    ):
        read(config.model_copy(update={"exclude_obsids": [7]}))
    many = preset(tmp_path, utterances, [(71, 7, 1, 1, 4, 1, 7, 2)] * 30)
    with pytest.raises(
        UserError, match=r"row 21, column NCTETID[^\n]*\n\.\.\. and 10 more such rows\.\n"
    ):
        read(many)


@pytest.mark.parametrize("code", ["-9", -9.0, 998, "999.0", "", "NA"])
def test_a_teacher_who_is_missing_is_no_other_one(tmp_path: Path, code: object) -> None:
    config = preset(
        tmp_path, class_rows=[(code, *GOOD[1:])], mqi_rows=[(code, 7, 3, 1, 1, *[1] * 4)]
    )
    assert by_id(config)["7-1"].scores.keys() == set(config.rubrics)


def test_of_a_row_of_another_teacher_without_a_score_nothing_is_taken(tmp_path: Path) -> None:
    """Not even that the lesson has so many chapters."""
    corpus = read(preset(tmp_path, class_rows=[GOOD, (71, 7, 1, 2, "", 4, 998, -9)]))
    assert corpus.documents == read(preset(tmp_path, class_rows=[GOOD])).documents
    assert corpus.notes == {
        "CLASS rows of another teacher, without a score": 1,
        "scores missing (-9)": 1, "scores missing (998)": 1, "scores missing (blank)": 1,
    }  # fmt: skip


def test_score_files_may_lack_the_teacher(tmp_path: Path) -> None:
    config = preset(tmp_path, class_rows=[GOOD])
    write(tmp_path / "36095-0001-Data.tsv", CLASS_HEADER[1:], [GOOD[1:]])
    assert list(by_id(config)) == ["7-1"]


@pytest.mark.parametrize("code", ["NA", "<NA>", "nan", "NaN"])
def test_a_missing_text_is_not_speech(tmp_path: Path, code: str) -> None:
    said = lesson(
        7, 70, ("student", code), ("teacher", f" {code} "), ("student", "None"), ("teacher", "null"),
        ("student", "na"), ("teacher", f"{code}?"),
    )  # fmt: skip
    corpus = read(preset(tmp_path, said, [GOOD]))
    (document,) = corpus.documents
    spoken = ("Student: None", "Teacher: null", "Student: na", f"Teacher: {code}?")
    assert document.text == "\n".join(spoken)
    assert corpus.notes == {f"utterances with a missing text ({code})": 2}


def test_a_teacher_who_is_not_known_is_no_group(tmp_path: Path) -> None:
    """Lessons of many teachers would stand together, and apart from others of the same teachers."""
    utterances = EXPORTED + lesson(8, "NA", ("teacher", "Five."))  # type: ignore[arg-type]
    corpus = read(preset(tmp_path, utterances, [GOOD, (70, 8, 1, 1, 4, 1, 7, 2)]))
    assert {document.group for document in corpus.documents} == {"70"}
    assert corpus.notes["utterances without OBSID or NCTETID"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use": ["CLPC", "NONE"]}, "use must name some of"),
        ({"use": []}, "use must name some of"),
        ({"use": ["EXPL"]}, "rubric EXPL needs mqi_scores"),
        ({"raters": "all"}, "raters"),
    ],
)
def test_configuration_is_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(tmp_path, class_rows=[GOOD], **changes)
