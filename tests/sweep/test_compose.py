"""Jobs of a sweep are composed once for all that choose the same options, and are what Hydra composes."""

import pytest
from omegaconf import OmegaConf

from debiasdpo.sweep.compose import Composer
from tests.helpers.composed import hydra_of_a_sweep


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.limit.test=null", "data={limit:{test:4}}", "seed=1"],
        ["data={limit:{test:4}}", "data.limit.test=null", "seed=1"],
        ["train.epochs=2", "train={epochs:3}", "method=sft"],
        ["loss=paper", "loss.beta=0.3", "+context.train.race=true", "~data.limit.train"],
        ["experiment=real_words", "method=sft", "model=smollm2", "train.epochs=2"],
        ["context=[experience,race]", "context.generated=10", "experiment=quick"],
        ["task=elicitation", "judge=openai", "judge.name=m", "elicitation.attacks=generated"],
        ["model=endpoint", "model.name=m", "+model.adapter=FOLDER", "method=none", "rate=text"],
    ],
)
def test_a_job_is_what_hydra_makes_of_its_overrides(overrides: list[str]) -> None:
    context, whole = hydra_of_a_sweep()
    mine, _ = Composer(context, whole).compose(overrides)
    own = context.config_loader.load_sweep_config(whole, overrides)
    own = OmegaConf.masked_copy(own, [str(key) for key in own if key != "hydra"])
    assert OmegaConf.to_container(mine) == OmegaConf.to_container(own)
