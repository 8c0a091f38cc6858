"""A job with model.dtype=auto: what it is settled to, and that it stays so wherever it goes on."""

from pathlib import Path

import pytest
import yaml

from debiasdpo.cluster import cpu
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import Choices, finished, identify
from debiasdpo.jobs.precision import settle
from debiasdpo.jobs.run_folder import RunFolder
from tests.helpers.jobs import JobConfigs, command, options, run_folder, run_job

TINY = Choices("tiny", "simulated")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc/cpuinfo of the machine that a job runs on; a GPU is not looked for."""
    monkeypatch.setattr(cpu, "_FILE", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


AUTO = ("model.dtype=auto", "model.device=cpu")
WITH_AMX = "flags : amx_tile amx_bf16\n"
WITHOUT = "flags : avx2\n"


def test_a_job_goes_on_in_what_it_was_begun_in(
    job_config: JobConfigs,
    tiny_llama: Path,
    tmp_path: Path,
    machine: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "debiasdpo")  # as the command line has it
    config = job_config(*options("smollm2", tiny_llama, tmp_path / "out", "method=none", *AUTO))
    machine.write_text(WITH_AMX)
    run_job(config)
    begun, _ = settle(config, TINY)
    folder = identify(begun, TINY).folder
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["model"]["dtype"] == "bfloat16"
    assert "model.dtype: bfloat16 (this CPU multiplies" in (folder / "run.log").read_text()
    # The same command on a machine that would have taken float32: nothing is rated again, or mixed.
    machine.write_text(WITHOUT)
    there, why = settle(config, TINY)
    assert there == begun
    assert why == "bfloat16 (the job was begun in it; model.dtype names another)"
    assert finished(there, TINY) == folder
    # One that was stopped as soon as it had begun goes on in it too; another job is not bound by it.
    other = config.model_copy(update={"seed": 1})
    machine.write_text(WITH_AMX)
    RunFolder(identify(settle(other, TINY)[0], TINY).folder, {}).status("running", stage="start")
    machine.write_text(WITHOUT)
    assert settle(other, TINY)[0].local_model.dtype == "bfloat16"
    assert settle(config.model_copy(update={"seed": 2}), TINY)[0].local_model.dtype == "float32"


def test_the_command_line_says_why_too(tiny_llama: Path, tmp_path: Path) -> None:
    job = command(*options("smollm2", tiny_llama, tmp_path, "method=none", *AUTO))
    _, said = job.communicate(timeout=120)
    assert job.returncode == 0, said
    assert "model.dtype: " in (run_folder(tmp_path) / "run.log").read_text()


def test_a_settled_job_is_the_job_of_that_precision(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, machine: Path
) -> None:
    given = options("smollm2", tiny_llama, tmp_path / "out", "method=none", *AUTO)
    machine.write_text(WITHOUT)
    found, why = settle(job_config(*given), TINY)
    named = job_config(*given, "model.dtype=float32")
    assert found == named
    assert why == "float32 (this CPU has no instructions for bfloat16)"
    assert settle(named, TINY) == (named, None)
    # Begun in two, each by its name: the one that the machine is for.
    for dtype in ("float32", "bfloat16"):
        job = job_config(*given, f"model.dtype={dtype}")
        RunFolder(identify(job, TINY).folder, {}).status("running", stage="start")
    for text, wanted in ((WITHOUT, "float32"), (WITH_AMX, "bfloat16")):
        machine.write_text(text)
        assert settle(job_config(*given), TINY)[0].local_model.dtype == wanted


def test_all_weights_are_trained_by_trl_on_a_gpu_that_settles_auto_to_float32(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And refused on one that settles it to bfloat16, in which TRL would differ from the reference."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "this card")
    job = ("method=debiasing_dpo", "train=full", "train.engine=trl", "model.dtype=auto")
    config = job_config(*options("smollm2", tiny_llama, tmp_path, *job))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 0))
    settled, why = settle(config, TINY)
    assert settled.local_model.dtype == "float32"
    assert why is not None
    assert why.startswith("float32 (this card has no bfloat16")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    with pytest.raises(
        UserError, match=r"^train\.engine: .* set train\.engine=tree, or model\.dtype="
    ):
        settle(config, TINY)
    with_tree = config.model_copy(
        update={"train": config.train.model_copy(update={"engine": "tree"})}
    )
    assert settle(with_tree, TINY)[0].local_model.dtype == "bfloat16"
