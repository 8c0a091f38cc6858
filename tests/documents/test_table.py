"""A user's own table in each format and layout, and what is said of a bad one."""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.data import TableConfig
from debiasdpo.config.sameness import normal_text
from debiasdpo.documents import corpus, table
from debiasdpo.documents.base import Corpus, Document
from debiasdpo.documents.cells import means_nothing
from debiasdpo.documents.table import source_files
from debiasdpo.errors import UserError

ROOT = Path(__file__).parents[2]
RUBRICS = {
    "clarity": {"question": "Clear?", "low": 1, "high": 5},
    "errors": {"question": "Errors?", "low": 0, "high": 3, "high_is_good": False},
}
CSV = 'id,group,text,clarity,errors\nb,t1,"A text, quoted ""so"".",4,0\na,t2,Ünder way.,2.5,\n'
LONG = "id,group,text,rubric,score\nb,t1,Text b.,clarity,4\na,t2,Text a.,clarity,2\nb,,,errors,0\n"


def preset(path: Path, **changes: Any) -> TableConfig:
    values = yaml.safe_load((ROOT / "conf/data/table.yaml").read_text())
    return TableConfig.model_validate(values | {"path": str(path), "rubrics": RUBRICS} | changes)


def read(config: TableConfig) -> Corpus:
    """With all documents gone through."""
    corpus = table.read(config)
    return replace(corpus, documents=tuple(corpus.documents))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def expected() -> tuple[Document, ...]:
    return (
        Document("b", "t1", 'A text, quoted "so".', {"clarity": 4.0, "errors": 0.0}),
        Document("a", "t2", "Ünder way.", {"clarity": 2.5}),
    )


ROWS: Sequence[Mapping[str, object]] = [
    {"id": "b", "group": "t1", "text": 'A text, quoted "so".', "clarity": 4, "errors": 0},
    {"id": "a", "group": "t2", "text": "Ünder way.", "clarity": 2.5, "errors": None},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv with BOM", "jsonl sparse"])
def test_every_format_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind.split()[0].upper()}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(ROWS)), path)
    elif kind.startswith("jsonl"):
        sparse = "sparse" in kind
        rows = [{k: v for k, v in r.items() if not (sparse and v is None)} for r in ROWS]
        write(path, "\n".join(map(json.dumps, rows)) + "\n\n")
    elif kind == "tsv":
        write(path, CSV.replace('"A text, quoted ""so""."', '"A text; quoted ""so""."')
              .replace(",", "\t").replace(";", ","))  # fmt: skip
    else:
        write(path, ("\ufeff" if "BOM" in kind else "") + CSV.replace("\n", "\r\n"))
    corpus = read(preset(path))
    assert corpus.documents == expected()
    assert corpus.notes == {"documents without a score on errors": 1}
    assert corpus.rubrics["errors"].high_is_good is False


def test_numbers_that_are_missing_or_texts_in_json(tmp_path: Path) -> None:
    row = (
        '{"id": %s, "group": 1, "text": "t", "clarity": %s, "errors": 0, "other": [1, {"a": 2}]}\n'
    )
    values = ["NaN", "null", '"NA"', '" 4"', '"4,5"', "4.0"]
    path = write(tmp_path / "d.jsonl", "".join(row % (i, v) for i, v in enumerate(values)))
    found = [document.scores.get("clarity") for document in read(preset(path)).documents]
    assert found == [None, None, None, 4, 4.5, 4]


def test_whole_numbers_are_the_same_id_in_every_format(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**ROWS[0], "id": 1.0}]), tmp_path / "a.parquet")
    write(tmp_path / "b.csv", CSV.replace("b,t1", "1,t1"))
    with pytest.raises(UserError, match=r"b.csv, row 2: id '1' is already that of .*a.parquet"):
        read(preset(tmp_path))


def test_a_folder_is_read_part_by_part(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(ROWS[:1])), tmp_path / "part-0.parquet")
    write(tmp_path / "part-1.jsonl", json.dumps(ROWS[1]))
    assert read(preset(tmp_path)).documents == expected()
    write(tmp_path / "part-2.jsonl", json.dumps(ROWS[1]))
    with pytest.raises(UserError, match=r"part-2.jsonl, line 1: id 'a' is .* that of .*part-1"):
        read(preset(tmp_path))


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    header = "id,group,text,clarity,errors"
    path = write(tmp_path / "d.csv", CSV.replace(header, "key,who,essay,clear,errors,more"))
    config = preset(
        path,
        id_column="key",
        group_column="who",
        text_column="essay",
        score_columns={"clarity": "clear"},
    )
    assert read(config).documents == expected()
    assert {d.group for d in read(preset(write(path, CSV), group_column="id")).documents} == {
        "a",
        "b",
    }


@pytest.mark.parametrize("repeat", [True, False])
def test_long_layout(tmp_path: Path, repeat: bool) -> None:
    content = LONG.replace("b,,,", "b,t1,Text b.,") if repeat else LONG
    again = "a,t2\u200b,Text a.,errors\u00a0,\na,,,other,9\n"
    path = write(tmp_path / "d.csv", content + again)
    corpus = read(preset(path, layout="long"))
    assert corpus.documents == (
        Document("b", "t1", "Text b.", {"clarity": 4.0, "errors": 0.0}),
        Document("a", "t2", "Text a.", {"clarity": 2.0}),
    )
    assert corpus.notes == {
        "rows of rubrics not in data.rubrics": 1,
        "rows without a score on errors": 1,
    }


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(texts=st.lists(TEXTS.filter(lambda t: not means_nothing(t)), min_size=1, max_size=8))
def test_jsonl_texts_come_back_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("table") / "d.jsonl"
    rows = [
        {"id": i, "group": 1, "text": text, "clarity": 1, "errors": 0}
        for i, text in enumerate(texts)
    ]
    write(path, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    found = {document.id: document.text for document in read(preset(path)).documents}
    assert found == {str(i): normal_text(text) for i, text in enumerate(texts)}


TWICE = "id,group,text,r1,r2,errors\nb,t1,Text b.,4,5,0\na,t2,Text a.,,2,NA\nc,t2,Text c.,1,2,\n"
EACH = """\
id,group,text,rubric,rater,score
b,t1,Text b.,clarity,kim,4
b,,,clarity,lee,5
b,,,errors,lee,0
a,t2,Text a.,clarity,lee,2
c,t2,Text c.,clarity,lee,2
c,,,clarity,kim,1
"""
RATED_TWICE = (
    Document("b", "t1", "Text b.", {"clarity": 4.5, "errors": 0.0}, {"clarity": (4.0, 5.0)}),
    Document("a", "t2", "Text a.", {"clarity": 2.0}),
    Document("c", "t2", "Text c.", {"clarity": 1.5}, {"clarity": (1.0, 2.0)}),
)


def test_several_raters_are_a_mean_and_each_of_them(tmp_path: Path) -> None:
    wide = preset(write(tmp_path / "d.csv", TWICE), score_columns={"clarity": ["r1", "r2"]})
    assert read(wide).documents == RATED_TWICE
    long = preset(write(tmp_path / "e.csv", EACH), layout="long", rater_column="rater")
    assert read(long).documents == RATED_TWICE  # kim comes first, in every document


def test_the_order_of_the_raters_changes_no_score(tmp_path: Path) -> None:
    """Decimal scores: as floats, 3.1 + 3.2 + 3.4 is another sum than 3.4 + 3.2 + 3.1."""
    given = {"a": (3.1, 3.2, 3.4), "b": (3.4, 3.2, 3.1), "c": (3.2, 3.4, 3.1), "d": (3.4, 3.1)}
    rows = [f"{i},{i},Text {i}.," + ",".join(map(str, mine)) for i, mine in given.items()]
    file = write(tmp_path / "d.csv", "\n".join(["id,group,text,r1,r2,r3", *rows]))
    rubrics = {"clarity": RUBRICS["clarity"]}
    for columns in itertools.permutations(["r1", "r2", "r3"]):
        wide = preset(file, rubrics=rubrics, score_columns={"clarity": list(columns)})
        scores = {d.id: d.scores["clarity"] for d in read(wide).documents}
        assert scores == {"a": 97 / 30, "b": 97 / 30, "c": 97 / 30, "d": 3.25}
    each = [
        f"{i},{i},Text {i}.,r{n},{score}"
        for i, mine in given.items()
        for n, score in enumerate(mine)
    ]
    for order in (each, each[::-1]):
        file = write(tmp_path / "e.csv", "\n".join(["id,group,text,rater,score", *order]))
        long = preset(
            file, rubrics=rubrics, layout="long", rubric_column=None, rater_column="rater"
        )
        assert {d.id: d.scores["clarity"] for d in read(long).documents} == scores


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rater_column": "who"}, r"rater_column is for layout=long.*score_columns.RUBRIC"),
        ({"score_columns": {"clarity": ["r1", "r1"]}}, r"score_columns.clarity names a column twice"),
        ({"score_columns": {"clarity": []}}, "clarity is empty, as if nobody scored it"),
    ],
    ids=["rater_column", "twice", "none of one"],
)  # fmt: skip
def test_raters_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        preset(tmp_path / "d.csv", **changes)


def test_one_rater_scores_once(tmp_path: Path) -> None:
    file = write(tmp_path / "e.csv", EACH + "b,,,clarity,Kim,3\nb,,,clarity,lee,3\n")
    with pytest.raises(
        UserError, match=r"row 9: a second score of id 'b' on clarity by this rater"
    ):
        read(preset(file, layout="long", rater_column="rater"))
    with pytest.raises(UserError, match=r"row 3: a second score .*data\.rater_column"):
        read(preset(file, layout="long"))


def test_columns_of_real_groups_are_kept_with_a_document(tmp_path: Path) -> None:
    rows = ("id,group,text,clarity,errors,first language,grade\n"
            "b,t1,Text b.,4,0,Spanish,8\na,t2,Text a.,2,,NA,9\n")  # fmt: skip
    config = preset(write(tmp_path / "d.csv", rows), group_columns=["first language", "grade"])
    found = [document.facts for document in read(config).documents]
    assert found == [{"first language": "Spanish", "grade": "8"}, {"grade": "9"}]
    assert read(config).notes["documents without a value in first language"] == 1
    with pytest.raises(UserError, match=r"no column 'ses'.*data\.group_columns"):
        read(preset(tmp_path / "d.csv", group_columns=["ses"]))


def test_of_several_rows_of_a_document_all_say_whom_it_is_by(tmp_path: Path) -> None:
    """A column of the raters' gender is none of the writers'."""
    head = "id,group,text,rater,rubric,score,sex,l1\n"
    rows = "b,t1,Text b.,kim,clarity,4,,es\nb,,,lee,clarity,3,f,\na,t2,Text a.,kim,clarity,2,,\n"
    config = preset(
        write(tmp_path / "d.csv", head + rows), layout="long", rater_column="rater",
        group_columns=["sex", "l1"], rubrics={"clarity": {"question": "?", "low": 1, "high": 5}},
    )  # fmt: skip
    found = read(config)
    assert [d.facts for d in found.documents] == [{"sex": "f", "l1": "es"}, {}]
    assert found.notes["documents without a value in sex"] == 1
    write(tmp_path / "d.csv", head + rows + "b,,,may,clarity,3,m,\n")
    with pytest.raises(
        UserError, match=r"row 5, column 'sex': 'm', where an earlier row of id 'b' has 'f'"
    ):
        read(config)


def test_a_real_group_is_one_however_it_is_written(tmp_path: Path) -> None:
    values = ["11", "11.0", "Native American", "Native\u00a0American", "None", "none"]
    lines = [f"d{i},g{i},Text {i}.,3,1,{value}" for i, value in enumerate(values)]
    head = "id,group,text,clarity,errors,who"
    file = write(tmp_path / "d.csv", "\n".join([head, *lines[:-1]]))
    found = [
        document.facts["who"] for document in read(preset(file, group_columns=["who"])).documents
    ]
    assert found == ["11", "11", "Native American", "Native American", "None"]
    write(file, "\n".join([head, *lines]))
    (tmp_path / "out").mkdir()
    with pytest.raises(
        UserError, match=r"'who' has 'None' and 'none', which differ by their capitals alone"
    ):
        corpus.write(preset(file, group_columns=["who"]), 0, tmp_path / "out")


def test_a_workbook_has_texts_as_they_were_and_no_formula_that_failed(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["id", "group", "text", "clarity", "errors"])
    sheet.append(["a", "t", "One._x000D_\nTwo._x000D_\n_x000D_\n_x005F_x000D_", 3, 1])
    book.save(tmp_path / "d.xlsx")
    (document,) = read(preset(tmp_path / "d.xlsx")).documents
    assert document.text == "One.\nTwo.\n\n_x000D_"
    sheet.append(["b", "t", "#NAME?", 3, 1])
    book.save(tmp_path / "d.xlsx")
    with pytest.raises(
        UserError, match=r"row 3, column 'text': #NAME\?, which a spreadsheet shows"
    ):
        read(preset(tmp_path / "d.xlsx"))


def test_a_column_of_too_many_kinds_is_refused_before_anything_is_rated(tmp_path: Path) -> None:
    lines = [f"d{i},g{i},Text {i}.,3,1,name {i}" for i in range(30)]
    file = write(tmp_path / "d.csv", "\n".join(["id,group,text,clarity,errors,who", *lines]))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"data\.group_columns: 'who' has more than 20 different"):
        corpus.write(preset(file, group_columns=["who"]), 0, tmp_path / "out")


WIDE_ERRORS = [
    (CSV.replace("b,t1", "a,t1"), r"d.csv, row 3: id 'a' is already that of .*d.csv, row 2"),
    (CSV.replace("Ünder way.", " "), r"d.csv, row 3, column 'text': empty"),
    (CSV.replace("a,t2", "a,"), r"row 3, column 'group': empty"),
    (CSV.replace("a,t2", ",t2"), r"row 3, column 'id': empty"),
    (CSV.replace("2.5", "good"), r"row 3, column 'clarity': 'good' is not a number"),
    (CSV.replace("2.5", "5.5"), r"row 3, column 'clarity': 5.5 is off the scale of 1 to 5"),
    (CSV.replace("2.5", "inf"), r"row 3, column 'clarity': 'inf' is not a number"),
    (CSV.replace("clarity", "Clarety"), r"no column 'clarity'.*Closest: 'Clarety'.*score_co"),
    (CSV.replace("group", "who"), r"no column 'group'.*group_column \(the id column, if every"),
    (CSV.replace("errors", "clarity"), r"row 1: column 'clarity' is there twice"),
    (CSV.replace("Ünder way.", "Under, way."), r"row 3: 6 cells, but the header has 5.*quotes"),
    (CSV + 'c,t,"open', r"after row 3: unexpected end of data.*quotes"),
    (CSV.encode("latin-1"), r"d.csv, line 3: not UTF-8.*iconv"),
    ("id,group,text,clarity,errors\n", r"d.csv: no rows"),
    ("", r"d.csv: no rows|no column"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WIDE_ERRORS)
def test_bad_csv_is_explained(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(preset(write(tmp_path / "d.csv", content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            LONG + "b,,Another.,errors,1\n",
            r"row 5, column 'text': differs from the first row of id 'b'",
        ),
        # Which of the two would be rated, would depend on the order of the rows.
        (LONG + "b,,Text  b.,errors,1\n", r"row 5, column 'text': differs from the first row"),
        (LONG + "b,t9,,errors,1\n", r"row 5, column 'group': differs"),
        (LONG + "b,,,errors,1\n", r"row 5: a second score of id 'b' on errors"),
        (LONG + "c,t1,,errors,1\n", r"row 5, column 'text': empty"),
        (
            LONG.replace("errors", "eror"),
            r"never says 'errors', only: clarity, eror. Closest: 'eror'",
        ),
        (LONG.replace("score", "points"), r"no column 'score'.*data\.score_column"),
    ],
)
def test_bad_long_tables_are_explained(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(preset(write(tmp_path / "d.csv", content), layout="long"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1}\n{"id": 2,\n', r"d.jsonl, line 2: not JSON .*Leave out the comma at its end"),
        ('{"id": 1},\n', r"line 1: not JSON \(Extra data\). Leave out the comma at its end"),
        ('{"id": 1,}\n', r"line 1: not JSON .* Leave out the comma before the last bracket"),
        ("\n[1, 2]\n", r"d.jsonl, line 2: a list, not an object. .* jq -c '.\[\]'"),
        ('[{"id": 1},\n{"id": 2}]\n', r"line 1: not JSON .* jq -c '.\[\]'"),
        ('{\n"id": 1\n}\n', r"line 1: not JSON .* go over several lines: jq -c \."),
        ('"a"\n', r"line 1: a single value, not an object. Write one object a line"),
        ('{"id": 1, "meta": {"a": 1, "a": 2}}\n', r"line 1: column 'a' is there twice"),
        ('{"id": 1, "id": 2}\n', r"line 1: column 'id' is there twice"),
        (
            '{"id": 1, "\ufeffid": 2}\n',
            r"line 1: column 'id' is there twice, also written '.ufeffid'",
        ),
        (
            '{"id": 1, "Text": "a"}\n{"id": 2, "text": "a"}\n',
            r"line 1: the key 'Text' is 'text' in other lines. Write it alike in all",
        ),
        (
            '{"id": 1, "meta": {"group": 1}, "text": "t"}',
            r"no column 'group'; the columns are: id, meta",
        ),
        (b'{"id": 1}\n{"id": "\xfc"}\n', r"d.jsonl, line 2: not UTF-8"),
        (
            '{"id": 1, "group": 1, "text": "t", "clarity": true, "errors": NaN}\n',
            r"line 1, column 'clarity': 'True' is not a number",
        ),
        ('{"id": 1, "text": "t", "clarity": 1, "errors": 1}\n', r"no column 'group'"),
    ],
)
def test_bad_jsonl_is_explained(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(preset(write(tmp_path / "d.jsonl", content)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'"cut \ud83d"', r"d.jsonl, line 1, column 'text': half a character"),
        ('["a", "b"]', r"d.jsonl, line 1, column 'text': of type list, not a text"),
        ("[" * 100_000, r"d.jsonl, line 1: brackets in too many brackets"),
    ],
    ids=["surrogate", "list", "deep"],
)
def test_texts_that_are_none_are_explained(tmp_path: Path, text: str, message: str) -> None:
    row = f'{{"id": 1, "group": 1, "clarity": 1, "errors": 0, "text": {text}}}'
    with pytest.raises(UserError, match=message):
        read(preset(write(tmp_path / "d.jsonl", row)))


def test_files_that_cannot_be_used_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"data.path: .* does not exist"):
        source_files(preset(tmp_path / "none.csv"))
    with pytest.raises(UserError, match=r"no file in .* that ends in .csv, .tsv"):
        source_files(preset(tmp_path))
    with pytest.raises(
        UserError, match=r"ends in .txt; a table is read from .csv, .tsv, .xlsx, .xlsm, .jsonl, .nd"
    ):
        source_files(preset(write(tmp_path / "d.txt", "")))
    broken = preset(write(tmp_path / "d.parquet", "no parquet"))
    with pytest.raises(UserError, match=r"d.parquet: not a readable Parquet file"):
        read(broken)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"pip install pyarrow"):
        read(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rubrics": {}}, "rubrics is empty"),
        ({"score_columns": {"clarty": "c"}}, "score_columns names 'clarty'"),
        ({"layout": "tall"}, "layout"),
        (
            {"rubrics": {"id": RUBRICS["clarity"]}},
            "from the column 'id', which is the id_column; set score_columns.id",
        ),
        ({"score_columns": {"clarity": "Text"}, "text_column": "Text"}, "which is the text_column"),
        (
            {"layout": "long", "score_column": "group"},
            "which is the group_column; set score_column to",
        ),
        ({"id_colum": "x"}, "id_colum"),
    ],
)
def test_configuration_is_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(tmp_path / "d.csv", **changes)


def test_a_character_that_is_not_seen_is_a_character_in_json(tmp_path: Path) -> None:
    row = {"id": "a", "group": "a", "text": "bell \x07 nothing \x00 end", "clarity": 1, "errors": 1}
    (document,) = read(preset(write(tmp_path / "d.jsonl", json.dumps(row)))).documents
    assert document.text == row["text"]
