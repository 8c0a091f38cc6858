"""Which prompts an audit asks."""

from collections import Counter
from collections.abc import Callable

import pytest

from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.prompts.audit import audit_prompts, validation_prompts
from debiasdpo.prompts.contexts import Statement, statements
from debiasdpo.prompts.rendering import PromptStyle, flat
from tests.helpers.ratings import DOCUMENTS, RUBRICS

STYLE = PromptStyle("A lesson.", "Rate it.", "after_query")
JobConfigs = Callable[..., JobConfig]


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
