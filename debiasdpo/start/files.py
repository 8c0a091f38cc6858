"""The files that describe a table: conf/data/NAME.yaml, and its statements in conf/category/NAME.yaml."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from debiasdpo.config.data import TableConfig
from debiasdpo.config.quoting import literal
from debiasdpo.errors import UserError
from debiasdpo.run import conf_dir
from debiasdpo.start.draft import DOMAINS
from debiasdpo.start.guess import apart, rubric_name
from debiasdpo.storage.files import write_text

_STATEMENTS = Path(__file__).parent / "statements"
_OWN = """\
# True statements (flattering) against false ones: {value} is what the document's own row says in the column,
# or what another row says. If both move ratings alike, it is being told that does it, and not who is rated.
"""
_SAYS = {  # of keys in the file
    "heading": "stands before the document in the prompt",
    "about": "what of it a model reasons about, where it writes",
    "group_column": "whom a document is by; a split never cuts through one",
    "group_columns": "real groups: scores, ratings and errors are compared between their values",
    "layout": "several rows a document",
    "rater_column": "which human rater scored",
    "score_columns": "rubric: its column, or one of each human rater",
    "rubrics": "high_is_good: false where a high score is bad",
}


def config_of(values: Mapping[str, Any]) -> TableConfig:
    """What these keys are on top of conf/data/table.yaml. `UserError` where they cannot be."""
    shared = yaml.safe_load((conf_dir() / "data/table.yaml").read_text(encoding="utf-8"))
    try:
        return TableConfig.model_validate_json(json.dumps(shared | dict(values)))
    except ValueError as error:
        raise UserError(f"these columns do not go together: {error}") from error


def check_name(folder: Path, name: str) -> None:
    """`UserError` for a name that is taken by what comes with the project, or by a file that is there."""
    for group in ("data", "category"):
        if (conf_dir() / group / f"{name}.yaml").exists():
            raise UserError(
                f"--name: {name} is an option that comes with the project; give another"
            )
        file = folder / "conf" / group / f"{name}.yaml"
        if file.exists():
            raise UserError(f"{file} is there already; remove it, or give another --name")


def write(folder: Path, name: str, domain: str, values: Mapping[str, Any]) -> list[Path]:
    """Write the files; returns them."""
    data = folder / "conf" / "data" / f"{name}.yaml"
    written = [data]
    head = [f"# debiasdpo audit --config-dir conf data={name}", "#"]
    kind = DOMAINS[domain]["one"].capitalize()
    head += [
        f"# {kind}s of a table that `debiasdpo init` looked at. What each key means is said in",
        "# conf/data/table.yaml. Ask as you would ask an expert, and say what both ends of a scale mean.",
    ]
    defaults = ["  - table"]
    if statements := _statements(domain, values["group_columns"]):
        defaults.append(f"  - override /category@_global_.context.categories: {name}")
        file = folder / "conf" / "category" / f"{name}.yaml"
        write_text(file, _described(name, domain) + statements)
        written.append(file)
    body = [_entry(key, value) for key, value in values.items() if value not in ([], {})]
    write_text(data, "\n".join([*head, "defaults:", *defaults, "", *body, ""]))
    return written


def _statements(domain: str, columns: Sequence[str]) -> str:
    """Those of the domain, and true ones against false ones of each column of real groups; empty where those
    that come with the project are all."""
    file = _STATEMENTS / f"{domain}.yaml"
    shared = file.read_text(encoding="utf-8") if file.exists() else ""
    if columns and not shared:
        shared = "defaults: [all]\n"
    own: dict[str, dict[str, Any]] = {}
    for column in columns:
        own[apart(f"own_{rubric_name(column)}", own)] = _own(DOMAINS[domain]["whom"], column)
    added = yaml.safe_dump(_literal(own), allow_unicode=True, sort_keys=False, width=100)
    return f"{shared}\n{_OWN}{added}" if own else shared


def _own(whom: str, column: str) -> dict[str, Any]:
    said = column.replace("_", " ")
    sides = {
        "train": [f"As for {whom}, the {said} is {{value}}."],
        "test": [f"A note about {whom} says under {said}: {{value}}."],
    }
    return {
        "description": f"The {said} of {whom}, true or false",
        "column": column,
        "when": {
            "flattering": f"the true {said} of {whom} is told",
            "unflattering": f"a false {said} of {whom} is told",
        },
        "flattering": sides,
        "unflattering": {wording: list(texts) for wording, texts in sides.items()},
    }


def _described(name: str, domain: str) -> str:
    return f"""\
# Statements of spurious context for {domain}, which conf/data/{name}.yaml chooses. Change them as you like.
#
# One entry a category. flattering is polarity +1, unflattering -1, neutral 0. train: wordings to train with;
# test: other wordings, kept for the audit. {{best}} and {{worst}} become the ends of the rubric's scale. No
# statement may change the right rating.
"""


def _entry(key: str, value: object) -> str:
    says = f" # {_SAYS[key]}" if key in _SAYS else ""
    if isinstance(value, Mapping):
        inside = yaml.safe_dump(_literal(value), allow_unicode=True, sort_keys=False, width=100)
        lines = [f"  {line}" for line in inside.splitlines()]
        return "\n".join([f"{key}:{says}", *lines])
    return f"{key}: {json.dumps(_literal(value), ensure_ascii=False)}{says}"


def _literal(value: Any) -> Any:
    """With texts in which OmegaConf fills nothing in."""
    if isinstance(value, Mapping):
        return {_literal(key): _literal(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_literal(inside) for inside in value]
    return literal(value) if isinstance(value, str) else value
