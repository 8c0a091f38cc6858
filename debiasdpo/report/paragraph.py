"""How a group of runs was made, as a paragraph for the methods section of a paper."""

from collections.abc import Mapping
from typing import Any

from debiasdpo.config.shown import joined
from debiasdpo.report.groups import Group
from debiasdpo.version import __version__


def paragraph(group: Group) -> str:
    """Of what its runs' configuration and metrics say; what they do not say is left out."""
    run = group.runs[0]
    config = run.config
    said = [_documents(group), _prompts(config)]
    per = _at(config, "audit", "statements")
    each = "all statements" if per is None else "one statement" if per == 1 else f"{per} statements"
    said.append(
        f"Each document was also rated with {each} of irrelevant social context of each category"
        f" ({joined(group.categories())}), in wordings that were used for nothing else"
        + (", and with a placebo that says nothing social" if group.has_placebo else "")
        + "; bias is the mean absolute difference to the rating without, in points of the scale."
    )
    if group.after == "tuned":
        trained = f" on {joined(group.trained)}" if group.trained else ""
        how = _training(config) if (run.folder / "training").is_dir() else ""
        said.append(f"The method was {group.method}{trained}{how}.")
    resamples = _at(config, "audit", "resamples")
    if resamples:
        said.append(
            f"Intervals (95 %) are from a bootstrap over groups of documents with {resamples} resamples."
        )
    seeds = [str(other.seed) for other in group.runs]
    several = "Seeds were" if len(seeds) > 1 else "The seed was"
    said.append(f"{several} {joined(seeds)}. All was done with debiasdpo {__version__}.")
    return " ".join(said)


def _documents(group: Group) -> str:
    run = group.runs[0]
    counts = [run.count("bias/base", what) for what in ("documents", "groups")]
    of = ""
    if counts[0]:
        of = f" {counts[0]} documents of {counts[1]} groups"
    scales = [
        f"{name} ({rubric.get('low')} to {rubric.get('high')})"
        for name, rubric in run.rubrics.items()
    ]
    revision = _at(run.config, "model", "revision")
    at = f" (revision {revision})" if revision else ""
    return f"{group.model}{at} rated{of} of {group.data} on {joined(scales)}."


def _prompts(config: Mapping[str, Any]) -> str:
    if _at(config, "rate", "readout") == "expected":
        return "A rating is the expectation over the probabilities of the scale's levels."
    temperature = _at(config, "rate", "temperature")
    drawn = "" if temperature is None else f", at temperature {temperature}"
    return f"A rating was read from the model's reply{drawn}."


def _training(config: Mapping[str, Any]) -> str:
    adapter = _at(config, "train", "adapter")
    rank = _at(config, "model", "lora", "rank")
    how = {"lora": f"with LoRA (rank {rank})", "full": "of all weights"}.get(str(adapter), "")
    rate, epochs = _at(config, "train", "learning_rate"), _at(config, "train", "epochs")
    return f", trained {how} at a learning rate of {rate} for {epochs} epochs"


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    here: Any = config
    for key in keys:
        here = here.get(key) if isinstance(here, dict) else None
    return here
