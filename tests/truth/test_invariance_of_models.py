"""What must change no figure of a model that is trained: order, names, batches, and where and how it runs."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.jobs import JobConfigs, override, run_folder, run_job, untimed
from tests.helpers.variants import Audited, audited, renamed_keys

pytestmark = pytest.mark.slow

Metrics = dict[str, Any]
AUDITED = audited()
TRAINED = ("hope", "race")
TRAINING = ("method.consistency=own",)  # beside the default's terms
NAMES = {
    of: {name: f"{of} {len(old) - i}" for i, name in enumerate(old)}
    for of, old in AUDITED.names.items()
}


def overrides(
    given: Audited, model: Path, folder: Path, trained: Sequence[str] = TRAINED
) -> list[str]:
    """A job that samples reasoning and trains on it, unless its method is none."""
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(dict(row)) + "\n" for row in given.documents))
    return [
        f"model.path={model}", "model.max_length=1024", "model.lora.rank=4",
        "data=table", f"data.path={override(str(table))}", f"data.rubrics={override(given.rubrics)}",
        "data.split={train: 0.4, validation: 0.2, test: 0.4}",
        "data.limit={train: 3, validation: 2, test: 5}",
        f"++context.categories={override(given.categories)}", "context.train.sycophancy=false",
        f"+context.train={override(dict.fromkeys(trained, True))}",
        f"audit.categories={override(list(given.categories))}", "audit.resamples=100",
        "rate.max_new_tokens=6", "rate.temperature=1.0", "batching.prompts=3",
        "train.epochs=1", "train.batch_pairs=3", "train.batch_documents=2", "train.audit_every=2",
        "train.learning_rate=3e-3", "train.target_reduction=0", "loss.w_consistency=20",
        f"output_dir={override(str(folder / 'out'))}",
    ]  # fmt: skip


def figures(
    job_config: JobConfigs,
    given: Audited,
    model: Path,
    folder: Path,
    *more: str,
    trained: Sequence[str] = TRAINED,
) -> Metrics:
    method = () if "method=none" in more else TRAINING
    return untimed(run_job(job_config(*overrides(given, model, folder, trained), *method, *more)))


def assert_same(found: Metrics, expected: Metrics) -> None:
    assert found.keys() == expected.keys()
    assert {k: (found[k], v) for k, v in expected.items() if found[k] != v} == {}


@pytest.fixture(scope="module")
def expected(
    job_config: JobConfigs, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Metrics:
    return figures(job_config, AUDITED, tiny_llama, tmp_path_factory.mktemp("expected"))


def test_order_and_names(
    job_config: JobConfigs, expected: Metrics, tiny_llama: Path, tmp_path: Path
) -> None:
    assert expected["bias/trained/base"] != expected["bias/trained/tuned"]  # something was trained
    other = AUDITED.reordered(random.Random(1)).renamed(NAMES)
    found = figures(
        job_config,
        other,
        tiny_llama,
        tmp_path,
        trained=[NAMES["category"][name] for name in reversed(TRAINED)],
    )
    assert_same(found, renamed_keys(expected, NAMES))


def test_place_locale_time_zone_and_hash_seed(
    expected: Metrics, tiny_llama: Path, tmp_path: Path
) -> None:
    """Of the command, with paths from where it is started."""
    given = [
        *overrides(AUDITED, tiny_llama, tmp_path),
        *TRAINING,
        "output_dir='Größe 1/other = place'",
    ]
    (tmp_path / "rows.jsonl").rename(tmp_path / "Größe.jsonl")
    given.append("data.path='Größe.jsonl'")
    elsewhere = {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-m", "debiasdpo.run", *given], cwd=tmp_path, env={**os.environ, **elsewhere},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path / "Größe 1/other = place")
    assert_same(untimed(json.loads((folder / "metrics.json").read_text())), expected)


@pytest.fixture(scope="module")
def audited_once(
    job_config: JobConfigs, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Metrics:
    return figures(
        job_config,
        AUDITED,
        tiny_llama,
        tmp_path_factory.mktemp("once"),
        "method=none",
        "rate.temperature=0",
    )


def test_shards(
    job_config: JobConfigs, audited_once: Metrics, tiny_llama: Path, tmp_path: Path
) -> None:
    more = ("method=none", "rate.temperature=0", "batching.shards=3")
    assert_same(figures(job_config, AUDITED, tiny_llama, tmp_path, *more), audited_once)


@pytest.mark.parametrize("batching", ["batching.prompts=100", "batching.max_tokens=150"])
def test_batches(
    job_config: JobConfigs, audited_once: Metrics, tiny_llama: Path, tmp_path: Path, batching: str
) -> None:
    """To rounding, since sums of other shapes are rounded otherwise."""
    more = ("method=none", "rate.temperature=0", batching)
    found = figures(job_config, AUDITED, tiny_llama, tmp_path, *more)
    assert found.keys() == audited_once.keys()
    for key, value in audited_once.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
