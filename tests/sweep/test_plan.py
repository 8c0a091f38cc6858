"""What a plan says, against what the job then took."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from debiasdpo import cli
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models.adapters import add_adapter
from debiasdpo.models.loading import load_model
from debiasdpo.models.shape import load_shape
from debiasdpo.stages.reckoning import Reckoner
from debiasdpo.sweep import plan
from tests.helpers.jobs import SMALL, JobConfigs, Metrics, run_folder, run_job, stages
from tests.helpers.run_folders import read, write

Command = Callable[..., list[str]]


@pytest.fixture
def options(tiny_llama: Path, tmp_path: Path) -> tuple[str, ...]:
    where = (f"model.path={tiny_llama}", f"output_dir={tmp_path / 'out'}")
    return ("model=llama8b", "train.nf4=false", "rate=expected", *SMALL, *where)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """What `debiasdpo plan` does, in this process: the lines it prints; those of an error, if it fails."""

    def command(*words: str, code: int = 0) -> list[str]:
        assert cli.main(["plan", *words]) == code
        out, err = capsys.readouterr()
        text = err[err.index("cannot be reckoned") :] if code else out[out.index("job  ") :]
        return text.splitlines()

    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `run` sets it
    return command


@pytest.fixture(scope="module")
def reckon(tmp_path_factory: pytest.TempPathFactory) -> Reckoner:
    return Reckoner(tmp_path_factory.mktemp("reckoned"))


def tokens_of(work: plan.Work) -> dict[str, float]:
    """Tokens of each stage that runs a model."""
    return {stage.title: stage.tokens for stage in work.stages}


def assert_ran(planned: plan.Work, metrics: Metrics, within: float = 0.2) -> None:
    """The job ran the tokens that were planned, each stage."""
    ran = {k.split("/")[1]: v for k, v in metrics.items() if k.endswith("/tokens") and v}
    del ran["tokens"]  # of all stages
    assert tokens_of(planned) == pytest.approx(ran, rel=within)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        (
            "method=invariance",
            "audit.statements=2",
            "method.ranking=true",
            "method.activation=true",
        ),
        ("method.rounds=2",),
        ("method=prompt_think", "method.max_new_tokens=4"),
        ("method=head", "method.head.folds=2"),
    ],
    ids=["invariance", "rounds", "prompt_think", "head"],
)
def test_tokens_are_those_that_the_job_then_runs(
    options: tuple[str, ...], more: tuple[str, ...], job_config: JobConfigs, reckon: Reckoner
) -> None:
    config = job_config(*options, *more)
    before = reckon(config)
    if "method=head" in more:  # it is planned as if others rated the base: its states are not there
        run_job(job_config(*options, "method=none"))
    # What random weights write takes more tokens to read again than it took to write.
    assert_ran(before, run_job(config), 0.35 if "method=prompt_think" in more else 0.2)


@pytest.mark.slow
def test_time_is_that_of_finished_jobs_of_the_same_model(
    options: tuple[str, ...],
    job_config: JobConfigs,
    command: Command,
    reckon: Reckoner,
    tmp_path: Path,
) -> None:
    words = (*options, "method=none")
    first, unknown, _, sums, *_ = command(*words)
    assert first.split() == ["job", "M", "tokens", "hours", "GPU", "memory", "disk"]
    assert unknown.split()[-5] == "?"
    assert "M tokens, hours unknown, " in sums
    config = job_config(*words)
    metrics = run_job(config)
    file = run_folder(tmp_path / "out") / "metrics.json"
    write(file, metrics | {"cost/ratings_base/tokens": 1, "time/ratings_base_s": 3600})
    (tokens,) = tokens_of(reckon(config)).values()
    _, known, *_ = command(*words, "seed=1")
    assert float(known.split()[-5]) == pytest.approx(tokens, rel=0.2)  # other documents
    write(file, {**read(file), "cost/ratings_base/tokens": 2})
    _, faster, *_ = command(*words, "seed=1")
    assert float(faster.split()[-5]) == pytest.approx(float(known.split()[-5]) / 2)
    there = file.with_name("config.yaml")  # as if it had run elsewhere
    told = yaml.safe_load(there.read_text())
    told["model"]["device"] = "cuda"
    there.write_text(yaml.safe_dump(told))
    _, unknown, *_ = command(*words, "seed=1")
    assert unknown.split()[-5] == "?"


def test_an_audit_is_planned_of_all_documents(
    command: Command, tiny_llama: Path, tmp_path: Path
) -> None:
    """Of 4 teachers' 8 lessons, of which a job tests a part."""
    lines = command(
        "audit", "rate=expected", f"model.path={tiny_llama}", f"output_dir={tmp_path}",
        "data.teachers=4", "data.lessons_per_teacher=2", "data.words=30",
    )  # fmt: skip
    assert "the 8 documents of 4 groups" in "\n".join(lines)


def test_nothing_is_summed_up_where_no_job_can_be_reckoned(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["plan", f"model.path={tmp_path / 'gone'}", f"output_dir={tmp_path}"]) == 1
    out, err = capsys.readouterr()
    assert "in all" not in out
    assert "1 of 1 job cannot be reckoned" in err


def test_a_sweep_is_summed_up(
    options: tuple[str, ...],
    job_config: JobConfigs,
    command: Command,
    reckon: Reckoner,
    tmp_path: Path,
) -> None:
    lines = command(
        *options, "loss.w_sft=0.1,1", "plan.tokens_per_s=1000", "plan.gpu_memory_gb=0.5",
        "gpu_hour_price=2", "cluster=ray",
    )  # fmt: skip
    one = tokens_of(reckon(job_config(*options)))
    own = ("training", "ratings_tuned")
    tokens = sum(one.values()) + sum(one[stage] for stage in own)
    (total,) = (line for line in lines if line.startswith("in all:"))
    assert f"in all: {tokens / 1e6:.2f} M tokens" in total
    assert "GPU-hours" in total
    assert "in money" in total
    assert lines[-1].startswith("warning: 2 jobs: needs about 2 GB, and the GPU has 0.5")
    assert not (tmp_path / "out/runs").exists()  # nothing was run


def test_gpus_share_the_hours_and_not_the_gpu_hours(
    options: tuple[str, ...], command: Command
) -> None:
    def hours(gpus: int) -> tuple[float, float]:
        total = command(*options, "plan.tokens_per_s=0.5", "cluster=ray", f"cluster.gpus={gpus}")
        found = re.search(r"([\d.]+) hours of .* ([\d.]+) GPU-hours", "\n".join(total))
        assert found is not None
        return float(found[1]), float(found[2])

    one, four = hours(1), hours(4)
    assert one[0] == one[1] > 1
    assert four == pytest.approx((one[0] / 4, one[1]), abs=0.02)


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ("loss.w_sft=0.5", ["training", "ratings_tuned"]),
        ("model.lora.rank=2", ["training", "ratings_tuned"]),
        pytest.param(
            "train.learning_rate=0.1", ["training", "ratings_tuned"], marks=pytest.mark.slow
        ),
        pytest.param(
            "method.consistency=own", ["training", "ratings_tuned"], marks=pytest.mark.slow
        ),
        pytest.param("audit.resamples=200", [], marks=pytest.mark.slow),
        ("batching.shards=2", []),
        ("method=none", []),
        pytest.param("method=prompt_ignore", ["ratings_tuned"], marks=pytest.mark.slow),
        ("method.statements=2", ["reasoning", "reference", "training", "ratings_tuned"]),
        ("audit.statements=2", ["ratings_base", "ratings_tuned"]),
    ],
)
def test_a_stage_that_two_jobs_share_is_the_same(
    options: tuple[str, ...],
    job_config: JobConfigs,
    change: str,
    own: list[str],
    reckon: Reckoner,
) -> None:
    first = {stage.key for stage in reckon(job_config(*options)).stages}
    second = reckon(job_config(*options, change)).stages
    assert [stage.title for stage in second if stage.key not in first] == own


def test_trainings_on_prompts_are_of_a_model_and_of_these_prompts(
    tiny_llama: Path, tiny_qwen2: Path, job_config: JobConfigs, reckon: Reckoner, tmp_path: Path
) -> None:
    def work(path: Path, categories: str, *more: str) -> plan.Work:
        return reckon(job_config(
            "task=elicitation", "data=stereotypes", "judge=none", "method=dpo_only", "model=llama8b",
            f"output_dir={tmp_path}", f"model.path={path}", "train.nf4=false", "train.optimizer=adamw",
            "model.max_length=2048", f"elicitation.train_categories=[{categories}]", *more,
        ))  # fmt: skip

    def trainings(found: plan.Work) -> set[str]:
        return {stage.key for stage in found.stages if stage.title in ("reference", "training")}

    one = work(tiny_llama, "age")
    assert trainings(one) == trainings(work(tiny_llama, "age"))
    for other in (work(tiny_qwen2, "age"), work(tiny_llama, "age, gender")):
        assert not trainings(one) & trainings(other)
    full = work(tiny_llama, "age", "train=full", "train.nf4=false", "train.optimizer=adamw")
    assert full.disk > one.disk + 1e6  # all weights, and two checkpoints of them
    assert list(one.memory) == [1]
    assert full.memory[4] < full.memory[1]


def of_endpoints(model: str, judge: str) -> list[str]:
    prices = "prices={input: 1, cached: 1, output: 1}"
    return [
        f"{who}{rest}"
        for who, name in (("model", model), ("judge", judge))
        for rest in ("=endpoint", ".base_url=http://127.0.0.1:9/v1", f".name={name}", f".{prices}")
    ]


def test_a_judge_is_paid_for_each_model_whose_replies_it_labels(
    job_config: JobConfigs, reckon: Reckoner
) -> None:
    """What it is asked of prompts alone, it is asked once; a model is asked once for all judges."""

    def keys(model: str, judge: str) -> dict[str, str]:
        work = reckon(job_config(
            "task=elicitation", *of_endpoints(model, judge), "elicitation.attacks=generated",
            "elicitation.variants=[machine_translation/1]",
        ))  # fmt: skip
        return {stage.title: stage.key for stage in work.stages}

    def shared(one: dict[str, str], other: dict[str, str]) -> set[str]:
        return {title for title, key in one.items() if other[title] == key}

    first = keys("a", "j")
    assert set(first) == {
        "replies", "labels", "translations", "translated_back", "attacked_replies", "attacked_labels",
        "second_look",
    }  # fmt: skip
    assert keys("a", "j") == first
    assert shared(first, keys("b", "j")) == {"translations", "translated_back"}
    # The attacks are translations, which are each judge's own.
    assert shared(first, keys("a", "k")) == {"replies"}


def test_money_of_a_judge_is_summed_over_models(options: tuple[str, ...], command: Command) -> None:
    def sums(models: str) -> dict[str, float]:
        lines = command(
            "task=elicitation", *of_endpoints(models, "j"), "elicitation.attacks=generated",
            "tracker=none", options[-1],
        )  # fmt: skip
        (line,) = (line for line in lines if line.startswith("to endpoints"))
        return {who: float(paid) for who, paid in re.findall(r"(model|judge) \$([\d.]+)", line)}

    one, three = sums("a"), sums("a,b,c")
    assert three == pytest.approx({who: 3 * paid for who, paid in one.items()}, abs=0.03)


def test_a_trained_model_is_asked_and_judged_for_each_training(
    tiny_llama: Path, job_config: JobConfigs, reckon: Reckoner, tmp_path: Path
) -> None:
    def keys(*more: str, of_documents: bool = False) -> dict[str, str]:
        task = (
            ("+data@elicitation.data=stereotypes", *SMALL)
            if of_documents
            else ("task=elicitation", "data=stereotypes", "elicitation.train_categories=[age]")
        )
        work = reckon(job_config(
            *task, *of_endpoints("none", "j")[4:], "model=llama8b", f"output_dir={tmp_path}",
            f"model.path={tiny_llama}", "train.nf4=false", "train.optimizer=adamw",
            "model.max_length=2048", "elicitation.attacks=generated", "method=dpo_only", *more,
        ))  # fmt: skip
        return {stage.title: stage.key for stage in work.stages}

    for of_documents in (False, True):
        first = keys(of_documents=of_documents)
        tuned = {title for title in first if title.startswith("tuned_")}
        asked = {"options", "replies", "labels", "attacked_replies", "attacked_labels"}
        assert tuned > {f"tuned_{title}" for title in asked}
        for change in ("method=bct", "seed=1"):
            other = keys(change, of_documents=of_documents)
            same = {title for title, key in first.items() if other.get(title) == key}
            assert not same & {*tuned, "training"}
            assert same >= asked
        # A judge decides what is learnt only from the prompts that it labels.
        other = keys("judge.name=k", of_documents=of_documents)
        assert (other["training"] == first["training"]) == of_documents
        assert other["attacked_replies"] == first["attacked_replies"]
        assert other["labels"] != first["labels"]


@pytest.mark.slow
def test_stages_that_are_planned_once_are_made_once(
    options: tuple[str, ...],
    wide_llama: Path,
    job_config: JobConfigs,
    reckon: Reckoner,
    tmp_path: Path,
) -> None:
    # Of the small models, this one ends some of what it rewrites: else nothing of its own is rated.
    options = (*options, f"model.path={wide_llama}")
    changes = (
        "seed=0", "model.lora.rank=2", "audit.resamples=200", "method=none", "method=prompt_strip",
        "method=sft", "audit.statements=2",
    )  # fmt: skip
    stores = {"reference": "reference", "training": "training"}  # the others are ratings
    planned: dict[str, set[str]] = {}
    for change in changes:
        config = job_config(*options, change)
        work = reckon(config)
        for stage in work.stages:
            planned.setdefault(stores.get(stage.title, "ratings"), set()).add(stage.key)
        metrics = run_job(config)
        if change == "seed=0":  # which finds nothing there
            assert_ran(work, metrics)
    made = stages(tmp_path / "out")
    assert {store: len(keys) for store, keys in planned.items()} == {s: made[s] for s in planned}


def test_what_a_judge_is_paid_stands_apart(job_config: JobConfigs) -> None:
    def work(config: JobConfig) -> plan.Work:
        asked = plan.StageWork("replies", "a", 1e6, dollars=2.0)
        return plan.Work(
            [asked, asked._replace(key="b", dollars=0.5, asks="judge")], {1: 0.0}, 0, None
        )

    said: list[str] = []
    config = job_config("audit.max_cost=1")
    plan.show([plan.PlannedJob("one", config, finished=False)], work, said.append)
    assert said[1].endswith("   model $2.00, judge $0.50")
    assert (
        "to endpoints: about model $2.00, judge $0.50, with replies at their greatest length"
        in said
    )
    assert [line for line in said if line.startswith("warning")] == [
        "warning: one: the model may cost $2.00, and audit.max_cost=$1.00 stops it before"
    ]


def test_a_cause_is_said_once(
    options: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """84 jobs of two models that this machine does not have, and no hub to ask."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = [o for o in options if not o.startswith("model.path")]
    lines = command(*words, "model.path=no/one,no/two", "seed=range(42)", code=1)
    assert len(lines) == 2
    assert lines[1].startswith("  84 jobs: model.path: ")
    assert lines[1].endswith(" (no/one, no/two)")


def test_wrong_jobs_are_said_once_each_fault(options: tuple[str, ...], command: Command) -> None:
    first, *lines = command(*options, "batching.shards=0", "seed=-1,0,1", code=1)
    assert first == "cannot be reckoned:"
    text = "\n".join(lines)
    assert text.count("batching.shards") == 2  # alone, and beside the other fault
    assert "  2 jobs: The configuration has 1 problem:" in lines
    assert "  seed=-1: The configuration has 2 problems:" in lines


def test_the_sums_say_that_some_jobs_are_left_out(
    options: tuple[str, ...], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*options, "method=none", "plan.tokens_per_s=1", "data.teachers=10,2")
    assert cli.main(["plan", *words]) == 1
    out, err = capsys.readouterr()
    (known,) = (line for line in out.splitlines() if line.startswith("data.teachers="))
    assert known.startswith("data.teachers=10")
    assert "M tokens, at least " in out
    assert "1 of 2 jobs cannot be reckoned:\n  data.teachers=2: " in err
    assert cli.main(["plan", *words, "data.teachers=2"]) == 1
    assert capsys.readouterr().out == ""  # no table without rows


def test_full_fine_tuning_that_cannot_fit_is_refused_before_anything_is_loaded(
    options: tuple[str, ...],
    tiny_llama: Path,
    job_config: JobConfigs,
    command: Command,
    tmp_path: Path,
) -> None:
    """137 billion parameters, of which there is no more than the configuration."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    sizes = read(folder / "config.json")
    large = {"hidden_size": 2**16, "intermediate_size": 2**18, "num_attention_heads": 512}
    write(folder / "config.json", sizes | large | {"num_key_value_heads": 512, "head_dim": 128})
    words = (*options, "train=full", f"model.path={folder}")
    with pytest.raises(UserError, match=r"train\.adapter: .* billion parameters take \d\d\d\d GB"):
        run_job(job_config(*words))
    assert not (tmp_path / "out/cache").exists() or not stages(tmp_path / "out")
    assert "the GPU has 80: set train=qlora" in "".join(command(*words, "plan.gpu_memory_gb=80"))
    said = "".join(command(*words, "plan.gpu_memory_gb=800"))
    assert re.search(
        r"the GPU has 800: run it on \d+ GPUs with accelerate launch .*, \d\d\d GB each;", said
    )


def test_what_the_job_would_refuse_at_once_is_said_in_its_words(
    options: tuple[str, ...], job_config: JobConfigs, command: Command
) -> None:
    """Prompts that leave no room to answer, and more tokens than the model has places for."""
    more = ("method=none", "plan.tokens_per_s=1000", "model.max_length=100")
    with pytest.raises(UserError) as error:
        run_job(job_config(*options, *more))
    assert "prompts are too long: " in str(error.value)
    (line,) = (s for s in command(*options, *more) if s.startswith("warning: "))
    assert line == f"warning: (as given): ratings_base, in a sample of the documents: {error.value}"

    more = ("method=none", "plan.tokens_per_s=1000", "model.max_length=4096")
    with pytest.raises(UserError) as error:
        run_job(job_config(*options, *more))
    assert "takes at most 2048 tokens, not 4096; set model.max_length=2048" in str(error.value)
    assert f"warning: (as given): {error.value}" in command(*options, *more)
    # Of jobs that share their stages, the one whose limit it is.
    both = command(*options, *more[:2], "model.max_length=1024,100")
    (line,) = (s for s in both if s.startswith("warning: "))
    assert line.startswith("warning: model.max_length=100: ratings_base")


def test_what_auto_leaves_open_is_said(options: tuple[str, ...], command: Command) -> None:
    auto = "train.gradient_checkpointing=auto"
    said = "shown with every layer checkpointed, the least that it takes"
    assert said in "".join(command(*options, auto))
    assert said not in "".join(command(*options, auto, "plan.gpu_memory_gb=80"))
    assert said not in "".join(command(*options, auto, "method=none"))


@pytest.mark.slow
def test_the_shape_is_that_of_the_loaded_model(
    tiny_llama: Path, model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    config = model_config(tiny_llama)
    _, shape = load_shape(config, tmp_path)
    model, _ = load_model(config, tmp_path)
    assert shape.linear + shape.other == sum(p.numel() for p in model.parameters())
    adapted = add_adapter(model, config.lora, 0)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.lora(config.lora) == trained
    last = config.lora.model_copy(update={"last_layers": 1})
    assert shape.lora(last) == trained // 2
