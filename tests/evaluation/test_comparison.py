"""Two methods on the same prompts: metrics by hand, pairing, seeds and clusters."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.evaluation.audit import audit
from debiasdpo.evaluation.comparison import Comparison, compare

RUBRICS = {
    "clarity": Rubric(question="How clear?", low=1, high=7),
    "focus": Rubric(question="How focused?", low=1, high=7),
}
CATEGORIES = ("experience", "placebo", "race", "role")
Rows = list[dict[str, Any]]


def corpus(rng: np.random.Generator, count: int = 24) -> Rows:
    """Rows of documents.jsonl: two documents a teacher, and one of another part."""
    documents = [
        Document(f"d{i}", f"t{i // 2}", "", {r: float(rng.integers(1, 8)) for r in RUBRICS})
        for i in range(count)
    ]
    train = {"part": "train", **asdict(Document("other", "t99", "", {"clarity": 1.0}))}
    return [train, *({"part": "test", **asdict(d)} for d in documents)]


def ratings(documents: Rows, rng: np.random.Generator, size: float, accuracy: float = 0.5) -> Rows:
    """Rows of a rater whose shifts are of this size."""
    found = []
    for document in documents:
        for rubric, score in document["scores"].items() if document["part"] == "test" else ():
            neutral = 4 + accuracy * (score - 4) + rng.normal(0, 0.5)
            for category in (None, *CATEGORIES):
                for polarity in (1, -1) if category else (None,):
                    shift = 0 if category is None else size * (polarity or 0) + rng.normal(0, 0.2)
                    found.append({
                        "key": f"{document['id']}|{rubric}|{category}{polarity}",
                        "document": document["id"], "rubric": rubric, "category": category,
                        "polarity": polarity, "statement": None, "repeat": 0, "text": "",
                        "rating": neutral + shift,
                    })  # fmt: skip
    return found


@pytest.fixture(scope="module")
def runs() -> tuple[list[Rows], list[Rows], list[Rows]]:
    """A: less bias; B: more; and their documents, for three seeds."""
    rng = np.random.default_rng(0)
    documents = [corpus(rng) for _ in range(3)]
    return (
        [ratings(d, rng, 0.1) for d in documents],
        [ratings(d, rng, 0.3) for d in documents],
        documents,
    )


def run(runs: Any, **changes: Any) -> dict[str, Comparison]:
    a, b, documents = runs
    options: dict[str, Any] = {
        "rubrics": RUBRICS, "trained": ["race"], "new_groups_each_seed": True, "resamples": 500,
        "permutations": 499,
    }  # fmt: skip
    return compare(a, b, documents, **options | changes)


def test_metrics_are_those_of_the_audit_averaged_over_seeds(runs: Any, job_config: Any) -> None:
    job: JobConfig = job_config(
        "context=race", f"audit.categories=[{','.join(CATEGORIES)}]", "audit.resamples=100"
    )
    found = run(runs)
    audits = []
    for a, b, rows in zip(*runs, strict=True):
        documents = [Document(**{k: v for k, v in d.items() if k != "part"}) for d in rows[1:]]
        audits.append(audit(job, documents, RUBRICS, {"base": b, "tuned": a}))
    biases = {f"{of}{part}" for of in ("bias", "relative_bias")
              for part in ("", "/trained", "/unseen", "/placebo")}  # fmt: skip
    assert set(found) == {*biases, "accuracy/spearman", "accuracy/mae", "spread"}
    for key, one in found.items():
        expected = [np.mean([m[f"{key}/{model}"] for m in audits]) for model in ("tuned", "base")]
        assert [one.a, one.b] == pytest.approx(expected, abs=1e-12)
        assert one.difference == one.a - one.b
        assert one.interval[0] < one.difference < one.interval[1]


def test_a_clear_difference_and_none(runs: Any) -> None:
    _, b, documents = runs
    for key in ("bias", "bias/trained", "bias/unseen"):
        one = run(runs)[key]
        assert one.interval[1] < 0
        assert one.p == 1 / 500
    again = run((b, b, documents))["bias"]
    assert (again.difference, *again.interval, again.p) == (0, 0, 0, 1)


def test_swapped_methods_swap_signs(runs: Any) -> None:
    a, b, documents = runs
    there, back = run(runs), run((b, a, documents))
    for key, one in there.items():
        assert back[key].difference == -one.difference
        assert back[key].interval == pytest.approx((-one.interval[1], -one.interval[0]))
        assert back[key].p == pytest.approx(one.p)


def test_a_teacher_in_all_seeds_is_one_cluster(runs: Any) -> None:
    a, b, documents = ([part[0]] * 3 for part in runs)
    apart, together = run((a, b, documents)), run((a, b, documents), new_groups_each_seed=False)
    alone = run(([a[0]], [b[0]], [documents[0]]))
    for key in ("bias", "accuracy/spearman"):
        # Three copies of one seed say no more than one, unless they are taken for other teachers.
        assert together[key].interval == pytest.approx(alone[key].interval)
        assert together[key].p == pytest.approx(alone[key].p)
        widths = [one[key].interval[1] - one[key].interval[0] for one in (apart, together)]
        assert widths[0] < 0.8 * widths[1]


def test_the_place_on_the_scale_is_no_difference_in_rank_or_spread(runs: Any) -> None:
    a, _, documents = runs
    rng = np.random.default_rng(1)
    moved = [[{**row, "rating": row["rating"] + 1.5} for row in rows] for rows in a]
    noisy = [[{**row, "rating": row["rating"] + rng.normal(0, 0.3)} for row in rows] for rows in a]
    same = run((a, moved, documents))
    for key in ("accuracy/spearman", "spread"):
        assert same[key].difference == pytest.approx(0, abs=1e-12)
    assert same["accuracy/mae"].p < 0.05
    high = [[{**row, "rating": 2 + row["rating"] / 2} for row in rows] for rows in noisy]
    low, up = (run((a, other, documents))["accuracy/spearman"] for other in (noisy, high))
    assert up == low


def test_a_rater_that_uses_less_of_the_scale_has_less_bias_and_no_less_relative_bias(
    runs: Any,
) -> None:
    a, b, documents = runs
    narrow = [[{**row, "rating": 4 + (row["rating"] - 4) / 8} for row in rows] for rows in a]
    shrunk = run((narrow, a, documents))
    assert shrunk["bias"].p < 0.05
    assert shrunk["relative_bias"].difference == pytest.approx(0, abs=1e-12)
    assert shrunk["relative_bias"].p == 1
    # Against another rater it is the same one.
    for key in ("relative_bias", "relative_bias/trained", "relative_bias/placebo"):
        of, like = (run((first, b, documents))[key] for first in (narrow, a))
        assert of[:3] == pytest.approx(like[:3])
        assert of.interval == pytest.approx(like.interval)
        assert of.p == pytest.approx(like.p)
    constant = [{**row, "rating": 4.0} for row in a[0]]
    flat = run(([constant, *a[1:]], b, documents))["relative_bias"]
    assert math.isnan(flat.difference)
    assert math.isnan(flat.p)
    assert flat.note.startswith("every rating on clarity is the same")


def test_the_order_of_rows_does_not_matter(runs: Any) -> None:
    a, b, documents = runs
    backwards = [list(reversed(rows)) for rows in b]
    assert run((a, backwards, documents)) == run(runs)


def test_undefined_in_one_seed_is_undefined(runs: Any) -> None:
    a, b, documents = runs
    constant = [{**row, "rating": 4.0} for row in a[0]]
    found = run(([constant, *a[1:]], b, documents))
    rho = found["accuracy/spearman"]
    assert all(map(math.isnan, (rho.a, rho.difference, *rho.interval, rho.p)))
    assert (
        rho.note
        == "every rating on clarity is the same; every rating on focus is the same (the first)"
    )
    assert rho.b > 0
    assert found["bias"].p < 0.05
    social = [[row for row in rows if row["category"] != "placebo"] for rows in (a[0], b[0])]
    alone = run(([social[0]], [social[1]], documents[:1]))
    assert math.isnan(alone["bias/placebo"].difference)
    assert alone["bias"].p < 0.05


def test_methods_are_compared_over_what_both_rated(runs: Any) -> None:
    """As if what one could not rate had been asked of neither."""
    a, b, documents = ([part[0]] for part in runs)
    lost = {f"d{i}|{rubric}|race1" for i in range(0, 24, 2) for rubric in RUBRICS}
    unread = [{**row, "rating": None if row["key"] in lost else row["rating"]} for row in a[0]]
    without = [[row for row in rows if row["key"] not in lost] for rows in (a[0], b[0])]
    found = run(([unread], b, documents))
    expected = run(([without[0]], [without[1]], documents))
    for key, one in found.items():
        assert one[:6] == expected[key][:6]
    assert found["bias/trained"].note == "over the 72 of 96 prompts that both rated"
    assert found["bias"].note == "over the 264 of 288 prompts that both rated"
    assert found["bias/unseen"].note == found["accuracy/mae"].note == ""
    # The one of the two that could rate them counts there no more than the other.
    worse = [{**row, "rating": 7.0 if row["key"] in lost else row["rating"]} for row in b[0]]
    assert run(([unread], [worse], documents)) == found


def test_too_few_groups_for_a_test_are_said(runs: Any) -> None:
    a, b, documents = ([part[0]] for part in runs)
    few = [{**d, "group": f"t{i % 5}"} for i, d in enumerate(documents[0])]
    one = run((a, b, [few]))["bias"]
    assert (one.groups, one.least_p, one.p) == (5, 2 / 32, 2 / 32)
    assert one.note == (
        "5 groups: below 10 an interval is rough, and often too narrow; 5 groups: p cannot be below 0.062"
    )
    alone = [{**d, "group": "t"} for d in documents[0]]
    one = run((a, b, [alone]))["bias"]
    assert (one.groups, one.least_p, one.p) == (1, 1, 1)
    assert one.note == "1 group: an interval needs 2 or more; 1 group: p cannot be below 1"
    whole = run(runs)["bias"]
    assert (whole.groups, whole.least_p, whole.note) == (36, 1 / 500, "")


def test_what_groups_and_categories_are_called_changes_nothing(runs: Any) -> None:
    a, b, documents = runs
    groups = [[{**d, "group": f"z{99 - int(d['group'][1:])}"} for d in rows] for rows in documents]
    new = {"race": "z", "role": "b", "experience": "y", "placebo": "placebo", None: None}
    other = [[[{**r, "category": new[r["category"]]} for r in rows] for rows in m] for m in (a, b)]
    for shared in (True, False):
        plain = run(runs, new_groups_each_seed=shared)
        assert run((a, b, groups), new_groups_each_seed=shared) == plain
        assert run((*other, documents), trained=["z"], new_groups_each_seed=shared) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b, d: ([a[0][:-1]], b, d), "1 are missing from the first, as 'd23|focus|role-1'"),
        (lambda a, b, d: (a, [b[0][1:]], d), "1 are missing from the second, as 'd0|clarity|None"),
        (lambda a, b, d: (a, b, [d[0][:5]]), "'d4' is not among the documents, or not in their order"),
        (lambda a, b, d: (a, b * 2, d), "there are 1, 2 and 1"),
        (lambda a, b, d: ([], [], []), "there are 0, 0 and 0"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared(runs: Any, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        run(change(*(part[:1] for part in runs)))
    assert message in str(error.value)


def test_rows_as_they_lie_in_files(runs: Any) -> None:
    read = json.loads(json.dumps(runs))
    assert run(read) == run(runs)


def test_only_what_is_asked_for_is_compared(runs: Any) -> None:
    whole, some = run(runs), run(runs, keys=["spread", "bias/trained"])
    assert some == {key: whole[key] for key in ("bias/trained", "spread")}
