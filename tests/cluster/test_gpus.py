"""Which GPU a process gets, and what it is told where it gets none. No GPU is needed."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.cluster import gpus
from debiasdpo.config.cluster import LocalConfig
from debiasdpo.errors import UserError
from debiasdpo.sweep import launchers
from tests.helpers.jobs import JobConfigs

# What builds of torch have kernels for, as `torch.cuda.get_arch_list` says it.
BUILT = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def a_gpu_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its driver shows it, though torch here cannot use it."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(gpus, "_FILES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("a_gpu_is_there")
def test_a_gpu_that_torch_cannot_use_is_no_reason_for_a_cpu(
    tiny_llama: Path, model_config: Any, tmp_path: Path
) -> None:
    from debiasdpo.models import loading

    with pytest.raises(UserError, match=r"model\.device: this machine has a GPU, and torch .*cpu"):
        loading.load_model(model_config(tiny_llama), tmp_path)
    model, _ = loading.load_model(model_config(tiny_llama, device="cpu"), tmp_path)
    assert model.device.type == "cpu"


@pytest.mark.usefixtures("a_gpu_is_there")
@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_is_hidden_is_not_there(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpus.device("auto") == "cpu"
    with pytest.raises(UserError, match="none is seen here"):
        gpus.device("cuda")


def test_without_a_gpu_it_is_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr(gpus, "_FILES", tmp_path)
    assert gpus.device("auto") == "cpu"


@pytest.mark.usefixtures("a_gpu_is_there")
def test_a_job_is_told_before_it_starts(
    job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = ("task=elicitation", "model=openai", "judge=smollm2")
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with pytest.raises(UserError, match=r"model\.device: this machine has a GPU, and torch"):
        job_config()
    with pytest.raises(UserError, match=r"judge\.device: this machine has a GPU, and torch"):
        job_config(*judge)
    monkeypatch.setattr(gpus, "_FILES", tmp_path / "none")
    with pytest.raises(UserError, match=r"judge\.device: cuda needs a GPU of NVIDIA's, and none"):
        job_config(*judge, "judge.device=cuda")
    job_config("model.device=cuda", "cluster=slurm")  # the nodes may have one


@pytest.mark.parametrize(
    ("name", "capability", "dtype", "says"),
    [
        ("Tesla V100", (7, 0), "float16", "no kernels in this build"),
        ("Tesla T4", (7, 5), "bfloat16", "set model.dtype=float16"),
        ("Tesla T4", (7, 5), "float16", None),
        ("A100", (8, 0), "bfloat16", None),
        ("A10", (8, 6), "bfloat16", None),
        ("RTX 4090", (8, 9), "bfloat16", None),  # by the kernels for 8.6
        ("H100", (9, 0), "bfloat16", None),
        ("a later one", (13, 0), "bfloat16", None),  # by PTX
    ],
)
def test_cards_by_their_capability(
    name: str, capability: tuple[int, int], dtype: str, says: str | None
) -> None:
    problem = gpus.card_problem(name, capability, BUILT, dtype)
    assert (says or "") in (problem or "")
    assert (problem is None) == (says is None)


def test_kernels_of_one_card_are_of_that_card_only() -> None:
    assert gpus.card_problem("H100", (9, 0), ["sm_90a"], "bfloat16") is None
    assert gpus.card_problem("later", (9, 1), ["sm_90a"], "bfloat16") is not None
    assert gpus.card_problem("A100", (8, 0), ["sm_86"], "bfloat16") is not None
    assert "which is for no GPU" in str(gpus.card_problem("A100", (8, 0), [], "bfloat16"))


# --- jobs of a sweep on this machine


def hold(folder: Path, answers: "multiprocessing.Queue[str]") -> None:
    gpus.claim(["3", "5"], folder)
    gpus.claim(["3", "5"], folder)  # by a second job of the same process
    answers.put(os.environ["CUDA_VISIBLE_DEVICES"])
    time.sleep(60)


def test_each_process_has_a_gpu_for_itself_until_it_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    holders = [context.Process(target=hold, args=(tmp_path, answers)) for _ in range(3)]
    for process in holders[:2]:
        process.start()
    found = [answers.get(timeout=60), answers.get(timeout=60)]
    assert sorted(found) == ["3", "5"]
    holders[2].start()
    time.sleep(0.5)
    assert answers.empty()
    holders[0].kill()
    assert answers.get(timeout=60) in found
    for process in holders:
        process.kill()
        process.join()


def test_a_job_of_joblibs_sees_one_gpu(tmp_path: Path) -> None:
    from joblib import Parallel, delayed

    task: Any = gpus.one_each(
        lambda config: os.environ["CUDA_VISIBLE_DEVICES"], ["3", "5"], 2, tmp_path
    )
    found = Parallel(n_jobs=2, backend="loky")(delayed(task)(None) for _ in range(3))
    assert set(found) <= {"3", "5"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_more_jobs_than_gpus_are_refused(
    job_config: JobConfigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: Any = None
    given = launchers.Given(context, context, 0, lambda config: None)
    on_gpus, on_cpu = (
        [launchers.SweepJob(str(i), [], "to do", job_config(f"model.device={d}")) for i in range(3)]
        for d in ("auto", "cpu")
    )
    judged = [
        job._replace(
            config=job_config("task=elicitation", "model=ollama", "model.name=x", "judge=smollm2")
        )
        for job in on_cpu
    ]
    monkeypatch.setattr(launchers, "visible", lambda: ["0", "1"])
    # Each of these judges here.
    with pytest.raises(UserError, match=r"cluster\.jobs: 3 jobs at once"):
        launchers.LAUNCHERS["local"](given, LocalConfig(kind="local", jobs=4), judged)
    with pytest.raises(UserError, match=r"cluster\.jobs: 3 jobs at once .* has 2; set"):
        launchers.LAUNCHERS["local"](given, LocalConfig(kind="local", jobs=4), on_gpus)
    ran: list[Any] = []
    monkeypatch.setattr(launchers, "_joblib_tries", lambda given, *_: ran.append(given.task))
    launchers.LAUNCHERS["local"](given, LocalConfig(kind="local", jobs=2), on_gpus)
    launchers.LAUNCHERS["local"](given, LocalConfig(kind="local", jobs=4), on_cpu)
    assert [task is given.task for task in ran] == [False, True]


def test_visible_gpus_are_called_as_the_environment_calls_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f1c, 4")
    assert gpus.visible() == ["GPU-8f1c", "4"]
