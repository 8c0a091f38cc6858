"""A rating stage in parts: the same ratings, whoever makes them and whatever becomes of them."""

import itertools
import json
import shutil
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.stages import parts as stage_parts
from debiasdpo.stages import rating_task
from debiasdpo.stages.rating_task import PromptIndex, RatingTask, part_store
from tests.helpers.jobs import run_folder, run_job, untimed

OPTIONS = (
    "model=llama8b", "train.nf4=false", "rate=expected", "method=none", "model.max_length=1024",
    "data.teachers=20", "data.lessons_per_teacher=1", "data.words=20",
    "data.split={train:0.2,validation:0.2,test:0.6}",
    "data.limit.test=null", "batching.prompts=3", "audit.resamples=100",
    "audit.categories=[experience,placebo]",
)  # fmt: skip


@pytest.fixture
def run(job_config: Callable[..., Any], tiny_llama: Path, tmp_path: Path) -> Callable[..., Path]:
    """The run folder of a job that rates 12 documents."""

    def run(output: str, *more: str) -> Path:
        where = (f"model.path={tiny_llama}", f"output_dir={tmp_path / output}")
        run_job(job_config(*OPTIONS, *where, *more))
        return run_folder(tmp_path / output)

    return run


@pytest.mark.slow
def test_parts_make_the_same_ratings_to_the_last_digit(run: Callable[..., Path]) -> None:
    whole, parts = run("whole"), run("parts", "batching.shards=5")
    ratings = whole / "ratings_base.jsonl"
    assert len(ratings.read_text().splitlines()) == 72
    assert (parts / "ratings_base.jsonl").read_bytes() == ratings.read_bytes()
    assert whole.name == parts.name  # it is the same job
    costs = [json.loads((f / "metrics.json").read_text()) for f in (whole, parts)]
    assert untimed(costs[0]) == untimed(costs[1])
    assert costs[0]["cost/ratings_base/tokens"] == costs[1]["cost/ratings_base/tokens"] > 0
    # What the whole holds is not kept twice.
    assert len(list((parts.parents[1] / "cache/ratings").rglob("manifest.json"))) == 1


@pytest.mark.slow
def test_a_finished_part_is_kept_when_the_job_is_stopped(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rated: list[str] = []
    stop_at = [5]
    real = rating_task._rate_batch

    def counted(task: Any, prompts: Any, rater: Any) -> Any:
        if len(rated) == stop_at[0]:
            raise KeyboardInterrupt
        rated.append(prompts[0].key)
        return real(task, prompts, rater)

    monkeypatch.setattr(rating_task, "_rate_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", "batching.shards=4")
    stop_at[0] = -1
    stopped = run("stopped", "batching.shards=4")
    assert len(rated) == len(set(rated)) == 12  # nothing was rated twice
    assert (stopped / "ratings_base.jsonl").read_bytes() == (
        run("whole") / "ratings_base.jsonl"
    ).read_bytes()


@pytest.mark.slow
def test_a_batch_that_was_cut_off_is_rated_again(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = (run("whole") / "ratings_base.jsonl").read_bytes()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rating_task, "_rate_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    (stage,) = (f for f in (tmp_path / "stopped/cache/ratings").iterdir() if f.is_dir())
    lines = whole.splitlines(keepends=True)
    (stage / "partial.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:9])  # of 6 a batch
    assert (run("stopped") / "ratings_base.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_another_process_takes_its_share(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def call(job: Job, task: RatingTask, parts: list[range]) -> Callable[[], None]:
        helper = threading.Thread(target=stage_parts.help_with, args=(task, parts[::-1]))
        helper.start()
        while not list(part_store(task, job.store).root.glob("*/*/manifest.json")):
            assert helper.is_alive()
            time.sleep(0.01)
        return helper.join

    monkeypatch.setattr(stage_parts, "_call_helpers", call)
    caplog.set_level("INFO", logger="debiasdpo")
    shared = run("shared", "batching.shards=6")
    (said,) = (m for m in caplog.messages if "of which other processes made" in m)
    assert 1 <= int(said.split()[-1]) <= 6
    monkeypatch.undo()
    assert (shared / "ratings_base.jsonl").read_bytes() == (
        run("whole") / "ratings_base.jsonl"
    ).read_bytes()


def test_a_process_with_another_model_is_refused(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tiny_llama: Path, tmp_path: Path
) -> None:
    """As where a node's own disk has another checkpoint in the same place."""
    other = shutil.copytree(tiny_llama, tmp_path / "other")
    (other / "generation_config.json").write_text("{}")
    refused: list[str] = []

    def call(job: Job, task: RatingTask, parts: list[range]) -> Callable[[], None]:
        model = task.config.local_model.model_copy(update={"path": str(other)})
        there = replace(task, config=task.config.model_copy(update={"model": model}))
        with pytest.raises(UserError) as error:
            stage_parts.help_with(there, parts)
        refused.append(str(error.value))
        return lambda: None

    monkeypatch.setattr(stage_parts, "_call_helpers", call)
    run("shared", "batching.shards=2")
    assert "is another model than that of the job" in refused[0]


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(1, 80))
def test_parts_are_neighbours_and_leave_nothing_out(sizes: list[int], count: int) -> None:
    index = PromptIndex(b"\0" * 16 * len(sizes), array("i", sizes), 0, ())
    nothing: Any = None
    task = RatingTask(nothing, nothing, "", "rating", (), {}, None, {}, index)
    parts = task.parts(count)
    assert list(itertools.chain(*parts)) == list(range(len(sizes)))
    assert len(parts) == min(count, len(sizes))
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1
    assert sum(map(index.prompts, parts)) == sum(sizes)
