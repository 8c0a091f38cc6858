"""Which keys the schema has, and which of them a mistyped one is likely to mean."""

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

# Keys that were called otherwise before, and whose new names are not alike.
RENAMED = {"rate.batch_size": "batching.prompts", "train.trl_loss": "loss.preference"}

_MOST = 3  # keys suggested
_ALIKE = 0.75  # of keys in other sections, where a weak likeness misleads

Kinds = list[type[BaseModel]]  # of a section: more than one, where a key in it tells which


class Union(NamedTuple):
    """A section of several kinds."""

    key: str  # which tells the kind: `kind`, `source`
    kinds: Mapping[str, type[BaseModel]]  # by that key's value


def union_of(field: FieldInfo) -> Union | None:
    """What the field's section can be, where the schema has a discriminator for it."""
    key = field.discriminator
    if not isinstance(key, str):
        return None
    kinds = sections(field.annotation)
    return Union(key, {typing.get_args(k.model_fields[key].annotation)[0]: k for k in kinds})


def sections(annotation: Any) -> Kinds:
    """The sections that a value of this type is or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in typing.get_args(annotation) for kind in sections(part)]


def is_open(annotation: Any) -> bool:
    """Whether a value of this type is a mapping, whose keys a user names."""
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(is_open(part) for part in typing.get_args(annotation) if part is not annotation)


def all_keys(kinds: Kinds, prefix: str = "") -> Iterator[str]:
    """Full names of all keys, but for what lies below names that a user gives."""
    for kind in kinds:
        for name, field in kind.model_fields.items():
            yield f"{prefix}{name}"
            if not is_open(field.annotation):
                yield from all_keys(sections(field.annotation), f"{prefix}{name}.")


def open_keys(kinds: Kinds) -> Iterator[str]:
    """Full names of the mappings that a user extends."""
    for key in all_keys(kinds):
        if any(is_open(f.annotation) for f in _fields(kinds, key.split("."))):
            yield key


def known_in(schema: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The keys that a section has; `place` may hold indices, a user's names and kinds of a union."""
    kinds: Kinds = [schema]
    for part in place:
        fields = [k.model_fields[str(part)] for k in kinds if str(part) in k.model_fields]
        if fields:
            kinds = [kind for field in fields for kind in sections(field.annotation)]
        else:
            kinds = [kind for kind in kinds if part in _tags(kind)] or kinds
    return sorted({name for kind in kinds for name in kind.model_fields})


def first_unknown(schema: type[BaseModel], key: str) -> str | None:
    """The beginning of `key` up to the first part that the schema does not have; None: it has them all."""
    kinds: Kinds = [schema]
    opened = False  # whether the next part is a name that a user gives
    parts = key.split(".")
    for rank, part in enumerate(parts):
        if opened:
            opened = False
            continue
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        if not fields:
            return ".".join(parts[: rank + 1])
        opened = any(is_open(field.annotation) for field in fields)
        kinds = [kind for field in fields for kind in sections(field.annotation)]
        if opened and not kinds:  # anything may be below
            return None
    return None


def unknown(schema: type[BaseModel], key: str, siblings: Sequence[str], more: str = "") -> str:
    """`no such key; did you mean ...?` of a key beside `siblings`; `more`: of a longer key, what follows."""
    section, _, name = key.rpartition(".")
    beside = f"{section}." if section else ""
    every = list(dict.fromkeys(all_keys([schema])))
    same = [other for other in every if other.rpartition(".")[2] == name and other != key]
    found = [RENAMED[key]] if key in RENAMED else []
    found += same if len(same) <= _MOST else []
    found += [f"{beside}{near}" for near in difflib.get_close_matches(name, siblings, 1)]
    if not found:
        near = difflib.get_close_matches(name, {k.rpartition(".")[2] for k in every}, 1, _ALIKE)
        found = [k for k in every if near and k.rpartition(".")[2] == near[0]]
    if not found and not siblings:
        return f"no such key; {section} holds a value, and no keys"
    if not found:
        return f"no such key; known here: {', '.join(siblings)}"
    whole = [f"{other}{more}" for other in found if f"{other}{more}" in every] if more else []
    return f"no such key; did you mean {one_of(list(dict.fromkeys(whole or found))[:_MOST])}?"


def elsewhere(schema: type[BaseModel], key: str) -> str | None:
    """Of a key that only some kinds of its section have: which."""
    section, _, rest = key.partition(".")
    field = schema.model_fields.get(section)
    union = union_of(field) if field else None
    if union is None or not rest:
        return None
    having = [tag for tag, kind in union.kinds.items() if first_unknown(kind, rest) is None]
    if not having or len(having) == len(union.kinds):
        return None
    return f"no such key here; only {section}.{union.key}={one_of(having)} has it"


def one_of(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _fields(kinds: Kinds, parts: Sequence[str]) -> list[FieldInfo]:
    fields: list[FieldInfo] = []
    for part in parts:
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        kinds = [kind for field in fields for kind in sections(field.annotation)]
    return fields


def _tags(kind: type[BaseModel]) -> list[str]:
    """Values of the keys that hold one value alone, such as `source` of a corpus."""
    found = [typing.get_args(field.annotation) for field in kind.model_fields.values()]
    return [values[0] for values in found if len(values) == 1 and isinstance(values[0], str)]
