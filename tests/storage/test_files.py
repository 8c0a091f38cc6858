"""Fingerprints, and files that are whole or not there."""

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.storage.files import (
    fingerprint,
    read_jsonl,
    write_jsonl,
    write_text,
)
from tests.helpers.generated import JSON, ROWS, SAME_FOLDER


@given(value=st.dictionaries(st.text(), JSON))
def test_equal_values_have_equal_fingerprints_in_any_order(value: dict[str, Any]) -> None:
    name = fingerprint(value)
    assert len(name) == 16
    assert name == fingerprint(dict(reversed(value.items())))
    assert name == fingerprint(json.loads(json.dumps(value)))
    assert name != fingerprint({**value, "one more": 1})


def test_a_fingerprint_stays_the_same_over_versions() -> None:
    assert fingerprint({"b": [1, "é"], "a": None}) == "f8f17faab95c0248"


@SAME_FOLDER
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_text_comes_back_and_leaves_nothing_beside_it(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "deep/er/file", text)
    assert (tmp_path / "deep/er/file").read_text(encoding="utf-8") == text
    assert len(list((tmp_path / "deep/er").iterdir())) == 1


@SAME_FOLDER
@given(rows=ROWS)
def test_rows_come_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_text(tmp_path / "file", "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_reader_sees_the_old_text_or_the_new_one_whenever_the_writer_is_killed(
    tmp_path: Path,
) -> None:
    texts = {letter * 200_000 for letter in "ab"}
    write_text(tmp_path / "file", "a" * 200_000)
    for wait in (0.0, 0.01, 0.03, 0.05):
        writer = multiprocessing.get_context("fork").Process(
            target=_write_forever, args=(tmp_path / "file", sorted(texts))
        )
        writer.start()
        seen = {(tmp_path / "file").read_text() for _ in range(20)}
        time.sleep(wait)
        writer.kill()
        writer.join()
        assert seen <= texts
        assert (tmp_path / "file").read_text() in texts


def _write_forever(file: Path, texts: list[str]) -> None:
    while True:
        for text in texts:
            write_text(file, text)
