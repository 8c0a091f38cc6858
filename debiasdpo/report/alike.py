"""Which runs are alike: by their settings and by what data and weights were, not by names of folders."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from debiasdpo.config.job import NO_MATTER

Setting = tuple[str, ...]  # the parts of its key
Settings = Mapping[Setting, str]

# A seed may differ in these from the others of its setting.
_FREE: set[Setting] = {("seed",)}
for _section, _keys in NO_MATTER.items():
    _FREE |= {(_section,)} if _keys is True else {(_section, key) for key in _keys}
# What only training sees.
_TRAINING = (
    ("method",),
    ("loss",),
    ("train",),
    ("context", "train"),
    ("context", "generated"),
    ("context", "frames"),
    ("context", "positions"),
    ("model", "lora"),
)
# What a prompt has beside document and statement, and how its rating is read.
_ASKED = (("data", "rubrics"), ("data", "heading"), ("data", "about"), ("prompt",), ("rate",))
_SHOWN = 3  # settings in a label
_LONGEST = 28  # characters of a setting's value in a label


def settings_of(
    config: Mapping[str, Any], content: Mapping[str, str], *, trained: bool
) -> Settings:
    """All that may not differ between seeds of one setting: every leaf of the configuration, and what the
    documents and the weights were when the run was made. Not `trained`: but for what only training sees."""
    found = dict(_leaves(config))
    if not trained:
        found = {key: value for key, value in found.items() if not _is_of(key, _TRAINING)}
    return found | {("content", what): name for what, name in content.items()}


def asked(settings: Settings) -> Settings:
    """What two runs must share for a comparison of their ratings to be one of the raters."""
    return {key: value for key, value in settings.items() if _is_of(key, _ASKED)}


def differing(found: Sequence[Settings], *, in_training: bool = True) -> set[Setting]:
    """The settings in which any two differ. Not `in_training`: but for those that only training sees, and
    that say nothing of what was measured."""
    keys = {key for known in found for key in known}
    return {
        key
        for key in keys
        if (in_training or not _is_of(key, _TRAINING))
        and len({known.get(key) for known in found}) > 1
    }


def labels(found: Sequence[Settings], keys: Iterable[Setting]) -> list[str]:
    """What these keys are in each, `loss.beta=0.1, loss.w_sft=1`; different where they are."""
    names = sorted(keys)
    counts: dict[str, int] = {}
    known: dict[tuple[str | None, ...], str] = {}
    for one in found:
        values = tuple(one.get(name) for name in names)
        if values not in known:
            label = named(zip(names, values, strict=True))
            counts[label] = counts.get(label, 0) + 1
            known[values] = label if counts[label] == 1 else f"{label} #{counts[label]}"
    return [known[tuple(one.get(name) for name in names)] for one in found]


def apart(found: Sequence[Settings]) -> list[str]:
    """What each has of the settings in which they differ; empty where they differ in none."""
    return labels(found, differing(found))


def named(values: Iterable[tuple[Setting, str | None]]) -> str:
    """`loss.beta=0.1, loss.w_sft=1`: the first few, and how many more there are."""
    said = [f"{'.'.join(key)}={_short(value)}" for key, value in values]
    more = len(said) - _SHOWN
    return ", ".join([*said[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _leaves(config: Mapping[str, Any], above: Setting = ()) -> Iterator[tuple[Setting, str]]:
    """Every leaf of a configuration as text, by its full key."""
    for name, value in config.items():
        key = (*above, str(name))
        if key in _FREE:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, key)
        else:
            yield key, json.dumps(value, default=str, ensure_ascii=False)


def _is_of(key: Setting, sections: Iterable[Setting]) -> bool:
    return any(key[: len(section)] == section for section in sections)


def _short(value: str | None) -> str:
    text = "-" if value is None else value.strip('"')
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
