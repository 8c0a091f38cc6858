"""Which runs are alike: by their settings and by what data and weights were, not by names of folders."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from debiasdpo.config.job import NO_MATTER
from debiasdpo.report.names import shortened, shorter

Setting = tuple[str, ...]  # the parts of its key
Settings = Mapping[Setting, str]
Shown = Mapping[Setting, Mapping[str | None, str]]  # of keys, each value as labels write it

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
_ASKED = (
    ("data", "rubrics"), ("data", "use"), ("data", "heading"), ("data", "about"), ("prompt",), ("rate",),
)  # fmt: skip
# How replies to prompts that elicit are made, and labelled.
_ELICITED = (
    *(("rate", key) for key in ("max_new_tokens", "temperature", "top_p")),
    ("judge",), ("elicitation", "judge_tokens"), ("elicitation", "judge_temperature"),
)  # fmt: skip
_ELICITING = (("elicitation",), ("judge",))  # what only prompts that elicit are for
_ITS_PROMPTS = (("elicitation", "data"),)
_ATTACKED = (("elicitation", "attacks"), ("elicitation", "variants"))
_NEVER_LEFT_OUT = (("rate",), ("prompt",))  # of labels: figures of others are of other questions
_CONTENT = "content"  # what data and weights were; told last, as nobody chose it
_SHOWN = 3  # settings in a label
_LONGEST = 28  # characters of a setting's value in a label


def settings_of(
    config: Mapping[str, Any], content: Mapping[str, str], *, trained: bool
) -> Settings:
    """All that may not differ between seeds of one setting: every leaf of the configuration, and what the
    documents and the weights were when the run was made. Not `trained`: but for what only training sees. Of a
    job that asks no prompts that elicit: but for what only these see."""
    found = dict(_leaves(config))
    prompts = _only(found, _ITS_PROMPTS)
    if config.get("task") == "rubric_rating" and set(prompts.values()) <= {"null"}:
        found = {key: value for key, value in found.items() if not _is_of(key, _ELICITING)}
    if not trained:
        found = {key: value for key, value in found.items() if not _is_of(key, _TRAINING)}
    return found | {(_CONTENT, what): name for what, name in content.items()}


def asked(settings: Settings) -> Settings:
    """What two runs must share for a comparison of their ratings to be one of the raters."""
    return _only(settings, _ASKED)


def elicited(settings: Settings) -> Settings:
    """What two runs must share for a comparison of what was elicited to be one of the models."""
    return _only(settings, _ELICITED)


def attacked(settings: Settings) -> Settings:
    """What two runs must share besides, for what attacks take from their models to be of one kind."""
    return _only(settings, _ATTACKED)


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


def shown(
    found: Sequence[Settings], keys: Iterable[Setting], beside: Shown = MappingProxyType({})
) -> Shown:
    """Which of these keys a label shows, with each value as it writes it: all that prompts asked with; those
    that tell two apart which the ones before do not; and others, if these are few. `beside`: what the label
    shows already. Labels of these settings are different where the settings are."""
    names = sorted(set(keys) - beside.keys(), key=_rank)
    telling = [*beside]
    for name in names:
        apart = len(_kinds(found, [*telling, name])) > len(_kinds(found, telling))
        if apart or _is_of(name, _NEVER_LEFT_OUT):
            telling.append(name)
    others = [name for name in names if name not in telling]
    kept = {*telling, *others[: max(0, _SHOWN - len(telling))]}
    texts: dict[Setting, Mapping[str | None, str]] = {}
    for name in filter(kept.__contains__, names):
        values = [one.get(name) for one in found]
        texts[name] = dict(zip(values, _short(values), strict=True))
    return texts


def label(settings: Settings, keys: Shown, more: int = 0) -> str:
    """`loss.beta=0.1, loss.w_sft=1, and 2 more`: what these settings are of the keys shown."""
    return _said(((key, keys[key][settings.get(key)]) for key in sorted(keys, key=_rank)), more)


def apart(found: Sequence[Settings]) -> list[str]:
    """What each has of the settings in which they differ; empty where they differ in none."""
    keys = differing(found)
    known = shown(found, keys)
    return [label(one, known, len(keys) - len(known)) for one in found]


def named(settings: Settings, keys: Iterable[Setting]) -> str:
    """`loss.beta=0.1, loss.w_sft=1`: the first few of these keys, all that prompts asked with among them, and
    how many more there are."""
    every = sorted(keys, key=_rank)
    few = max(_SHOWN, sum(_is_of(key, _NEVER_LEFT_OUT) for key in every))
    texts = _short([settings.get(key) for key in every[:few]])
    return _said(zip(every[:few], texts, strict=True), len(every) - few)


def _said(values: Iterable[tuple[Setting, str]], more: int) -> str:
    said = [f"{'.'.join(key)}={value}" for key, value in values]
    return ", ".join([*said, *([f"and {more} more"] if more > 0 else [])])


def _rank(key: Setting) -> tuple[int, Setting]:
    """What was asked comes first, and last what nobody chose."""
    places = (_NEVER_LEFT_OUT, (("audit",),), ((_CONTENT,),))
    return next((i for i, of in zip((0, 1, 3), places, strict=True) if _is_of(key, of)), 2), key


def _kinds(found: Sequence[Settings], names: Sequence[Setting]) -> list[tuple[str | None, ...]]:
    """What these settings are in any of them, each once."""
    return list(dict.fromkeys(tuple(one.get(name) for name in names) for one in found))


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


def _only(settings: Settings, sections: Iterable[Setting]) -> Settings:
    return {key: value for key, value in settings.items() if _is_of(key, sections)}


def _is_of(key: Setting, sections: Iterable[Setting]) -> bool:
    return any(key[: len(section)] == section for section in sections)


def _short(values: Sequence[str | None]) -> list[str]:
    """As labels write them; those that are the same up to where they are cut off get a number."""

    def cut(value: str) -> str:
        return shorter(value.strip('"'), _LONGEST) if value else "-"

    return shortened([value or "" for value in values], cut)
