"""Documents given in Python: what is wrong with them is said with its place."""

import re
from typing import Any

import pandas as pd
import pytest

from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document
from debiasdpo.documents.given import given_documents
from debiasdpo.errors import UserError

RUBRICS = {"depth": Rubric(question="How deep?", low=1, high=5)}
DOCUMENTS: list[dict[str, Any]] = [
    {"id": f"a{score}", "group": "a", "text": "x" * score, "depth": score} for score in range(1, 5)
]


def _without(column: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in d.items() if k != column} for d in DOCUMENTS]


def _changed(**cells: object) -> list[dict[str, Any]]:
    return [*DOCUMENTS[:3], {**DOCUMENTS[3], **cells}]


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "documents: none. Give a DataFrame"),
        (pd.DataFrame(columns=["id", "group", "text", "depth"]), "documents: none. Give a DataFrame"),
        ("essays.csv", "documents: a str. Give a DataFrame"),
        ([("a1", "a", "x", 1)], "documents[0]: a tuple. Give a DataFrame"),
        (_without("id"), "documents: no column 'id'; the columns are: group, text, depth. It names"),
        (_without("group"), "no column 'group'"),
        (pd.DataFrame(DOCUMENTS).rename(columns={"text": "Text"}), "Text, depth. Closest: 'Text'."),
        (_without("depth"), "no column 'depth'; the columns are: id, group, text. It holds the scores"),
        ([{**d, "scores": {"dept": 1}} for d in _without("depth")], "scores, dept. Closest: 'dept'."),
        (_changed(id="a1"), "documents[3]: id 'a1' is already that of documents[0]"),
        (_changed(id="a1\u200b"), "documents[3]: id 'a1\\u200b' is already that of documents[0]"),
        (_changed(text=b"caf\xe9"), "documents[3], column 'text': bytes that are not UTF-8"),
        (_changed(text=["x"]), "documents[3], column 'text': of type list, not a text"),
        (_changed(group=True), "documents[3], column 'group': the truth value True"),
        (_changed(group="NA"), "documents[3], column 'group': 'NA', which stands for a missing value"),
        (_changed(**{"dep\u00adth": 3}), "documents[3]: column 'depth' is there twice, also written 'dep"),
        (pd.concat([pd.DataFrame(DOCUMENTS)] * 2, axis=1), "documents: column 'id' is there twice"),
        ([{("a", 1): 2}], "documents[0], name of a column: of type tuple, not a text"),
        (pd.DataFrame(_changed(id="a1")), "documents.iloc[3]: id 'a1' is already that of documents.iloc[0]"),
        (_changed(text=" "), "documents[3], column 'text': empty"),
        (_changed(text="half \ud83d"), "documents[3], column 'text': half a character"),
        (_changed(group=None), "documents[3], column 'group': empty"),
        (_changed(depth=6), "documents[3], column 'depth': 6 is off the scale of 1 to 5"),
        (_changed(depth="good"), "documents[3], column 'depth': 'good' is not a number"),
        ([{**d, "depth": None} for d in DOCUMENTS], "documents: none has a score"),
    ],
)  # fmt: skip
def test_mistakes_in_documents_are_said_with_their_place(documents: Any, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        given_documents(documents, RUBRICS)


def test_ids_that_are_numbers_are_no_scores() -> None:
    documents = [{**d, "id": i} for i, d in enumerate(DOCUMENTS, 1)]
    rubrics = {"id": RUBRICS["depth"]}
    with pytest.raises(UserError, match="the rubric 'id' has the name of a column that holds"):
        given_documents(documents, rubrics)
    found = given_documents([{**d, "scores": {"id": 2}} for d in documents], rubrics)
    assert [(d.id, d.scores) for d in found] == [(str(i), {"id": 2.0}) for i in range(1, 5)]


def test_cells_are_texts_and_numbers_whatever_their_types() -> None:
    frame = pd.DataFrame(
        {"id": [7, 8], "group": [1.0, 2.0], "text": [" x ", "y"], "depth": ["2", None]}
    )
    for given in (frame, frame.convert_dtypes(), frame.to_dict("records")):
        assert given_documents(given, RUBRICS) == [
            Document("7", "1", "x", {"depth": 2.0}),
            Document("8", "2", "y", {}),
        ]


@pytest.mark.parametrize(
    "kind",
    ["float32", "float16", "float64", "Float32", "Float64", "float[pyarrow]", "double[pyarrow]", "object",
     "str", "category"],
)  # fmt: skip
def test_a_score_is_the_number_that_was_written(kind: str) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "group": ["a", "b"], "text": ["x", "y"]})
    scores = pd.Series(["3.9", None] if kind in ("str", "category") else [3.9, None])
    first, second = given_documents(frame.assign(depth=scores.astype(kind)), RUBRICS)
    assert (first.scores, second.scores) == ({"depth": 3.9}, {})


def test_experts_of_one_mean_give_one_score_in_any_order() -> None:
    orders = [[3.1, 3.2, 3.4], [3.4, 3.2, 3.1], [3.2, 3.4, 3.1]]
    rows = [
        {"id": i, "group": "a", "text": "x", "experts": {"depth": mine}}
        for i, mine in enumerate(orders)
    ]
    assert [d.scores["depth"] for d in given_documents(rows, RUBRICS)] == [97 / 30] * 3


def test_names_are_compared_as_everywhere() -> None:
    """Columns and rubrics in any form; a number as the name of a column."""
    rubrics = {"Cohe\u0301rent": RUBRICS["depth"], "1": RUBRICS["depth"]}
    row = {"\ufeffid": 7, "group ": "a", "text": "x", "Coh\u00e9rent": 2, 1: 3}
    scores = {"Coh\u00e9rent\u00a0": 2, 1.0: 3}
    given = [row, {"id": 8, "group": "a", "text": "y", "scores": scores}]
    expected = {"Cohe\u0301rent": 2.0, "1": 3.0}
    assert [document.scores for document in given_documents(given, rubrics)] == [expected] * 2
    (document,) = given_documents(pd.DataFrame([row]), rubrics)
    assert document == Document("7", "a", "x", expected)
