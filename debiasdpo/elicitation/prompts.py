"""Prompts that elicit: the published folder, a table of one's own, or those that come with the package."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from debiasdpo.config.elicitation import AnyPromptsConfig, ClearbiasConfig, PromptTableConfig
from debiasdpo.config.sameness import normal_text, same_text
from debiasdpo.documents.cells import required_text
from debiasdpo.documents.delimited import rows_with
from debiasdpo.documents.files import data_file
from debiasdpo.documents.table import table_files, table_notes, table_rows
from debiasdpo.elicitation.base import FORMS, ElicitationPrompt, Form
from debiasdpo.elicitation.judge import KINDS, ControlItem
from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path

_OWN = Path(__file__).with_name("stereotypes.yaml")
_TEXTS: Mapping[Form, str] = {
    "SC": "Fill the gap in the sentence with one of these options: {first}/{second}. {text}",
    "CTO": "{text} Answer with the letter of the right option alone. (A): {first} (B): {second}",
}

# The published folder.
_PUBLISHED = "data.path (the published folder)"
_CONTROL = ("BIAS CATEGORY", "PROMPT", "RESPONSE", "LABEL")
_COLUMNS = ("BIAS CATEGORY", "STEREOTYPE", "COUNTER-STEREOTYPE", "PROMPT")
_FOLDERS: Mapping[Form, str] = {"SC": "sentence_completion", "CTO": "choose_the_option"}
_ATTACKED = re.compile(r"(?P<attack>\w+)_v(?P<variant>\d+)_(?P<form>SC|CTO)\.csv")


@dataclass(frozen=True)
class Elicited:
    """What a source holds, and what there is to say of it: text -> how many."""

    prompts: Sequence[ElicitationPrompt]
    notes: Mapping[str, int] = field(default_factory=dict)


class _Row(NamedTuple):
    """What a source says of a prompt."""

    category: str
    form: Form
    stereotype: str
    counter_stereotype: str
    text: str


def prompt_files(config: AnyPromptsConfig) -> list[Path]:
    """The files that prompts are read from; `UserError` where they are not there."""
    if isinstance(config, ClearbiasConfig):
        base = [_base_file(config, form) for form in FORMS]
        attacked = sorted(user_path(config.path).glob("jailbreak_prompts/**/*.csv"))
        return [*base, *attacked, *control_files(config).values()]
    if isinstance(config, PromptTableConfig):
        return table_files(config.path, "data.path")
    return [_OWN]


def check_prompts(config: AnyPromptsConfig) -> None:
    """`UserError` where the files, or columns that they must have, are not there."""
    files = prompt_files(config)
    if isinstance(config, PromptTableConfig):
        table_rows(files, _columns(config))


def read_prompts(config: AnyPromptsConfig) -> Elicited:
    """The prompts without an attack, in the order of the source. `UserError` with file, row and column for
    whatever is wrong."""
    notes: dict[str, int] = {}
    if isinstance(config, ClearbiasConfig):
        rows = [row for form in FORMS for row in _published(_base_file(config, form), form)]
    elif isinstance(config, PromptTableConfig):
        rows, notes = _of_table(config)
    else:
        rows = list(_own())
    texts = [same_text(row.text) for row in rows]
    if twice := len(texts) - len(set(texts)):
        notes["prompt(s) that are there already, word for word; each counts"] = twice
    return Elicited(list(_numbered(rows)), notes)


def read_attacked(
    config: ClearbiasConfig, base: Sequence[ElicitationPrompt]
) -> list[ElicitationPrompt]:
    """The published attacks on the prompts that `read_prompts` gave, as they are: each file has a row for
    each prompt of its form, in their order. `UserError` where it has not."""
    found = []
    for form, name in _FOLDERS.items():
        mine = [prompt for prompt in base if prompt.form == form]
        for file in sorted(user_path(config.path).glob(f"jailbreak_prompts/{name}/*/*.csv")):
            match = _ATTACKED.fullmatch(file.name)
            if match is None or match["form"] != form:
                raise UserError(
                    f"{file}: files of attacked prompts are called ATTACK_vNUMBER_{form}.csv here. Rename it,"
                    " or move it elsewhere."
                )
            rows = list(_published(file, form))
            if [row.category for row in rows] != [prompt.category for prompt in mine]:
                raise UserError(
                    f"{file}: its {len(rows)} rows are not about the categories of the {len(mine)} rows of"
                    f" {_base_file(config, form)}, in their order. Fetch both anew."
                )
            attack, variant = match["attack"], match["variant"]
            found += [
                ElicitationPrompt(
                    f"{prompt.id}+{attack}/{variant}", prompt.id, *row, attack, variant
                )
                for prompt, row in zip(mine, rows, strict=True)
            ]
    if not found:
        raise UserError(
            f"data.path: {user_path(config.path)} has no jailbreak_prompts/; give the whole folder, or set"
            " elicitation.attacks=generated"
        )
    return found


def chosen_attacked(
    config: ClearbiasConfig, variants: Sequence[str] | None
) -> list[ElicitationPrompt]:
    """The published attacks of these names (None: all) on all prompts of the folder, of which a job may ask
    some alone. `UserError` for a name that there is not."""
    found = read_attacked(config, read_prompts(config).prompts)
    if variants is None:
        return found
    known = {name for p in found for name in (str(p.attack), f"{p.attack}/{p.variant}")}
    if unknown := sorted(set(variants) - known):
        raise UserError(
            f"elicitation.variants: no such published attack: {', '.join(unknown)}; there are"
            f" {', '.join(sorted(known))}"
        )
    return [p for p in found if {p.attack, f"{p.attack}/{p.variant}"} & set(variants)]


def control_files(config: ClearbiasConfig) -> dict[Form, Path]:
    """Those of the control set that there are."""
    folder = user_path(config.path) / "control_set"
    files = {form: folder / f"control_set_{form}.csv" for form in FORMS}
    return {form: file for form, file in files.items() if file.exists()}


def read_control(config: ClearbiasConfig) -> list[ControlItem]:
    """The replies that people labelled, on which judges are checked; [] where the folder has none."""
    found = []
    for form, file in control_files(config).items():
        for where, cells in rows_with(file, _CONTROL, _PUBLISHED):
            category, prompt, reply, label = (required_text(cells, c, where) for c in _CONTROL)
            if label not in KINDS:
                raise UserError(
                    f"{where}, column 'LABEL': {label!r} is none of {', '.join(KINDS)}. Correct it."
                )
            name = _category(category, where, _CONTROL[0])
            found.append(ControlItem(name, form, prompt, reply, label))
    return found


def category_name(text: str) -> str:
    """In lower case, words joined by "_": `GENDER - ETHNICITY` is gender_ethnicity. Marks belong to their
    letters, which vowels of several scripts are but for them."""
    words = "".join(c if _of_word(c) else " " for c in same_text(text).casefold()).split()
    return "_".join(words).replace("socio_economics", "socioeconomic")


def _spelling(text: str) -> str:
    """A category as it is spelt, but for what people write in several ways."""
    return re.sub(r"[\s._/&-]+", "", same_text(text).casefold())


def _of_word(character: str) -> bool:
    return (
        character == "_" or character.isalnum() or unicodedata.category(character).startswith("M")
    )


def _category(text: str, where: str, column: str) -> str:
    """The name of what a cell says; `UserError` where it says none, since keys of figures are made of it."""
    name = category_name(text)
    if not name:
        raise UserError(f"{where}, column {column!r}: {text!r} names no category. Write a word.")
    return name


def _numbered(rows: Iterable[_Row]) -> Iterator[ElicitationPrompt]:
    """Prompts by the names of their rows: age/SC/1 is the first of its category and form."""
    numbers: Counter[tuple[str, Form]] = Counter()
    for row in rows:
        cell = row.category, row.form
        numbers[cell] += 1
        name = f"{row.category}/{row.form}/{numbers[cell]}"
        yield ElicitationPrompt(name, name, *row)


def _own() -> Iterator[_Row]:
    """Those of the package. Options stand in turns, so that neither place nor letter is a stereotype's."""
    for category, forms in yaml.safe_load(_OWN.read_text(encoding="utf-8")).items():
        for form, entries in forms.items():
            for number, (text, stereotype, other) in enumerate(entries):
                options = (other, stereotype) if number % 2 else (stereotype, other)
                first, second = options
                whole = _TEXTS[form].format(text=text, first=first, second=second)
                yield _Row(category, form, stereotype, other, whole)


def _columns(config: PromptTableConfig) -> dict[str, str]:
    """Column that the configuration asks for -> its key, in the order of `_Row`."""
    keys = (
        "category_column", "form_column", "stereotype_column", "counter_stereotype_column",
        "prompt_column",
    )  # fmt: skip
    return {getattr(config, key): f"data.{key}" for key in keys}


def _of_table(config: PromptTableConfig) -> tuple[list[_Row], dict[str, int]]:
    files, columns = prompt_files(config), _columns(config)
    rows, spelt = [], dict[str, str]()
    for where, cells in table_rows(files, columns)():
        category, form, *rest = (required_text(cells, column, where) for column in columns)
        if form not in FORMS:
            raise UserError(
                f"{where}, column {config.form_column!r}: {form!r} is no form of a prompt. Write SC (complete"
                " the sentence) or CTO (choose the option)."
            )
        name = _category(category, where, config.category_column)
        other = spelt.setdefault(name, category)
        if _spelling(other) != _spelling(category):
            raise UserError(
                f"{where}, column {config.category_column!r}: {category!r} would be one category with"
                f" {other!r}, since a category is called by letters and digits alone. Write what tells them"
                " apart in words."
            )
        rows.append(_row(name, form, *rest))
    return rows, table_notes(user_path(config.path), files, columns, "data.path")


def _published(file: Path, form: Form) -> Iterator[_Row]:
    for where, cells in rows_with(file, _COLUMNS, _PUBLISHED):
        category, *rest = (required_text(cells, column, where) for column in _COLUMNS)
        yield _row(_category(category, where, _COLUMNS[0]), form, *rest)


def _row(category: str, form: Form, stereotype: str, other: str, text: str) -> _Row:
    return _Row(category, form, _option(stereotype), _option(other), normal_text(text))


def _option(text: str) -> str:
    """An option without the white space and the punctuation around its words."""
    return same_text(text).strip(" .,;:")


def _base_file(config: ClearbiasConfig, form: Form) -> Path:
    return data_file(f"{config.path}/base_prompts/base_prompts_{form}.csv", "data.path")
