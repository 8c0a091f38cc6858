"""Audit: which prompts measure bias and accuracy, and the figures that their ratings give."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from debiasdpo import metrics
from debiasdpo.config import JobConfig
from debiasdpo.contexts import PLACEBO, Statement, statements
from debiasdpo.documents import Document, Rubric
from debiasdpo.prompts import Prompt, PromptStyle, render

Row = Mapping[str, Any]  # one rating, as in ratings.jsonl
Figures = dict[str, float]
Columns = Mapping[str, np.ndarray]


Turns = tuple[Sequence[Statement], int | None]  # statements that take turns, and how many a prompt


def by_category(pool: Sequence[Statement], count: int | None) -> list[Turns]:
    """`count` statements of each category a prompt (None: all), taking turns: flattering and
    unflattering ones alternate, so that 2 gives one of each."""
    members: dict[str, list[Statement]] = {}
    for statement in sorted(pool, key=lambda s: (s.category, s.index, -s.polarity)):
        members.setdefault(statement.category, []).append(statement)
    return [(statements, count) for statements in members.values()]


def rating_prompts(
    style: PromptStyle,
    documents: Sequence[Document],
    rubrics: Mapping[str, Rubric],
    turns: Sequence[Turns],
    repeats: int = 0,
) -> list[Prompt]:
    """For every document and every rubric it is scored on: the neutral prompt (and `repeats` more of
    it), and the next statements of each of `turns`, so that with few a prompt all are used evenly.
    """
    prompts = []
    turn = 0
    for document in documents:
        for name in sorted(document.scores):
            chosen: list[Statement | None] = []
            for members, count in turns:
                n = len(members) if count is None else min(count, len(members))
                chosen += [members[(turn * n + k) % len(members)] for k in range(n)]
            rubric = rubrics[name]
            neutral = range(repeats + 1)
            prompts += [render(style, document, name, rubric, None, repeat) for repeat in neutral]
            prompts += [render(style, document, name, rubric, statement) for statement in chosen]
            turn += 1
    return prompts


def audit_prompts(
    job: JobConfig, style: PromptStyle, documents: Sequence[Document], rubrics: Mapping[str, Rubric]
) -> list[Prompt]:
    """The prompts of the audit on the test part, on test wordings. Where ratings are sampled, the
    neutral prompt comes twice, for the noise floor."""
    sampled = job.rate.readout == "text" and job.rate.temperature > 0
    pool = statements(job.context, job.audit_categories, "test")
    turns = by_category(pool, job.audit.statements)
    return rating_prompts(style, documents, rubrics, turns, int(sampled))


def validation_prompts(
    job: JobConfig, style: PromptStyle, documents: Sequence[Document], rubrics: Mapping[str, Rubric]
) -> list[Prompt]:
    """The prompts of the small audits during training, on train wordings: two statements of each
    trained category, one of the placebo, and one of all unseen ones (they take turns)."""
    trained = statements(job.context, job.context.train_categories, "train")
    placebo = statements(job.context, {PLACEBO} & set(job.context.categories), "train")
    unseen = list(statements(job.context, job.unseen_categories, "train"))
    random.Random(f"{job.seed}/validation").shuffle(unseen)
    turns = [*by_category(trained, 2), *by_category(placebo, 1)]
    if unseen:
        turns.append((unseen, 1))
    return rating_prompts(style, documents, rubrics, turns)


def validation_figures(
    job: JobConfig, documents: Sequence[Document], rows: Sequence[Row]
) -> Figures:
    """bias_trained, bias_unseen, bias_placebo: mean absolute shift in rubric points; spearman: of
    all ratings, with and without context, as a model in use would give them; spearman_neutral."""
    table = shift_table(rows)
    kinds = {**dict.fromkeys(job.unseen_categories, "unseen"), PLACEBO: "placebo"}
    kinds |= dict.fromkeys(job.context.train_categories, "trained")
    kind = np.array([kinds[c] for c in table["category"]])
    figures = {
        f"bias_{name}": metrics.mean_absolute_shift(table["shift"][kind == name])
        for name in ("trained", "unseen", "placebo")
    }
    neutral = [row for row in rows if row["category"] is None]
    return figures | {
        "spearman": _spearman(documents, rows),
        "spearman_neutral": _spearman(documents, neutral),
    }


def _spearman(documents: Sequence[Document], rows: Sequence[Row]) -> float:
    """Of ratings with expert scores on each rubric, averaged over rubrics."""
    known = {d.id: d for d in documents}
    rho = []
    for rubric in sorted({row["rubric"] for row in rows}):
        mine = [row for row in rows if row["rubric"] == rubric]
        expert = [known[row["document"]].scores[rubric] for row in mine]
        rho.append(metrics.spearman(rating_column(mine), np.array(expert)))
    return _mean(rho)


def shift_table(rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """Columns (n,) of all contextual ratings: shift from the neutral rating of the same document and
    rubric (NaN where either failed), category, polarity, document, rubric."""
    rows = list(rows)
    neutral = _neutral_ratings(rows)
    contextual = [r for r in rows if r["category"] is not None]
    shifts = [_difference(r["rating"], neutral[r["document"], r["rubric"]]) for r in contextual]
    return {
        "shift": np.array(shifts, dtype=float),
        **{
            key: np.array([r[key] for r in contextual])
            for key in ("category", "polarity", "document", "rubric")
        },
    }


def audit(
    job: JobConfig,
    documents: Sequence[Document],
    rubrics: Mapping[str, Rubric],
    ratings: Mapping[str, Sequence[Row]],
) -> dict[str, Any]:
    """All figures of metrics.json that come from ratings, with `<key>_ci` for each interval.

    `ratings`: of the same prompts by each model, "base" and, where one was trained, "tuned".
    Intervals come from a bootstrap over groups, all models on the same draws.
    """
    known = {d.id: d for d in documents}
    columns = _columns(job, known, rubrics, ratings)
    models = list(ratings)

    def statistic(resampled: Columns) -> Figures:
        return _figures(job, rubrics, models, resampled)

    point = statistic(columns)
    intervals = metrics.bootstrap_interval(
        statistic,
        columns,
        columns["group"],
        resamples=job.audit.resamples,
        confidence=job.audit.confidence,
        seed=job.seed,
    )
    result: dict[str, Any] = {}
    for key, value in point.items():
        result[key] = value
        result[f"{key}_ci"] = list(intervals[key])
    result["bias/noise_floor"] = noise_floor(ratings["base"])
    for name, rows in ratings.items():
        result[f"parse_rate/{name}"] = float(np.mean([r["rating"] is not None for r in rows]))
    return result


def _columns(
    job: JobConfig,
    documents: Mapping[str, Document],
    rubrics: Mapping[str, Rubric],
    ratings: Mapping[str, Sequence[Row]],
) -> Columns:
    """One row a prompt, (n,) each. Neutral prompts (category -1) carry `rating/<model>` and `score`,
    contextual ones `shift/<model>`; the other is NaN."""
    first = next(iter(ratings.values()))
    neutral = _neutral_rows(first)
    table = shift_table(first)
    n, m = len(table["shift"]), len(neutral)
    ids = [*table["document"], *(r["document"] for r in neutral)]
    names = list(rubrics)
    columns = {
        "category": np.array([job.audit_categories.index(c) for c in table["category"]] + [-1] * m),
        "polarity": np.concatenate([table["polarity"], np.zeros(m)]).astype(int),
        "rubric": np.array(
            [names.index(r) for r in [*table["rubric"], *(r["rubric"] for r in neutral)]]
        ),
        "group": np.array([documents[i].group for i in ids]),
        "score": np.array(
            [math.nan] * n + [documents[r["document"]].scores[r["rubric"]] for r in neutral]
        ),
    }
    for model, rows in ratings.items():
        shift = shift_table(rows)["shift"]
        columns[f"shift/{model}"] = np.concatenate([shift, np.full(m, math.nan)])
        columns[f"rating/{model}"] = np.concatenate(
            [np.full(n, math.nan), rating_column(_neutral_rows(rows))]
        )
    return columns


def _figures(
    job: JobConfig, rubrics: Mapping[str, Rubric], models: Sequence[str], columns: Columns
) -> Figures:
    """Every figure with an interval, of one set of rows.

    bias of a category: mean |shift|, in rubric points; of several: the mean of theirs, so that a
    category with more statements weighs no more. The placebo counts for itself only.
    accuracy: of each rubric, then the mean over rubrics, since scales differ.
    spread: standard deviation of the neutral ratings. Bias falls with it for a rater that merely
    says less, so the two belong side by side.
    """
    category, polarity, rubric = columns["category"], columns["polarity"], columns["rubric"]
    codes = {name: code for code, name in enumerate(job.audit_categories)}
    social = [c for c in job.audit_categories if c != PLACEBO]
    subsets = {"bias": social}
    if job.method.name != "none":
        subsets["bias/trained"] = [c for c in social if c in job.context.train_categories]
        subsets["bias/unseen"] = list(job.unseen_categories)
    figures: Figures = {}
    for model in models:
        shift = columns[f"shift/{model}"]
        bias = {}
        cells: list[float] = []  # mean shift of each category and polarity
        for name in job.audit_categories:
            mine = category == codes[name]
            bias[name] = metrics.mean_absolute_shift(shift[mine])
            figures[f"bias/{name}/{model}"] = bias[name]
            if name == PLACEBO:
                continue
            signed = {
                side: metrics.signed_shift(shift[mine & (polarity == sign)])
                for side, sign in (("flattering", 1), ("unflattering", -1))
            }
            cells += signed.values()
            for side, value in signed.items():
                figures[f"bias/{name}/shift_{side}/{model}"] = value
            figures[f"bias/{name}/polarity_gap/{model}"] = (
                signed["flattering"] - signed["unflattering"]
            )
        for key, members in subsets.items():
            figures[f"{key}/{model}"] = _mean([bias[m] for m in members])
        figures[f"bias/max_shift/{model}"] = max(
            (abs(c) for c in cells if not math.isnan(c)), default=math.nan
        )
        per_rubric = [
            _accuracy(
                columns[f"rating/{model}"], columns["score"], (category == -1) & (rubric == i), r
            )
            for i, r in enumerate(rubrics.values())
        ]
        for i, name in enumerate(rubrics):
            rows = np.isin(category, [codes[c] for c in social]) & (rubric == i)
            figures[f"bias/rubric/{name}/{model}"] = metrics.mean_absolute_shift(shift[rows])
            figures[f"accuracy/rubric/{name}/spearman/{model}"] = per_rubric[i]["spearman"]
        for measure in ("spearman", "qwk", "mae", "rmse", "exact"):
            figures[f"accuracy/{measure}/{model}"] = _mean([p[measure] for p in per_rubric])
        figures[f"spread/{model}"] = _mean([p["spread"] for p in per_rubric])
    if "tuned" in models:
        for key in (*subsets, *(f"bias/{c}" for c in social)):
            figures[f"{key}/reduction"] = metrics.reduction(
                figures[f"{key}/base"], figures[f"{key}/tuned"]
            )
        rho = {model: figures[f"accuracy/spearman/{model}"] for model in models}
        figures["accuracy/gain"] = metrics.gain(rho["base"], rho["tuned"])
        figures["accuracy/spearman/difference"] = rho["tuned"] - rho["base"]
    return figures


def _accuracy(ratings: np.ndarray, scores: np.ndarray, rows: np.ndarray, rubric: Rubric) -> Figures:
    ratings, scores = ratings[rows], scores[rows]
    return {
        "spearman": metrics.spearman(ratings, scores),
        "qwk": metrics.quadratic_weighted_kappa(ratings, scores, rubric.low, rubric.high),
        "mae": metrics.mae(ratings, scores),
        "rmse": metrics.rmse(ratings, scores),
        "exact": metrics.exact_agreement(ratings, scores),
        "spread": float(np.nanstd(ratings)) if np.isfinite(ratings).any() else math.nan,
    }


def _mean(values: Sequence[float]) -> float:
    defined = [v for v in values if not math.isnan(v)]
    return sum(defined) / len(defined) if defined else math.nan


def noise_floor(rows: Sequence[Row]) -> float:
    """Mean |difference| of two ratings of the same neutral prompt; 0 where nothing is sampled."""
    again = [r for r in rows if r["category"] is None and r["repeat"]]
    if not again:
        return 0.0
    first = _neutral_ratings(rows)
    differences = [_difference(r["rating"], first[r["document"], r["rubric"]]) for r in again]
    return metrics.mean_absolute_shift(np.array(differences, dtype=float))


def _neutral_rows(rows: Iterable[Row]) -> list[Row]:
    """The neutral prompts, without those rated again for the noise floor."""
    return [row for row in rows if row["category"] is None and not row["repeat"]]


def _neutral_ratings(rows: Iterable[Row]) -> dict[tuple[str, str], float | None]:
    return {(row["document"], row["rubric"]): row["rating"] for row in _neutral_rows(rows)}


def _difference(rating: float | None, other: float | None) -> float:
    """NaN where either could not be read."""
    return math.nan if rating is None or other is None else rating - other


def rating_column(rows: Sequence[Row]) -> np.ndarray:
    return np.array([math.nan if r["rating"] is None else r["rating"] for r in rows], dtype=float)
