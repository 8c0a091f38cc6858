"""Which prompts an audit asks."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.prompts.audit import audit_prompts, validation_prompts
from debiasdpo.prompts.contexts import Statement, statements
from debiasdpo.prompts.rendering import Prompt, PromptStyle, flat
from tests.helpers.ratings import DOCUMENTS, RUBRICS

STYLE = PromptStyle("A lesson.", "Rate it.", "after_query")
JobConfigs = Callable[..., JobConfig]
ASKED = {
    "clarity": Rubric(question="How clear?", low=1, high=7),
    "focus": Rubric(question="How focused?", low=1, high=5),
}


@pytest.fixture(scope="module")
def job(job_config: JobConfigs) -> JobConfig:
    """Trained on experience; role and race unseen."""
    return job_config("context=experience", "audit.categories=[experience,placebo,race,role]")


def test_the_audit_uses_all_test_wordings_evenly(job: JobConfig) -> None:
    documents = [
        Document(f"d{i}", f"g{i}", "text", {"clarity": 1.0, "focus": 2.0}) for i in range(12)
    ]
    prompts = flat(audit_prompts(job, STYLE, documents, RUBRICS))
    assert len({p.key for p in prompts}) == len(prompts)
    pool = statements(job.context, job.audit_categories, "test")
    for rubric in RUBRICS:
        used = Counter(p.statement for p in prompts if p.statement and p.rubric == rubric)
        assert set(used) == set(pool)
        for category in job.audit_categories:
            counts = [n for s, n in used.items() if s.category == category]
            assert max(counts) - min(counts) <= 1
            assert sum(counts) == 12 * (job.audit.statements or 0)
    assert sum(p.statement is None for p in prompts) == 12 * 2


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rubrics", [1, 2, 3, 4])
def test_every_rubric_sees_both_polarities_alike(
    job_config: JobConfigs, rubrics: int, count: int
) -> None:
    names = "abcd"[:rubrics]
    documents = [Document(f"d{i}", "g", "text", dict.fromkeys(names, 1.0)) for i in range(24)]
    job = job_config(f"audit.statements={count}")
    prompts = flat(audit_prompts(job, STYLE, documents, dict.fromkeys(names, RUBRICS["clarity"])))
    for rubric in names:
        for category in set(job.audit_categories) - {"placebo"}:
            signs = [
                p.statement.polarity
                for p in prompts
                if p.rubric == rubric and p.statement and p.statement.category == category
            ]
            assert abs(sum(signs)) <= 1


def test_sampled_ratings_come_with_a_second_neutral_one(
    job: JobConfig, job_config: JobConfigs
) -> None:
    sampled = job_config("rate=text", "rate.temperature=1.0")
    prompts = flat(audit_prompts(sampled, STYLE, DOCUMENTS, RUBRICS))
    assert Counter(p.repeat for p in prompts if p.statement is None) == {0: 4, 1: 4}
    greedy = flat(audit_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    assert {p.repeat for p in greedy} == {0}


def test_two_statements_are_one_of_each_polarity(job_config: JobConfigs) -> None:
    job = job_config("audit.statements=2")
    prompts = flat(audit_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    for document in DOCUMENTS:
        mine = [p.statement for p in prompts if p.document == document.id and p.statement]
        for category in set(job.audit_categories) - {"placebo"}:
            assert sorted(s.polarity for s in mine if s.category == category) == [-1, 1]
    everything = job_config("audit.statements=null")
    prompts = flat(audit_prompts(everything, STYLE, DOCUMENTS[:1], RUBRICS))
    pool = statements(everything.context, everything.audit_categories, "test")
    assert {p.statement for p in prompts} == {None, *pool}


def test_a_false_value_is_that_of_any_other_document_with_another(job_config: JobConfigs) -> None:
    """A value that few documents have is told as seldom where it is false: else true against false would be
    common against rare."""
    said = "{train: ['It says {value}.'], test: ['It reads {value}.']}"
    own = f"{{description: d, column: writer, flattering: {said}, unflattering: {said}}}"
    job = job_config(
        "data=table", "data.path=docs/examples/essays.csv", "data.text_column=essay",
        "data.group_column=writer", "data.group_columns=[writer]", f"+context.categories.own={own}",
        "data.rubrics={clarity: {question: Clear, low: 1, high: 5}}",
        "method=none", "audit.categories=[own,placebo]", "audit.statements=2",
    )  # fmt: skip
    rare, each = 40, 980
    values = ["female"] * each + ["male"] * each + ["nonbinary"] * rare
    documents = [
        Document(f"d{i}", "g", f"text {i}", {"clarity": 1.0}, facts={"writer": value})
        for i, value in enumerate(values)
    ]
    for order in (documents, documents[::-1]):
        told = {
            (p.document, p.statement.polarity): p.statement.value
            for p in flat(audit_prompts(job, STYLE, order, ASKED))
            if p.statement and p.statement.category == "own"
        }
        assert all(told[d.id, 1] == d.facts["writer"] != told[d.id, -1] for d in documents)
        if order is documents:
            first = told
    assert told == first  # whichever document stands first
    false = Counter(told[d.id, -1] for d in documents)
    # Of those that say one of the frequent values, 40 in 1020 others say the rare one: within 4 deviations.
    share = rare / (each + rare)
    expected = 2 * each * share
    assert abs(false["nonbinary"] - expected) < 4 * (expected * (1 - share)) ** 0.5


def test_validation_never_sees_test_wordings(job: JobConfig) -> None:
    prompts = flat(validation_prompts(job, STYLE, DOCUMENTS, RUBRICS))
    seen: list[Statement] = [p.statement for p in prompts if p.statement]
    assert {s.wording for s in seen} == {"train"}
    each = Counter(
        "trained"
        if s.category == "experience"
        else "placebo"
        if s.category == "placebo"
        else "unseen"
        for s in seen
    )
    assert each == {"trained": 2 * 4, "placebo": 4, "unseen": 4}


def renamed(job: JobConfig, names: dict[str, str]) -> JobConfig:
    """The same job under other names of categories."""
    context = job.context.model_copy(
        update={
            "categories": {names.get(n, n): c for n, c in job.context.categories.items()},
            "train": {names.get(n, n): on for n, on in job.context.train.items()},
        }
    )
    audited = [names.get(n, n) for n in job.audit.categories or ()] or None
    audit = job.audit.model_copy(update={"categories": audited})
    return job.model_copy(update={"context": context, "audit": audit})


def test_what_categories_and_rubrics_are_called_does_not_decide_what_is_asked(
    job: JobConfig,
) -> None:
    def asked(job: JobConfig, rubrics: dict[str, str]) -> list[list[Prompt]]:
        documents = [
            Document(
                f"d{i}", "g", "text", {rubrics[n]: 1.0 for n in rubrics if i % 3 or n == "focus"}
            )
            for i in range(7)
        ]
        questions = {rubrics[name]: rubric for name, rubric in ASKED.items()}
        return [
            flat(make(job, STYLE, documents, questions))
            for make in (audit_prompts, validation_prompts)
        ]

    plain = asked(job, {name: name for name in ASKED})
    backwards = {"experience": "z", "race": "y", "role": "x", "certification": "w"}
    odd = asked(renamed(job, backwards), {"clarity": "z", "focus": "y"})
    for one, other in zip(plain, odd, strict=True):
        assert [p.messages for p in one] == [p.messages for p in other]
        assert {p.key for p in one}.isdisjoint(p.key for p in other)


part = st.text(st.sampled_from("a|\\+0-test"), max_size=6) | st.text(max_size=4)
statement = st.builds(
    Statement, part, st.sampled_from([-1, 0, 1]), st.sampled_from(["train", "test"]),
    st.integers(0, 12), st.just("text"),
)  # fmt: skip
prompt = st.builds(Prompt, part, part, st.none() | statement, st.just(()), repeat=st.integers(0, 2))


@settings(max_examples=500, deadline=None)
@given(prompt, prompt)
def test_no_two_prompts_have_one_key(one: Prompt, other: Prompt) -> None:
    assert (one.key == other.key) == (one == other)


def test_a_bar_in_a_name_moves_nothing() -> None:
    found = {Prompt(d, r, None, ()).key for d, r in (("a|b", "c"), ("a", "b|c"), ("a\\", "|c"))}
    assert found == {r"a\|b|c|neutral|0", r"a|b\|c|neutral|0", r"a\\|\|c|neutral|0"}
