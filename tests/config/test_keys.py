"""How many keys a user sees: each one more is a decision."""

import typing
from collections.abc import Iterator

from pydantic import BaseModel

from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import CallableConfig

# Raise it where a key is worth what it costs: a line in conf/, in the documentation, and in every reader's
# head. Say why in the commit.
KEYS = 121


def sections(annotation: object) -> list[type[BaseModel]]:
    """The sections that a value of this type is or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in sections(part)]


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Full names, without what lies below the names that a user gives (of rubrics and categories)."""
    for name, field in section.model_fields.items():
        inside = [] if "Mapping" in str(field.annotation) else sections(field.annotation)
        for kind in inside:
            if kind is not CallableConfig:  # of debiasdpo.audit, not of the command line
                yield from keys(kind, f"{prefix}{name}.")
        if not inside:
            yield prefix + name


def test_the_number_of_keys_is_a_decision() -> None:
    found = sorted(set(keys(JobConfig)))
    assert len(found) == KEYS, "\n".join(found)
