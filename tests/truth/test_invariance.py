"""What must change no figure, to the last bit: order and names, files and encodings, batches and places."""

import csv
import json
import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import debiasdpo
from debiasdpo.config.sameness import same_name
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.callable import CallableRater
from debiasdpo.tasks import rubric_rating
from tests.helpers.jobs import JobConfigs, override, untimed
from tests.helpers.variants import Audited, audited, judge, renamed_keys

Metrics = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
AUDITED = audited()


def assert_same(found: Metrics, expected: Metrics) -> None:
    assert found.keys() == expected.keys()
    assert {k: (found[k], v) for k, v in expected.items() if found[k] != v} == {}


# --- order and names


def figures(given: Audited, **more: Any) -> Metrics:
    found = debiasdpo.audit(
        judge, given.documents, given.rubrics, given.categories, statements=1, resamples=100, **more
    )
    return untimed(found.metrics)


@pytest.fixture(scope="module")
def expected() -> Metrics:
    return figures(AUDITED)


# Each example is an audit of a fifth of a second: none is tried again to make a failing one smaller.
FEW = settings(max_examples=4, phases=(Phase.explicit, Phase.reuse, Phase.generate))
SEEDS = st.integers(0, 99)
NAMES = st.text("aAbzé0 9_.-/|", min_size=1, max_size=4).filter(lambda name: name.strip(" ."))


@st.composite
def new_names(draw: st.DrawFn, of: str) -> dict[str, str]:
    """Other names for all that have one of this kind."""
    old = AUDITED.names[of]
    different = st.lists(
        NAMES,
        min_size=len(old),
        max_size=len(old),
        unique_by=(lambda n: n.casefold().strip(" .0"), same_name),  # -0 is 0
    )
    return dict(zip(old, draw(different), strict=True))


def reordered(seed: int) -> Audited:
    return AUDITED.reordered(random.Random(seed))


@FEW
@given(seed=SEEDS)
def test_order(expected: Metrics, seed: int) -> None:
    """Of documents, and of rubrics and categories in the configuration."""
    assert_same(figures(reordered(seed)), expected)


@pytest.mark.parametrize("of", AUDITED.names)
def test_names(expected: Metrics, of: str) -> None:
    @FEW
    @given(names=new_names(of), seed=SEEDS)
    def check(names: dict[str, str], seed: int) -> None:
        found = figures(reordered(seed).renamed({of: names}))
        assert_same(found, renamed_keys(expected, {of: names}))

    check()


def test_names_that_are_numbers(expected: Metrics) -> None:
    documents = pd.DataFrame(AUDITED.documents)
    for column in ("id", "group"):
        documents[column] = documents[column].factorize()[0]
    numbered = Audited(documents, AUDITED.rubrics, AUDITED.categories)
    assert_same(figures(numbered), expected)


WRITTEN: dict[str, Callable[[str], str]] = {
    "apart": lambda text: unicodedata.normalize("NFD", text),
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "cr": lambda text: text.replace("\n", "\r"),
    "byte order marks": lambda text: f"\ufeff{text}",
    "space around": lambda text: f" {text}\n",
}


@pytest.mark.parametrize("written", WRITTEN)
def test_texts_written_otherwise(expected: Metrics, written: str) -> None:
    """Of documents, rubrics and statements."""
    assert_same(figures(AUDITED.rewritten(WRITTEN[written])), expected)


# --- files and encodings


def job(job_config: JobConfigs, path: Path, output: Path, *more: str) -> Metrics:
    """A job whose documents are split, by seed, and drawn, to limits."""
    config = job_config(
        "rate=text", "method=none", "data=table", f"data.path={path}",
        f"data.rubrics={override(AUDITED.rubrics)}",
        "data.split={train: 0.3, validation: 0.2, test: 0.5}", "data.limit.test=9",
        f"++context.categories={override(AUDITED.categories)}",
        f"audit.categories=[{','.join(AUDITED.categories)}]", "audit.resamples=100",
        f"output_dir={output}", *more,
    )  # fmt: skip
    rater = CallableRater(judge, "judge", "1")
    return untimed(rubric_rating.run(config, Choices("judge", "documents"), rater))


def jsonl(rows: Rows, folder: Path, name: str = "rows.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows))
    return file


def delimited(
    rows: Rows, file: Path, delimiter: str = ",", encoding: str = "utf-8", end: str = "\n"
) -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)
    return file


def changed(rows: Rows, change: Callable[[str], str]) -> Rows:
    """With every text changed, names too."""
    return [
        {change(k): change(cell) if isinstance(cell, str) else cell for k, cell in row.items()}
        for row in rows
    ]


def parquet(rows: Rows, folder: Path) -> Path:
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def parts(rows: Rows, folder: Path) -> Path:
    below = folder / "parts"
    below.mkdir()
    jsonl(rows[:7], below, "b.jsonl")
    jsonl(rows[7:], below, "a.jsonl")
    return below


FORMS: dict[str, Callable[[Rows, Path], Path]] = {
    "csv": lambda rows, folder: delimited(rows, folder / "rows.csv"),
    "csv of a spreadsheet": lambda rows, folder: delimited(
        rows, folder / "rows.csv", ";", "utf-8-sig", "\r\n"
    ),
    "tsv": lambda rows, folder: delimited(rows, folder / "rows.tsv", "\t"),
    "utf-16": lambda rows, folder: delimited(rows, folder / "rows.csv", encoding="utf-16"),
    "parquet": parquet,
    "folder": parts,
    "other order": lambda rows, folder: jsonl(
        [dict(list(row.items())[::-1]) for row in random.Random(1).sample(rows, len(rows))], folder
    ),
    **{
        written: lambda rows, folder, change=change: jsonl(changed(rows, change), folder)  # type: ignore[misc]
        for written, change in WRITTEN.items()
    },
}


@pytest.fixture(scope="module")
def of_job(job_config: JobConfigs, tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    folder = tmp_path_factory.mktemp("job")
    return job(job_config, jsonl(AUDITED.documents, folder), folder / "out")


@pytest.mark.parametrize("form", FORMS)
def test_files(job_config: JobConfigs, of_job: Metrics, form: str, tmp_path: Path) -> None:
    path = FORMS[form](AUDITED.documents, tmp_path)
    assert_same(job(job_config, path, tmp_path / "out"), of_job)


def test_a_row_for_each_rubric(job_config: JobConfigs, of_job: Metrics, tmp_path: Path) -> None:
    rows = [
        {**{k: d[k] for k in ("id", "group", "text")}, "rubric": name, "score": d[name]}
        for name in AUDITED.rubrics
        for d in AUDITED.documents
    ]
    path = jsonl(rows, tmp_path)
    assert_same(job(job_config, path, tmp_path / "out", "data.layout=long"), of_job)


# --- batches and places


@pytest.mark.parametrize(
    "more", ["batching.prompts=1", "batching.prompts=1000", "batching.shards=3", "gpu_hour_price=2"]
)
def test_batches(job_config: JobConfigs, of_job: Metrics, more: str, tmp_path: Path) -> None:
    path = jsonl(AUDITED.documents, tmp_path)
    assert_same(job(job_config, path, tmp_path / "out", more), of_job)


def test_places(
    job_config: JobConfigs, of_job: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(AUDITED.documents, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_same(job(job_config, Path("rows.jsonl"), Path("'Größe = 3, other'")), of_job)
