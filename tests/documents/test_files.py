"""Files as spreadsheets, statistics programs and stores of data leave them: read rightly, or told how to."""

import csv
import gzip
import io
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.data import TableConfig
from debiasdpo.documents import table
from debiasdpo.documents.base import Document
from debiasdpo.documents.files import parts_of
from debiasdpo.errors import UserError
from tests.helpers.generated import SAME_FOLDER

ROOT = Path(__file__).parents[2]
HEADER = ["id", "group", "text", "clarity"]
ROWS: list[list[object]] = [
    ["a", "w1", 'Très "bien", so; it | goes.', 4],
    ["b", "w2", "Two lines:\nof 10 €.", 2.5],
]
DOCUMENTS = [Document(str(r[0]), str(r[1]), str(r[2]), {"clarity": r[3]}) for r in ROWS]  # type: ignore[dict-item]


def preset(path: Path, **changes: Any) -> TableConfig:
    values = yaml.safe_load((ROOT / "conf/data/table.yaml").read_text())
    rubrics = {"clarity": {"question": "Clear?", "low": 1, "high": 5}}
    return TableConfig.model_validate(values | {"path": str(path), "rubrics": rubrics} | changes)


def read(path: Path, **changes: Any) -> list[Document]:
    return list(table.read(preset(path, **changes)).documents)


def notes(path: Path) -> dict[str, int]:
    corpus = table.read(preset(path))
    list(corpus.documents)
    return dict(corpus.notes)


def written(delimiter: str = ",", end: str = "\r\n", header: Sequence[str] = HEADER) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end)
    writer.writerows([header, *ROWS])
    return stream.getvalue()


def save(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# --- how programs write a table


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_every_delimiter_in_every_marked_encoding(
    tmp_path: Path, delimiter: str, encoding: str, name: str
) -> None:
    path = save(tmp_path / name, written(delimiter), encoding)
    assert read(path) == DOCUMENTS
    assert notes(path) == (
        {"file(s) read as UTF-16 or UTF-32": 1} if encoding in ("utf-16", "utf-32") else {}
    )


@pytest.mark.parametrize(
    "content",
    [
        written(end="\n"),
        written(end="\n").replace("\n", "\r"),  # an old Mac
        "sep=;\r\n" + written(";"),
        '"sep=|"\n' + written("|"),
        written(header=["\u00a0id", "group\u200b", "\ufefftext ", "clarity"]),
        written().replace("2.5", '"2,5"'),
        written(";").replace("2.5", "2,5"),
        "".join(f"{i or ''},{line}" for i, line in enumerate(written(end="\n").splitlines(True)))
        .replace("3,of", "of"),  # pandas' index has no name; the fourth line is no row
        written() + "\r\n,,,\r\n",
        "\r\n \r\n" + written(),
        written(end="\n").replace("id,", "id, ").replace(',"', ', "').replace(",w", ", w"),
        written() + "c,w3,NA,4\r\n".replace("NA,4", "Three.,NA"),
    ],
    ids=["LF", "CR", "sep=;", "sep=|", "unseen", "comma", "semicolon, comma", "index", "blank", "blank first",
         "spaces", "NA"],
)  # fmt: skip
def test_exports_are_read_rightly(tmp_path: Path, content: str) -> None:
    assert read(save(tmp_path / "t.csv", content))[:2] == DOCUMENTS


def test_the_row_is_the_spreadsheets(tmp_path: Path) -> None:
    bad = written().replace("2.5", "good")
    with pytest.raises(UserError, match=r"t.csv, row 3, column 'clarity': 'good'"):
        read(save(tmp_path / "t.csv", bad))
    with pytest.raises(UserError, match=r"t.csv, row 4, column 'clarity': 'good'"):
        read(save(tmp_path / "t.csv", "sep=,\r\n" + bad))
    with pytest.raises(UserError, match=r"t.csv, row 5, column 'clarity': 'good'"):
        read(save(tmp_path / "t.csv", "\r\n,\r\n" + bad))


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)


@settings(SAME_FOLDER, max_examples=40)
@given(
    texts=st.lists(st.tuples(st.just("x"), CELLS).map("".join), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_texts_come_back_from_any_export(
    tmp_path: Path, texts: list[str], delimiter: str, encoding: str, end: str
) -> None:
    def document(name: str, text: str) -> Document:
        return Document(name, name, text, {"clarity": 4.0})

    kinds = {}
    for kind in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"t.{kind}"
        rows = [[f"d{i}", f"d{i}", text, 4] for i, text in enumerate(texts)]
        if kind == "csv":
            stream = io.StringIO()
            csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows([HEADER, *rows])
            save(path, stream.getvalue(), encoding)
        else:
            pandas = pytest.importorskip("pandas")
            frame = pandas.DataFrame(rows, columns=HEADER)
            frame.to_parquet(path) if kind == "parquet" else frame.to_json(
                path, orient="records", lines=True
            )
        kinds[kind] = read(path)
    assert kinds["csv"] == kinds["jsonl"] == kinds["parquet"]
    assert [d.id for d in kinds["csv"]] == [f"d{i}" for i in range(len(texts))]


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "no mark, LE": (written().encode("utf-16-le"), r"UTF-16 without a byte order mark.*-f UTF-16LE"),
    "no mark, BE": (written().encode("utf-16-be"), r"UTF-16 without a byte order mark.*-f UTF-16BE"),
    "cut UTF-16": (written().encode("utf-16")[:-1], r"damaged UTF-16 \(truncated data\)"),
    "Windows": (written().encode("cp1252"), r"line 2: not UTF-8.*iconv -f WINDOWS-1252"),
    "NUL": (written().replace("so;", "so\0;"), r"row 2, column 'text': a NUL character"),
    "gzip": (gzip.compress(written().encode()), r"compressed, whatever its name says. Unpack it: gunzip"),
    "Git LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "Parquet": (b"PAR1" + bytes(99), r"a Parquet file, .* Rename it so that it ends in .parquet"),
    "zip": (b"PK\x03\x04" + bytes(99), r"a workbook or another zip archive.*ends in .xlsx"),
    "twice": (written(header=["id", "group", "text", "text\u200b"]), r"'text' is there twice, also written"),
    "title": ("Our essays\r\n" + written(), r"no column 'group'; the columns are: Our essays"),
    "no name": (written().replace("id,", "", 1), r"row 2: 4 cells, but the header has 3.*has no name"),
    "empty group": (written().replace("w2", "NA"), r"row 3, column 'group': 'NA', which stands for"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told_with_the_cure(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        read(save(tmp_path / "t.csv", content), id_column="text" if name == "no name" else "id")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_the_advice_works(tmp_path: Path, encoding: str) -> None:
    """The command in the message makes a file that is read, also where its name has spaces and quotes."""
    path = save(tmp_path / "Anna's essays.csv", written().encode(encoding))
    with pytest.raises(UserError) as error:
        read(path)
    command = str(error.value)[str(error.value).index("iconv") :]
    subprocess.run(command, shell=True, check=True)
    assert read(tmp_path / "new-Anna's essays.csv") == DOCUMENTS


def test_a_workbook_is_read_by_the_sheet_with_the_columns(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["Grades of the spring term"])
    sheet = book.create_sheet("essays")
    sheet.append([])
    for cells in ([*HEADER, None], *([*row, None] for row in ROWS), [None, None]):
        sheet.append(cells)
    book.save(tmp_path / "t.xlsx")
    assert read(tmp_path / "t.xlsx") == DOCUMENTS
    assert notes(tmp_path / "t.xlsx") == {"sheet(s) passed over": 1}
    (tmp_path / "t.xlsx").rename(tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"t.csv: a workbook .*so that it ends in .xlsx"):
        read(tmp_path / "t.csv")


def test_a_cell_that_is_shown_as_a_percentage_is_one(tmp_path: Path) -> None:
    """Excel keeps 0.85 of it, which is on a scale of 0 to 100 too."""
    book = openpyxl.Workbook()
    for cells in (HEADER, ["a", "b", "c", 0.85]):
        book.worksheets[0].append(cells)
    book.worksheets[0].cell(2, 4).number_format = "0%"
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=r"row 2.*'85%' is not a number"):
        read(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER[:3]], "no column 'clarity'; the columns are: group, id, text"),
        ([HEADER], "no rows"),
        ([[*HEADER, "text"], ["a", "b", "c", 3]], "row 1: column 'text' is there twice"),
        ([HEADER, ["a", "b", "c", 3, "more"]], "row 2: 5 cells, but the header has 4"),
        ([HEADER, ["a", "b", True, 3]], "row 2, column 'text': the truth value True"),
    ],
    ids=["column", "rows", "twice", "cells", "truth"],
)
def test_what_is_wrong_with_a_workbook_is_told(
    tmp_path: Path, rows: list[list[object]], message: str
) -> None:
    book = openpyxl.Workbook()
    for cells in rows:
        book.worksheets[0].append(cells)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "t.xlsx")


# --- types of columns


def parquet(path: Path, **columns: Any) -> Path:
    whole = {name: pa.array([row[i] for row in ROWS]) for i, name in enumerate(HEADER)}
    pq.write_table(pa.table({**whole, **columns}), path)
    return path


TEXT = [str(row[2]) for row in ROWS]
TYPES: dict[str, tuple[str, Any]] = {
    "binary": ("text", pa.array([t.encode() for t in TEXT], pa.binary())),
    "large binary": ("text", pa.array([t.encode() for t in TEXT], pa.large_binary())),
    "large string": ("text", pa.array(TEXT, pa.large_string())),
    "string view": ("text", pa.array(TEXT, pa.string_view())),
    "dictionary": ("text", pa.array(TEXT).dictionary_encode()),
    "float32": ("clarity", pa.array([4, 2.5], pa.float32())),
    "float16": ("clarity", pa.array([4, 2.5], pa.float16())),
    "decimal": ("clarity", pa.array(["4.00", "2.50"]).cast(pa.decimal128(5, 2))),
    "text": ("clarity", pa.array(["4", "2,5"])),
    "more": ("embedding", pa.array([[0.5, 0.25], [0.125, 1.0]])),
    "dots": ("text.length", pa.array([1, 2])),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_of_columns_that_say_the_same(tmp_path: Path, name: str) -> None:
    column, values = TYPES[name]
    assert read(parquet(tmp_path / "t.parquet", **{column: values})) == DOCUMENTS


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        ("id", pa.array([2**60 + 1, 2**60 + 2]), [str(2**60 + 1), str(2**60 + 2)]),
        ("id", pa.array([7, 8], pa.uint8()), ["7", "8"]),
        ("id", pa.array([7.0, 8.5], pa.float32()), ["7", "8.5"]),
        ("id", pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
        ("group", pa.array([0, 19_000], pa.date32()), ["1970-01-01", "2022-01-08"]),
        ("group", pa.array([0, 86_400_000_000_000], pa.timestamp("ns")), ["1970-01-01", "1970-01-02"]),
        ("group", pa.array([0, 60], pa.time32("s")), ["00:00:00", "00:01:00"]),
        ("id", pa.array([bytes(15) + b"\x07", bytes(15) + b"\x08"], pa.uuid()),
         ["00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000008"]),
    ],
)  # fmt: skip
def test_types_of_names(tmp_path: Path, column: str, values: Any, names: list[str]) -> None:
    found = read(parquet(tmp_path / "t.parquet", **{column: values}))
    assert [getattr(document, column) for document in found] == names


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("text", pa.array(["Très".encode("latin-1")] * 2), "row 1, column 'text': bytes that are not UTF-8"),
        ("id", pa.array([bytes([i]) * 16 for i in (1, 2)], pa.binary(16)), "'id': bytes that are no text"),
        ("text", pa.array([["a"], ["b"]]), "'text': of type list, not a text"),
        ("text", pa.array([{"body": "a"}, {"body": "b"}]), "'text': of type dict, not a text"),
        ("group", pa.array([True, False]), "'group': the truth value True"),
        ("group", pa.array([1, 2], pa.duration("s")), "'group': of type timedelta, not a text"),
        ("group", pa.nulls(2), "'group': empty"),
        ("clarity", pa.array([True, False]), "'clarity': 'True' is not a number"),
        ("clarity", pa.array([[4], [2]]), "'clarity': of type list"),
        ("group", pa.array([10**18] * 2, pa.timestamp("us")), "not a readable Parquet file"),
        ("text", pa.array([b"caf\xe9", b"x"]).view(pa.string()), "not a readable Parquet file .*utf-8"),
    ],
)  # fmt: skip
def test_types_that_say_nothing(tmp_path: Path, column: str, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(parquet(tmp_path / "t.parquet", **{column: values}))


def test_a_parquet_column_that_is_there_twice(tmp_path: Path) -> None:
    arrays = [pa.array([row[i] for row in ROWS]) for i in (0, 1, 2, 3, 3)]
    pq.write_table(
        pa.Table.from_arrays(arrays, names=[*HEADER, "clarity "]), tmp_path / "t.parquet"
    )
    with pytest.raises(UserError, match="column 'clarity' is there twice, also written 'clarity '"):
        read(tmp_path / "t.parquet")


# --- folders


def half(i: int) -> str:
    return f"id,group,text,clarity\n{i},w{i},Essay {i}.,3\n"


def more_in(folder: Path, *parts: str) -> Path:
    for i, part in enumerate(parts):
        save(folder / part, half(i))
    return folder


def test_what_is_no_part_of_a_table_is_said(tmp_path: Path) -> None:
    more_in(
        tmp_path, "part-0.csv", "part-1.CSV", "._part-0.csv", "README.md", "_SUCCESS", "docs/a.txt"
    )
    assert [d.id for d in read(tmp_path)] == ["0", "1"]
    names = "._part-0.csv, README.md, _SUCCESS, docs"
    assert notes(tmp_path) == {f"file(s) passed over in data.path ({names})": 4}
    for i in range(9):
        (tmp_path / f"x{i}").touch()
    names += ", x0, ..."
    assert notes(tmp_path) == {f"file(s) passed over in data.path ({names})": 13}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("part-1.csv.gz", r"part-1.csv.gz would be left out: .*Unpack it: gunzip .*part-1.csv.gz"),
        ("part-1.jsonl.zst", "unzstd"),
        ("all.zip", "unzip"),
        ("part-1.json", r"one object a line; else: jq -c '.\[\]' .*part-1.json > .*part-1.jsonl"),
        ("part-1.ods", "save it as .xlsx"),
        ("part-1.feather", "Write it as .parquet or .csv"),
        (
            "year=2023/part-0.csv",
            r"has files of data in subfolders, .* left out: year=2023 \(1\). Give the",
        ),
        ("more/below/b.ndjson", r"left out: more \(1\)"),
        ("more/part-1.csv.gz", r"left out: more \(1\)"),
    ],
)
def test_data_that_would_be_left_out_is_refused(tmp_path: Path, part: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(more_in(tmp_path, "part-0.csv", part))


@pytest.mark.parametrize("folder", ["parts", "parts/below"])
def test_a_name_that_is_not_utf8_is_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    with open(os.fsencode(tmp_path / folder) + b"/caf\xe9.csv", "w") as stream:
        stream.write("id,text\n")
    with pytest.raises(UserError, match=r"caf\\udce9\.csv': the name of this file is not UTF-8"):
        parts_of(tmp_path / "parts", (".csv",), "data.path")


def test_a_folder_without_a_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file in .* that ends in .csv, .tsv"):
        read(more_in(tmp_path, "README.md"))
    with pytest.raises(
        UserError, match=r"left out: data \(1\). Give the folder with the files of one"
    ):
        read(more_in(tmp_path, "data/part-0.csv"))


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become another user")
def test_what_may_not_be_read_is_told() -> None:
    """Not that another folder is to be chosen to write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = more_in(Path(name), "part-0.csv", "more/part-1.csv")
        folder.chmod(0o755)
        (folder / "part-0.csv").chmod(0)
        (folder / "more").chmod(0)
        os.seteuid(65534)
        try:
            for path, closed in (
                ("part-0.csv", "part-0.csv"),
                ("more/part-1.csv", "part-1.csv"),
                ("", "more"),
                ("more", "more"),
            ):
                with pytest.raises(
                    UserError, match=rf"{closed} may not be read by you\. Give yourself"
                ):
                    read(folder / path)
        finally:
            os.seteuid(0)


# --- links


@pytest.mark.parametrize("of_folder", [False, True])
def test_data_in_a_store_of_links_is_read(tmp_path: Path, of_folder: bool) -> None:
    """As the hub keeps it: names are links to files that are called by their content."""
    save(tmp_path / "blobs/4f2d0c", written())
    snapshot = tmp_path / "snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "train.csv").symlink_to("../../blobs/4f2d0c")
    (tmp_path / "data").symlink_to(snapshot)
    assert read(snapshot if of_folder else snapshot / "train.csv") == DOCUMENTS
    assert read(tmp_path / "data" if of_folder else tmp_path / "data/train.csv") == DOCUMENTS
    (snapshot / "gone.csv").symlink_to("../../blobs/5e5e5e")
    with pytest.raises(
        UserError, match=r"gone.csv is a link to ../../blobs/5e5e5e, which does not exist"
    ):
        read(snapshot if of_folder else snapshot / "gone.csv")


def test_a_tilde_is_a_home_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data.path: ~nobody.csv does not exist"):
        read(Path("~nobody.csv"))
    save(Path("~nobody.csv"), written())
    assert read(Path("~nobody.csv")) == DOCUMENTS
    monkeypatch.setenv("HOME", str(save(tmp_path / "home/t.csv", written()).parent))
    assert read(Path("~/t.csv")) == DOCUMENTS


def test_a_link_that_was_copied_as_text_is_told_with_the_cure(tmp_path: Path) -> None:
    save(tmp_path / "blobs/4f2d0c", written())
    path = save(tmp_path / "snapshots/abc/train.csv", "../../blobs/4f2d0c")
    with pytest.raises(
        UserError, match=r"a link that was copied as text, .* Copy what it"
    ) as error:
        read(path)
    subprocess.run(shlex.split(str(error.value)[str(error.value).index("cp ") :]), check=True)
    assert read(path) == DOCUMENTS


def test_a_hidden_sheet_of_a_workbook_is_no_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].title, book.worksheets[0].sheet_state = "draft", "hidden"
    sheet = book.create_sheet("final")
    sheet.append(HEADER)
    book.worksheets[0].append(HEADER)
    for row in ROWS:
        sheet.append(row)
        book.worksheets[0].append([f"old {cell}" for cell in row])
    book.save(tmp_path / "t.xlsx")
    assert read(tmp_path / "t.xlsx") == DOCUMENTS
    book.worksheets[0].sheet_state = "visible"
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=r"t.xlsx: sheets draft, final have the same columns"):
        read(tmp_path / "t.xlsx")
