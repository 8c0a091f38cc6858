"""What the documents of an audit can tell: the smallest bias that they find, and how many would find a given
one, by how much groups varied in an earlier audit."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from scipy.special import stdtrit

from debiasdpo.config.job import JobConfig
from debiasdpo.evaluation.keys import MODELS, Key, count_key, interval_key, names
from debiasdpo.metrics import groups_needed, least_detectable

WANTED = 0.2  # points, of a bias beyond the placebo's, and of what two methods differ by
# Standard deviation over groups where no audit tells it, in points: as if each had one document, of which a
# statement moves every third by a point (0.47), and placebos few.
ASSUMED = 0.5
_ASSUMED_GROUPS = 1000  # so many that it counts as known


class Audited(NamedTuple):
    """The documents of an audit."""

    documents: int
    groups: int


class Pilot(NamedTuple):
    """What an earlier audit says of how groups vary, in points."""

    groups: int
    # Half the width of the interval of a bias beyond the placebo's: the widest of all categories.
    beyond: float
    methods: float  # the same of what the biases of two methods differ by


def pilot(config: JobConfig, metrics: Mapping[str, Any], other: Mapping[str, Any]) -> Pilot | None:
    """From the metrics.json of a finished job and its configuration, if it rated with the same model, in the
    same way, on the same rubrics, under as many statements."""
    plain = config.model_dump(mode="json")
    same = (
        ("model", ("path", "name", "base_url", "kind")),
        ("rate", ("readout", "format", "temperature", "calibration")),
        ("data", ("rubrics", "use")),
        ("audit", ("statements",)),  # of more a document, groups vary less
    )
    for section, keys in same:
        mine, its = plain[section], other.get(section)
        if not isinstance(its, dict) or any(mine.get(key) != its.get(key) for key in keys):
            return None
    beyond = [
        half
        for model in MODELS
        for name in names(metrics, "category")
        if (half := _half(metrics, Key("bias_beyond", model, "category", name))) is not None
    ]
    halves = [_half(metrics, Key("bias", model)) for model in MODELS]
    widths = [half for half in halves if half is not None]
    groups = (metrics.get(count_key(Key("bias", "base"))) or {}).get("groups", 0)
    if not beyond or not widths or groups < 2:
        return None
    # As if the biases of the two had nothing to do with each other; they have, which takes fewer groups.
    both = widths if len(widths) > 1 else [*widths, *widths]
    return Pilot(groups, max(beyond), math.hypot(*both))


def _half(metrics: Mapping[str, Any], key: Key) -> float | None:
    low, high = metrics.get(interval_key(key)) or (None, None)
    return None if low is None or high is None else (high - low) / 2


def assumed() -> Pilot:
    """Where there is no earlier audit."""
    half = float(stdtrit(_ASSUMED_GROUPS - 1, 0.975)) * ASSUMED / math.sqrt(_ASSUMED_GROUPS)
    return Pilot(_ASSUMED_GROUPS, half, math.sqrt(2) * half)


def power_text(audited: Audited, known: Pilot | None) -> str:
    """What an audit of these documents finds in 80 % of cases, and what it takes to find `WANTED`."""
    by = known or assumed()
    if known is None:
        how = f"If groups vary by {ASSUMED} points (an assumption: a small audit first tells)"
    else:
        how = f"If groups vary as the {by.groups} of an earlier audit of this model did"
    kinds = {"a bias beyond the placebo": by.beyond, "a difference of two methods": by.methods}
    if audited.groups < 2:
        return "power: the audit is of a single group, of which nothing can be told for others"
    parts = []
    for what, half in kinds.items():
        least = least_detectable(half, by.groups, planned=audited.groups)
        if not half:
            parts.append(f"{what}, however small")
            continue
        needed = groups_needed(WANTED, half, by.groups)
        documents = math.ceil(needed * audited.documents / audited.groups)
        parts.append(
            f"{what} of {least:.2f} points or more ({WANTED} points takes {needed} groups,"
            f" {documents} documents)"
        )
    return (
        f"power: {how}, the {audited.documents} documents of {audited.groups} groups find in 80% of cases"
        f" {', and '.join(parts)}"
    )
