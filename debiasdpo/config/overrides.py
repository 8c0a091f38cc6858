"""What Hydra says of overrides that it cannot take, in the user's words and with advice that works."""

import difflib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException

from debiasdpo.config.job import JobConfig
from debiasdpo.config.keys import elsewhere, first_unknown, known_in, unknown
from debiasdpo.config.quoting import quoted

# What stands at the top of the composed configuration beside the sections of a job.
_NO_SECTIONS = ("category", "experiment", "hydra")

_BASE = "base"  # what the options of a group share; no option itself


def explain(error: Exception) -> str:
    """The message of an error that Hydra raised over the command line or over conf/."""
    said = re.sub(r"\s*Config search path:.*", "", str(error), flags=re.DOTALL)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_option(error.missing_cfg_file, error.options, str(error))
    if isinstance(error.__cause__, KeyValidationError):
        return "A configuration file has a name that YAML reads as null; put it in quotes"
    if found := re.match(r"Could not override '(.+?)'", said):
        return _no_key(found[1], error)
    if found := re.match(r"Could not delete from config. '(.+?)' does not exist", said):
        return f"~{_no_key(found[1], error)}"
    if found := re.match(r"Ambiguous value for argument '(.+?)=(.*?)'\n1", said, re.DOTALL):
        return _several_values(found[1], found[2])
    if found := re.match(r"Config group override must be a string or a list. Got (\w+)", said):
        got = "null" if found[1] == "NoneType" else f"a value of type {found[1]}"
        return f"A group takes the name of one of its options, or a list of some; one got {got}"
    if found := re.match(r"Multiple values for (\S+)\. .* '.+: (.+)'", said):
        return f"{found[1]}: chosen already; write {found[1]}={found[2]} without a +"
    return said


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: no override, which has the form KEY=VALUE"
    if not re.fullmatch(r"(\+\+?|~)?[\w./@:-]+", key):
        return f"{key}: not a key, which has letters, digits, _ and dots"
    unmatched = (
        "" if re.search(r"[\[\](){}'\"]", value) is None else " Do its brackets and quotes match?"
    )
    return (
        f"{key}: Hydra cannot read the value {value}.{unmatched} As a text, it needs quotes for Hydra inside"
        f" those for the shell: {quoted(key, value)}"
    )


def _several_values(key: str, value: str) -> str:
    return (
        f"{key}: {value} are several values, which -m makes a sweep of. As one text: {quoted(key, value)};"
        f" as a list: {shlex.quote(f'{key}=[{value}]')}"
    )


def _no_option(name: str, options: Sequence[str] | None, said: str) -> str:
    group, _, option = name.rpartition("/")
    if options is None:  # of one in a list, Hydra does not say them
        folders = [Path(path) / group for path in re.findall(r"path=file://(.+)", said)]
        options = [file.stem for folder in folders for file in folder.glob("*.yaml")]
    there = sorted({option for option in options if option != _BASE})
    near = difflib.get_close_matches(option, there, 1)
    meant = f"did you mean {near[0]}? There are" if near else "there are"
    given = f"{group}={option}" if group else f"--config-name {option}"
    return f"{given}: no such option; {meant}: {', '.join(there) or 'none'}"


def _no_key(key: str, error: Exception) -> str:
    said = str(error)
    if "default list" in said and "." not in key.partition("@")[0]:  # the name of a group
        group = re.search(r"Did you mean to override (\S+)\?", said)
        added = re.search(r"use (\+.+)", said)
        meant = f"did you mean {group[1]}? To add it, write" if group else "to add it, write"
        return f"{key}: nothing is chosen there yet; {meant} {added[1] if added else f'+{key}'}"
    cause = error.__cause__  # which has the key inside a value, as of data.limit={tets: 3}
    full = cause.full_key if isinstance(cause, OmegaConfBaseException) else None
    parts = [part for part in re.split(r"[./]", key) if part]
    if full and not key.startswith(str(full)):
        parts = str(full).split(".")
    if parts[0] == "hydra":
        return f"{key}: no such key of Hydra's; --cfg hydra shows all there are"
    whole = ".".join(parts)
    bad = first_unknown(JobConfig, whole)
    if bad is None:
        return f"{key}: {elsewhere(JobConfig, whole) or said.splitlines()[0]}"
    place = bad.split(".")[:-1]
    if bad in _NO_SECTIONS:
        at = "@context.categories" if bad == "category" else ""
        return f"{bad}: a group of conf/ and no key; choose one of its options with {bad}{at}=NAME"
    siblings = sorted([*known_in(JobConfig, place), *([] if place else _NO_SECTIONS)])
    return f"{bad}: {unknown(JobConfig, bad, siblings, whole.removeprefix(bad))}"
