"""What a model is asked to reason about fits what is rated."""

import json

import pytest

from debiasdpo.stages.asked import style
from tests.helpers.jobs import JobConfigs

LESSON = 'Reason briefly about what happens in it, then end with a line "Rating: <number>".'
ESSAYS = (
    "data=table", "data.path=docs/examples/essays.csv", "data.text_column=essay", "data.group_column=writer",
    "data.rubrics={clarity: {question: Clear, low: 1, high: 5}}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ((), LESSON),
        (ESSAYS, LESSON.replace("what happens in it", "its strengths and weaknesses")),
        ((*ESSAYS, "data.about=how it argues"), LESSON.replace("what happens in it", "how it argues")),
    ],
    ids=["lessons", "table", "own"],
)  # fmt: skip
def test_reasoning_is_about_what_such_documents_hold(
    job_config: JobConfigs, data: tuple[str, ...], expected: str
) -> None:
    config = job_config("rate=text", "method=none", *data)
    assert style(config).instruction == expected


def test_so_it_is_where_an_object_is_asked_for(job_config: JobConfigs) -> None:
    said = style(job_config("rate=text", "rate.format=json", "method=none", *ESSAYS)).instruction
    assert said.startswith("Reason briefly about its strengths and weaknesses, then rate it.")
    assert json.loads(said[said.index("{") :].replace("<number>", "3"))["rating"] == 3
