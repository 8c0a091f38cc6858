"""`debiasdpo init`: what it finds in tables, asks, and writes; and that what it writes is a job."""

import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from debiasdpo.cli import main
from debiasdpo.config.build import build
from debiasdpo.config.job import JobConfig
from debiasdpo.documents import table
from debiasdpo.documents.looking import look
from debiasdpo.start import guess
from debiasdpo.start.draft import DOMAINS

ROOT = Path(__file__).parents[2]
ESSAYS = ROOT / "docs/examples/essays.csv"
TEXT = "This is a text of several words, which is longer than any other cell of its row, number {}."


def write(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def job(folder: Path, name: str) -> JobConfig:
    """The job of `debiasdpo run --config-dir FOLDER/conf data=NAME`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        where = f"hydra.searchpath=[file://{folder / 'conf'}]"
        return build(compose("config", [where, f"data={name}"]))


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["init", *map(str, arguments)]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_is_written_for_each_kind_of_document_is_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    given = ("--domain", domain, "--scale", "1:5", "--question", "clarity=How clear is ${this}?")
    out = told(capsys, tmp_path / "a", "--from", ESSAYS, "--name", "mine", *given)
    assert "40 documents with a score, of 20 groups" in out
    config = job(tmp_path / "a", "mine")
    data: Any = config.data
    assert (data.id_column, data.group_column, data.text_column) == ("id", "writer", "essay")
    assert data.rubrics["clarity"].question == "How clear is ${this}?"
    assert DOMAINS[domain]["one"] in data.rubrics["argument"].question
    assert len(list(table.read(data).documents)) == 40
    categories = config.context.categories
    assert {"race", "gender", "sycophancy", "role", "placebo"} < set(categories)
    for name, category in categories.items():
        if name != "placebo":
            assert category.when is not None
            one, other = category.flattering, category.unflattering
            assert one
            assert other
            assert (len(one.train), len(one.test)) == (len(other.train), len(other.test))
            assert not {*one.train, *one.test} & {*other.train, *other.test}


def test_without_a_terminal_all_that_is_missing_is_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.csv", [["id", "text", "clear", "deep"], *(
        [i, TEXT.format(i), 1 + i % 3, i % 2] for i in range(6))])  # fmt: skip
    said = told(capsys, tmp_path / "a", "--from", file, code=1)
    for part in (
        "--domain (essays, lessons",
        "--scale clear=LOW:HIGH[:STEP]",
        "seen: 1:3",
        "seen: 0:1",
    ):
        assert part in said
    assert not (tmp_path / "a").exists()
    told(capsys, tmp_path / "a", "--from", file, "--domain", "answers", "--yes")
    assert job(tmp_path / "a", "t").documents.rubrics["deep"].low == 0


@pytest.mark.parametrize(
    ("stem", "name"),
    [("2023", "table_2023"), ("1e3", "table_1e3"), ("true", "table_true"), ("été 2", "ete_2"),
     ("論文", "documents"), ("2023_essays", "2023_essays")],
)  # fmt: skip
def test_a_table_of_any_name_has_one_that_can_stand_behind_data(
    stem: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{stem}.csv"
    file.write_bytes(ESSAYS.read_bytes())
    out = told(capsys, tmp_path / "a", "--from", file, "--domain", "essays", "--yes")
    assert f"debiasdpo audit --config-dir conf data={name}\n" in out
    assert job(tmp_path / "a", name).documents.about


def test_without_scores_bias_alone_is_audited(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a table of one row on, by the commands that `init` names."""
    rows: list[list[object]] = [["nr", "essay"], *([i, TEXT.format(i)] for i in range(3))]
    one = ("--domain", "essays", "--score", "-", "--scale", "quality=1:5")
    for count in (1, 3):
        file = write(tmp_path / f"t{count}.csv", rows[: count + 1])
        out = told(capsys, tmp_path / "a", "--from", file, *one)
        assert f"{count} documents without scores, of {count} groups" in out
        assert "debiasdpo run" not in out
    folder = str(tmp_path / "a/conf")
    options = ("model.max_length=1024", "rate=expected", "audit.resamples=100")
    where = (f"model.path={tiny_llama}", f"output_dir={tmp_path / 'out'}")
    asked = "audit.categories=[sycophancy,placebo]"
    assert main(["audit", "--config-dir", folder, "data=t3", asked, *options, *where]) == 0
    (metrics,) = (tmp_path / "out/runs").glob("*/metrics.json")
    measured = json.loads(metrics.read_text())
    assert measured["category/sycophancy/bias/base"] > 0
    assert measured["bias/base_of"] == {"documents": 3, "groups": 3, "prompts": 3}
    assert measured["accuracy/spearman/base"] is None
    assert measured["accuracy/mae/constant"] is None
    assert "Accuracy: unknown, as there are no scores to hold it against" in capsys.readouterr().out
    assert main(["run", "--config-dir", folder, "data=t3", *options, *where]) == 1
    assert "says that nobody scored the documents, and method=" in capsys.readouterr().err


def test_ids_that_come_twice_get_advice_for_init(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.csv", [["id", "nr", "text", "mark"], *(
        [i // 2, i, TEXT.format(i), 1 + i % 3] for i in range(6))])  # fmt: skip
    given = ("--domain", "essays", "--id", "id", "--scale", "1:3")
    said = told(capsys, tmp_path / "a", "--from", file, *given, code=1)
    assert (
        "Give each document its own id, or name the column that tells its rows apart (--rater"
        in said
    )


def test_a_terminal_is_asked_and_a_wrong_answer_asked_again(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", [["nr", "words of it", "mark"], *(
        [i, TEXT.format(i), 1 + i % 3] for i in range(6))])  # fmt: skip
    outer, inner = pty.openpty()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "debiasdpo.cli",
        "init",
        tmp_path / "a",
        "--from",
        file,
    ]
    process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, cwd=ROOT)
    os.close(inner)
    #        domain    text  id  group  scores  people  scale: wrong, then right; question
    os.write(outer, b"cars\nreviews\n\n\n\n\n\n5:1\n1:4\nHow helpful?\n")
    shown = b""
    try:
        while block := os.read(outer, 4096):
            shown += block
    except OSError:  # what Linux says at the end
        pass
    assert process.wait() == 0, shown.decode()
    text = shown.decode()
    assert "there is no domain 'cars', only: essays" in text
    assert "'5:1' is not LOW:HIGH" in text
    data: Any = job(tmp_path / "a", "t").data
    assert (data.id_column, data.text_column, data.heading) == (
        "nr",
        "words of it",
        "Here is a review.",
    )
    assert dict(data.score_columns) == {}
    rubric = data.rubrics["mark"]
    assert (rubric.question, rubric.low, rubric.high) == ("How helpful?", 1, 4)


ELLIPSE = [
    "text_id",
    "full_text",
    "gender",
    "grade",
    "race_ethnicity",
    "num_words",
    "Overall",
    "Cohesion",
    "SES",
]
ASAP = ["essay_id", "essay_set", "essay", "rater1_domain1", "rater2_domain1", "domain1_score"]


def people(i: int) -> list[object]:
    known = ["FM"[i % 2], 8 + i % 4, "ABC"[i % 3], 300 + i]
    return [f"e{i}", TEXT.format(i), *known, 1 + i % 9 / 2, 2 + i % 3, "yn"[i % 2]]


def test_columns_as_published_corpora_call_them_are_found(tmp_path: Path) -> None:
    seen = look(str(write(tmp_path / "e.csv", [ELLIPSE, *map(people, range(40))], ";")), "--from")
    assert guess.text_column(seen) == ("full_text", True)
    assert guess.id_columns(seen, "full_text")[0] == "text_id"
    taken = {"full_text", "text_id"}
    scores = guess.score_columns(seen, taken)
    assert scores == {"Overall": ("Overall",), "Cohesion": ("Cohesion",)}
    assert guess.people_columns(seen, {*taken, *scores}, "text_id") == [
        "gender",
        "grade",
        "race_ethnicity",
        "SES",
    ]
    assert guess.scale_of([seen.columns["Overall"]]) == (1, 5, 0.5)
    rows = [[i, 1, TEXT.format(i), 1 + i % 6, 1 + i % 5, 2 + i % 8] for i in range(40)]
    seen = look(str(write(tmp_path / "a.tsv", [ASAP, *rows], "\t")), "--from")
    assert guess.score_columns(seen, {"essay", "essay_id"}) == {
        "domain1": ("rater1_domain1", "rater2_domain1")
    }


@pytest.mark.parametrize(
    ("columns", "rubrics"),
    [
        (["overall_1", "overall_2"], {"overall": ("overall_1", "overall_2")}),
        (["Rater A", "Rater B"], {"score": ("Rater A", "Rater B")}),
        (["clarity r1", "clarity r2", "depth r1"],
         {"clarity": ("clarity r1", "clarity r2"), "depth_r1": ("depth r1",)}),
        (["item_1", "item_2"], {"item_1": ("item_1",), "item_2": ("item_2",)}),
        (["tone+", "tone-", "Tone"], {"tone": ("tone+",), "tone_2": ("tone-",), "Tone_3": ("Tone",)}),
        (["score1", "score2", "score"], {"score": ("score1", "score2")}),
        (["first language", "no"], {"first_language": ("first language",), "no": ("no",)}),
    ],
    ids=["numbered", "letters", "one of a rubric", "items", "alike", "settled", "spaces"],
)  # fmt: skip
def test_raters_of_one_rubric_are_told_by_their_columns(
    columns: list[str], rubrics: dict[str, tuple[str, ...]]
) -> None:
    assert guess.by_rubric(columns) == rubrics


@pytest.mark.parametrize(
    ("columns", "group"),
    [
        (["age_group", "student_id"], "student_id"),
        (["student_age", "student_id"], "student_id"),
        (["student_gender", "teacher"], "teacher"),
        (["teacher_score", "peer_score", "class"], "class"),
        (["reviewer_rating", "product"], None),
        (["control group", "writer"], "writer"),
        (["group_id", "writer"], "group_id"),
        (["school type", "school"], "school"),
        (["teacher experience", "teacher_name"], "teacher_name"),
    ],
)
def test_what_is_told_of_whom_a_document_is_by_is_not_who_that_is(
    tmp_path: Path, columns: list[str], group: str | None
) -> None:
    """A split by a column of genders would put the documents of one writer into several parts."""
    rows = [[i, TEXT.format(i), *(f"{column}{i % 4}" for column in columns)] for i in range(12)]
    seen = look(str(write(tmp_path / "t.csv", [["id", "text", *columns], *rows])), "--from")
    assert guess.group_column(seen, {"id", "text"}) == group


def test_marks_for_language_are_scores_and_nobodys_first_language(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[i, TEXT.format(i), 1 + i % 5, 1 + i % 9 / 2, "ab"[i % 2], i] for i in range(20)]
    head = ["id", "text", "content", "language", "L1", "wordcount"]
    file = write(tmp_path / "essays.csv", [head, *rows])
    said = told(capsys, tmp_path / "a", "--from", file, "--scale", "1:5:0.5")
    data: Any = job(tmp_path / "a", "essays").data
    assert list(data.rubrics) == ["content", "language"]
    assert list(data.group_columns) == ["L1"]
    assert "  not taken: wordcount\n" in said
    told(
        capsys,
        tmp_path / "a",
        "--from",
        file,
        "--scale",
        "1:5",
        "--score",
        "content",
        "--name",
        "b",
    )
    assert "own_language" not in (tmp_path / "a/conf/category/b.yaml").read_text()


def test_what_is_known_of_people_is_no_score(tmp_path: Path) -> None:
    rows = [
        [f"1.{i}", TEXT.format(i), 1 + i % 5, 1 + i % 4, (i % 5 - 2) * 0.75, i % 3]
        for i in range(20)
    ]
    head = ["essay_id", "text", "content", "first_language", "ses", "grade"]
    seen = look(str(write(tmp_path / "t.csv", [head, *rows])), "--from")
    assert guess.id_columns(seen, "text") == ["essay_id"]  # though it reads as a number
    taken = {"essay_id", "text"}
    assert list(guess.score_columns(seen, taken)) == ["content"]
    people = guess.people_columns(seen, {*taken, "content"}, "essay_id")
    assert people == ["first_language", "ses", "grade"]


def test_what_differs_between_rows_of_a_document_is_told_of_its_rater(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        [
            f"e{i // 2}",
            TEXT.format(i // 2),
            ["kim", "lee"][i % 2],
            "FM"[i % 2],
            "ab"[i // 2 % 2],
            1 + i % 4,
        ]
        for i in range(16)
    ]
    head = ["id", "text", "rater", "gender", "race", "score"]
    file = write(tmp_path / "essays.csv", [head, *rows])
    said = told(capsys, tmp_path / "a", "--from", file, "--scale", "1:5")
    assert "  real groups: race\n  not taken: gender\n" in said


def test_scores_with_decimals_are_on_a_scale_of_whole_numbers(tmp_path: Path) -> None:
    rows = [[i, TEXT.format(i), 2.4 + 4.7 * i, i / 20] for i in range(20)]
    seen = look(str(write(tmp_path / "t.csv", [["id", "text", "mark", "share"], *rows])), "--from")
    assert guess.scale_of([seen.columns["mark"]]) == (2, 92, 1)
    assert guess.scale_of([seen.columns["share"]]) == (0, 1, 1)
    assert guess.id_columns(seen, "text") == ["id"]  # and no column of scores that differ


@pytest.mark.parametrize(
    ("row", "cell", "says"),
    [(3, 1, "row 5, column 'Handed in text': empty"), (4, 0, "row 6: id 'e3' is already that of")],
    ids=["text", "id"],
)
def test_one_row_that_is_wrong_is_told_by_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: int, cell: int, says: str
) -> None:
    """And not by what else the table might be."""
    rows = [[f"e{i}", TEXT.format(i), f"p{i // 2}", 1 + i % 5] for i in range(12)]
    rows[row][cell] = "" if cell else "e3"
    head = ["Essay No", "Handed in text", "Pupil", "mark"]
    file = write(tmp_path / "essays.csv", [head, *rows])
    said = told(capsys, tmp_path / "a", "--from", file, "--scale", "1:5", code=1)
    assert says in said


def test_a_row_for_each_rater_in_a_workbook_with_other_sheets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["About", "made by hand"])
    sheet = book.create_sheet("grades")
    sheet.append(["essay id", "full text", "first language", "rater", "score"])
    for i in range(12):
        sheet.append(
            [f"e{i // 2}", TEXT.format(i // 2), "AB"[i // 2 % 2], ["kim", "lee"][i % 2], 1 + i % 4]
        )
    book.save(tmp_path / "graded essays.xlsx")
    file = tmp_path / "graded essays.xlsx"
    out = told(
        capsys, tmp_path / "a b", "--from", file, "--scale", "1:4", "--people", "first language"
    )
    assert "score: 6 scores from 1 to 4, 6 of several raters" in out
    assert f"cd '{tmp_path}/a b'" in out
    data: Any = job(tmp_path / "a b", "graded_essays").data
    assert (data.layout, data.rater_column, data.rubric_column) == ("long", "rater", None)
    first = next(iter(table.read(data).documents))
    assert first.experts == {"score": (1.0, 2.0)}
    assert first.facts == {"first language": "A"}
    own = job(tmp_path / "a b", "graded_essays").context.categories["own_first_language"]
    assert own.column == "first language"
    assert own.flattering == own.unflattering
    told(capsys, tmp_path / "b", "--from", file, "--domain", "lessons", "--scale", "1:4",
         "--people", "first language")  # fmt: skip
    both = job(tmp_path / "b", "graded_essays").context.categories
    assert {"own_first_language", "experience", "race"} < set(both)
    assert "of the teacher" in both["own_first_language"].description


def test_an_essay_of_several_raters_is_one_document_though_rows_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        [i, f"e{i // 2}", TEXT.format(i // 2), ["kim", "lee"][i % 2], 1 + i % 4] for i in range(12)
    ]
    file = write(tmp_path / "essays.csv", [["row", "essay_id", "text", "rater", "score"], *rows])
    told(capsys, tmp_path / "a", "--from", file, "--scale", "1:4")
    data: Any = job(tmp_path / "a", "essays").data
    assert (data.id_column, data.layout, data.rater_column) == ("essay_id", "long", "rater")


def test_short_answers_are_what_is_rated_and_not_what_they_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[i, TEXT.format("one"), f"It is {i}.", i % 4] for i in range(12)]
    file = write(tmp_path / "answers.csv", [["id", "prompt", "answer", "points"], *rows])
    told(capsys, tmp_path / "a", "--from", file, "--domain", "essays", "--scale", "0:3")
    assert job(tmp_path / "a", "answers").data.text_column == "answer"  # type: ignore[union-attr]
    said = told(capsys, tmp_path / "b", "--from", file, "--domain", "essays", "--scale", "0:3",
                "--text", "prompt")  # fmt: skip
    assert "note: only 1 different texts" in said


def test_columns_with_commas_in_their_names_can_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["clarity, 1-5", "tone, 1-5", "race, ethnicity", "gender"]
    rows = [[i, TEXT.format(i), i % 4, i % 3, "AB"[i % 2], "MF"[i % 2]] for i in range(12)]
    file = write(tmp_path / "essays.csv", [["id", "text", *names], *rows])
    told(capsys, tmp_path / "a", "--from", file, "--scale", "0:5", "--yes")
    data: Any = job(tmp_path / "a", "essays").data
    assert list(data.group_columns) == ["race, ethnicity", "gender"]
    assert list(data.scored_in("clarity_1_5")) == ["clarity, 1-5"]
    said = told(capsys, tmp_path / "b", "--from", file, "--people", "gender,race", code=1)
    assert "--people: there is no column 'race'" in said


def test_real_groups_that_an_audit_would_refuse_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[i, TEXT.format(i), i % 4, "fFmM"[i % 4]] for i in range(12)]
    file = write(tmp_path / "essays.csv", [["id", "text", "clarity", "Sex"], *rows])
    said = told(capsys, tmp_path / "a", "--from", file, "--scale", "0:5", "--yes", code=1)
    assert "'Sex' has 'f' and 'F', which differ by their capitals alone" in said
    assert not (tmp_path / "a").exists()


def test_groups_are_counted_as_a_run_goes_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Zoë", "Zoe\u0308", "Ana"]
    rows = [[i, names[i % 3], TEXT.format(i), i % 4] for i in range(12)]
    file = write(tmp_path / "essays.csv", [["id", "writer", "text", "clarity"], *rows])
    out = told(capsys, tmp_path / "a", "--from", file, "--scale", "0:5", "--group", "writer")
    assert "12 documents with a score, of 2 groups" in out
    assert "note: a run needs 3 groups, one for each part of its split" in out


def test_scores_by_rubric_in_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": f"e{i // 2}", "text": TEXT.format(i // 2), "trait": ["depth", "style"][i % 2], "points": i % 3,
         "more": [1, 2]}
        for i in range(12)
    ]  # fmt: skip
    file = tmp_path / "reviews.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = told(capsys, tmp_path / "a", "--from", file, "--scale", "depth=0:2", "--scale", "0:4")
    data: Any = job(tmp_path / "a", "reviews").data
    assert (data.rubric_column, data.score_column, data.group_column) == ("trait", "points", "id")
    assert "groups: each document by itself\n  note: if one writer" in said
    assert {name: rubric.high for name, rubric in data.rubrics.items()} == {"depth": 2, "style": 4}
    told(capsys, tmp_path / "a", "--from", file, "--scale", "0:2", "--score", "points", "--name", "two",
         "--rubric", "trait", "--text", "text")  # fmt: skip
    written = yaml.safe_load((tmp_path / "a/conf/data/two.yaml").read_text())
    assert written["layout"] == "long"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--text", "esay"], "--text: there is no column 'esay', only: id, writer, essay, clarity, argument. "
                             "Closest: 'essay'."),
        (["--domain", "essay"], "--domain: there is no domain 'essay', only: essays"),
        (["--scale", "1-5"], "--scale: '1-5' is not LOW:HIGH or LOW:HIGH:STEP"),
        (["--scale", "1:4"], "5 is off the scale of 1 to 4"),
        (["--scale", "0:5:2"], "--scale: '0:5:2': from 0, steps of 2 do not end at 5"),
        (["--scale", "1:5", "--name", "table"], "--name: table is an option that comes with the project"),
        (["--scale", "1:5", "--name", "a/b"], "--name: a/b may have letters, digits and _ only"),
        (["--scale", "1:5", "--name", "2023"], "--name: behind data=, 2023 is not read as a text"),
        (["--scale", "1:5", "--name", "null"], "--name: behind data=, null is not read as a text"),
        (["--scale", "1:5", "--id", "writer"], "id 'writer-01' is already that of"),
        (["--scale", "1:5", "--scale", "style=1:7"], "style: no such rubric; there are clarity, argument"),
        (["--scale", "1:5", "--score", "q=clarity", "--score", "q=argument"], "--score: q is there already"),
        (["--scale", "1:5", "--score", "grade"], "no column 'grade', only"),
        (["--scale", "1:5", "--score", "essay"], "scores would be read from the column 'essay'"),
    ],
    ids=["column", "domain", "form", "off", "steps", "taken", "slash", "number", "null", "id", "rubric",
         "twice", "score", "text"],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    said = told(capsys, tmp_path / "a", "--from", ESSAYS, *options, code=1)
    assert says in said
    assert not (tmp_path / "a").exists()


def test_a_second_time_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, tmp_path, "--from", ESSAYS, "--yes")
    said = told(capsys, tmp_path, "--from", ESSAYS, "--yes", code=1)
    assert "essays.yaml is there already; remove it, or give another --name" in said
