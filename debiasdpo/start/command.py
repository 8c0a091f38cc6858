"""debiasdpo init FOLDER --from FILE     describe a table, so that it can be audited."""

import argparse
import re
import shlex
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from debiasdpo.cluster import surroundings
from debiasdpo.config.data import TableConfig
from debiasdpo.config.sameness import same_name, same_text
from debiasdpo.config.shown import points, visible
from debiasdpo.documents import table
from debiasdpo.documents.corpus import check_facts
from debiasdpo.documents.looking import look
from debiasdpo.errors import UserError
from debiasdpo.start.asking import Answers
from debiasdpo.start.draft import DOMAINS, NO_SCORES, Flags, draft
from debiasdpo.start.files import check_name, config_of, write
from debiasdpo.storage.files import user_path
from debiasdpo.use.command import formatter, tell

_OR_FLAGS = ", or name the column that tells its rows apart (--rater or --rubric)"
_SPLIT = 3  # train, validation, test
_MANY = 200  # documents, beyond which a first look is at fewer
_FEW = "'data.limit={train:50,validation:20,test:50}'"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 1 if nothing was written."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    return tell(lambda: _init(options), "debiasdpo init FOLDER")


def _init(options: argparse.Namespace) -> Iterator[str]:
    """What was found and written, and how to go on."""
    folder, file = user_path(options.folder), user_path(options.source)
    name = options.name or _named_as(file)
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"--name: {name} may have letters, digits and _ only")
    if not _is_text(name):
        raise UserError(
            f"--name: behind data=, {name} is not read as a text; begin it with a letter, of a to z alone"
        )
    check_name(folder, name)
    named = (options.text, options.id, options.group, options.rater, options.rubric)
    seen = look(options.source, "--from", [name for name in named if name])
    asks = input if sys.stdin.isatty() and sys.stdout.isatty() else None
    flags = Flags(
        options.text, options.id, options.group, options.score, options.rater, options.rubric,
        options.people, options.scale, options.question, options.domain,
    )  # fmt: skip
    domain, values = draft(seen, file, flags, Answers(asks, options.yes))
    config = config_of(values)
    try:
        documents, summary = _summary(config)
    except UserError as error:
        raise UserError(str(error).replace(table.OR_LONG, _OR_FLAGS)) from error
    yield from summary
    used = config.model_dump(mode="json")
    if others := [name for name in seen.columns if not _holds(used, name)]:
        yield f"  not taken: {visible(', '.join(others))}"
    for path in write(folder, name, domain, values):
        yield f"written: {path}"
    yield from _next(folder, file, name, documents, trains=not config.unscored)


def _holds(value: object, text: str) -> bool:
    """Whether a configuration has this text anywhere."""
    if isinstance(value, dict):
        return any(_holds(part, text) for part in (*value.keys(), *value.values()))
    if isinstance(value, list | tuple):
        return any(_holds(part, text) for part in value)
    return value == text


def _named_as(file: Path) -> str:
    """A name like the table's, which can stand behind data=."""
    plain = unicodedata.normalize("NFKD", file.stem.lower()).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_") or "documents"
    return name if _is_text(name) else f"table_{name}"


def _is_text(name: str) -> bool:
    """Whether Hydra reads a name as one: not 2023, 1e3 or null, nor letters beyond a to z."""
    try:
        return OverridesParser.create().parse_override(f"data={name}").value() == name
    except HydraException:
        return False


def _summary(config: TableConfig) -> tuple[int, list[str]]:
    """How many documents can be audited, and what there is to say of them; the table is read whole, so that
    what is wrong with it is told now."""
    corpus = table.read(config)
    groups: set[str] = set()
    counts: Counter[str] = Counter()
    texts: set[str] = set()
    facts: dict[str, dict[str, str]] = {}
    documents = 0
    for document in corpus.documents:
        check_facts(document, facts)
        counted = config.unscored or bool(document.scores)
        documents += counted
        texts |= {same_text(document.text)} if counted else set()
        groups |= {same_name(document.group)} if counted else set()
        counts.update(document.scores.keys())
        counts.update(f"{rubric} twice" for rubric in document.experts)
    if not documents:
        raise UserError(
            f"{config.path}: no document has a score; fill some in, name their column (--score), or audit"
            f" bias without (--score {NO_SCORES})"
        )
    what = "documents without scores" if config.unscored else "documents with a score"
    lines = [f"{visible(config.path)}: {documents} {what}, of {len(groups)} groups"]
    alone = config.group_column == config.id_column
    lines += [
        f"  texts: {visible(config.text_column)}; ids: {visible(config.id_column)}; groups:"
        f" {'each document by itself' if alone else visible(config.group_column)}"
    ]
    if alone:
        lines.append(
            "  note: if one writer or teacher has several documents, name the column that tells (--group);"
            " else a split cuts through them, and intervals are too narrow"
        )
    if len(texts) < documents:
        lines.append(
            f"  note: only {len(texts)} different texts; if a document has several rows, name the column that"
            " names it (--id) and the one that tells its rows apart (--rater or --rubric), and if another"
            " column is what is rated, that one (--text)"
        )
    if len(groups) < _SPLIT:
        lines.append(f"  note: a run needs {_SPLIT} groups, one for each part of its split")
    for name, rubric in config.rubrics.items():
        several = counts[f"{name} twice"]
        if config.unscored:
            lines.append(
                f"  {visible(name)}: from {points(rubric.low)} to {points(rubric.high)}; bias alone is"
                " audited"
            )
            continue
        lines.append(
            f"  {visible(name)}: {counts[name]} scores from {points(rubric.low)} to {points(rubric.high)}"
            + (f" by {points(rubric.step)}" if rubric.step != 1 else "")
            + (f", {several} of several raters" if several else "")
        )
    if config.group_columns:
        lines.append(f"  real groups: {visible(', '.join(config.group_columns))}")
    lines += [f"  note: {count} {what}" for what, count in corpus.notes.items()]
    return documents, lines


def _next(folder: Path, file: Path, name: str, documents: int, *, trains: bool) -> Iterator[str]:
    data = f"--config-dir conf data={name}"
    data += f" {_FEW}" if documents > _MANY else ""
    rated = shlex.quote(str(file.resolve()))
    yield "Read the questions and statements in these files, then:"
    yield f"  cd {shlex.quote(str(folder))}"
    yield f"  debiasdpo audit {data}"
    if trains:
        yield f"  debiasdpo run {data}"
    method = "debiasing_dpo" if trains else "none"
    yield f"  debiasdpo rate outputs/runs/*_{method}_s0_* {rated} --out ratings.csv"
    if documents > _MANY:
        yield "All documents: without data.limit; debiasdpo plan says first what that takes"


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="debiasdpo init",
        usage="debiasdpo init FOLDER --from FILE [--domain KIND] [--scale LOW:HIGH] ...",
        description="Write the files that describe a table of documents with expert scores; ask what it"
        " does not say.",
        epilog="examples:\n"
        "  debiasdpo init study --from essays.csv --domain essays --scale 1:5:0.5\n"
        "  debiasdpo init study --from graded.xlsx --score quality=kim,lee --scale quality=0:10",
        formatter_class=formatter(),
    )
    add = found.add_argument
    add(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="conf/data/ and conf/category/ are written in it",
    )
    add("--from", dest="source", required=True, metavar="FILE",
        help="a table: .csv, .tsv, .xlsx, .jsonl or .parquet, or a folder of such")  # fmt: skip
    add("--domain", metavar="KIND", help=f"what the documents are: {', '.join(DOMAINS)}")
    add("--text", metavar="COLUMN", help="the column of texts")
    add("--id", metavar="COLUMN", help="the column that names each document")
    add("--group", metavar="COLUMN", help="the column that says whom a document is by")
    add("--score", action="append", default=[], metavar="[RUBRIC=]COLUMN",
        help="a rubric's scores, with commas the column of each rater; for each; -: no scores")  # fmt: skip
    add("--rater", metavar="COLUMN", help="of a table with a row for each rater: who it was")
    add("--rubric", metavar="COLUMN", help="of a table with a row for each rubric: which it is")
    add("--people", metavar="COLUMN,...", help="columns of real groups, such as gender; - for none")
    add("--scale", action="append", default=[], metavar="[RUBRIC=]L:H[:S]",
        help="lowest and highest possible score, and the step; of all rubrics or of one (--scale=-2:2 where"
        " it begins below 0)")  # fmt: skip
    add(
        "--question",
        action="append",
        default=[],
        metavar="RUBRIC=TEXT",
        help="what a rater is asked",
    )
    add(
        "--name", metavar="NAME", help="of the files, and behind data= (default: that of the table)"
    )
    add("--yes", action="store_true", help="take what was found, scales too, and ask nothing")
    return found
