"""Finished work, row by row, that a kill cannot take."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.storage.files import read_jsonl
from debiasdpo.storage.journal import Journal
from tests.helpers.generated import ROWS, SAME_FOLDER


@SAME_FOLDER
@given(rows=ROWS, data=st.data())
def test_a_journal_cut_off_anywhere_keeps_its_whole_rows_and_goes_on(
    tmp_path: Path, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    file = tmp_path / "journal.jsonl"
    file.unlink(missing_ok=True)
    journal = Journal(file)
    journal.append(rows)
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])

    again = Journal(file)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    assert again.rows == rows[: sum(end <= cut for end in ends)]
    again.append([{"next": 1}])
    assert Journal(file).rows == [*again.rows] == read_jsonl(file)
    assert again.rows[-1] == {"next": 1}


@SAME_FOLDER
@given(rows=ROWS, end=st.binary(max_size=20))
def test_what_a_crash_leaves_at_the_end_of_a_journal_is_dropped(
    tmp_path: Path, rows: list[dict[str, Any]], end: bytes
) -> None:
    file = tmp_path / "journal.jsonl"
    file.unlink(missing_ok=True)
    Journal(file).append(rows)
    with file.open("ab") as stream:
        stream.write(b"\x00" + end)  # blocks that were never written read as zeros
    assert Journal(file).rows == rows
    assert Journal(file).rows == read_jsonl(file)


def test_a_journal_that_was_cut_off_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal.jsonl").write_text('{"a": 1}\n{"a"')
    Journal(tmp_path / "journal.jsonl")
    assert "was cut off; 1 finished rows are kept" in caplog.text


def test_half_a_character_of_a_reply_ends_no_work(tmp_path: Path) -> None:
    """JSON can say it (`\\ud83d`), as some services cut an emoji in two, and UTF-8 cannot."""
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([{"text": "Well \ud83d"}, {"text": "done \U0001f600"}])
    assert journal.rows == [{"text": "Well \ufffd"}, {"text": "done \U0001f600"}]
