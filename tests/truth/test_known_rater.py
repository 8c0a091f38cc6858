"""A rater of which everything is known goes through whole jobs: every figure is what it must be.

Twice: held against what the rater itself returned, figure by figure and interval by interval; and, over many
draws of documents, groups and noise, held against the population, which intervals must cover as often as
they say.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import audits, known_values
from benchmarks.known_rater import CATEGORIES, NEUTRAL, REMINDER, RUBRICS, KnownRater, World
from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.callable import CallableRater
from debiasdpo.tasks import rubric_rating
from tests.helpers import known_figures
from tests.helpers.jobs import JobConfigs, override
from tests.helpers.thorough import THOROUGH

Metrics = dict[str, Any]
RESAMPLES = 100
SETS = {"trained": ("status",), "unseen": ("hope", "origin")}


def reminding_job(job_config: JobConfigs, folder: Path, resamples: int) -> JobConfig:
    """The job that measures a rater as it is, and once more with a reminder in every prompt."""
    return job_config(
        "rate=text", "rate.temperature=1", "method=prompt_ignore", f"method.reminder={REMINDER!r}",
        "data=table", f"data.path={_write(World(0, 1), folder)}", f"data.rubrics={override(RUBRICS)}",
        "data.split={train: 0, validation: 0, test: 1}",
        f"++context.categories={override(CATEGORIES)}", "context.train.sycophancy=false",
        *(f"+context.train.{name}=true" for name in SETS["trained"]),
        f"audit.categories=[{','.join(CATEGORIES)}]", "audit.statements=2",
        f"audit.resamples={resamples}",
    )  # fmt: skip


def reminded(
    config: JobConfig, folder: Path, world: World, rater: KnownRater, seed: int
) -> Metrics:
    """What the job finds, with its files in the folder."""
    data = config.data.model_copy(update={"path": str(_write(world, folder))})
    mine = config.model_copy(update={"data": data, "seed": seed, "output_dir": str(folder / "out")})
    return rubric_rating.run(
        mine, Choices("known", "documents"), CallableRater(rater, "known", "1")
    )


def _write(world: World, folder: Path) -> Path:
    table = folder / "documents.jsonl"
    table.write_text("".join(json.dumps(document) + "\n" for document in world.documents))
    return table


def figures(found: Metrics) -> Metrics:
    """What does not depend on how long it took, nor, as p does, on the orders that were drawn."""
    return {
        key: value
        for key, value in found.items()
        if not key.startswith(("time/", "cost/"))
        and not key.endswith("_note")
        and "failed_p" not in key
        and "declined_p" not in key
    }


# --- against the rater's own replies


def assert_known(found: Metrics, world: World, rater: KnownRater, seed: int, **sets: Any) -> None:
    """Every figure, to the last digits; one that is not known fails, as one that is not there."""
    models = {
        model: known_figures.rated([r for r in rater.log if r["reminded"] == (model == "tuned")])
        for model in ("base", "tuned")
        if any(r["reminded"] == (model == "tuned") for r in rater.log)
    }
    groups = list(dict.fromkeys(row["group"] for row in rater.log))
    wanted = known_figures.expected(models, sets, groups, RESAMPLES, seed)
    wanted |= known_figures.of_scores(world.documents, RUBRICS)
    wanted |= known_figures.reasons(rater.log)
    mine = figures(found)
    assert mine.keys() == wanted.keys()
    for key, value in wanted.items():
        assert mine[key] == pytest.approx(value, rel=1e-12, abs=1e-12), key
    for key, note in found.items():
        if read := re.match(
            r"over the (\d+) of (\d+) prompts", note if key.endswith("_note") else ""
        ):
            assert (
                int(read[1]) == wanted[key.replace("_note", "_of")]["prompts"] < 0.95 * int(read[2])
            )


@pytest.mark.parametrize("groups", [3, 12])  # of three, samples without a category are drawn
def test_every_figure_of_an_audit_is_what_the_raters_own_replies_give(groups: int) -> None:
    world, seed = World(2, groups), 2
    rater = KnownRater(world, seed)
    assert_known(audits.audit(world, rater, seed, RESAMPLES), world, rater, seed)


@pytest.mark.slow
def test_so_is_every_figure_of_two_ways_to_ask(job_config: JobConfigs, tmp_path: Path) -> None:
    world, seed = World(4, 12), 4
    rater = KnownRater(world, seed)
    found = reminded(reminding_job(job_config, tmp_path, RESAMPLES), tmp_path, world, rater, seed)
    assert_known(found, world, rater, seed, **SETS)


# --- against the population

# Of 150 intervals, those that hold the truth 80 % of the time are found out with a probability of 94 %; of
# the 50 of what changes, those that hold it 70 % of the time with one of 86 % (binomial, as in `wrong`). Of
# 60 and 20, those that hold it 70 % and 50 % of the time.
SEEDS, GROUPS = 150 if THOROUGH else 60, 40
# Also asked with a reminder; as they are without it, they count among the 150.
TWICE = range(SEEDS - SEEDS // 3, SEEDS)
P_OF_FAILURES = ("failed_p/base", "category/hope/failed_p/base", "category/origin/failed_p/base")


def wrong(found: Mapping[str, audits.Held], seeds: int) -> dict[str, audits.Held]:
    """Of the intervals that say 95 %, between 93 and 97 % hold the truth; of those of the spread, 87 % are
    known to (benchmarks/README.md). Of so many seeds, chance brings fewer or more once in a thousand
    times."""
    fewest = {
        key: stats.binom.ppf(0.0005, seeds, 0.87 if "spread" in key or "relative" in key else 0.93)
        for key in found
    }
    most = stats.binom.ppf(0.9995, seeds, 0.97)
    return {key: held for key, held in found.items() if not fewest[key] <= held.holding <= most}


@contextmanager
def memory() -> Iterator[None]:
    """Temporary files in memory, where the machine has a place for them: there are many."""
    with pytest.MonkeyPatch.context() as patch:
        if Path("/dev/shm").is_dir():
            patch.setattr(tempfile, "tempdir", "/dev/shm")
        yield


@pytest.fixture(scope="module")
def asked_twice(job_config: JobConfigs, tmp_path_factory: pytest.TempPathFactory) -> list[Metrics]:
    """Of each seed of `TWICE`: what a job finds that asks once as it is, and once with a reminder."""
    job = reminding_job(job_config, tmp_path_factory.mktemp("reminded"), 500)
    found = []
    with memory():
        for seed in TWICE:
            world = World(seed, GROUPS)
            with tempfile.TemporaryDirectory() as folder:
                found.append(reminded(job, Path(folder), world, KnownRater(world, seed), seed))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("asked twice")
def test_intervals_of_an_audit_hold_the_truth_as_often_as_they_say(
    asked_twice: list[Metrics],
) -> None:
    with memory():
        found = audits.figures(GROUPS, SEEDS - len(TWICE), resamples=500) + asked_twice
    assert wrong(audits.held(audits.truth(), found), SEEDS) == {}
    # Failures depend on the context, but not on what is hoped for.
    rejected = {name: sum(one[name] < 0.05 for one in found) for name in P_OF_FAILURES}
    assert rejected["category/hope/failed_p/base"] <= stats.binom.ppf(0.9995, SEEDS, 0.05)
    assert rejected["category/origin/failed_p/base"] == rejected["failed_p/base"] == SEEDS


@pytest.mark.slow
@pytest.mark.xdist_group("asked twice")
def test_so_do_those_of_what_changes(asked_twice: list[Metrics]) -> None:
    own, both = (
        {
            f"{key}/{model}": value
            for model in ("base", "tuned")
            for key, value in known_values.population(SETS, model == "tuned", models).items()
        }
        for models in (1, 2)  # those that must have rated a prompt
    )
    truth = own | known_figures.changes(both)
    assert wrong(audits.held(truth, asked_twice), len(TWICE)) == {}


@pytest.mark.slow
def test_intervals_that_took_rows_for_independent_would_not() -> None:
    """Groups matter to this rater: a check of coverage that these pass finds nothing."""
    truth, found = known_values.population({})["category/status/bias"], []
    for seed in range(150):
        world = World(seed, GROUPS)
        rater = KnownRater(world, seed)
        for document in world.documents:
            for rubric in RUBRICS:
                for cell in (NEUTRAL, ("status", 1), ("status", -1)):
                    rater.rate(document["text"], rubric, cell)
        shifts = known_figures.rated(rater.log)["shift"]
        sizes = np.abs(shifts[np.isfinite(shifts)])
        ends = stats.norm.interval(0.95, sizes.mean(), stats.sem(sizes))
        found.append({"bias": sizes.mean(), "bias_ci": ends})
    assert wrong(audits.held({"bias": truth}, found), 150)
