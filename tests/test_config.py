"""Every preset composes and validates; every mistake is named, all in one error."""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from debiasdpo.config.build import build
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.job import JobConfig
from debiasdpo.errors import UserError
from debiasdpo.run import conf_dir

CONF = conf_dir()
CATEGORIES = sorted(f.stem for f in (CONF / "category").glob("*.yaml") if f.stem != "all")
MODELS = sorted(f.stem for f in (CONF / "model").glob("*.yaml"))
SOCIAL = [name for name in CATEGORIES if name != PLACEBO]
RUBRICS = "data.rubrics={clarity:{question:How clear?,low:1,high:5}}"

Job = Callable[..., JobConfig]


@pytest.fixture(scope="module")
def job() -> Iterator[Job]:
    """The checked job of a command line: `job("model=qwen3b", "seed=1")`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: build(compose("config", list(overrides)))


@pytest.fixture(scope="module")
def changed(job: Job) -> Job:
    """The checked default job with some keys changed, `changed({"seed": 1})`: quick, for many."""
    default = compose("config")
    OmegaConf.set_struct(default, False)

    def build_with(values: dict[str, object]) -> JobConfig:
        config = copy.deepcopy(default)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return build(config)

    return build_with


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
    assert not config.model.nf4


@pytest.mark.parametrize(
    "option",
    [
        f"{group.name}={file.stem}"
        for group in sorted(CONF.iterdir())
        if group.is_dir() and group.name not in ("category", "data", "experiment")
        for file in sorted(group.glob("*.yaml"))
    ],
)
def test_every_preset_composes_and_validates(job: Job, option: str) -> None:
    group, _, name = option.partition("=")
    config = job(option)
    if group == "context":
        wanted = SOCIAL if name == "all" else [name]
        assert list(config.context.train_categories) == wanted
    assert option in (CONF / group / f"{name}.yaml").read_text()  # the head gives the command


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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("train", sorted(f.stem for f in (CONF / "train").glob("*.yaml")))
def test_every_model_trains_every_way(job: Job, model: str, train: str) -> None:
    config = job(f"model={model}", f"train={train}")
    assert config.train.adapter == ("full" if train == "full" else "lora")
    assert config.model.nf4 == config.train.nf4 == (train == "qlora")


def test_every_category_has_its_statements(job: Job) -> None:
    for name, category in job().context.categories.items():
        sides = [side for side in (category.flattering, category.unflattering) if side is not None]
        assert len(sides) == (0 if name == PLACEBO else 2)
        for side in sides or [s for s in [category.neutral] if s is not None]:
            assert len(side.train) + len(side.test) >= 4


@settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(chosen=st.lists(st.sampled_from(SOCIAL), min_size=1, max_size=3, unique=True))
def test_lists_of_contexts_are_trained_on_together(job: Job, chosen: list[str]) -> None:
    config = job(f"context=[{','.join(chosen)}]")
    assert config.context.train_categories == tuple(sorted(chosen))
    assert not set(chosen) & set(config.unseen_categories)


@pytest.mark.parametrize("model", MODELS)
def test_what_the_command_line_says_wins_over_the_models_own_choice(job: Job, model: str) -> None:
    config = job(f"model={model}", "train=qlora", "rate=text", "train.epochs=7")
    assert (config.train.adapter, config.model.nf4, config.train.epochs) == ("lora", True, 7)
    assert config.rate.readout == "text"


def test_a_category_named_twice_is_audited_once(job: Job) -> None:
    assert job("audit.categories=[race,placebo,race]").audit_categories == ("placebo", "race")


def test_the_schema_takes_what_it_writes(job: Job) -> None:
    config = job("model=qwen7b", "context=all")
    assert JobConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


# --- what there is not


def test_all_problems_come_in_one_error_with_full_keys_and_cures(job: Job) -> None:
    found = problems(
        job,
        "+model.lrr=3",
        "+optimiser=adam",
        "train.epochs=two",
        "loss.beta=0",
        "rate.readout=logits",
        "data.split={train:0.6,validation:0.3,test:0.2}",
        "data.rubrics.focus.low=9",
        "data.rubrics.focus.high=7",
        "context.categories.race.flattering.test=['']",
        "context.categories.role.flattering.test=[]",
        "audit.confidence=1",
        "model.lora.rank=0",
        "output_dir=/dev/null/x",
    )
    assert sorted(found) == sorted(
        [
            "model.lora.rank: must be at least 1, got 0",
            "model.lrr: no such key; known here: attention, dtype, lora, max_length, nf4, path,"
            " revision",
            'context.categories.race.flattering.test.0: must be a text that is not empty, got ""',
            "context.categories.role.flattering: no statements for the test wording; add at least"
            " one under test:",
            "data.split: train + validation + test must not exceed 1, but they sum to 1.1",
            "data.rubrics.focus: low must be below high, but low=9 and high=7",
            "loss.beta: must be above 0, got 0",
            'train.epochs: must be a whole number, got "two"',
            "rate.readout: must be 'text' or 'expected', got \"logits\"",
            "audit.confidence: must be below 1, got 1",
            next(line for line in found if line.startswith("optimiser: no such key")),
            next(line for line in found if line.startswith("output_dir: /dev/null is a file")),
        ]
    )


def test_the_disk_is_looked_at_although_other_keys_are_wrong(job: Job) -> None:
    assert problems(job, "seed=-1", "data=talkmoves", "data.path=/nowhere", "model.path=gpt2") == [
        "seed: must be at least 0, got -1",
        "model.path: 'gpt2' is neither a folder here nor a hub id, which has the form OWNER/NAME,"
        " such as Qwen/Qwen2.5-3B-Instruct",
        f"data.path: no folder /nowhere (looked in {Path.cwd()}). Give the folder with the"
        " TalkMoves workbooks: data=talkmoves data.path=PATH",
    ]


@pytest.mark.parametrize("data", ["talkmoves", "table", "ncte"])
def test_keys_left_open_are_all_named(job: Job, data: str) -> None:
    required = {"talkmoves": ["path"], "table": ["path", "rubrics"], "ncte": ["transcripts"]}[data]
    found = problems(job, f"data={data}", "loss.beta=-1")
    for key in required:
        assert f"data.{key}: required; set data.{key}=VALUE" in found
    assert "loss.beta: must be above 0, got -1" in found
    assert sum(line.startswith("data.") for line in found) == len(required)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=table", "data.path=no.csv", RUBRICS], "data.path: no.csv does not exist"),
        (["data.path=1"], None),  # Hydra itself: the source has no such key
        (["+context.train.experince=true"], "no such category: experince; there are: certif"),
        (["context.train.sycophancy=false"], "context.train: no category to train on"),
        (["audit.categories=[rase]"], "audit.categories: no such category: rase; there are"),
        (["audit.categories=[]"], "audit.categories: must have at least 1 item, got []"),
        (["data.split.train=0"], "data.split.train: must be above 0 for training"),
        (["data.split.test=0"], "data.split: test must be above 0"),
        (["train=full", "model.nf4=true"], "model.nf4: full fine-tuning cannot train 4-bit"),
        (["model.attention=eager"], "model.attention"),
        (["loss.w_dpo=0", "loss.w_sft=0"], "w_dpo and w_sft are both 0"),
        (["method=sft", "loss.w_sft=0"], "loss: w_sft is 0: nothing would be trained"),
        (
            ["method=invariance", "loss={w_sft:0,w_dpo:1,w_consistency:0}"],
            "w_sft and w_consistency are both 0",
        ),
        (["method=sft", "method.min_shift=1"], "method.min_shift: filters preference pairs"),
        (["method=dpo_only", "method.balanced=true"], "method.balanced: weighs"),
        (["method=sft", "+method.reminder=Be fair."], "method: trains and changes prompts at once"),
        (["method=sft", "train.engine=trl"], "train.engine: trl computes a preference loss"),
        (["method=sft", "method.name='a b'"], "method.name"),
        (["method=invariance", "rate.temperature=1"], "rate.temperature: nothing is sampled"),
        (["method=none", "rate.temperature=1"], "rate.temperature: nothing is sampled"),
        (["model.lora.targets=q_proj"], "must be a list, such as [a,b], or be 'all-linear', got"),
        (["model.lora.targets=[1]"], "model.lora.targets.0: must be a text, got 1; put it in quot"),
        (["data.source=sql"], "data.source: must be simulated, talkmoves, ncte or table"),
        (["data.split=3"], "data.split: must hold the keys test, train, validation, got 3"),
        (["+data.rubrics.x={low:3,high:1}"], "data.rubrics.x.question: missing; set data.rubrics.x"),
        (["+data.rubrics.focus.lo=1"], "data.rubrics.focus.lo: no such key; did you mean low?"),
        (["+context.categories.race.flattering.tets=[a]"], "did you mean test?"),
        (["+data.rubrics.clarity={question:a,low:1,high:2}"], "must be some of reasoning, focus"),
        (["loss.beta=nan"], "loss.beta: must be a finite number, got NaN"),
        (["train.learning_rate=inf"], "train.learning_rate: must be a finite number, got Infinity"),
        (["train.learning_rate=${nothing}"], "train.learning_rate: Interpolation key 'nothing'"),
        (["seed=1e30"], "seed: must be a whole number"),
        (["seed=99999999999"], "seed: must be below 4294967296"),
        (["model.revision=5"], "model.revision: must be a text, got 5; put it in quotes"),
        (["~data"], "data: missing; set data=VALUE"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(job: Job, overrides: list[str], words: str | None) -> None:
    if words is None:
        with pytest.raises(Exception, match=r"Could not override 'data\.path'"):
            job(*overrides)
    else:
        (problem,) = problems(job, *overrides)
        assert words in problem


TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=9)  # no control characters
MANY = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@MANY
@given(parts=st.tuples(*[st.integers(0, 20)] * 3))
def test_a_split_is_taken_exactly_if_it_can_be_used(changed: Job, parts: tuple[int, ...]) -> None:
    train, validation, test = (part / 20 for part in parts)
    split = {"data.split": {"train": train, "validation": validation, "test": test}}
    if sum(parts) <= 20 and all(parts):
        taken = changed(split).data.split
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
        rubric = changed(scale).data.rubrics["focus"]
        assert (rubric.low, rubric.high) == (low, high)
    else:
        (problem,) = problems(changed, scale)
        assert problem.startswith("data.rubrics.focus: ")
        assert f"low={low} and high={high}" in problem


@MANY
@given(name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True), value=st.integers() | TEXT)
@pytest.mark.parametrize("place", ["", "model.", "train.", "data.split.", "model.lora."])
def test_no_unknown_key_gets_through(changed: Job, place: str, name: str, value: int | str) -> None:
    here: Any = changed({})
    for part in filter(None, place.split(".")):
        here = getattr(here, part)
    assume(name not in type(here).model_fields)
    assume("${" not in str(value) and value != "???")
    (problem,) = problems(changed, {f"{place}{name}": value})
    assert problem.startswith(f"{place}{name}: no such key; ")


@MANY
@given(value=st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | TEXT)
@pytest.mark.parametrize("key", ["train.epochs", "loss.beta", "data.heading", "train.nf4", "seed"])
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


def test_training_by_trl_needs_its_package(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "train.engine=trl", "train.trl_loss=hinge"
    assert job(*told).train.trl_loss == "hinge"
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UserError, match=r"pip install 'trl==1\.16"):
        job(*told)
    assert job("method=none", "rate=text", *told).train.engine == "trl"
