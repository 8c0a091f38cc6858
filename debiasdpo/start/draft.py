"""A description of a table, from guesses, flags and answers."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from debiasdpo.config.sameness import same_name
from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.documents.looking import Seen
from debiasdpo.errors import UserError
from debiasdpo.start import guess
from debiasdpo.start.asking import Answers, one_of, some_of

_HERE = Path(__file__).parent
DOMAINS: Mapping[str, Any] = yaml.safe_load((_HERE / "domains.yaml").read_text(encoding="utf-8"))
NO_SCORES = "-"
_ALONE = "each document by itself"


@dataclass(frozen=True)
class Flags:
    """What was said on the command line; None and empty where nothing was."""

    text: str | None = None
    id: str | None = None
    group: str | None = None
    scores: Sequence[str] = ()  # COLUMN, or RUBRIC=COLUMN,COLUMN
    rater: str | None = None
    rubric: str | None = None
    people: str | None = None
    scales: Sequence[str] = ()  # LOW:HIGH[:STEP] of all, or RUBRIC=LOW:HIGH[:STEP]
    questions: Sequence[str] = ()  # RUBRIC=TEXT
    domain: str | None = None


def draft(seen: Seen, file: Path, flags: Flags, answers: Answers) -> tuple[str, dict[str, Any]]:
    """The kind of documents, and the keys of `data=table` that describe the table. `UserError` for what is
    wrong, and for what is not known."""
    columns = list(seen.columns)
    column = one_of(columns, "column")
    words = {name: set(domain["words"]) for name, domain in DOMAINS.items()}
    by_name = guess.domain_of([file.stem], words) or guess.domain_of(columns, words)
    domain = answers.get(
        "--domain", flags.domain, one_of(list(words), "domain"),
        f"What are the documents ({', '.join(words)})", by_name, hint=f"({', '.join(words)})",
    )  # fmt: skip
    found, sure = guess.text_column(seen)
    text = answers.get("--text", flags.text, column, "The column of texts", found, sure=sure,
                       hint=f"(the column of texts: {', '.join(columns)})")  # fmt: skip
    ids = guess.id_columns(seen, text)
    repeated = guess.repeated_id(seen, text)
    long = flags.rater or flags.rubric or repeated
    id_found = repeated or next(iter(ids), None)
    name = answers.get("--id", flags.id, column, "The column that names each document", id_found,
                       hint="(a column with another value in each row; add one if need be)")  # fmt: skip
    values: dict[str, Any] = {"text_column": text, "id_column": name}
    taken = {text, name}
    if long:
        values |= _long(seen, flags, taken)
        taken |= {values.get("rater_column"), values["rubric_column"]}
    group = answers.get(
        "--group", flags.group, one_of([*columns, _ALONE], "column"),
        "The column that says whom a document is by (a split never cuts through one)",
        guess.group_column(seen, taken) or _ALONE,
    )  # fmt: skip
    values["group_column"] = name if group == _ALONE else group
    scored = _scored(seen, flags, answers, taken | {group}, long=bool(long))
    used = taken | {group, *(c for columns in scored.values() for c in columns)}
    people = guess.people_columns(seen, used, name)
    told = answers.get("--people", flags.people, some_of(columns, "column"),
                       "Columns of real groups, as gender (- for none)", ",".join(people) or "-")  # fmt: skip
    unscored = not scored and not any(flag.startswith("--score") for flag in answers.missing)
    if unscored:  # a row a document, whatever is in it
        values = {key: values[key] for key in ("text_column", "id_column", "group_column")}
        values["score_columns"] = {rubric: [] for rubric in _named(flags)}
    elif not scored:
        answers.require()
    elif long:
        (values["score_column"],) = next(iter(scored.values()))
    else:
        values["score_columns"] = {
            rubric: list(mine) if len(mine) > 1 else mine[0]
            for rubric, mine in scored.items()
            if mine != (rubric,)
        }
    values["group_columns"] = told
    names = list(values["score_columns"]) if unscored else list(scored)
    names = _rubrics_of(seen, values) if long and not unscored else names
    _require_rubrics(names, [*flags.scales, *flags.questions], long=bool(long))
    values["rubrics"] = {
        rubric: _rubric(
            seen, rubric, scored.get(rubric) or next(iter(scored.values()), ()),
            DOMAINS[domain or "essays"], flags, answers,
        )
        for rubric in names
    }  # fmt: skip
    answers.require()
    assert domain
    of = DOMAINS[domain]
    return domain, {
        "heading": of["heading"],
        "about": of["about"],
        "path": str(file.resolve()),
        **values,
    }


def _named(flags: Flags) -> list[str]:
    """The rubrics that scales and questions name; one on the whole where they name none."""
    said = (flag.partition("=") for flag in (*flags.scales, *flags.questions))
    return list(dict.fromkeys(rubric for rubric, equals, _ in said if equals)) or ["quality"]


def _long(seen: Seen, flags: Flags, taken: Collection[str | None]) -> dict[str, Any]:
    """The keys of a table with several rows a document."""
    column = one_of(list(seen.columns), "column")
    rater = column(flags.rater) if flags.rater else guess.rater_column(seen, taken)
    rubric = column(flags.rubric) if flags.rubric else guess.rubric_column(seen, {*taken, rater})
    return {"layout": "long", "rubric_column": rubric} | ({"rater_column": rater} if rater else {})


def _rubrics_of(seen: Seen, values: Mapping[str, Any]) -> list[str]:
    if values["rubric_column"] is None:
        return [guess.rubric_name(values["score_column"])]
    return sorted(seen.columns[values["rubric_column"]].values)


def _require_rubrics(names: Collection[str], said: Sequence[str], *, long: bool) -> None:
    """`UserError` where a flag is about a rubric that there is not."""
    known = {same_name(name) for name in names}
    for rubric, equals, _ in (flag.partition("=") for flag in said):
        if equals and same_name(rubric) not in known:
            more = (
                "; of a table with several rows a document one column of scores is taken: name it with"
                " --score, and init again with another --name for the next" if long else ""
            )  # fmt: skip
            raise UserError(f"{rubric}: no such rubric; there are {', '.join(names)}{more}")


def _scored(
    seen: Seen, flags: Flags, answers: Answers, taken: Collection[str | None], *, long: bool
) -> dict[str, tuple[str, ...]]:
    """Rubric -> the columns of its scores."""
    columns = list(seen.columns)
    if flags.scores:
        named: dict[str, tuple[str, ...]] = {}
        for said in flags.scores:
            rubric, equals, rest = said.partition("=")
            mine = some_of(columns, "column")(rest if equals else said)
            if equals and (name := guess.rubric_name(rubric)) in named:
                raise UserError(
                    f"--score: {name} is there already; give the columns of its raters in one, with commas"
                )
            new = {name: tuple(mine)} if equals else guess.by_rubric(mine)
            named |= {guess.apart(name, named): of_raters for name, of_raters in new.items()}
    else:
        guessed = guess.score_columns(seen, taken)
        flat = [column for mine in guessed.values() for column in mine]
        if long:
            flat = flat[:1]
        chosen = answers.get(
            "--score", None, some_of(columns, "column"), "The columns of scores", ",".join(flat) or None,
            hint=f"(the columns of expert scores; {NO_SCORES}: there are none, and only bias is audited)",
        )  # fmt: skip
        named = guess.by_rubric(chosen or ())
    if long and [len(mine) for mine in named.values()] not in ([], [1]):
        raise UserError(
            "--score: of a table with several rows a document one column of scores is taken; init again with"
            " another --name for the next"
        )
    return named


def _rubric(
    seen: Seen,
    rubric: str,
    columns: Sequence[str],
    of_kind: Mapping[str, Any],
    flags: Flags,
    answers: Answers,
) -> dict[str, Any]:
    found = guess.scale_of([seen.columns[name] for name in columns])
    shown = (
        None if found is None else ":".join(map(points, found if found.step != 1 else found[:2]))
    )
    scale = answers.get(
        "--scale", _said(flags.scales, rubric), read_scale,
        f"The scale of {rubric}, lowest and highest possible score and the step (1:5:0.5)", shown, sure=False,
        hint=f"{rubric}=LOW:HIGH[:STEP] (lowest and highest possible score; seen: {shown or 'no two'})",
    )  # fmt: skip
    if scale is None:
        return {}
    of = " on the whole" if guess.is_total(rubric) else f" in {' '.join(guess.words_of(rubric))}"
    low, high = points(scale.low), points(scale.high)
    proposed = f"How good is this {of_kind['one']}{of}?"
    proposed += f" {low} means very poor, {high} means excellent."
    question = answers.get(
        "--question",
        _said(flags.questions, rubric),
        str,
        f"What {rubric} asks of a reader",
        proposed,
    )
    step = {} if scale.step == 1 else {"step": scale.step}
    return {"question": question, "low": scale.low, "high": scale.high, **step}


def _said(given: Sequence[str], rubric: str) -> str | None:
    """What was said of a rubric, or of all."""
    of_all = None
    for said in given:
        name, equals, rest = said.partition("=")
        if equals and same_name(name) == same_name(rubric):
            return rest
        of_all = of_all if equals else said
    return of_all


def read_scale(said: str) -> Scale:
    found = re.fullmatch(r"(-?[\d.]+):(-?[\d.]+)(?::([\d.]+))?", said.replace(" ", ""))
    try:
        low, high, step = (float(part) for part in found.groups("1")) if found else (0, 0, 0)
    except ValueError:
        low = high = step = 0
    if not low < high or step <= 0:
        raise UserError(f"{said!r} is not LOW:HIGH or LOW:HIGH:STEP, such as 1:5 or 1:5:0.5.")
    if not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        raise UserError(
            f"{said!r}: from {points(low)}, steps of {points(step)} do not end at {points(high)}"
        )
    return Scale(*(int(n) if n == int(n) else n for n in (low, high, step)))
