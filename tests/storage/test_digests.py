"""SHA-256 of large files: each read once, and again whenever it may be another."""

import hashlib
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from debiasdpo.errors import UserError
from debiasdpo.storage import digests
from debiasdpo.storage.files import read_json, write_json

LARGE = 2 * 2**20  # bytes; smaller ones are read each time
NOT_READ = "what the cache says"


def sha256(file: Path, cache: Path) -> str:
    return digests.digests({"it": file}, cache)["it"]


def planted(cache: Path) -> None:
    """Change what the cache says, so that whoever believes it shows that."""
    (entry,) = (cache / "digests").iterdir()
    write_json(entry, {**read_json(entry), "sha256": NOT_READ})


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose digest is in `tmp_path`/cache, and is planted."""
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    file = tmp_path / "weights"
    file.write_bytes(b"a" * LARGE)
    time.sleep(0.05)  # a tick of the disk's clock
    assert sha256(file, tmp_path / "cache") == hashlib.sha256(b"a" * LARGE).hexdigest()
    planted(tmp_path / "cache")
    return file


def test_a_large_file_is_read_once(large: Path, tmp_path: Path) -> None:
    assert sha256(large, tmp_path / "cache") == NOT_READ
    assert sha256(large, tmp_path / "other") != NOT_READ
    other = large.rename(tmp_path / "renamed")  # some systems change ctime for that
    assert sha256(other, tmp_path / "cache") in (NOT_READ, sha256(other, tmp_path / "other"))


def test_small_files_are_always_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    file = tmp_path / "config.json"
    file.write_bytes(b"a" * 999)
    assert sha256(file, tmp_path) == hashlib.sha256(b"a" * 999).hexdigest()
    assert not (tmp_path / "digests").exists()


@pytest.mark.parametrize("how", ["in place", "another file", "a link", "touched"])
def test_equal_size_and_time_hide_no_other_content(how: str, large: Path, tmp_path: Path) -> None:
    times = large.stat().st_atime_ns, large.stat().st_mtime_ns
    other = tmp_path / "other"
    other.write_bytes(b"b" * LARGE)
    os.utime(other, ns=times)
    if how == "in place":
        with large.open("r+b") as stream:
            stream.write(b"b" * LARGE)
    elif how == "another file":
        os.replace(other, large)
    elif how == "a link":
        large.unlink()
        large.symlink_to(other)
    os.utime(large, ns=times)
    assert large.stat().st_mtime_ns == times[1]
    content = b"a" if how == "touched" else b"b"
    assert sha256(large, tmp_path / "cache") == hashlib.sha256(content * LARGE).hexdigest()


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    """It could be written once more within one tick of the disk's clock."""
    file = tmp_path / "weights"
    for content in (b"a", b"b", b"c"):
        file.write_bytes(content * LARGE)
        os.utime(file, ns=(0, 0))
        assert sha256(file, tmp_path) == hashlib.sha256(content * LARGE).hexdigest()
    assert not (tmp_path / "digests").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff", b'{"sha256": null}'])
def test_a_damaged_entry_is_not_believed(damage: bytes, large: Path, tmp_path: Path) -> None:
    (entry,) = (tmp_path / "cache/digests").iterdir()
    entry.write_bytes(damage)
    right = hashlib.sha256(b"a" * LARGE).hexdigest()
    assert sha256(large, tmp_path / "cache") == right
    assert read_json(entry)["sha256"] == right


def test_a_cache_that_cannot_be_written_costs_time_alone(large: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    right = hashlib.sha256(b"a" * LARGE).hexdigest()
    assert sha256(large, tmp_path / "file") == right
    assert sha256(large, tmp_path / "file/below") == right


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"a" * 32 * LARGE)
    done = threading.Event()

    def touch() -> None:
        while not done.is_set():
            os.utime(file)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        with pytest.raises(UserError, match="is being written; wait until it is complete"):
            sha256(file, tmp_path)
    finally:
        done.set()
        toucher.join()


def test_processes_share_a_cache(large: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(sha256, [(large, tmp_path / "cache")] * 8)
    assert set(found) == {hashlib.sha256(b"a" * LARGE).hexdigest()}
