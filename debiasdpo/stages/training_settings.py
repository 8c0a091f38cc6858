"""Settings that decide what the stages of a training make: pairs, reference and weights."""

from debiasdpo.config.job import JobConfig
from debiasdpo.storage.packages import installed

_TOKENS = {"text": {"texts": 1}}  # raise it when a text that a model wrote becomes other tokens


def pairs_settings(config: JobConfig) -> dict[str, object]:
    """Of `pairs`: what a pair is made of."""
    method = config.method
    return {
        "chosen": method.chosen,
        "rejects": method.rejects,
        "min_shift": method.min_shift and [method.min_shift, 2],  # raise it when compared otherwise
        "reasoning": method.holds_reasoning(config.rate.readout),
        "sentences": 2,  # raise it when another part of a reply is its reasoning
    }


def reference_settings(config: JobConfig) -> dict[str, object]:
    """Of `reference`: which log-probabilities are needed, and how they are computed."""
    of = [config.method.prefers, config.method.anchored]
    found: dict[str, object] = {"max_length": config.local_model.max_length, "of": of, "fitting": 2}
    found |= {"engine": "separate"} if config.train.engine != "tree" else {}
    return found | _TOKENS.get(config.rate.readout, {})


def training_settings(config: JobConfig) -> dict[str, object]:
    """Of `training` and `fitting`: what decides the weights besides pairs and reference."""
    found: dict[str, object] = {
        "method": config.method.model_dump(mode="json", exclude={"name"}),
        "lora": config.local_model.lora.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "steps": 2,  # raise it when their pairs are drawn differently
        "loss": config.loss.model_dump(mode="json"),
        "seed": config.seed,
        "max_length": config.local_model.max_length,
    }
    weighs = config.method.balanced or config.method.weigh_by_shift
    found |= {"weights": 2} if weighs else {}  # raise it when pairs are weighed differently
    found |= {"kept": "as rated"} if config.trains_rounded else {}
    found |= {"logits": "float32"} if _had_rounded_logits(config) else {}
    found |= _TOKENS.get(config.rate.readout, {})
    packages = {
        "accelerate": True,
        "peft": config.train.adapter == "lora",
        "bitsandbytes": config.train.optimizer == "paged_adamw_8bit",
        "trl": config.train.engine == "trl",
    }
    return found | {"versions": installed(*(name for name, used in packages.items() if used))}


def _had_rounded_logits(config: JobConfig) -> bool:
    model, train = config.local_model, config.train
    if train.adapter == "full":  # TRL's are in float32, and refused on a GPU in 16 bits
        return False
    by_trl = train.engine == "trl" and model.precision != "float32"
    return by_trl or model.adapts_head_in_16_bits
