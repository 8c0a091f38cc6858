"""The columns of a table, by name: which are there, and what is said of one that is not."""

import difflib
import functools
from collections.abc import Collection, Iterable, Mapping

from debiasdpo.config.sameness import named_twice, same_name
from debiasdpo.errors import UserError

Cells = Mapping[str, object]  # of a row, by `column_name`

column_name = functools.lru_cache(maxsize=1024)(same_name)  # of every row of a file of JSON lines


def refuse_twins(names: Iterable[str], where: str) -> None:
    """`UserError` if two columns have the same name. One without a name is none."""
    if twice := named_twice(name for name in names if column_name(name)):
        first, second = twice
        written = "" if first == second else f", also written {second!r}"
        raise UserError(f"{where}: column {first!r} is there twice{written}. Rename one.")


def require_columns(existing: Collection[str], wanted: Mapping[str, str], place: str) -> None:
    """`UserError` unless all wanted columns exist; it names those there and the most similar. `wanted`: the
    columns, and what of the configuration to change for each."""
    missing = [name for name in wanted if column_name(name) not in existing]
    for name in missing:
        keys = dict.fromkeys(wanted[name] for name in missing)
        raise UserError(
            f"{place}: no column {name!r}; the columns are: {', '.join(existing) or 'none'}."
            f"{closest(name, existing)} Rename it, or change {' and '.join(keys)}."
        )


def closest(name: str, existing: Collection[str]) -> str:
    """A sentence with a leading space that suggests the most similar name, or nothing."""
    lowered = {other.lower(): other for other in existing}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" Closest: {lowered[near[0]]!r}." if near else ""
