"""debiasdpo rate RUN DOCUMENTS --out FILE     a run's rater rates new documents."""

import argparse
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from debiasdpo.cluster import surroundings
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.data import TableConfig
from debiasdpo.documents import trained
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import open_corpus, rubrics_of
from debiasdpo.documents.unscored import UnscoredDocuments
from debiasdpo.errors import UserError
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.jobs.checks import folder_problem
from debiasdpo.jobs.finished import RATINGS, Run, open_run
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.jobs.trained import counted, trained_with
from debiasdpo.metrics import PlaceboLimit
from debiasdpo.prompts.audit import RatingPrompts
from debiasdpo.storage.files import JsonlFile, user_path
from debiasdpo.use.answers_file import Answer, check_out, write_answers
from debiasdpo.use.command import add_model, parser, tell
from debiasdpo.use.raters import RunRater, categories_asked, rater_of, statements_asked
from debiasdpo.use.rating import Shard, answers, rate
from debiasdpo.use.self_check import COLUMNS, placebo_limits

log = logging.getLogger("debiasdpo.use")

_FAR = 2  # times the longest document that was audited


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 1 if nothing was rated."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    return tell(lambda: _rate(options), "--out FILE")


def _rate(options: argparse.Namespace) -> Iterator[str]:
    """What there is to say of the ratings, once they are written."""
    if options.statements and not options.self_check:
        raise UserError("--statements: those of the self-check; add --self-check")
    out = user_path(options.out)
    check_out(out)
    run = open_run(options.run)
    data = run.config.documents
    names = (data.id_column, data.text_column) if isinstance(data, TableConfig) else ("id", "text")
    documents = UnscoredDocuments(
        options.documents,
        key="DOCUMENTS",
        id_column=options.id_column or names[0],
        text_column=options.text_column or names[1],
    )
    table = user_path(options.documents)
    if out.exists() and out.samefile(table):
        raise UserError(f"--out: {out} is the table of the documents; give another file")
    if table.resolve() in out.resolve().parents:
        raise UserError(
            f"--out: {out} is in the folder of the documents, of which it would be one; give another folder"
        )
    if problem := folder_problem(cache_folder(run.config)):
        raise UserError(f"{run.folder}: unfinished work is kept beside its runs: {problem}")
    for what, count in documents.notes.items():
        log.info("%d %s", count, what)
    if known := trained_with(run.config, documents):
        log.warning("%s", known.told)
    parts = open_corpus(run.folder / "documents", rubrics_of(run.config.documents)).parts
    if longer := _longer(run, documents, parts):
        log.warning("%s", longer)
    chosen = rater_of(run, run.model(options.model), options.max_cost)
    own = _own(chosen, documents, parts)
    if own:
        log.warning("%s", own)
    statements = options.statements or run.config.audit.statements
    prompts = chosen.prompts(documents, statements if options.self_check else 0)
    limits = _limits(chosen, prompts) if options.self_check else None
    try:
        rows = rate(chosen, prompts, options.shards)
    except UserError as error:  # of the run's configuration, which nobody changes here
        raise UserError(str(error).replace("audit.max_cost", "--max-cost")) from error
    points = None if limits is None else {name: limit.points for name, limit in limits.items()}
    counts: Counter[tuple[str, str]] = Counter()
    columns = (
        *("document", "rubric", "rating", *(["raw"] if chosen.calibration else [])),
        *("distribution", "text", "thoughts", "status", "reason"),
        *(COLUMNS if options.self_check else ()),
    )
    write_answers(out, columns, _counted(answers(chosen, rows, prompts.rubrics, points), counts))
    yield from _told(counts, limits, chosen)
    if chosen.model == "tuned" and (same := nothing_kept(chosen.run.folder)):
        yield f"note: {same}"
    for said in filter(None, (own, longer)):
        yield f"note: {said}"
    asked = categories_asked(prompts)
    left = [
        name for name in run.config.audit_categories if options.self_check and name not in asked
    ]
    if left:
        yield (
            f"not tried: {', '.join(left)}: these statements are made from a column, and of new documents"
            " nothing but their text is known"
        )
    yield str(out)


def _own(
    chosen: RunRater, documents: Iterable[Document], parts: Mapping[str, Iterable[Document]]
) -> str:
    """That documents are among those that the run's own rater was trained with, in a sentence; empty where
    none is. `parts`: of the run's documents."""
    method = chosen.config.method
    if chosen.model != "tuned" or method.changes_prompts:
        return ""
    known = {part: {*map(trained.marked, parts[part])} for part in trained.PARTS}
    found = counted("of this run", known, documents)
    return "" if found is None else f"{found.note}: it rates these better than others"


def _longer(
    run: Run, documents: Iterable[Document], parts: Mapping[str, Iterable[Document]]
) -> str:
    """That documents are far longer than those that were audited, in a sentence; empty where none is. The run
    cut its own at `data.max_words`, if anywhere; nobody cuts new ones. `parts`: of the run's documents."""
    data = run.config.documents
    own = {part: [len(document.text.split()) for document in of] for part, of in parts.items()}
    audited = max(own["test"])
    cut: int | None = getattr(data, "max_words", None)
    # Speakers' labels are words here, and none where the run counts, so that its own may have more.
    bound = (
        _FAR * audited if cut is None else max(cut, *(max(of, default=0) for of in own.values()))
    )
    sizes = [len(document.text.split()) for document in documents]
    beyond = sum(size > bound for size in sizes)
    if not beyond:
        return ""
    why = f"{_FAR} times the longest audited" if cut is None else f"data.max_words={cut} of the run"
    return (
        f"{beyond} of {len(sizes)} documents are longer than {why}: the longest has {max(sizes)} words, the"
        f" longest audited {audited}. How such documents are rated, and what sways their ratings, was not"
        " measured"
    )


def _limits(chosen: RunRater, prompts: RatingPrompts) -> dict[str, PlaceboLimit]:
    """`UserError` where the run's audit cannot tell what is beyond placebo."""
    run = chosen.run
    if PLACEBO not in run.config.audit_categories or not statements_asked(prompts):
        raise UserError(
            f"{run.folder}: its audit needs the placebo and a category beside it (with statements that are"
            " not made from a column), or no shift is known to be more than what any sentence causes; add"
            " them to audit.categories and run the same command again"
        )
    audited = JsonlFile(run.folder / RATINGS[chosen.model])
    known = placebo_limits(audited, statements_asked(prompts))
    return {name: known.get(name, PlaceboLimit(math.nan, 1.0)) for name in prompts.rubrics}


def _counted(found: Iterable[Answer], counts: Counter[tuple[str, str]]) -> Iterator[Answer]:
    """The same answers, while they are counted by rubric."""
    for answer in found:
        rubric = answer["rubric"]
        counts[rubric, "rated"] += 1
        counts[rubric, "unread"] += answer["rating"] is None
        counts[rubric, "shaky"] += answer.get("shaky") is True
        yield answer


def _told(
    counts: Mapping[tuple[str, str], int],
    limits: Mapping[str, PlaceboLimit] | None,
    chosen: RunRater,
) -> Iterator[str]:
    kind = {"base": "untrained", "tuned": "trained"}[chosen.model]
    if chosen.model == "tuned" and chosen.config.method.changes_prompts:
        kind = "prompted"
    for rubric in dict.fromkeys(name for name, _ in counts):
        rated, unread, shaky = (counts[rubric, what] for what in ("rated", "unread", "shaky"))
        line = f"{rubric}: {rated} documents rated by the {kind} model"
        line += f", of which {unread} have no rating (see status and reason)" if unread else ""
        if limits is not None:
            limit = limits[rubric]
            line += (
                "; which are shaky is not known: in the run's audit no shift of it under a placebo could be"
                " read"
                if math.isnan(limit.points)
                else f"; {shaky} shaky: a statement moves the rating further than placebos do, which is more"
                f" than {limit.points:.2f} points (by chance {limit.chance:.0%} at most)"
            )
        yield line


def _shard(text: str) -> Shard:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N, with I from 1 to N")
    return Shard(int(found[1]), int(found[2]))


def _dollars(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dollars above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    found = parser(
        "rate",
        "Rate new documents, which need no scores, with the rater of a finished run. The same command goes on"
        " from\nwhat was rated before it was stopped.",
        "NAME essays.xlsx --out ratings.csv --self-check",
        "NAME essays.parquet --out part1.jsonl --shards 1/8",
    )
    found.add_argument(
        "documents", metavar="DOCUMENTS",
        help="ids and texts: .csv, .tsv, .xlsx, .jsonl or .parquet, or a folder of such",
    )  # fmt: skip
    found.add_argument(
        "--out", type=Path, required=True, metavar="FILE",
        help=".csv or .jsonl with a row for each document and rubric",
    )  # fmt: skip
    add_model(found)
    found.add_argument(
        "--self-check", action="store_true",
        help="also rate under the audit's statements; marks what moves beyond placebo",
    )  # fmt: skip
    found.add_argument(
        "--statements", type=_count, metavar="N",
        help="with --self-check, of each category for each document (default: as in the run's audit)",
    )  # fmt: skip
    found.add_argument(
        "--shards", type=_shard, default=Shard(1, 1), metavar="I/N",
        help="only the I-th of N parts of the documents",
    )  # fmt: skip
    found.add_argument(
        "--max-cost", type=_dollars, metavar="DOLLARS",
        help="most to pay an endpoint for new documents, all commands together (default: audit.max_cost)",
    )  # fmt: skip
    found.add_argument("--id-column", metavar="NAME", help="default: the run's, or id")
    found.add_argument("--text-column", metavar="NAME", help="default: the run's, or text")
    return found
