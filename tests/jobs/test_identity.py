"""Which job a configuration is, where it is kept, and whether it is done."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.identity import Choices, choices_of, contents, finished, identify
from tests.helpers.jobs import JobConfigs, options, run_folder, run_job, stages, untimed
from tests.helpers.sweeps import pretend_finished

TINY = Choices("tiny", "table")


@pytest.mark.parametrize(
    "change", ["metrics", "version", "model", "weights", "file", "price", "choices"]
)
def test_a_job_is_not_finished_if_anything_changed(
    change: str,
    job_config: JobConfigs,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "essays.csv"
    data.write_text("id,group,text,clarity\na,1,Well.,3\n")
    model = tmp_path / "model"
    shutil.copytree(tiny_llama, model)
    config = job_config(
        "data=table", f"data.path={data}", f"model.path={model}", f"output_dir={tmp_path / 'out'}",
        "data.rubrics={clarity:{question:'How clear?',low:1,high:5}}",
    )  # fmt: skip
    folder = pretend_finished(config, TINY)
    assert finished(config, TINY) == folder
    if change == "metrics":
        (folder / "metrics.json").write_text("{}")
    elif change == "version":
        monkeypatch.setattr("debiasdpo.jobs.identity.__version__", "0.0.0")
    elif change == "model":
        (model / "config.json").write_text("{}")
    elif change == "weights":  # of equal size and time
        status = (model / "model.safetensors").stat()
        with (model / "model.safetensors").open("r+b") as stream:
            stream.seek(-4, os.SEEK_END)
            stream.write(b"\1\2\3\4")
        os.utime(model / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "price":
        config = config.model_copy(update={"gpu_hour_price": 2.0})
    elif change == "choices":
        assert finished(config, Choices("small", "table")) is None
        return
    else:
        data.write_text("id,group,text,clarity\na,1,Better.,3\n")
    assert finished(config, TINY) is None


@pytest.mark.parametrize("of", ["model", "judge"])
def test_a_job_is_not_finished_if_the_adapter_of_an_endpoint_changed(
    of: str, job_config: JobConfigs, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    served = f"serve=[vllm,serve,base]|name=base|adapter={adapter}".split("|")
    task = ["method=none"] if of == "model" else ["task=elicitation", "judge=vllm", "method=none"]
    config = job_config(
        f"{of}=vllm", *task, *(f"{of}.{key}" for key in served), f"output_dir={tmp_path / 'out'}"
    )
    folder = pretend_finished(config, TINY)
    assert finished(config, TINY) == folder
    (adapter / "adapter_model.safetensors").write_bytes(b"two")  # trained anew, in the same place
    assert finished(config, TINY) is None


@pytest.mark.parametrize("change", ["data", "model"])
def test_what_changed_under_the_same_name_is_told_apart(
    change: str, job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    """status.json says it, so that a report takes no two such runs for seeds of one setting."""
    data, model = tmp_path / "essays.csv", tmp_path / "model"
    data.write_text("id,group,text,clarity\na,1,Well.,3\n")
    shutil.copytree(tiny_llama, model)
    config = job_config(
        "data=table", f"data.path={data}", f"model.path={model}", f"output_dir={tmp_path / 'out'}",
        "data.rubrics={clarity:{question:'How clear?',low:1,high:5}}",
    )  # fmt: skip
    before = contents(config)
    if change == "data":
        data.write_text("id,group,text,clarity\na,1,Better.,3\n")
    else:
        (model / "config.json").write_text((model / "config.json").read_text() + " ")
    after = contents(config)
    assert {what for what in before if before[what] != after[what]} == {change}


def test_a_job_is_the_same_on_a_gpu_and_on_a_cpu(job_config: JobConfigs, tmp_path: Path) -> None:
    here, there = (
        job_config(f"output_dir={tmp_path}", f"model.device={device}") for device in ("auto", "cpu")
    )
    assert here != there
    assert identify(here, TINY) == identify(there, TINY)


def at_path(config: JobConfig, path: str) -> JobConfig:
    """The job with its weights at a path that need not exist."""
    return config.model_copy(update={"model": config.local_model.model_copy(update={"path": path})})


@pytest.mark.parametrize(
    ("override", "path", "name"),
    [
        ("model.nf4=false", None, "smollm2"),
        ("model.path=/x/y/mymodel", "/x/y/mymodel", "mymodel"),
        ("++model.path=/x/y/mymodel/", "/x/y/mymodel/", "mymodel"),
        ("model={nf4:false,path:/x/y/mymodel}", "/x/y/mymodel", "mymodel"),
        ("model.path=Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"),
    ],
)
def test_a_model_given_by_its_path_is_called_by_the_last_part(
    override: str, path: str | None, name: str, job_config: JobConfigs, tmp_path: Path
) -> None:
    config = job_config(f"output_dir={tmp_path}")
    overrides = ["model.max_length=99", override]
    config = at_path(config, path) if path else config
    choices = choices_of({"model": "smollm2", "data": "simulated"}, overrides, config)
    assert choices == Choices(name, "simulated")
    _, folder = identify(config, choices)
    assert folder.name.startswith(f"{name}_simulated_sycophancy_debiasing_dpo_s0_")


def test_status_names_the_choices_and_their_paths(job_config: JobConfigs, tmp_path: Path) -> None:
    data = tmp_path / "essays.csv"
    data.write_text("id,group,text,clarity\na,1,Well.,3\n")
    overrides = [
        "data=table", f"data.path={data}", "method=sft",
        "data.rubrics={clarity:{question:'How clear?',low:1,high:5}}",
    ]  # fmt: skip
    config = job_config(f"output_dir={tmp_path}", "context=[race,role]", *overrides)
    config = at_path(config, "/x/y/mymodel")
    chosen = {"model": "smollm2", "data": "table"}
    choices = choices_of(chosen, [*overrides, "model.path=/x/y/mymodel"], config)
    assert choices.to_status(config) == {
        "model": "mymodel", "model_path": "/x/y/mymodel", "data": "table", "data_path": str(data),
        "method": "sft", "context": ["race", "role"],
    }  # fmt: skip


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)


def test_a_name_with_an_underscore_is_seen_in_its_folder(plain: JobConfig) -> None:
    pairs = ("tiny", "grade5_essays"), ("tiny_grade5", "essays")
    names = [identify(plain, Choices(*pair)).folder.name.rpartition("_")[0] for pair in pairs]
    assert [name.rpartition("_s0")[0].split("_sycophancy")[0] for name in names] == [
        "tiny_grade5-essays", "tiny-grade5_essays",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def plain(job_config: JobConfigs) -> JobConfig:
    return job_config()


@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=9, unique=True))
@example([("tiny", "grade5_essays"), ("tiny_grade5", "essays")])
def test_other_choices_are_other_jobs(plain: JobConfig, chosen: list[tuple[str, str]]) -> None:
    """Also where their configurations are equal, since an option of conf/ may be another's alias."""
    choices = [Choices(*names) for names in chosen]
    for told in (
        {identify(plain, one).folder.name for one in choices},
        {identify(plain, one).key for one in choices},
    ):
        assert len(told) == len(choices)


@given(st.text(st.sampled_from("aÄ漢🙂_/. "), min_size=1, max_size=400))
def test_a_folder_has_a_name_that_disks_take(plain: JobConfig, name: str) -> None:
    folder = identify(plain, Choices(name, "data")).folder
    assert len(folder.name.encode()) <= 129
    assert folder.parent.name == "runs"


def test_an_output_folder_may_be_moved_and_copied(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    """By another way than hard links, and under another name."""

    def job(output: str, *more: str) -> JobConfig:
        changes = (*more, "method=none")
        return job_config(*options("smollm2", tiny_llama, tmp_path / output, *changes))

    made = untimed(run_job(job("out")))
    (tmp_path / "out").rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    choices = Choices("tiny", "simulated")
    for place in ("moved", "copied"):
        folder = finished(job(place), choices)
        assert folder == run_folder(tmp_path / place)
        before = stages(tmp_path / place)
        assert untimed(run_job(job(place))) == made
        run_job(job(place, "audit.resamples=120"))  # asks for new metrics of the same ratings
        assert stages(tmp_path / place) == {**before, "metrics": 2}
    links = [file for file in (tmp_path / "moved").rglob("*") if file.is_symlink()]
    assert not links


def test_what_belongs_to_one_task_tells_no_jobs_of_the_other_apart(job_config: JobConfigs) -> None:
    def key(*overrides: str) -> str:
        return identify(job_config(*overrides), TINY).key

    rating = key()
    assert key("elicitation.threshold=0.6", "elicitation.variants=[role_playing]") == rating
    eliciting = key("task=elicitation", "judge=self")
    assert eliciting != rating
    for other in ("context=race", "loss.beta=0.3", "train.epochs=9", "audit.statements=2"):
        assert key("task=elicitation", "judge=self", other) == eliciting
    for own in ("elicitation.threshold=0.6", "rate.max_new_tokens=9", "audit.resamples=500"):
        assert key("task=elicitation", "judge=self", own) != eliciting
    assert key("task=elicitation") != eliciting
