"""Every preset composes and validates; what the schema takes, and what it refuses."""

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from debiasdpo.config.build import build
from debiasdpo.config.context import PLACEBO, POLARITIES
from debiasdpo.config.job import JobConfig
from debiasdpo.errors import UserError
from debiasdpo.run import conf_dir
from tests.helpers.composed import composed

CONF = conf_dir()
CATEGORIES = sorted(f.stem for f in (CONF / "category").glob("*.yaml") if f.stem != "all")
MODELS = sorted(f.stem for f in (CONF / "model").glob("*.yaml") if "\nkind: local" in f.read_text())
# What an endpoint needs beside its file, and a readout that only endpoints have.
ENDPOINT = ["method=none", "model.name=m", "model.base_url=http://host/v1"]
NEEDS = {
    **{f"model={name}": ENDPOINT for name in ("endpoint", "ollama", "openai", "vllm")},
    "rate=samples": ["model=endpoint", *ENDPOINT],
    **{f"judge={name}": ["task=elicitation"] for name in ("self", "smollm2")},
    "writer=vllm": ["model=smollm2", "method=debiasing_dpo"],
    "judge=local": ["task=elicitation", "judge.path=a/b"],
    **{
        f"judge={name}": ["task=elicitation", "judge.name=m", "judge.base_url=http://host/v1"]
        for name in ("endpoint", "ollama", "openai", "vllm")
    },
}
TRAIN = sorted(f.stem for f in (CONF / "train").glob("*.yaml") if f.stem != "base")
SOCIAL = [name for name in CATEGORIES if name != PLACEBO]
RUBRICS = "data.rubrics={clarity:{question:How clear?,low:1,high:5}}"

Job = Callable[..., JobConfig]


@pytest.fixture(scope="module")
def job() -> Job:
    """The checked job of a command line: `job("model=qwen3b", "seed=1")`."""
    return lambda *overrides: build(composed(*overrides))


@pytest.fixture(scope="module")
def changed() -> Job:
    """The checked default job with some keys changed, `changed({"seed": 1})`: quick, for many."""
    default = composed()
    OmegaConf.set_struct(default, False)

    def build_with(values: dict[str, object]) -> JobConfig:
        config = copy.deepcopy(default)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return build(config)

    return build_with


@pytest.fixture(scope="module")
def default(changed: Job) -> JobConfig:
    return changed({})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What the command line of each data source needs, with files that exist."""
    monkeypatch.chdir(tmp_path)
    for name in ("lesson.xlsx", "t.csv", "u.csv", "class.tsv", "mqi.tsv"):
        (tmp_path / name).write_text("looked into later\n")
    needs = {
        "talkmoves": ["data.path=."],
        "table": ["data.path=t.csv", RUBRICS],
        "ncte": [
            "data.transcripts=u.csv",
            "data.class_scores=class.tsv",
            "data.mqi_scores=mqi.tsv",
        ],
        "simulated": [],
        "stereotypes": ["task=elicitation"],
        "clearbias": ["data.path=.", "task=elicitation"],
        "prompts": ["data.path=t.csv", "task=elicitation"],
    }
    return lambda name: [f"data={name}", *needs[name]]


def problems(job: Job, *overrides: object) -> list[str]:
    """The lines of the one error that a command line, or a change of keys, gets."""
    with pytest.raises(UserError) as error:
        job(*overrides)
    head, *lines = str(error.value).splitlines()
    count = len(lines)
    assert head == f"The configuration has {count} problem{'s' * (count > 1)}:"
    assert all(line.startswith("  - ") for line in lines)
    return [line.removeprefix("  - ") for line in lines]


# --- what there is


def test_the_default_job_is_right(job: Job) -> None:
    config = job()
    assert config.context.train_categories == ("sycophancy",)
    assert config.audit_categories == tuple(CATEGORIES)
    assert set(config.unseen_categories) == set(SOCIAL) - {"sycophancy"}
    assert config.train.adapter == "lora"
    assert not config.local_model.nf4


def choice(file: Path) -> str:
    """What chooses a file of conf/. One category is always there, and chosen to be trained on."""
    group = file.parent.name
    if group == "category":
        group = "category@context.categories" if file.stem == "all" else "context"
    return f"{group}={file.stem}"


@pytest.mark.parametrize(
    "file",
    [
        file
        for group in sorted(CONF.iterdir())
        if group.is_dir() and group.name not in ("data", "experiment")
        for file in sorted(group.glob("*.yaml"))
        if file.stem != "base"  # what the options of a group share
    ],
    ids=lambda file: f"{file.parent.name}={file.stem}",
)
def test_every_preset_composes_and_validates(job: Job, file: Path) -> None:
    option = choice(file)
    group, _, name = option.partition("=")
    config = job(option, *NEEDS.get(option, ()))
    if group == "context":
        left_out = name.removeprefix("all_but_")
        wanted = [c for c in SOCIAL if c != left_out] if name.startswith("all") else [name]
        assert list(config.context.train_categories) == wanted
        if left_out != name:
            assert config.unseen_categories == (left_out,)
    head = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    assert any(option in line for line in head)  # the command


@pytest.mark.parametrize("name", sorted(f.stem for f in (CONF / "data").glob("*.yaml")))
def test_every_data_source_composes_and_validates(
    job: Job, source: Callable[[str], list[str]], name: str
) -> None:
    config = job(*source(name))
    assert config.data.source == name
    assert f"data={name}" in (CONF / "data" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", sorted(f.stem for f in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes_and_validates(
    job: Job, source: Callable[[str], list[str]], name: str
) -> None:
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert f"experiment={name}" in text
    used = next((s for s in ("talkmoves", "ncte", "table") if f"data: {s}" in text), "simulated")
    job(f"experiment={name}", *source(used)[1:])


def test_a_preset_also_sets_keys_of_the_main_file(job: Job) -> None:
    assert job().audit.statements == 1
    assert job("experiment=paper", "model.path=a/b").audit.statements is None
    assert job("experiment=paper", "model.path=a/b", "audit.statements=2").audit.statements == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "train"),
    [*((model, "qlora") for model in MODELS), *(("qwen3b", t) for t in TRAIN if t != "qlora")],
)
def test_every_model_trains_every_way(job: Job, model: str, train: str) -> None:
    config = job(f"model={model}", f"train={train}")
    assert config.train.adapter == ("full" if train == "full" else "lora")
    assert config.local_model.nf4 == config.train.nf4 == (train == "qlora")


def test_every_category_has_its_statements(job: Job) -> None:
    for name, category in job().context.categories.items():
        sides = [side for side in (category.flattering, category.unflattering) if side is not None]
        assert len(sides) == (0 if name == PLACEBO else 2)
        for side in sides or [s for s in [category.neutral] if s is not None]:
            assert len(side.train) + len(side.test) >= 4


@pytest.mark.parametrize("name", ["race", PLACEBO])
@pytest.mark.parametrize(
    "sides", [c for n in range(4) for c in itertools.combinations(POLARITIES, n)]
)
def test_the_placebo_alone_says_nothing_social(
    changed: Job, name: str, sides: tuple[str, ...]
) -> None:
    values: dict[str, object] = {
        f"context.categories.{name}.{side}": (
            {"train": [f"a {side}"], "test": [f"b {side}"]} if side in sides else None
        )
        for side in POLARITIES
    }
    needed = ("neutral",) if name == PLACEBO else ("flattering", "unflattering")
    if sides == needed:
        assert changed(values).context.categories[name].sides == needed
        return
    with pytest.raises(UserError, match=rf"  - context\.categories\.{name}: .* needs {needed[0]}:"):
        changed(values)


@settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(chosen=st.lists(st.sampled_from(SOCIAL), min_size=1, max_size=3, unique=True))
@pytest.mark.slow
def test_lists_of_contexts_are_trained_on_together(job: Job, chosen: list[str]) -> None:
    config = job(f"context=[{','.join(chosen)}]")
    assert config.context.train_categories == tuple(sorted(chosen))
    assert not set(chosen) & set(config.unseen_categories)


@pytest.mark.parametrize("model", MODELS)
def test_what_the_command_line_says_wins_over_the_models_own_choice(job: Job, model: str) -> None:
    config = job(f"model={model}", "train=qlora", "rate=text", "train.epochs=7")
    assert (config.train.adapter, config.local_model.nf4, config.train.epochs) == ("lora", True, 7)
    assert config.rate.readout == "text"


def test_a_category_named_twice_is_audited_once(job: Job) -> None:
    assert job("audit.categories=[race,placebo,race]").audit_categories == ("placebo", "race")


def test_the_schema_takes_what_it_writes(job: Job) -> None:
    config = job("model=qwen7b", "context=all")
    assert JobConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


# --- what there is not: tests/test_bad_inputs.py has each mistake; here is what holds of all of them


TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=9)  # no control characters
MANY = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@MANY
@given(parts=st.tuples(*[st.integers(0, 20)] * 3))
def test_a_split_is_taken_exactly_if_it_can_be_used(changed: Job, parts: tuple[int, ...]) -> None:
    train, validation, test = (part / 20 for part in parts)
    split = {"data.split": {"train": train, "validation": validation, "test": test}}
    if sum(parts) <= 20 and all(parts):
        taken = changed(split).documents.split
        assert (taken.train, taken.validation, taken.test) == (train, validation, test)
        return
    found = problems(changed, split)
    assert all(line.startswith("data.split") for line in found)
    assert (sum(parts) > 20) == any("must not exceed 1" in line for line in found)
    if sum(parts) <= 20 and test:
        assert any("data.split.train" in line for line in found) == (train == 0)
        assert any("data.split.validation" in line for line in found) == (validation == 0)


@MANY
@given(low=st.integers(-9, 9), high=st.integers(-9, 9))
def test_a_scale_goes_up(changed: Job, low: int, high: int) -> None:
    scale = {"data.rubrics.focus.low": low, "data.rubrics.focus.high": high}
    if low < high:
        rubric = changed(scale).documents.rubrics["focus"]
        assert (rubric.low, rubric.high) == (low, high)
    else:
        (problem,) = problems(changed, scale)
        assert problem.startswith("data.rubrics.focus: ")
        assert f"low={low} and high={high}" in problem


@MANY
@given(name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True), value=st.integers() | TEXT)
@pytest.mark.parametrize(
    "place",
    [
        "",
        *(
            pytest.param(place, marks=pytest.mark.slow)
            for place in ("model.", "train.", "data.split.", "model.lora.")
        ),
    ],
)
def test_no_unknown_key_gets_through(
    changed: Job, default: JobConfig, place: str, name: str, value: int | str
) -> None:
    here: Any = default
    for part in filter(None, place.split(".")):
        here = getattr(here, part)
    assume(name not in type(here).model_fields)
    assume("${" not in str(value) and value != "???")
    (problem,) = problems(changed, {f"{place}{name}": value})
    assert problem.startswith(f"{place}{name}: no such key; ")


@MANY
@given(value=st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | TEXT)
@pytest.mark.parametrize("key", ["train.epochs", "loss.beta", "data.heading", "train.nf4", "seed"])
@pytest.mark.slow
def test_only_values_of_the_right_kind_and_range_get_through(
    changed: Job, key: str, value: Any
) -> None:
    assume("${" not in str(value) and value != "???")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "train.epochs": type(value) is int and value >= 1,
        "seed": type(value) is int and value >= 0,
        "loss.beta": number and value > 0,
        "train.nf4": isinstance(value, bool),
        "data.heading": isinstance(value, str) and bool(value.strip()),
    }[key]
    if right:
        changed({key: value})
    else:
        found = problems(changed, {key: value})
        assert any(line.startswith(f"{key}: must ") and ", got " in line for line in found)


def test_slurm_tells_a_job_after_it_began(job: Job) -> None:
    assert job("cluster=slurm", "cluster.hours=0.04")
    with pytest.raises(
        UserError, match=r"signal_s=120 is not less than hours=0\.03, in seconds 108"
    ):
        job("cluster=slurm", "cluster.hours=0.03")


def test_a_rubric_may_be_called_by_a_number(job: Job) -> None:
    found = job("data=table", "data.path=.", "data.rubrics={1:{question:How clear?,low:1,high:5}}")
    assert list(found.documents.rubrics) == ["1"]


# --- what belongs to one task


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=elicitation", "method=sft"], "method: sft is about ratings"),
        (
            ["task=elicitation", "method=dpo_only"],
            "elicitation.train_categories: method=dpo_only trains",
        ),
        (
            ["task=elicitation", "elicitation.train_categories=[age]", "judge=self"],
            "elicitation.train_categories: nothing is trained",
        ),
        (
            ["+data@elicitation.data=stereotypes", "method=head"],
            "elicitation.data: method=head leaves the model as it is",
        ),
        (
            ["task=elicitation", "+data@elicitation.data=stereotypes"],
            "elicitation.data: task=elicitation has its prompts from data=",
        ),
        (["task=elicitation", "data=simulated"], "data: simulated holds documents to rate"),
        (["data=stereotypes"], "data: stereotypes holds prompts that elicit"),
        (["judge=self"], "judge: only task=elicitation has one"),
        (["task=elicitation", "rate=expected"], "rate: a reply to an eliciting prompt is a text"),
        (["task=elicitation", "model=openai"], "judge: none labels no reply"),
        (
            ["task=elicitation", "judge=self", "elicitation.attacks=published"],
            "elicitation.attacks: published ones are those of data=clearbias",
        ),
        (
            ["task=elicitation", "elicitation.attacks=generated"],
            "elicitation.attack_all: which categories are safe only a judge tells",
        ),
        (
            ["task=elicitation", "judge=self", "elicitation.min_kappa=0.7"],
            "elicitation.min_kappa: is of a judge on the control set",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_what_belongs_to_another_task_is_one_clear_problem(
    job: Job, overrides: list[str], said: str
) -> None:
    (problem,) = problems(job, *overrides)
    assert problem.startswith(said)
    assert "; set " in problem or "; name a judge" in problem
