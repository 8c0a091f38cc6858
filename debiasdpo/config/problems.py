"""Pydantic's errors in the user's words: the key's full name, what it must be, what it is."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from debiasdpo.config.keys import elsewhere, known_in, one_of, union_of, unknown
from debiasdpo.config.method import METHOD_NAME
from debiasdpo.config.model import BASE_URL
from debiasdpo.config.quoting import quoted
from debiasdpo.schema import TEXT

_LONGEST_VALUE = 60  # characters shown of a value

# What a value must be, by pydantic's type of error; {} is filled from the error's context.
_MUST = {
    "greater_than_equal": "be at least {ge}",
    "greater_than": "be above {gt}",
    "less_than_equal": "be at most {le}",
    "less_than": "be below {lt}",
    "finite_number": "be a finite number",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "int_parsing": "be a whole number",
    "float_type": "be a number",
    "float_parsing": "be a number",
    "bool_type": "be true or false",
    "string_type": "be a text",
    "list_type": "be a list, such as [a,b]",
    "tuple_type": "be a list, such as [a,b]",
    "dict_type": "hold keys and values, such as {{a: 1}}",
    "mapping_type": "hold keys and values, such as {{a: 1}}",
    "model_attributes_type": "hold keys and values, such as {{a: 1}}",
    "model_type": "hold the keys {keys}",
    "string_too_short": "be a text that is not empty",
    "string_pattern_mismatch": "{matching}",
    "too_short": "have at least {min_length} item",
    "literal_error": "be {expected}",
}

# What a text must be, by its pattern.
_MUST_MATCH = {
    TEXT: "be a text that is not empty",
    METHOD_NAME: "be of letters, digits and . _ + - alone",
    BASE_URL: "begin with http:// or https:// and hold no blank, @ or ? (a key goes into api_key_env)",
}


def describe(
    error: ValidationError, schema: type[BaseModel], values: Mapping[str, Any]
) -> dict[str, str]:
    """Full key -> what is wrong with it and how to mend it. `values` is what was validated."""
    found: dict[str, list[tuple[str, str]]] = {}  # a union says what each of its types must be
    other_kind = _of_other_kind(error, schema)
    for section, tag in other_kind.items():
        union = union_of(schema.model_fields[section])
        assert union is not None
        what = f"{tag} has other keys than those that are here; choose with {section}=NAME"
        found[f"{section}.{union.key}"] = [(what, "")]
    for one in error.errors():
        if one["loc"][0] in other_kind and one["type"] in ("missing", "extra_forbidden"):
            continue
        loc, kind, got = one["loc"], one["type"], ""
        key = _key(schema, values, loc, kind)
        if kind == "extra_forbidden":
            what = elsewhere(schema, key) or unknown(schema, key, known_in(schema, loc[:-1]))
        elif kind == "missing":
            what = f"missing; set {key}=VALUE"
        elif kind.startswith("union_tag"):
            union = union_of(schema.model_fields[key])
            assert union is not None
            given = one["input"].get(union.key)
            said = f", got {_shown(given)}" if given is not None else ""
            what = f"must be {one_of(list(union.kinds))}{said}; choose with {key}=NAME"
            key = f"{key}.{union.key}"
        elif kind in _MUST:
            context = one.get("ctx", {})
            limits = {k: _shown(v) for k, v in context.items() if k not in ("expected", "pattern")}
            expected = context.get("expected")
            keys = ", ".join(known_in(schema, loc))
            matching = _MUST_MATCH[context["pattern"]] if "pattern" in context else ""
            what = _MUST[kind].format(**limits, expected=expected, keys=keys, matching=matching)
            got = f", got {_shown(one['input'])}"
            if kind == "string_type" and isinstance(one["input"], int | float):
                got += "; put it in quotes"
                if not isinstance(loc[-1], int):
                    # A float is not shown as it was written: 1e3 is 1000.
                    value = "VALUE" if isinstance(one["input"], float) else _shown(one["input"])
                    got += f", on the command line {quoted(key, value)}"
        else:
            what = one["msg"].removeprefix("Value error, ")
        found.setdefault(key, []).append((what, got))
    result = {}
    for key, entries in found.items():
        what, got = entries[0]
        if not got:
            result[key] = what
        # Where one item of a list is wrong, that the list is not a text either helps nobody.
        elif not any(other.startswith(f"{key}.") for other in found):
            result[key] = f"must {', or '.join(what for what, _ in entries)}{got}"
    return result


def _of_other_kind(error: ValidationError, schema: type[BaseModel]) -> dict[str, str]:
    """Sections that hold the keys of one of their kinds, and were told that they are another: which."""
    lack: dict[str, str] = {}
    too_many = set()
    for one in error.errors():
        if len(one["loc"]) != 3:
            continue
        section, tag, key = map(str, one["loc"])
        if union_of(schema.model_fields[section]) is None:
            continue
        if one["type"] == "missing":
            lack[section] = tag
        elif one["type"] == "extra_forbidden" and elsewhere(schema, f"{section}.{key}"):
            too_many.add(section)
    return {section: tag for section, tag in lack.items() if section in too_many}


def _key(
    schema: type[BaseModel], values: Mapping[str, Any], loc: Sequence[int | str], kind: str
) -> str:
    """`loc` without what pydantic puts into it that is no key: names of a union's types."""
    parts: list[str] = []
    here: Any = values
    for rank, part in enumerate(loc):
        union = union_of(schema.model_fields[str(loc[0])]) if rank == 1 else None
        if union is not None and here.get(union.key) == part:
            continue
        known = part in here if isinstance(here, Mapping) else isinstance(here, list)
        if known and (isinstance(here, Mapping) or isinstance(part, int)):
            here = here[part]
            parts.append(str(part))
        elif kind == "missing" and rank == len(loc) - 1:
            parts.append(str(part))
    return ".".join(parts)


def _shown(value: object) -> str:
    """A value as YAML has it, cut to a length that is read."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."
