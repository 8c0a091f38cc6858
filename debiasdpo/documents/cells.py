"""What a cell of a table says, as text or as a score, whatever type its file or DataFrame gives it.

A cell that is no text never becomes one in silence, such as bytes or a list.
"""

import datetime
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import numpy as np

from debiasdpo.config.data import Rubric
from debiasdpo.config.sameness import same_name, same_text
from debiasdpo.documents.columns import Cells, column_name
from debiasdpo.errors import UserError

# What programs write where there is nothing: R, pandas, Python, SQL, Excel, SAS and Stata.
_NOTHING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "nat", "none", "null", "\\n", "."})
# What a spreadsheet shows where it could not reckon a cell.
_FAILED = frozenset(
    {"#name?", "#ref!", "#value!", "#div/0!", "#num!", "#null!", "#spill!", "#calc!"}
)
_EMPTY_TYPES = frozenset({"NoneType", "NAType", "NaTType"})  # the last two are pandas'

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")

_EXACT = 2**53  # from here on, a float does not hold every whole number


def means_nothing(text: str) -> bool:
    """Whether there is nothing to be seen, or only what a program writes for a missing value."""
    seen = same_text(text)
    return not seen or seen.lower() in _NOTHING


def fact_of(text: str) -> str | None:
    """What a cell says of whoever a document is by, the same however it is written (`same_name`); None where
    it says nothing. `None` is a value here: people write it, of a disability or a religion."""
    seen = same_name(text)
    return None if means_nothing(text) and seen.lower() != "none" else seen


def cell_text(cell: object, where: str) -> str:
    """What a cell says; empty for one without a value. `where`: file, row and column, for people. `UserError`
    for a cell that holds no text, number or date, and for a formula's error."""
    cell = _plain(cell)
    match cell:
        case None:
            return ""
        case str():
            text = _whole_characters(cell, where).strip()
            if text.lower() in _FAILED:
                raise UserError(
                    f"{where}: {text}, which a spreadsheet shows for a formula that failed (a text that"
                    " begins with = or - is taken for one). Write the value in its place, as text."
                )
            return text
        case bytes() | bytearray():
            return _decoded(bytes(cell), where).strip()
        case bool():
            raise UserError(
                f"{where}: the truth value {cell}, not a text. Write a word in its place."
            )
        case int() | uuid.UUID():
            return str(cell)
        case float() if math.isfinite(cell):
            return _float_text(cell, where)
        case Decimal() if cell.is_finite():
            return f"{cell.normalize():f}"
        case datetime.datetime() if cell.tzinfo is None and cell.time() == datetime.time():
            return cell.date().isoformat()
        case datetime.date() | datetime.time():
            return cell.isoformat()
    raise UserError(f"{where}: of type {type(cell).__name__}, not a text. Make a text of it.")


def required_text(cells: Cells, column: str, where: str) -> str:
    """The text of the cell in this column; a `UserError` where it is empty or no text. `where`: the row."""
    place = f"{where}, column {column!r}"
    text = cell_text(cells.get(column_name(column)), place)
    if means_nothing(text):
        what = f"{text!r}, which stands for a missing value" if same_text(text) else "empty"
        raise UserError(f"{place}: {what}. Fill it in, or remove the row.")
    return text


def number_of(text: str) -> float | None:
    """The number that a text is, None where it is none. A decimal comma is read as a point."""
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def score_of(cell: object, rubric: Rubric, where: str) -> float | None:
    """The score, or None for a cell without one."""
    cell = _plain(cell)
    text = str(cell) if isinstance(cell, bool | float) else cell_text(cell, where)
    if means_nothing(text):
        return None
    score = number_of(text)
    if score is None:
        raise UserError(f"{where}: {text!r} is not a number. Correct it, or leave it empty.")
    thousands = re.sub("[.,]", "", text)
    if isinstance(cell, str) and _THOUSANDS.fullmatch(text) and _on(rubric, float(thousands)):
        raise UserError(
            f"{where}: {text} may be {score:g} or {thousands}. Write it as one of these"
            f" ({score:.4f} or {thousands})."
        )
    if not _on(rubric, score):
        raise UserError(
            f"{where}: {text} is off the scale of {rubric.low} to {rubric.high}. Correct it, leave"
            " it empty, or change the rubric's low and high."
        )
    return score


def _on(rubric: Rubric, score: float) -> bool:
    return rubric.low <= score <= rubric.high


def short_float(value: Any) -> float:
    """A numpy.float16 or float32 as it was written: 3.9, not 3.9000000953674316."""
    return float(str(value))


def _plain(cell: object) -> object:
    """A cell as one of Python's own types; None where it has no value."""
    if type(cell).__name__ in _EMPTY_TYPES:
        return None
    if isinstance(cell, np.datetime64):
        return None if np.isnat(cell) else cell.astype("datetime64[us]").item()
    if isinstance(cell, np.float16 | np.float32):
        cell = short_float(cell)
    elif isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if isinstance(cell, Decimal) and cell.is_nan():
        return None
    return cell


def _float_text(number: float, where: str) -> str:
    if not number.is_integer():
        return repr(number)
    if abs(number) >= _EXACT:
        raise UserError(
            f"{where}: {number:.0f} has more digits than a float keeps. Store the column as text."
        )
    return str(int(number))  # what a column of numbers with gaps makes of 1


def _decoded(cell: bytes, where: str) -> str:
    try:
        text = cell.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: bytes that are not UTF-8 ({error.reason}). Decode them when you write the file, and"
            " store the column as text."
        ) from error
    if any(ord(character) < 32 and not character.isspace() for character in text):
        raise UserError(
            f"{where}: bytes that are no text, {cell[:16].hex()}. Store the column as text, such as these"
            " hex digits."
        )
    return text


def _whole_characters(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: half a character (a lone surrogate, {error.object[error.start]!a}), as a text that"
            " was cut off has it. Write the row again."
        ) from error
    return text
