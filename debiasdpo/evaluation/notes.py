"""What is to be known of a metric, in words: why it or its interval is missing, or to be trusted little.

They stand in metrics.json beside the number (`keys.note_key`), and wherever that is shown.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from debiasdpo import metrics
from debiasdpo.config.context import POLARITIES
from debiasdpo.evaluation.columns import Columns, Names
from debiasdpo.evaluation.metric import Metric
from debiasdpo.evaluation.parts import Part
from debiasdpo.metrics import FEW_GROUPS, Interval, ResampleWeights

# Ten groups of one to three documents weigh as 8.6, and were measured to be enough.
_UNEQUAL = 0.85
_LEVEL = 0.05  # of p
FEW_UNREAD = 0.05  # a share of prompts that a figure may be without
TOWARDS_BETTER = "towards the better end of the scale, which is not the same end on all rubrics"
RATED_ALIKE = "every rating on"  # a rubric, is the same
ROUGH = "an interval is rough, and often too narrow"
ONE_STATEMENT = "of one statement"
OF_SCALES = "a mean over rubrics of different scales"
ALONE = "alone: on others two human raters scored too few documents"  # on some rubrics
CONSTANT_OF_ALL = "of all documents with a score, also those that a model could not rate"


def joined(*notes: str) -> str:
    return "; ".join(dict.fromkeys(filter(None, notes)))


def of_interval(interval: Interval, resamples: int, rows: np.ndarray) -> str:
    """`rows`: how many rows of each group the metric is computed from."""
    groups = int(np.count_nonzero(rows))
    if groups < 2:
        return "1 group: an interval needs 2 or more" if groups else ""
    partly = of_defined(interval.low, interval.defined, resamples)
    return partly if math.isnan(interval.low) else joined(few_groups(rows), partly)


def of_defined(low: float, defined: int, resamples: int) -> str:
    """Of an interval from part of the resamples. `low`: its lower end; NaN where there is none."""
    shares = f"{defined:,} of {resamples:,} resamples"
    if math.isnan(low):
        return f"no interval, as it is defined on {shares} only"
    return f"interval from the {shares} on which it is defined" if defined < resamples else ""


def few_groups(rows: np.ndarray) -> str:
    """Of an interval from so few groups, or so unequal ones, that it holds the truth less often than it says.
    `rows`: of each group."""
    groups, weigh = int(np.count_nonzero(rows)), metrics.effective_groups(rows)
    if groups >= FEW_GROUPS and weigh >= _UNEQUAL * FEW_GROUPS:
        return ""
    unequal = f" of unequal size, which count as {weigh:.1f}" if weigh < _UNEQUAL * groups else ""
    return f"{groups} groups{unequal}: below {FEW_GROUPS} {ROUGH}"


def of_value(metric: Metric, part: Part, names: Names) -> str:
    """Why a metric is undefined; nothing where it is not."""
    once = ResampleWeights.once(part.rows.size)
    if not math.isnan(part.value(metric, once)):
        return ""
    table = part.table
    contextual = table.contextual
    asked = contextual if set(metric.rows) - {"neutral", "again", "twice"} else ~contextual
    if not asked.any():
        return "no such prompt was asked"
    if metric.each and "placebo" in metric.rows and not (contextual & (table.polarity == 0)).any():
        return "no placebo was asked"
    if not table.usable.any():
        return "no prompt was read twice" if table.again.all() else "no rating could be read"
    if contexts := _contexts(metric, table, names):
        return contexts
    if contextual.any() and "twice" in metric.rows:
        apart = (table.first != table.second)[~contextual]
        return "undefined for these ratings" if apart.any() else "the two human raters never differ"
    return "; ".join(_rubrics(metric, table, names)) or "undefined for these ratings"


def of_two(metric: Metric, parts: Mapping[str, Part], names: Names) -> str:
    """Why a metric of two models is undefined. `parts`: of the prompts that both rated, by the model."""
    if all(part.rows.any() and not part.used.any() for part in parts.values()):
        return "no prompt was rated by both"
    why = {model: of_value(metric, part, names) for model, part in parts.items()}
    if len(set(why.values())) == 1:
        return why.popitem()[1]
    return joined(*(f"{reason} ({model})" for model, reason in why.items() if reason))


def both_rated(used: int, asked: int) -> str:
    """Of two models that rated not the same: over how many prompts they are held against each other."""
    return f"over the {used:,} of {asked:,} prompts that both rated"


def of_p(least: float, groups: int) -> str:
    """Of a test that so few groups make unable to reject anything. `least`: the least p that it can give."""
    few = f"{groups} group{'s' * (groups > 1)}: p cannot be below {least:.2g}"
    return few if groups and least > _LEVEL else ""


def of_unread(part: Part) -> str:
    """Of a metric that many prompts are not in, since a rating could not be read."""
    of_group = part.table.member  # of a metric of a real group: others are there, and not asked for
    return of_read(
        int(part.used.sum()), int((of_group.any() and of_group.sum()) or part.rows.sum())
    )


def of_unasked(metric: Metric, part: Part, names: Names, sets: Mapping[str, Sequence[str]]) -> str:
    """Of a metric over several categories, of some of which nothing was asked, as of one made from a column
    that no document has a value in. `sets`: the categories of those that metrics name."""
    asked = {name for name, number in names.category.items() if number in part.table.category}
    if metric.each not in (None, "rubric") or not asked:
        return ""
    without = [one for rows in metric.rows for one in sets.get(rows, ()) if one not in asked]
    return f"without {', '.join(without)}, of which nothing was asked" if without else ""


def of_unrated(metric: Metric, table: Columns, names: Names, rubrics: Iterable[str]) -> str:
    """Of a metric over rubrics, on some of which no document was rated, as none has a score there. `table`:
    all rows."""
    rated = set(table.rubric[table.first_neutral].tolist())
    if metric.each == "rubric" or not rated:
        return ""
    without = [name for name in rubrics if names.rubric.get(name) not in rated]
    return f"without {', '.join(without)}, on which no document was rated" if without else ""


def of_rubrics_alone(
    metric: Metric, part: Part, table: Columns, names: Names, rubrics: Iterable[str]
) -> str:
    """Of a metric of two human raters, whose rubrics are not all that have scores. `table`: all rows;
    `rubrics`: in the order in which they are told."""
    if "twice" not in metric.rows:
        return ""
    scored = set(table.rubric[table.first_neutral & np.isfinite(table.score)].tolist())
    mine = set(part.table.rubric.tolist())
    listed = ", ".join(name for name in rubrics if names.rubric.get(name) in mine)
    return f"on {listed} {ALONE}" if mine and scored - mine else ""


def only_on(note: str) -> str:
    """` on EXPL, SMQR`: the rubrics that a figure's note says it is of alone, of several seeds those of each;
    empty where it says nothing of them."""
    found = dict.fromkeys(re.findall(rf"(?:^|; |: )on ([^;]+?) {re.escape(ALONE)}", note))
    return f" on {' or '.join(found)}" if found else ""


def of_real_group(part: Part, names: Names) -> str:
    """Of a metric of a real group that has scores on other rubrics than all others have."""
    table = part.table
    if not table.member.any():
        return ""
    mine, others = (set(table.rubric[rows].tolist()) for rows in (table.member, ~table.member))

    def listed(rubrics: set[int]) -> str:
        return ", ".join(name for name, number in names.rubric.items() if number in rubrics)

    lacks, alone = listed(others - mine), listed(mine - others) if others else ""
    return joined(
        lacks and f"without {lacks}, on which the group has no score",
        alone and f"less that of others without {alone}, on which these have no score",
    )


def of_read(used: int, asked: int) -> str:
    """Of a figure that is of so many of the prompts that were asked."""
    if not used or asked - used <= FEW_UNREAD * asked:
        return ""
    return f"over the {used:,} of {asked:,} prompts whose ratings could be read"


def of_failures(p: float) -> str:
    """`p`: that replies fail so differently under different contexts, if that does not depend on these."""
    if p >= _LEVEL:
        return ""
    return (
        f"failures depend on the context ({in_words(p)}): that is bias too, and no shift shows it"
    )


def of_failing(least: float, groups: int) -> str:
    """Of a test of failures. `groups`: with failures under some contexts and not under all."""
    more = " or more" * (least < 1)
    few = f"{groups} group{'s' * (groups != 1)} with failures: p is {least:.2g}{more}"
    return few if groups and least > _LEVEL else ""


def in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _contexts(metric: Metric, table: Columns, names: Names) -> str:
    """Categories and sides of which no shift is known, or which were not asked."""
    whole, sides = [], []
    for number, name in enumerate(names.category):
        mine = table.category == number
        if mine.any() and not table.usable[mine].any():
            whole.append(name)
            continue
        for side, polarity in POLARITIES.items():
            rows = mine & (table.polarity == polarity)
            if rows.any() and not table.usable[rows].any():
                sides.append(f"{name} ({side})")
    if whole or sides:
        return f"no rating could be read under {', '.join(whole or sides)}"
    for side, polarity in POLARITIES.items():
        asked = (table.contextual & (table.polarity == polarity)).any()
        if polarity and side in metric.rows and not asked:
            return f"no {side} statement was asked"
    return ""


def _rubrics(metric: Metric, table: Columns, names: Names) -> list[str]:
    """Rubrics whose neutral ratings could not be read, or do not vary, or whose scores do not."""
    unread, alike = [], []
    for number, name in enumerate(names.rubric):
        mine = (table.first_neutral | table.reference) & (table.rubric == number)
        rows = mine & table.usable
        ratings, scores = table.rating[rows], table.score[rows]
        of_raters = [table.first[rows], table.second[rows]] if "twice" in metric.rows else []
        if mine.any() and not rows.any():
            unread.append(name)
        elif not mine.any():
            continue
        elif any(np.ptp(given) == 0 for given in of_raters):
            alike.append(f"every score of a human rater on {name} is the same")
        elif np.ptp(ratings) == 0:
            alike.append(f"{RATED_ALIKE} {name} is the same")
        elif np.ptp(scores) == 0:
            alike.append(f"every score on {name} is the same")
        elif ratings.size < metrics.MIN_PAIRS_FOR_RANK:
            alike.append(
                f"{ratings.size} ratings on {name}, and ranks need {metrics.MIN_PAIRS_FOR_RANK}"
            )
    return [f"no rating on {', '.join(unread)} could be read"] if unread else alike
