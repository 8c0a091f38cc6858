"""Which settings tell a training from one that another version made."""

from pathlib import Path

import pytest

from debiasdpo.stages.declarations import TRAINING
from tests.helpers.jobs import JobConfigs


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["model.lora.targets=[q_proj,lm_head]"], True),
        (["model.lora.targets=[q_proj,lm_head]", "model.dtype=float32"], False),
        (["model.lora.targets=[q_proj,lm_head]", "train=full"], False),  # which has no adapter
        (["model.lora.targets=[q_proj,v_proj]"], False),
        (["model.lora.targets=all-linear"], False),
        (["train.engine=trl"], True),
        (["train.engine=trl", "model.dtype=float32"], False),
        (["train.engine=trl", "train=full"], False),  # in float32
        (["train.engine=separate"], False),
    ],
)
def test_trainings_whose_logits_were_rounded_are_not_found_again(
    changes: list[str], told: bool, tiny_llama: Path, job_config: JobConfigs
) -> None:
    config = job_config(
        f"model.path={tiny_llama}", "model.max_length=512", "model.dtype=bfloat16", "train=cpu",
        "method=debiasing_dpo", *changes,
    )  # fmt: skip
    assert ("logits" in TRAINING.settings(config)) == told
