"""What stages cost, against what was run."""

import mmap
from collections.abc import Callable
from pathlib import Path

import pytest

from debiasdpo.config import model
from debiasdpo.costs import Cost, Meter, cost_metrics
from debiasdpo.models import loading
from debiasdpo.packing.logprobs import Completion, packed_tokens, sequence_logprobs

ModelConfigs = Callable[..., model.ModelConfig]


def test_metrics_by_hand() -> None:
    costs = {
        "ratings_base": Cost(1800, 1000, 10.5, 1, 1800),
        "training": Cost(3600, 5000, 40.25, 4, 14400),
    }
    assert cost_metrics(costs, 2.5) == {
        "cost/gpu_hours": 4.5, "cost/money": 11.25, "cost/tokens": 6000, "cost/peak_memory_gb": 40.25,
        "cost/ratings_base/gpu_hours": 0.5, "cost/ratings_base/money": 1.25,
        "cost/ratings_base/tokens": 1000, "cost/ratings_base/peak_memory_gb": 10.5,
        "cost/training/gpu_hours": 4.0, "cost/training/money": 10.0,
        "cost/training/tokens": 5000, "cost/training/peak_memory_gb": 40.25,
    }  # fmt: skip
    assert not [key for key in cost_metrics(costs, None) if "money" in key]
    assert cost_metrics({}, 1.0)["cost/money"] == 0


def test_a_stage_that_goes_on_with_other_gpus_costs_what_each_process_took() -> None:
    """An hour on four GPUs, then three on one, then one on none."""
    four, one, none = (Cost(s, 10, 1.0, g, g * s) for s, g in ((3600, 4), (10800, 1), (3600, 0)))
    whole = none.after(one.after(four))
    assert (whole.gpu_hours, whole.seconds, whole.tokens, whole.gpus) == (7.0, 18000, 30, 4)
    assert Cost.from_row(whole.to_row()) == whole
    earlier = {"seconds": 1800, "tokens": 5, "memory_gb": 1.0, "gpus": 2}
    assert Cost.from_row(earlier).gpu_hours == 1.0


def test_a_meter_counts_packed_tokens_and_the_peak_of_memory(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    model, _ = loading.load_model(model_config(tiny_llama), tmp_path, device="cpu")
    rows = [Completion((1, 2, 3, 4), (5, 6)), Completion((1, 2, 3, 4), (7, 8))]
    meter = Meter()
    # Mapped, as a large free piece of a long-lived worker's heap would take an array in without growing.
    with mmap.mmap(-1, 300_000_000) as ballast:
        ballast[:: mmap.PAGESIZE] = bytes(len(range(0, len(ballast), mmap.PAGESIZE)))
    with torch.no_grad():
        sequence_logprobs(model, rows)
        sequence_logprobs(model, rows)
    cost = meter.read(processes=1)
    assert cost.tokens == 2 * packed_tokens(rows) == 2 * 6
    assert cost.seconds > 0
    if torch.cuda.is_available():
        pytest.skip("the peak is the GPU's, and all of this ran on the CPU")
    later = Meter().read(processes=1)
    assert cost.memory_gb - later.memory_gb > 0.2  # a peak that is over no longer counts
    assert cost.gpus == 0
    assert later.tokens == 0
