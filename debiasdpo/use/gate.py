"""debiasdpo gate RUN --max 0.3     exit code 1 where a category's bias exceeds its bound, for CI."""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from debiasdpo.cluster import surroundings
from debiasdpo.config.context import PLACEBO
from debiasdpo.config.shown import visible
from debiasdpo.documents.corpus import open_corpus, rubrics_of
from debiasdpo.errors import UserError
from debiasdpo.evaluation import caveats
from debiasdpo.evaluation.accuracy_told import Accuracy
from debiasdpo.evaluation.evidence import Evidence
from debiasdpo.evaluation.keys import Key
from debiasdpo.evaluation.notes import ROUGH
from debiasdpo.jobs import failures
from debiasdpo.jobs.finished import RATINGS, Run, open_run
from debiasdpo.metrics import FEW_GROUPS, Interval
from debiasdpo.storage.files import JsonlFile, user_path, write_text
from debiasdpo.use.command import add_model, parser
from debiasdpo.use.judging import POWER, Judged, Judgement, judge, widest_scale

_CODES = {"passed": 0, "failed": 1, "unknown": 2}
_RESAMPLES = 2000  # at least: few have nothing to say of the tails of several categories' intervals
_NO_BIAS = f"no bias that the scales have room for would fail in {POWER:.0%}"
_SHOWN = {PLACEBO: "the placebo", "noise": "the noise floor"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 passed, 1 failed, 2 not known."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    junit = options.junit and user_path(options.junit)
    try:
        run = open_run(options.run)
        model = run.model(options.model)
        bounds = _bounds(options.max, run)
        rubrics = rubrics_of(run.config.documents)
        judgement = judge(
            JsonlFile(run.folder / RATINGS[model]),
            open_corpus(run.folder / "documents", rubrics).parts["test"],
            rubrics,
            bounds,
            resamples=max(run.config.audit.resamples, _RESAMPLES),
            seed=run.config.seed,
        )
        accuracy = Accuracy.of(Evidence.of(run.metrics), model)
        if junit:
            name = f"{run.folder.name} ({model})"
            _write(_suite(judgement, name, _correlation(accuracy)), junit)
    except Exception as error:
        message = failures.message(error, "--junit FILE")
        if message is None:
            raise
        if junit and not isinstance(error, OSError):
            _write(_broken(message, str(options.run)), junit)
        print(f"Error: {message}", file=sys.stderr)
        print("gate: unknown (nothing was judged)")
        return 2
    for line in _told(judgement, caveats.of_rubrics(Key("bias", model), rubrics)):
        print(line)
    if accuracy.not_to_be_used:
        print(f"note: {accuracy.not_to_be_used}")
    print(f"gate: {summary(judgement, _correlation(accuracy))}")
    return _CODES[judgement.outcome]


def _bounds(given: Sequence[str], run: Run) -> dict[str, float]:
    """The bound of each social category that has one, in the order of the configuration."""
    social = [name for name in run.config.audit_categories if name != PLACEBO]
    widest = widest_scale(rubrics_of(run.config.documents))
    of_all: float | None = None
    bounds: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            bound = float(number)
        except ValueError:
            bound = -1.0
        if not 0 <= bound < float("inf"):
            raise UserError(
                f"--max: {text!r} is not POINTS or CATEGORY=POINTS, such as 0.3 or race=0.2"
            )
        if bound >= widest:
            raise UserError(
                f"--max: {text!r} is in points of the scale, of which the widest of the run has {widest:g}:"
                " no bias can exceed it; give fewer, such as 0.3"
            )
        if name in bounds or (not name and of_all is not None):
            raise UserError(f"--max: {text!r} is a second bound of {name or 'all categories'}")
        if not name:
            of_all = bound
        elif name in social:
            bounds[name] = bound
        else:
            raise UserError(
                f"--max: the run's audit has no category {name!r}; it has {', '.join(social) or 'none'}"
            )
    if of_all is not None:
        bounds = {name: bounds.get(name, of_all) for name in social}
    if not bounds:
        raise UserError(f"{run.folder}: its audit has no category beside the placebo")
    return {name: bounds[name] for name in social if name in bounds}


def _told(judgement: Judgement, scales: str) -> Iterator[str]:
    """A table. `scales`: what is to be known of points; may be empty."""
    yield (
        f"{'category':<24}{'bias':>20}{'bound':>8}{'beyond placebo':>24}{'fails from':>12}  outcome"
    )
    for one in judgement.categories:
        bias = f"{one.bias:.2f} {_interval(one.interval)}"
        beyond = one.bias - one.limits[PLACEBO]
        against = f"{beyond:+.2f} {_interval(one.beyond[PLACEBO], '+')}"
        said = f"{one.outcome}: {one.why}" if one.why else one.outcome
        least = "not known" if math.isnan(one.fails_from) else f"{one.fails_from:.2f}"
        least = "no bias" if one.fails_from > judgement.widest else least
        numbers = f"{bias:>20}{one.bound:>8.2f}{against:>24}{least:>12}"
        yield f"{visible(one.category):<24}{numbers}  {said}"
    limits = ", ".join(f"{_SHOWN[what]} {points:.2f}" for what, points in judgement.limits.items())
    if any(
        not math.isclose(one.limits[what], points, abs_tol=0.005)
        for one in judgement.categories
        for what, points in judgement.limits.items()
    ):
        limits += " (of all documents; a category is held against that of those rated under it)"
    yield (
        f"mean |shift| in points{f' ({scales})' if scales else ''}, beside {limits};"
        f" {judgement.groups} groups; intervals of {judgement.confidence:.1%}, so that all hold"
        " together in 95 %"
    )


def summary(judgement: Judgement, *more: str) -> str:
    """One line: the outcome, what failed, how small a bias this sample would have found, how much the rater
    tells documents apart, and what `more` there is to say of it."""
    kinds: dict[str, list[Judged]] = {"failed": [], "unknown": [], "passed": []}
    for one in judgement.categories:
        kinds[one.outcome].append(one)
    total, failed = len(judgement.categories), kinds["failed"]
    limits = " and ".join(_SHOWN[what].removeprefix("the ") for what in judgement.limits)
    said = [
        f"{len(failed)} of {total} categories beyond bound and {limits}",
        *(
            f"{visible(j.category)} {j.bias:.2f} {_interval(j.interval)} > {j.bound:g}"
            for j in failed
        ),
        *(f"{visible(j.category)} unknown, as {j.why}" for j in kinds["unknown"]),
    ]
    least = [one.fails_from for one in judgement.categories]
    still = [visible(j.category) for j in kinds["passed"] if math.isnan(j.fails_from)]
    none = [j for j in judgement.categories if j.fails_from > judgement.widest]
    if none:
        said.append(
            f"{_NO_BIAS} of such samples under {', '.join(visible(j.category) for j in none)}"
        )
    elif not any(map(math.isnan, least)):
        said.append(f"a bias of {max(least):.2f} in any would fail in {POWER:.0%} of such samples")
    elif still:
        said.append(
            f"no rating moved under {', '.join(still)}: how small a bias would fail is not known"
        )
    if judgement.groups < FEW_GROUPS:
        said.append(f"{judgement.groups} groups: below {FEW_GROUPS} {ROUGH}")
    said.append(f"spread of neutral ratings {judgement.spread:.2g}")
    relative = {n: of for n, of in judgement.relative.items() if not math.isnan(of)}
    if relative:
        most = max(relative, key=lambda name: relative[name])
        said.append(f"largest relative bias {relative[most]:.2f} ({visible(most)})")
    return f"{judgement.outcome} ({'; '.join((*said, *more))})"


def _interval(found: Interval, sign: str = "") -> str:
    return f"[{found.low:{sign}.2f}, {found.high:{sign}.2f}]"


def _correlation(accuracy: Accuracy) -> str:
    """Spearman's with the experts, as far as it is known."""
    rho = accuracy.rho
    if rho.mean is None:
        why = accuracy.undefined if accuracy.constant.mean is not None else "there are no scores"
        return f"Spearman not known ({visible(why)})"
    found = "" if None in (rho.low, rho.high) else f" [{rho.low:.2f}, {rho.high:.2f}]"
    return f"Spearman {rho.mean:z.2f}{found}{accuracy.beside_chance}"


def _of_spread(judgement: Judgement, one: Judged) -> str:
    relative = judgement.relative[one.category]
    return "" if math.isnan(relative) else f"{relative:.3f} of a spread of {judgement.spread:.3g}, "


def _least(bias: float, widest: float) -> str:
    if math.isnan(bias):
        return "how small a bias would fail is not known"
    if bias > widest:
        return f"{_NO_BIAS} of such samples"
    return f"a bias of {bias:.3f} would fail in {POWER:.0%} of such samples"


def _suite(judgement: Judgement, name: str, correlation: str) -> ElementTree.Element:
    """JUnit XML: a test case a category."""
    outcomes = [one.outcome for one in judgement.categories]
    suite = _element(
        None, "testsuite", name=f"debiasdpo gate {name}", tests=str(len(outcomes)),
        failures=str(outcomes.count("failed")), errors=str(outcomes.count("unknown")), skipped="0",
    )  # fmt: skip
    for one in judgement.categories:
        case = _element(suite, "testcase", classname="debiasdpo.gate", name=one.category)
        line = (
            f"bias {one.bias:.3f} {_interval(one.interval)}, "
            f"{_of_spread(judgement, one)}bound {one.bound:g}, "
            + ", ".join(f"{_SHOWN[what]} {limit:.3f}" for what, limit in one.limits.items())
            + f"; {correlation}; {_least(one.fails_from, judgement.widest)}"
        )
        if one.outcome == "failed":
            _element(case, "failure", message=line)
        elif one.outcome == "unknown":
            _element(case, "error", message=f"{one.why}: {line}")
        _element(case, "system-out").text = line
    return suite


def _broken(message: str, name: str) -> ElementTree.Element:
    """JUnit XML of a gate that could not judge."""
    suite = _element(
        None, "testsuite", name=f"debiasdpo gate {name}", tests="1", failures="0", errors="1", skipped="0"
    )  # fmt: skip
    case = _element(suite, "testcase", classname="debiasdpo.gate", name="run")
    _element(case, "error", message=message)
    return suite


def _element(
    parent: ElementTree.Element | None, tag: str, **attributes: str
) -> ElementTree.Element:
    shown: Mapping[str, str] = {key: visible(value) for key, value in attributes.items()}
    if parent is None:
        return ElementTree.Element(tag, dict(shown))
    return ElementTree.SubElement(parent, tag, dict(shown))


def _write(suite: ElementTree.Element, file: Path) -> None:
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    write_text(file, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _parser() -> argparse.ArgumentParser:
    found = parser(
        "gate",
        "Fail where a category's bias exceeds its bound, the placebo's bias and, where neutral prompts were"
        " rated twice,\nthe noise floor, each by intervals. Exit code 0: none does; 1: one does; 2: it is not"
        " known.",
        "NAME --max 0.3",
        "NAME --max 0.3 race=0.1 gender=0.1 --junit gate.xml",
    )
    found.add_argument(
        "--max", nargs="+", action="extend", required=True, metavar="BOUND",
        help="the largest mean |shift| allowed, in points: of every category, or CATEGORY=POINTS of one",
    )  # fmt: skip
    add_model(found)
    found.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    return found
