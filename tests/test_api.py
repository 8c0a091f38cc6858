"""debiasdpo.audit and debiasdpo.load, as a notebook or a script uses them."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import debiasdpo
from debiasdpo.api import Audit
from debiasdpo.config.data import Rubric
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.jobs.raters import configured_rater, hold_model
from debiasdpo.report.build import build
from tests.helpers.jobs import Finished, JobConfigs, rows, run_folder, run_job, untimed

ROOT = Path(__file__).parents[1]
RUBRICS = {"depth": {"question": "How deep?", "low": 1, "high": 5}}
AUTHOR = {
    "description": "Who wrote it",
    "flattering": {
        "train": ["By a famous author."],
        "test": ["The author deserves praise.", "Its author won prizes."],
    },
    "unflattering": {"train": ["By a beginner."], "test": ["Its author is new to this."]},
}
PLACEBO = {
    "description": "Nothing",
    "neutral": {"train": ["It rained."], "test": ["It is Monday."]},
}
TEXTS = {"a1": "x", "a2": "x x", "b1": "x x x", "b2": "x x x x"}  # what `rate` rates as 1 to 4
DOCUMENTS = [
    {"id": name, "group": name[0], "text": text, "depth": text.count("x")}
    for name, text in TEXTS.items()
]
CALLS = len(DOCUMENTS) * 5  # neutral, three statements of AUTHOR, one of PLACEBO


def rate(messages: list[dict[str, str]]) -> str | float | None:
    """1 to 4 by the document, and a point more for an author who deserves it."""
    (message,) = messages
    document = re.search(r"\n\n(x[x ]*)\n\n", message["content"])
    assert document is not None
    return f"Well.\nRating: {document[1].count('x') + ('deserves' in message['content'])}"


class Counted:
    """A rater that counts how often it is asked, and may break down at one of the questions."""

    def __init__(self, error: type[BaseException] = RuntimeError, at: int | None = None) -> None:
        self.asked: list[str] = []
        self._error, self._at = error, at

    def __call__(self, messages: list[dict[str, str]]) -> str | float | None:
        if len(self.asked) == self._at:
            raise self._error("no more")
        self.asked.append(messages[0]["content"])
        return rate(messages)


def audit(
    rater: Any = rate, documents: Any = DOCUMENTS, rubrics: Any = RUBRICS, **more: Any
) -> Audit:
    settings = {
        "categories": {"author": AUTHOR, "placebo": PLACEBO},
        "statements": None,
        "resamples": 100,
    }
    return debiasdpo.audit(rater, documents, rubrics, **{**settings, **more})


# --- what it finds


def test_bias_and_accuracy_are_those_worked_out_by_hand() -> None:
    found = audit()
    assert found.metrics["bias/base"] == pytest.approx(1 / 3)  # one of three statements, one point
    assert found.metrics["category/author/shift_flattering/base"] == pytest.approx(1 / 2)
    assert found.metrics["category/author/shift_unflattering/base"] == 0
    assert found.metrics["bias/placebo/base"] == 0
    assert found.metrics["spread/base"] == pytest.approx(1.25**0.5)  # of 1, 2, 3, 4
    assert found.metrics["accuracy/spearman/base"] == pytest.approx(1)
    assert found.metrics["accuracy/mae/base"] == 0
    assert found.metrics["parse_rate/base"] == 1
    low, high = found.metrics["bias/base_ci"]
    assert low <= 1 / 3 <= high


def test_ratings_have_a_row_for_each_prompt() -> None:
    ratings = audit().ratings
    assert len(ratings) == CALLS
    neutral = ratings[ratings["statement"].isna()].sort_values("document")
    assert neutral["rating"].tolist() == neutral["score"].tolist() == [1, 2, 3, 4]
    assert neutral["group"].tolist() == ["a", "a", "b", "b"]
    assert neutral["shift"].isna().all()
    contextual = ratings[ratings["category"] == "author"]
    moved = contextual[contextual["shift"] != 0]
    assert set(moved["statement"]) == {"The author deserves praise."}
    assert moved["shift"].tolist() == [1] * 4
    assert moved["polarity"].tolist() == [1] * 4
    assert contextual["shift"].abs().mean() == pytest.approx(1 / 3)


def test_replies_without_a_rating_are_counted_and_have_no_shift() -> None:
    def silent(messages: list[dict[str, str]]) -> float | None:
        content = messages[0]["content"]
        return None if "praise" in content else 9 if "prizes" in content else 2

    found = audit(silent)
    assert found.metrics["parse_rate/base"] == pytest.approx(3 / 5)
    assert found.metrics["bias/base"] == 0
    assert found.ratings["rating"].isna().sum() == found.ratings["shift"].isna().sum() - 4 == 8
    assert found.ratings["status"].value_counts().to_dict() == {"ok": 12, "empty": 4, "unread": 4}
    assert (found.ratings["reason"].isna() == (found.ratings["status"] == "ok")).all()


def test_a_function_says_how_its_texts_ended(tmp_path: Path) -> None:
    def hosted(messages: list[dict[str, str]]) -> debiasdpo.Reply:
        if "praise" in messages[0]["content"]:
            return debiasdpo.Reply("", status="filtered", reason="content policy")
        return debiasdpo.Reply("Rating: 2 or", status="ok", rating=2, thoughts="Well.")

    found = audit(hosted, save=tmp_path)
    assert found.folder is not None
    for ratings in (found.ratings, debiasdpo.load(found.folder).ratings):
        filtered = ratings[ratings["status"] == "filtered"]
        assert set(filtered["statement"]) == {"The author deserves praise."}
        assert set(filtered["reason"]) == {"content policy"}
        read = ratings[ratings["status"] == "ok"]
        assert set(read["thoughts"]) == {"Well."}
        assert set(read["rating"]) == {2.0}


def test_a_function_may_be_asked_for_json(caplog: pytest.LogCaptureFixture) -> None:
    def as_object(messages: list[dict[str, str]]) -> str:
        assert messages[-1]["content"].endswith('{"reasoning": "<text>", "rating": <number>}')
        if "praise" in messages[0]["content"]:
            return "Rating: 5"
        return '{"reasoning": "Rating: 1 is poor.", "rating": 4}'

    ratings = audit(as_object, format="json").ratings
    assert "can be asked for that form, and not held to it" in caplog.text
    other = ratings["statement"] == "The author deserves praise."
    assert set(ratings[other]["reason"]) == {"not one JSON object"}
    assert set(ratings[~other]["rating"]) == {4.0}


def test_numbers_are_ratings_as_they_are() -> None:
    found = audit(lambda messages: 2.5 + 0.25 * ("deserves" in messages[0]["content"]))
    assert found.metrics["bias/base"] == pytest.approx(0.25 / 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": {"": AUTHOR}}, "context.categories: '' is blank"),
        ({"categories": {"a\nb": AUTHOR}}, r"'a\nb' has a line break"),
        ({"categories": {"author": AUTHOR, "Author": AUTHOR}}, "differ in nothing but case"),
        ({"categories": {"placebo": AUTHOR}}, "the placebo needs neutral: statements"),
        ({"categories": {"weather": PLACEBO}}, "weather: a category needs flattering: and unflatt"),
        ({"rubrics": {" ": RUBRICS["depth"]}}, "data.rubrics: ' ' is blank"),
    ],
)  # fmt: skip
def test_names_that_tell_nothing_apart_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        audit(**change)


def test_what_categories_and_groups_are_called_changes_no_figure() -> None:
    """A user's category may have a name that the product uses itself."""
    role = {
        "description": "Who asks",
        "flattering": {
            "train": ["I know him."],
            "test": ["My friend deserves it.", "My son wrote it."],
        },
        "unflattering": {"train": ["I know her."], "test": ["My rival wrote it."]},
    }
    groups = {"a": "z", "b": "y"}
    plain, odd = (
        audit(
            documents=[{**d, "group": names.get(str(d["group"]), d["group"])} for d in DOCUMENTS],
            categories={first: AUTHOR, "placebo": PLACEBO, second: role},
            statements=1,
        ).metrics
        for first, second, names in (("author", "role", {}), ("trained", "bias/base_ci", groups))
    )
    new = {"category/author/": "category/trained/", "category/role/": "category/bias/base_ci/"}
    for key, value in plain.items():
        for before, after in new.items():
            key = key.replace(before, after)
        if not key.startswith(("time/", "cost/")):
            assert odd.pop(key) == value, key
    assert {key.split("/")[0] for key in odd} == {"time", "cost"}


def test_a_rater_that_samples_is_asked_twice_for_the_noise_floor() -> None:
    rater = Counted()

    def noisy(messages: list[dict[str, str]]) -> float:
        rater(messages)
        return 2 + len(rater.asked) % 2

    found = audit(noisy, temperature=0.7)
    assert len(rater.asked) == CALLS + len(DOCUMENTS)
    assert found.metrics["bias/noise_floor/base"] == 1
    assert found.ratings["repeat"].sum() == len(DOCUMENTS)


@pytest.mark.parametrize(
    "documents",
    [
        pd.DataFrame(DOCUMENTS),
        pd.DataFrame(DOCUMENTS).convert_dtypes(),
        [{**d, "depth": None, "scores": {"depth": d["depth"]}} for d in DOCUMENTS],
        [Document(i, i[0], text, {"depth": text.count("x")}) for i, text in TEXTS.items()],
        (d for d in [*DOCUMENTS, {"id": "c", "group": "c", "text": "without a score", "depth": None}]),
    ],
    ids=["frame", "frame of nullable types", "mapping of scores", "objects", "generator"],
)  # fmt: skip
@pytest.mark.slow
def test_documents_of_every_form_are_the_same(documents: Any) -> None:
    assert untimed(audit(documents=documents).metrics) == untimed(audit().metrics)


def test_several_raters_and_real_groups_are_those_of_the_command_line() -> None:
    """Two experts a document, who are 2 points apart on one of four."""
    given = {"a1": [1, 1], "a2": [2, 2], "b1": [3, 3], "b2": [5, 3]}
    whose = {"a1": "F", "a2": "M", "b1": "F", "b2": "M"}
    objects = [
        Document(name, name[0], text, {"depth": sum(mine) / 2}, {"depth": mine}, {"sex": whose[name]})
        for name, text in TEXTS.items()
        for mine in (given[name],)
    ]  # fmt: skip
    frame = pd.DataFrame(
        {"id": name, "group": name[0], "text": text, "experts": {"depth": given[name]},
         "sex": whose[name], "depth": None}
        for name, text in TEXTS.items()
    )  # fmt: skip
    settings = {"categories": {"author": AUTHOR, "placebo": PLACEBO}, "group_columns": ["sex"]}
    first = debiasdpo.audit(rate, objects, RUBRICS, **settings)  # type: ignore[arg-type]
    second = debiasdpo.audit(rate, frame, RUBRICS, **settings)  # type: ignore[arg-type]
    assert untimed(first.metrics) == untimed(second.metrics)
    assert first.metrics["agreement/mae/human"] == pytest.approx(0.5)  # 2 of 4
    groups = {
        k: v for k, v in first.metrics.items() if k.startswith("group/") and not k.endswith("_note")
    }
    assert any(key.startswith("group/sex=F/") for key in groups)
    with pytest.raises(UserError, match=r"group_columns: no column 'grade'.*Leave it out"):
        debiasdpo.audit(rate, frame, RUBRICS, group_columns=["grade"])
    frame["experts"] = [{"depth": "12"}] * 4
    with pytest.raises(UserError, match=r"experts of 'depth': a str. Give a list"):
        debiasdpo.audit(rate, frame, RUBRICS)


OWN_SEX = {
    "description": "The author's own sex, or another",
    "column": "sex",
    "when": {"flattering": "the true sex is told", "unflattering": "a false sex is told"},
    **{
        side: {
            "train": ["Their sex is {value}."],
            "test": ["The file says: {value}.", "Sex: {value}."],
        }
        for side in ("flattering", "unflattering")
    },
}


def test_true_statements_are_held_against_false_ones() -> None:
    """A rater that adds a point for a man moves by what is said, true or not; one document has no value."""
    frame = pd.DataFrame(
        {**d, "sex": s} for d, s in zip(DOCUMENTS, ["M", "F", "F", None], strict=True)
    )

    def gallant(messages: list[dict[str, str]]) -> float:
        text = messages[-1]["content"]
        return 2 + 0.5 * (": M." in text)

    audit = debiasdpo.audit(
        gallant, frame, RUBRICS, {"own_sex": OWN_SEX, "placebo": PLACEBO},
        group_columns=["sex"], statements=2,
    )  # fmt: skip
    rows = audit.ratings[audit.ratings["category"] == "own_sex"]
    said = {(row["document"], row["polarity"]): row["statement"] for _, row in rows.iterrows()}
    for document, own, other in (("a1", "M", "F"), ("a2", "F", "M"), ("b1", "F", "M")):
        assert said.pop((document, 1)).endswith(f": {own}.")
        assert said.pop((document, -1)).endswith(f": {other}.")
    assert not said  # nothing of b2
    assert audit.metrics["category/own_sex/shift_flattering/base"] == pytest.approx(0.5 / 3)
    assert audit.metrics["category/own_sex/shift_unflattering/base"] == pytest.approx(1 / 3)
    assert audit.metrics["category/own_sex/bias/base"] == pytest.approx(0.25)
    assert audit.metrics["bias/placebo/base"] == 0
    with pytest.raises(UserError, match=r"own_sex.column: 'sex' is not among data.group_columns"):
        debiasdpo.audit(gallant, frame, RUBRICS, {"own_sex": OWN_SEX, "placebo": PLACEBO})
    wrong = {**OWN_SEX, "flattering": {"train": ["{value}"], "test": ["The truth."]}}
    with pytest.raises(UserError, match=r"own_sex.flattering: 'The truth.' has no \{value\}"):
        debiasdpo.audit(
            gallant, frame, RUBRICS, {"own_sex": wrong, "placebo": PLACEBO}, group_columns=["sex"]
        )


def test_a_category_of_which_nothing_could_be_asked_is_no_other_audits(tmp_path: Path) -> None:
    """The one document that says a sex has no score, and is not rated: all audits have the same ratings."""
    other = {"id": "c1", "group": "c", "text": "Not read yet.", "sex": "F"}
    frame = pd.DataFrame([*({**d, "sex": None} for d in DOCUMENTS), other])
    for more in ({"own_sex": OWN_SEX}, {}, {"own_sex": OWN_SEX, "author": AUTHOR}):
        found = debiasdpo.audit(
            rate, frame, RUBRICS, {"author": AUTHOR, "placebo": PLACEBO, **more},
            group_columns=["sex"], save=tmp_path, version="1",
        )  # fmt: skip
        assert any("own_sex" in key for key in found.metrics) == ("own_sex" in more)
        of_all = found.metrics.get("bias/base_note", "")
        assert ("without own_sex, of which nothing was asked" in of_all) == ("own_sex" in more)
        line = "OPEN own_sex: None of its statements was asked.\n"
        assert (line in found.verdict) == ("own_sex" in more)


def test_a_column_of_real_groups_may_say_nothing() -> None:
    """It is there all the same, and was given."""
    frame = pd.DataFrame([{**d, "sex": None} for d in DOCUMENTS])
    categories = {"author": AUTHOR, "own_sex": OWN_SEX, "placebo": PLACEBO}
    found = debiasdpo.audit(rate, frame, RUBRICS, categories, group_columns=["sex"])
    assert found.metrics["category/own_sex/bias/base_of"]["prompts"] == 0
    assert "OPEN own_sex: None of its statements was asked.\n" in found.verdict


def test_what_is_asked_can_be_set() -> None:
    rater = Counted()
    rubrics = {
        "depth": Rubric(question="Costs ${5}, {best} or ${", low=1, high=5, high_is_good=False)
    }
    more = {"heading": "Read \\${this}.", "instruction": "Say {worst} to {best}."}
    audit(rater, rubrics=rubrics, **more)
    assert (
        "Read \\${this}.\n\nx\n\nCosts ${5}, 1 or ${ Rate it on a scale from 1 to 5.\n\nSay 5 to 1."
    ) in rater.asked


def test_shipped_categories_are_chosen_by_name() -> None:
    found = audit(categories=["experience", "placebo"], statements=2)
    assert set(found.ratings["category"].dropna()) == {"experience", "placebo"}
    assert len(found.ratings) == len(DOCUMENTS) * 5
    every = {file.stem for file in (ROOT / "conf/category").glob("*.yaml")} - {"all"}
    found = audit(categories=None, statements=1)
    assert set(found.ratings["category"].dropna()) == every


def test_what_is_changed_in_the_configuration_is_seen_by_the_next_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.setattr(debiasdpo.api, "conf_dir", lambda: tmp_path / "conf")
    assert len(audit(statements=None).ratings) == CALLS
    (tmp_path / "conf/category/mine.yaml").write_text(yaml.safe_dump(AUTHOR))
    everything = tmp_path / "conf/category/all.yaml"
    everything.write_text(f"{everything.read_text()}  - mine@mine\n")
    found = audit(categories=["mine", "placebo"])
    assert set(found.ratings["category"].dropna()) == {"mine", "placebo"}


def test_a_result_is_shown_as_the_table_and_nothing_else_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = audit()
    assert capsys.readouterr().out == ""
    assert "bias (mean |shift|, points)        0.33" in repr(found) == str(found)


# --- what is kept


def test_nothing_is_left_without_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert audit().folder is None
    with pytest.raises(RuntimeError):
        audit(Counted(at=3))
    assert not list(tmp_path.iterdir())


def test_a_saved_audit_is_a_run_that_the_report_reads(tmp_path: Path) -> None:
    found = audit(save=tmp_path, name="counter")
    assert found.folder == run_folder(tmp_path)
    assert str(found.folder) in repr(found)
    audit(Counted(), save=tmp_path, documents=DOCUMENTS[:3])
    report = build([tmp_path])
    assert sorted((run.model, run.state) for run in report.runs) == [
        ("Counted", "finished"),
        ("counter", "finished"),
    ]
    assert "counter" in report.page
    run = debiasdpo.load(found.folder)
    pd.testing.assert_frame_equal(run.ratings.drop(columns="model"), found.ratings)


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_audit_that_broke_down_goes_on_and_asks_only_the_rest(
    error: type[BaseException], tmp_path: Path
) -> None:
    broken, rest = Counted(error, at=12), Counted()
    with pytest.raises(error, match="no more"):
        audit(broken, save=tmp_path, version="1")
    found = audit(rest, save=tmp_path, version="1")
    # Two documents of five prompts each were finished.
    assert len(rest.asked) == CALLS - 10
    assert not set(broken.asked[:10]) & set(rest.asked)
    assert untimed(found.metrics) == untimed(audit().metrics)
    again = Counted()
    audit(again, save=tmp_path, version="1")
    assert not again.asked


class Silent:
    """A rater of one's own that returns replies without a rating, and does not say that they are failures."""

    identity: Mapping[str, object] = {"silent": 1}
    capabilities = frozenset({"text"})

    def check(self, *args: object) -> None:
        pass

    def reply(self, questions: Sequence[Any], *args: object) -> list[debiasdpo.Reply]:
        return [
            debiasdpo.Reply("Well.", 3 if "praise" in str(q.messages) else None) for q in questions
        ]


def test_no_reply_without_a_rating_is_a_success() -> None:
    found = audit(Silent())
    assert set(found.ratings["status"]) == {"ok", "unread"}
    assert (found.ratings["rating"].isna() == (found.ratings["status"] == "unread")).all()
    assert found.metrics["failures/no rating was given/base"] == 16


def test_nothing_is_taken_over_from_a_function_of_another_or_no_version(tmp_path: Path) -> None:
    for version in (None, None, "1", "2"):
        rater = Counted()
        audit(rater, save=tmp_path, version=version)
        assert len(rater.asked) == CALLS


@pytest.mark.slow
def test_a_rater_object_gives_what_its_job_gives(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    category = tmp_path / "category.yaml"
    category.write_text(yaml.safe_dump(AUTHOR))
    table = tmp_path / "table.csv"
    pd.DataFrame(DOCUMENTS).to_csv(table, index=False)
    config = job_config(
        f"model.path={tiny_llama}", "method=none", "rate=expected", "data=table", f"data.path={table}",
        "data.rubrics={depth: {question: 'How deep?', low: 1, high: 5}}", "audit.resamples=100",
        "data.split={train: 0, validation: 0, test: 1}", "audit.categories=[experience]",
        "audit.statements=2", "model.max_length=1024", f"output_dir={tmp_path / 'job'}",
    )  # fmt: skip
    loads = []
    held = hold_model(config, tmp_path)
    load = held.load
    held.load = lambda weights=None: loads.append(1) or load(weights)  # type: ignore[method-assign,func-returns-value]
    rater = configured_rater(config, lambda: held, None)
    settings = {"categories": ["experience"], "statements": 2, "save": tmp_path / "audit"}
    found = audit(rater, readout="expected", **settings)
    assert loads
    assert untimed(found.metrics) == untimed(run_job(config))
    assert found.metrics["bias/base"] > 0
    loads.clear()  # the replies are found again by what the rater says it is
    assert untimed(audit(rater, readout="expected", **settings).metrics) == untimed(found.metrics)
    assert not loads


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rubrics": {}}, "data: rubrics is empty"),
        ({"rubrics": {"depth": {"question": "?", "low": 5, "high": 1}}}, "low must be below high"),
        ({"rubrics": {"depth": {"question": "?", "low": 1}}}, "data.rubrics.depth.high: missing"),
        ({"categories": ["experience", "fame"]}, "no such category: fame"),
        ({"categories": {"author": {"description": "Who"}}}, "context.categories.author"),
        ({"statements": 0}, "audit.statements: must be at least 1"),
        ({"readout": "expected"}, "this rater cannot do expected; set rate.readout=text"),
        ({"readout": "guess"}, "this rater cannot do guess"),
        ({"rater": 3}, "rater: a int; give a function"),
        ({"heading": object()}, "data.heading"),
        ({"documents": []}, "documents: none"),
    ],
)
def test_mistakes_in_arguments_are_said_before_anything_is_asked(
    changes: dict[str, Any], said: str
) -> None:
    rater = Counted()
    with pytest.raises(UserError, match=re.escape(said)):
        audit(**{"rater": rater, **changes})
    assert not rater.asked


def test_a_reply_of_another_kind_is_refused_with_its_prompt() -> None:
    with pytest.raises(
        UserError, match=r"for prompt [ab][12]\|depth\|neutral\|0 the function returned list"
    ):
        audit(lambda messages: [3])


def test_a_rater_object_has_no_other_version(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    config = job_config(f"model.path={tiny_llama}")
    rater = configured_rater(config, lambda: hold_model(config, tmp_path), None)
    with pytest.raises(UserError, match="version: is of a function"):
        audit(rater, version="1")


def test_without_pandas_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for use in (audit, lambda: debiasdpo.load("runs")):
        with pytest.raises(UserError, match=re.escape("pip install 'debiasdpo[notebook]'")):
            use()


# --- beside other code


def test_a_program_that_uses_hydra_finds_it_as_it_was(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    (tmp_path / "mine.yaml").write_text("key: 3\n")
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        audit()
        with pytest.raises(UserError):
            audit(rubrics={})
        assert compose("mine").key == 3


def _modules(code: str) -> set[str]:
    """The packages that are in memory after this code."""
    printed = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    shown = subprocess.run(
        [sys.executable, "-c", printed], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(shown.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_else() -> None:
    ours = _modules("import debiasdpo") - _modules("import typing")
    assert ours == {"debiasdpo"}


def test_an_audit_of_a_function_needs_no_torch() -> None:
    code = f"""
import debiasdpo
documents = {DOCUMENTS!r}
debiasdpo.audit(lambda messages: 3, documents, {RUBRICS!r}, ["experience"], resamples=100)
"""
    found = _modules(code)
    assert "pandas" in found
    assert not found & {"torch", "transformers", "peft", "accelerate", "wandb", "matplotlib"}


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        _ = debiasdpo.audits  # type: ignore[attr-defined]


# --- load


@pytest.fixture(scope="module")
def trained(job_config: JobConfigs, tiny_llama: Path, shared_folder: Path) -> Finished:
    return Finished(job_config, "llama8b", tiny_llama, shared_folder / "llama8b")


@pytest.mark.slow
def test_a_trained_run_is_loaded_with_ratings_pairs_and_metrics(trained: Finished) -> None:
    folder = run_folder(trained.output)
    run = debiasdpo.load(str(folder))
    files = {model: rows(folder / f"ratings_{model}.jsonl") for model in ("base", "tuned")}
    for model, mine in files.items():
        frame = run.ratings[run.ratings["model"] == model]
        assert frame["key"].tolist() == [row["key"] for row in mine]
        assert frame["rating"].tolist() == [row["rating"] for row in mine]
        social = frame[frame["category"].notna() & (frame["category"] != "placebo")]
        assert social["shift"].abs().mean() == pytest.approx(trained.metrics[f"bias/{model}"])
    assert run.pairs is not None
    assert len(run.pairs) == trained.metrics["pairs/kept"]
    metrics = run.metrics.set_index("key")
    assert metrics.loc["bias/tuned", "value"] == trained.metrics["bias/tuned"]
    assert metrics.loc["bias/tuned", ["low", "high"]].tolist() == trained.metrics["bias/tuned_ci"]
    assert not [key for key in metrics.index if key.endswith(("_ci", "_of", "_note"))]
    assert set(run.documents["part"]) == {"train", "validation", "test"}
    assert run.config["method"]["name"] == "debiasing_dpo"
    assert run.status["state"] == "finished"


def test_metrics_say_what_they_are_of(tmp_path: Path) -> None:
    audit(save=tmp_path)
    metrics = debiasdpo.load(run_folder(tmp_path)).metrics.set_index("key")
    assert metrics.loc["bias/base", ["documents", "groups", "prompts"]].tolist() == [4, 2, 12]
    assert (
        metrics.loc["bias/base_of" if "bias/base_of" in metrics.index else "bias/base", "value"] > 0
    )


def test_documents_of_a_run_are_audited_as_they_are(tmp_path: Path) -> None:
    found = audit(save=tmp_path)
    documents = debiasdpo.load(run_folder(tmp_path)).documents
    assert untimed(audit(documents=documents).metrics) == untimed(found.metrics)


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        debiasdpo.load(tmp_path / "none")
    with pytest.raises(UserError, match="is no run folder"):
        debiasdpo.load(tmp_path)
    with pytest.raises(RuntimeError):
        audit(Counted(at=7), save=tmp_path, version="1")
    folder = run_folder(tmp_path)
    with pytest.raises(
        UserError, match=re.escape("is not finished: failed (RuntimeError: no more)")
    ):
        debiasdpo.load(folder)
    with pytest.raises(UserError, match=f"Runs below it: {re.escape(str(folder))}"):
        debiasdpo.load(tmp_path)
    audit(save=tmp_path, name="Counted", version="1")
    (folder / "ratings_base.jsonl").write_text("{half a li")
    with pytest.raises(UserError, match=re.escape("ratings_base.jsonl: 1 of 1 lines are damaged")):
        debiasdpo.load(folder)
    audit(save=tmp_path, name="Counted", version="1")  # which makes it anew
    assert len(debiasdpo.load(folder).ratings) == CALLS


# --- the guide


def test_the_guide_runs_word_for_word_and_its_numbers_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs/python.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
            exec(block, names)
    metrics: Mapping[str, float] = names["audit"].metrics
    table = re.findall(r"^\| [^|]+ \| `([^`]+)` \| ([\d.]+) \|", guide, re.MULTILINE)
    assert len(table) == 6
    for key, value in table:
        assert f"{metrics[key]:.2f}" == value, key
    means = names["audit"].ratings.groupby(["category", "polarity"])["shift"].mean()
    assert means.to_dict() == {("experience", -1): 0, ("experience", 1): 1, ("placebo", 0): 0}
    assert "bias (mean |shift|, points)        0.50" in shown.getvalue()
    assert build([Path("audits")]).runs
