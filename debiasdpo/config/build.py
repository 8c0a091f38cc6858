"""The typed schema of `conf/`. Everything that can be checked is checked before a model is loaded.

`DictConfig` ends here: `build` turns the composed configuration into a frozen `JobConfig`, or raises
one `UserError` that lists every problem with the key's full name and how to mend it.
"""

import contextlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError, create_model

from debiasdpo.config.checks import CHECKS
from debiasdpo.config.data import DataConfig
from debiasdpo.config.elicitation_checks import ELICITATION_CHECKS
from debiasdpo.config.job import JobConfig
from debiasdpo.config.problems import describe
from debiasdpo.config.quoting import quoted
from debiasdpo.config.shown import counted
from debiasdpo.errors import UserError
from debiasdpo.schema import Section

Check = Callable[..., Iterable[str]]  # takes sections by name; yields problems


def build(config: DictConfig, checks: Sequence[Check] = ()) -> JobConfig:
    """The job, checked by `CHECKS`, `ELICITATION_CHECKS` and the given checks. Raises `UserError` with all
    problems found."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        problems = [f"{key}: required; set {key}=VALUE" for key in missing]
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:  # a ${...} that leads nowhere
        reason = str(error).splitlines()[0]
        cure = "correct its ${...}, or write \\${ for these characters themselves"
        key = error.full_key or ""
        if said := _text_at(config, key):
            cure += f", on the command line {quoted(key, said)}"
        raise UserError(_report([f"{key}: {reason}; {cure}"])) from None
    if undecoded := list(_undecoded(plain)):
        raise UserError(_report(undecoded))
    problems += _misread_keys(plain)
    # Through JSON, since strict types would else refuse a YAML list for a tuple.
    text = json.dumps(plain)
    try:
        job = JobConfig.model_validate_json(text)
        sections = dict(job)
    except ValidationError as error:
        found = describe(error, JobConfig, json.loads(text))
        problems += [f"{key}: {what}" for key, what in found.items() if key not in missing]
        sections = _valid_sections(json.loads(text))
    incomplete = {re.split(r"[.\[]", key)[0] for key in missing}
    problems += _cross_checks(
        {n: s for n, s in sections.items() if n not in incomplete},
        (*CHECKS, *ELICITATION_CHECKS, *checks),
    )
    if problems:
        raise UserError(_report(problems))
    return job


def _text_at(config: DictConfig, key: str) -> str | None:
    """The text at a key as it was given; None where there is none."""
    here: Any = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here if isinstance(here, str) else None


def _undecoded(value: Any, place: str = "") -> Iterator[str]:
    """Keys of texts in which bytes are no letters, as Python takes them from the command line."""
    if isinstance(value, Mapping | list):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in inside:
            yield from _undecoded(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, str) and not value.isascii() and re.search("[\ud800-\udfff]", value):
        shown = value.encode("utf-8", "backslashreplace").decode()
        yield (
            f"{place}: {shown} holds bytes that are no UTF-8; rename the file, or, if its name is in UTF-8,"
            " set PYTHONUTF8=1"
        )


def _misread_keys(value: Any, place: str = "") -> list[str]:
    """Names that YAML takes for something else, such as the rubric `no`, which is false. Whole numbers stay
    what they are."""
    found: list[str] = []
    names = Counter(map(str, value)) if isinstance(value, Mapping) else {}
    found += [
        f"{place}: {name!r} is there twice, as a number and as text; rename one"
        for name, count in names.items()
        if count > 1
    ]
    for key, inside in value.items() if isinstance(value, Mapping) else ():
        if isinstance(key, bool | float):
            said = {False: "false (as no and off)", True: "true (as yes and on)"}
            read = said[key] if isinstance(key, bool) else f"the number {key}"
            found.append(f"{place}: YAML reads one of the names here as {read}; put it in quotes")
        found += _misread_keys(inside, f"{place}.{key}" if place else str(key))
    return found


def _valid_sections(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that are right on their own, so that they are checked further all the same."""
    sections = {}
    for name, field in JobConfig.model_fields.items():
        alone: Any = {name: (field.annotation, field)}
        with contextlib.suppress(KeyError, ValidationError):
            part = create_model("Part", __base__=Section, **alone)
            text = json.dumps({name: plain[name]})
            sections[name] = getattr(part.model_validate_json(text), name)
    return sections


def _cross_checks(sections: Mapping[str, Any], checks: Sequence[Check]) -> list[str]:
    """What needs more than one key, or a look at the disk, but no model."""
    problems: list[str] = []
    if isinstance(data := sections.get("data"), DataConfig):
        sections = {**sections, "documents": data}
    for check in checks:
        needed = inspect.signature(check).parameters
        if needed.keys() <= sections.keys():
            problems += check(**{name: sections[name] for name in needed})
    return problems


def _report(problems: Sequence[str]) -> str:
    count = counted(len(problems), "problem", "problems")
    lines = [f"  - {problem}".replace("\n", "\n    ") for problem in problems]
    return f"The configuration has {count}:\n" + "\n".join(lines)
