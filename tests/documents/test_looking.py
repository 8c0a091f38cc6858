"""Input as people have it: looked at without knowing a column, read with scores, and read without."""

from pathlib import Path

import openpyxl
import pytest

from debiasdpo.config.data import TableConfig
from debiasdpo.documents import table
from debiasdpo.documents.looking import ROWS, look
from debiasdpo.documents.unscored import UnscoredDocuments
from debiasdpo.errors import UserError
from debiasdpo.start.files import config_of

COLUMNS = ["essay id", "the writer", "full text", "rater 1", "rater 2"]
TEXTS = ["Schools should start later, since; then, all sleep.", "Homework is good – at times."]
SCORES = [("4,5", "3"), ("NA", "2,5")]  # two raters; 4.5 and 3, none and 2.5


def lines(delimiter: str, *, quote: bool = True, comma: bool = True) -> str:
    mark = '"' if quote else ""
    rows = [
        [f"e{i}", f"w{i}", f"{mark}{text}{mark}", *scores]
        for i, (text, scores) in enumerate(zip(TEXTS, SCORES, strict=True))
    ]
    if not comma:
        rows = [[*row[:3], *(cell.replace(",", ".") for cell in row[3:])] for row in rows]
    return "".join(delimiter.join(row) + "\r\n" for row in [COLUMNS, *rows])


FILES: dict[str, tuple[str, bytes]] = {
    "semicolons and decimal commas": ("t.csv", lines(";").encode()),
    "sep= line": ("t.csv", ("sep=;\r\n" + lines(";")).encode()),
    "Excel's Unicode text": ("t.csv", lines("\t", quote=False).encode("utf-16")),
    "UTF-16 with semicolons": ("t.csv", lines(";").encode("utf-16")),
    "a mark of UTF-8": ("t.csv", lines(",", comma=False).encode("utf-8-sig")),
    "tabs": ("t.tsv", lines("\t", quote=False).encode()),
    "bars": ("t.csv", lines("|", quote=False).encode()),
    "missing as R, SAS and pandas say": (
        "t.csv", lines(";").replace("NA", ".").encode()),
    "a space that does not break, in a name": (
        "t.csv", lines(";").replace("essay id", "essay\u00a0id").encode()),
}  # fmt: skip


def config(path: Path) -> TableConfig:
    return config_of(
        {
            "heading": "H", "about": "a", "path": str(path), "id_column": "essay id",
            "group_column": "the writer", "text_column": "full text",
            "score_columns": {"quality": ["rater 1", "rater 2"]},
            "rubrics": {"quality": {"question": "Good?", "low": 1, "high": 5}},
        }
    )  # fmt: skip


def check(path: Path) -> None:
    seen = look(str(path), "--from")
    assert list(seen.columns) == COLUMNS
    assert seen.rows == 2
    assert seen.columns["rater 1"].numbers == (4.5,)
    assert seen.columns["rater 2"].numbers == (2.5, 3)
    documents = list(table.read(config(path)).documents)
    assert [(d.id, d.group, d.text) for d in documents] == [
        ("e0", "w0", TEXTS[0]), ("e1", "w1", TEXTS[1])]  # fmt: skip
    assert [d.scores for d in documents] == [{"quality": 3.75}, {"quality": 2.5}]
    assert [d.experts for d in documents] == [{"quality": (4.5, 3)}, {}]
    new = UnscoredDocuments(
        str(path), key="DOCUMENTS", id_column="essay id", text_column="full text"
    )
    assert [(d.id, d.text, d.scores) for d in new] == [("e0", TEXTS[0], {}), ("e1", TEXTS[1], {})]


@pytest.mark.parametrize("name", FILES)
def test_each_way_to_write_a_table_reads_alike(tmp_path: Path, name: str) -> None:
    file, content = FILES[name]
    (tmp_path / file).write_bytes(content)
    check(tmp_path / file)


@pytest.mark.parametrize(("delimiter", "other"), [(";", ","), (",", ";"), ("\t", ",")])
def test_a_name_that_holds_another_delimiter_more_often_does_not_mislead(
    tmp_path: Path, delimiter: str, other: str
) -> None:
    asked = f"Is it clear{other} concise{other} precise{other} well made{other} short{other} fair?"
    rows = [["id", "text", asked]]
    rows += [[f"e{i}", f'"A line{other}\nand {i}{delimiter} more"', "3"] for i in range(60)]
    path = tmp_path / "t.csv"
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows))
    seen = look(str(path), "--from")
    assert list(seen.columns) == ["id", "text", asked]
    assert seen.columns["text"].cells[59] == f"A line{other}\nand 59{delimiter} more"
    assert seen.columns[asked].numbers == (3,)


def test_columns_that_are_known_tell_the_delimiter_of_rows_that_end_early(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;text;Is it clear, concise, precise, fair?\ne1;A text\ne2;A text, too;3\n")
    for known in (["id"], ["text", "absent"]):
        seen = look(str(path), "--from", known)
        assert list(seen.columns) == ["id", "text", "Is it clear, concise, precise, fair?"]


def test_so_does_a_workbook_whose_table_is_on_another_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["Read me", "by hand"])
    sheet = book.create_sheet("data")
    sheet.append(COLUMNS)
    sheet.append(["e0", "w0", TEXTS[0], 4.5, 3])
    sheet.append(["e1", "w1", TEXTS[1], "NA", 2.5])
    book.save(tmp_path / "t.xlsx")
    check(tmp_path / "t.xlsx")


def test_a_document_of_several_rows_is_rated_once(tmp_path: Path) -> None:
    rows = "id,rater,text\na,kim,Text a.\na,lee,\nb,kim,Text b.\nb,lee,Text b.\nb,pat,\nc,kim,Text a.\n"
    file = tmp_path / "t.csv"
    file.write_text(rows)
    new = UnscoredDocuments(str(file), key="DOCUMENTS", id_column="id", text_column="text")
    assert [(d.id, d.text) for d in new] == [("a", "Text a."), ("b", "Text b."), ("c", "Text a.")]
    assert len(new) == 3
    assert new.notes == {"further row(s) of documents that are there already": 3}
    file.write_text(rows + "b,lou,Another text.\n")
    with pytest.raises(
        UserError, match=r"row 8: id 'b' is already that of .*row 6, with another text"
    ):
        UnscoredDocuments(str(file), key="DOCUMENTS", id_column="id", text_column="text")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.xls", b"\xd0\xcf\x11\xe0", "In Excel, save it as .xlsx"),
        ("t.csv", lines(";").encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("t.csv", lines(";").encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        ("t.csv", lines(";").encode()[: len(COLUMNS) * 9], "no rows"),
        ("t.csv", b"a;a\r\n1;2\r\n", "column 'a' is there twice"),
        ("t.doc", b"", "a table is read from .csv, .tsv, .xlsx"),
    ],
    ids=["xls", "no mark", "windows", "header alone", "twice", "kind"],
)
def test_what_cannot_be_looked_at_is_told_with_the_cure(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        look(str(tmp_path / name), "--from")


def test_cells_that_are_no_texts_are_no_reason_to_stop(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"id": 1, "text": "A text.", "tags": ["a"], "done": true}\n' * (ROWS + 5))
    seen = look(str(file), "--from")
    assert seen.rows == ROWS  # and not more
    assert [c.name for c in seen.without(())] == ["id", "text"]
    assert not seen.unique("id")
