"""Train statements from grammars: new, apart from what stays unseen, the same for a seed."""

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.config.checks import grammar_problems
from debiasdpo.config.context import PLACEBO, Category, ContextConfig
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.errors import UserError
from debiasdpo.prompts.audit import audit_prompts, by_category, validation_prompts
from debiasdpo.prompts.content_words import Apart, common_words, content_words, said
from debiasdpo.prompts.contexts import Statement, statements
from debiasdpo.prompts.generated import train_statements
from debiasdpo.prompts.grammar import expand, sentences
from debiasdpo.prompts.rendering import PromptStyle, flat
from tests.helpers.ratings import RUBRICS

GUIDE = Path(__file__).parents[2] / "docs/own_contexts.md"
JobConfigs = Callable[..., JobConfig]
N = 100
SOCIAL = ["certification", "education", "experience", "gender", "race", "role", "sycophancy"]
OPPOSED = {  # words of one side alone, by category
    "certification": ({"passed", "easily"}, {"failed", "lacks", "unlicensed", "refused"}),
    "education": ({"harvard", "doctorate", "honors"}, {"online", "worst", "associate", "lowest"}),
    "experience": ({"decades", "longest", "countless"}, {"couple", "least", "hardly", "newest"}),
    "gender": ({"he", "man", "male", "masculine"}, {"she", "woman", "female", "feminine"}),
    "race": ({"white", "european", "caucasian"}, {"black", "african", "hispanic"}),
    "role": ({"mentor", "promotion", "award"}, {"attorney", "dismissal", "complaint"}),
    "sycophancy": ({"{best}", "superb"}, {"{worst}", "dreadful"}),
}


@pytest.fixture(scope="module")
def context_of(job_config: JobConfigs) -> Callable[..., ContextConfig]:
    """The configured categories, of which some are trained on with N generated statements a side."""
    default = job_config().context

    def of(*trained: str, generated: int = N, **changes: Any) -> ContextConfig:
        values = {"train": dict.fromkeys(trained, True), "generated": generated, **changes}
        return default.model_copy(update=values)

    return of


def trained(context: ContextConfig, seed: int) -> tuple[Statement, ...]:
    return train_statements(context, context.train_categories, seed)


Contexts = Callable[..., ContextConfig]


def words(text: str) -> list[str]:
    return re.findall(r"\{?\w+\}?", text.lower())


CHOICES = [[name] for name in (*SOCIAL, PLACEBO)]
CHOICES += [[other for other in SOCIAL if other != name] for name in SOCIAL]
CHOICES += [[*SOCIAL, PLACEBO]]


@pytest.mark.parametrize("chosen", CHOICES, ids="+".join)
def test_each_side_gets_as_many_as_are_asked_for_apart_from_all_that_stays_unseen(
    context_of: Contexts, chosen: list[str]
) -> None:
    context = context_of(*chosen)
    found = trained(context, seed=0)
    written = statements(context, chosen, "train")
    made = found[len(written) :]
    assert found[: len(written)] == written
    assert Counter((s.category, s.polarity) for s in made) == {
        (name, polarity): N if polarity or name == PLACEBO else N // 4
        for name in chosen
        for polarity in ((0,) if name == PLACEBO else (1, -1, 0))
    }
    assert len({s.name for s in found}) == len({s.text.casefold() for s in found}) == len(found)
    assert {s.wording for s in found} == {"train"}
    # No five words in a row of a test statement, common ones or not.
    tests = [words(s.text) for s in statements(context, list(context.categories), "test")]
    runs = {tuple(t[i : i + 5]) for t in tests for i in range(len(t) - 4)}
    for statement in made:
        mine = words(statement.text)
        assert not runs & {tuple(mine[i : i + 5]) for i in range(len(mine) - 4)}
        assert not re.search(r"[{}]", re.sub(r"\{(best|worst)\}", "", statement.text))
        assert re.match(r"\(?[A-Z]", statement.text)
    # What tells the sides of a category apart is said in none that it is not trained with.
    said = {word for s in made for word in words(s.text)}
    for name in set(SOCIAL) - set(chosen):
        assert not said & set().union(*OPPOSED[name]) - {
            w for s in written for w in words(s.text)
        }, name


@pytest.mark.parametrize("name", SOCIAL)
def test_polarity_is_that_of_the_claims(context_of: Contexts, name: str) -> None:
    flattering, unflattering = OPPOSED[name]
    both = 0
    for statement in trained(context_of(name), seed=0):
        said = set(words(statement.text))
        if statement.polarity:
            assert not said & (unflattering if statement.polarity > 0 else flattering), statement
        both += bool(said & flattering) and bool(said & unflattering)
    assert both  # of those whose claims cancel
    for side in (flattering, unflattering):  # else they would show nothing
        assert any(side & set(words(s.text)) for s in trained(context_of(name), seed=0))


def test_statements_are_diverse(context_of: Contexts) -> None:
    """In length, in where they come from, and in what is said beside."""
    texts = [s.text for s in trained(context_of("experience", "role"), 0) if s.index > 3]
    lengths = [len(words(text)) for text in texts]
    assert min(lengths) <= 6
    assert max(lengths) >= 25
    begun = Counter(" ".join(words(text)[:3]) for text in texts)
    assert len(begun) > 50
    assert max(begun.values()) < len(texts) / 10
    mixed = [t for t in texts if "experience" in t and re.search(r"\bI (am|ask) (as )?(a|the) ", t)]
    assert mixed  # claims of both categories in one


def test_a_seed_decides_and_names_do_not(context_of: Contexts) -> None:
    context = context_of("race", "role")
    found = trained(context, 7)
    assert found == trained(context, 7)
    assert not {s.text for s in found} <= {s.text for s in trained(context, 8)}
    race = context.categories["race"].model_dump()
    race["flattering"]["train"] = [f"{text} \n" for text in race["flattering"]["train"]]
    coded = context.model_copy(
        update={
            "categories": {
                **context.categories,
                "race": Category.model_validate(race, strict=False),
            }
        }
    )
    assert [s.text.strip() for s in trained(coded, 7)] == [s.text for s in found]
    called = {name: name[::-1] for name in SOCIAL}
    backwards = {called.get(n, n): c for n, c in reversed(list(context.categories.items()))}
    renamed = context_of(*(called[n] for n in ("role", "race")), categories=backwards)
    assert [s.text for s in trained(renamed, 7)] == [s.text for s in found]


def test_none_are_made_unless_asked_for(context_of: Contexts) -> None:
    context = context_of("race", generated=0)
    assert trained(context, 0) == statements(context, ["race"], "train")


SMALL: dict[str, Any] = {
    "frames": {
        "one": "{claim}! | {claim}.",
        "several": "{claim}, {other}.",
        "contradictory": "{claim}, not {opposite}.",
    },
    "categories": {
        "height": {
            "description": "How tall",
            "flattering": {"train": ["Is tall."], "test": ["Looks down on giants."]},
            "unflattering": {"train": ["Is short."], "test": ["Looks up to dwarfs."]},
            "grammar": {
                "shared": {"claim": "a {size} one | sized {size}"},
                "flattering": {"size": "towering | lofty | giant"},
                "unflattering": {"size": "tiny | stunted | wealthy"},
            },
        },
        "wealth": {
            "description": "How rich",
            "flattering": {"train": ["Is wealthy."], "test": ["Owns stocks."]},
            "unflattering": {"train": ["Is poor."], "test": ["Owes money."]},
        },
    },
}


def small(generated: int, **changes: Any) -> ContextConfig:
    values = {
        **SMALL,
        "train": {"height": True},
        "generated": generated,
        "positions": None,
        **changes,
    }
    return ContextConfig.model_validate_json(json.dumps(values))


def test_a_grammar_gives_all_that_is_apart_and_nothing_else() -> None:
    """Two forms of a claim in two frames, of two sizes a side: a third is in a test statement of two content
    words, or in a category that is not trained on. Two claims of one form share a word of two."""

    def possible(*sizes: str) -> set[str]:
        forms = ["a {} one", "sized {}"]
        one = {sentences(f.format(s)) + end for f in forms for s in sizes for end in "!."}
        pairs = [
            (sizes, forms),
            (sizes[::-1], forms),
            (sizes, forms[::-1]),
            (sizes[::-1], forms[::-1]),
        ]
        two = {f"{f[0].format(s[0])}, {f[1].format(s[1])}." for s, f in pairs}
        two |= {f"a {s[0]} one, a {s[1]} one." for s in (sizes, sizes[::-1])}
        return one | {sentences(text) for text in two}

    found = trained(small(14), 0)
    for polarity, sizes in ((1, ("towering", "lofty")), (-1, ("tiny", "stunted"))):
        made = {s.text for s in found if s.polarity == polarity and s.index}
        assert made == possible(*sizes)
        assert len(made) == 14
    cancelling = [s.text for s in found if not s.polarity]
    assert len(cancelling) == 14 // 4
    for text in cancelling:
        for pair in (("towering", "lofty"), ("tiny", "stunted")):
            assert sum(size in text for size in pair) == 1
    with pytest.raises(
        UserError, match=r"height gave 14 of 15 flattering statements .* begin with 'giant'\)"
    ):
        trained(small(15), 0)


def test_a_test_statement_of_common_words_is_not_trained_on_either() -> None:
    """Both categories speak of towering and giant: no content word is left to tell the test statement by."""
    height, wealth = (dict(SMALL["categories"][name]) for name in ("height", "wealth"))
    height["flattering"] = {"train": ["Is giant."], "test": ["A towering one!"]}
    wealth["flattering"] = {"train": ["Towering and giant."], "test": ["One of stocks."]}
    context = small(20, categories={"height": height, "wealth": wealth})
    found = [s.text.casefold() for s in trained(context, 0) if s.index]
    assert not [text for text in found if "a towering one" in text]
    assert [text for text in found if "towering" in text]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ({"one": "{claim} {which}."}, "'{claim} {which}.' names no rule: {which}"),
        ({"one": "{claim}{a}", "a": "{b}", "b": "{a}"}, "the rule 'a' leads back to itself"),
        ({"who": "a {one}"}, "'a {one}' of the rule 'who' holds {one}, which is a whole statement"),
        ({"who": "that {whose}"}, "'that {whose}' names no rule: {whose}"),
        (
            {"several": "{claim}, {a}, {other}.", "a": "so {other}"},
            "'so {other}' of the rule 'a' holds {other}, which only the rule 'several' may",
        ),
        (
            {"one": "{claim}{a}.", "a": "unless {opposite}"},
            "'unless {opposite}' of the rule 'a' holds {opposite}, which only the rule 'contradictory' may",
        ),
        ({"one": "{claim}. |"}, "the rule 'one' has an empty alternative"),
        ({"one": "Tall."}, "'Tall.' of the rule 'one' must hold {claim}, and no other claim"),
        ({"several": "{claim}."}, "'{claim}.' of the rule 'several' must hold {claim} and {other}"),
    ],
    ids=[
        "no such rule", "circle", "statement within one", "unused who", "second claim in a rule",
        "opposite claim in a rule", "empty", "no claim", "one claim too few",
    ],
)  # fmt: skip
def test_a_grammar_that_makes_no_statements_is_refused(frames: dict[str, str], says: str) -> None:
    context = small(0, frames={**SMALL["frames"], **frames})
    first, *_ = grammar_problems(context)
    assert first.startswith("context.categories.height.grammar, flattering: ")
    assert says in first


def test_the_guides_category_gives_statements(context_of: Contexts) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    values = [yaml.safe_load(block) for block in blocks]
    workload = next(v for v in values if "flattering" in v)
    grammar = next(v for v in values if "grammar" in v)
    category = Category.model_validate_json(json.dumps(workload | grammar))
    context = context_of("workload", categories={**context_of().categories, "workload": category})
    made = Counter(s.polarity for s in trained(context, 0) if s.index > 3)
    assert (made[1], made[-1]) == (N - 2, N - 2)
    assert not list(grammar_problems(context))


def test_the_essays_of_the_guide_have_frames_and_grammars_too(job_config: JobConfigs) -> None:
    essays = f"hydra.searchpath=[file://{GUIDE.parent / 'examples/conf'}]"
    context = job_config(essays, "data=essays", f"context.generated={N}").context
    made = train_statements(context, context.categories, seed=0)
    sides = Counter((s.category, s.polarity) for s in made)
    assert set(context.categories) == {"sycophancy", "role", "standing", "language", PLACEBO}
    for category in context.categories:
        for polarity in (0,) if category == PLACEBO else (1, -1):
            assert sides[category, polarity] >= N
    texts = " ".join(s.text for s in made).lower()
    assert "teacher" not in texts
    assert "lesson" not in texts


def test_statements_take_turns_by_side(context_of: Contexts) -> None:
    """One whose claims cancel follows four of each side."""
    ((members, _),) = by_category(trained(context_of("race", generated=40), 0), 1)
    signs = [s.polarity for s in members]
    assert signs == [1, -1] * 4 + [1, 0, -1, *([1, -1] * 3)] * 10 + [1, 0, -1] * 0
    assert Counter(signs) == {1: 44, -1: 44, 0: 10}


def test_the_placebo_among_trained_contexts_is_still_the_placebo(job_config: JobConfigs) -> None:
    job = job_config("context=[sycophancy,placebo]", "context.generated=20")
    documents = [Document(f"d{i}", "g", "text", {"clarity": 1.0}) for i in range(30)]
    style = PromptStyle("A lesson.", "Rate it.", "after_query")
    prompts = flat(validation_prompts(job, style, documents, RUBRICS))
    assert len({p.key for p in prompts}) == len(prompts)
    each = Counter(p.statement.category for p in prompts if p.statement)
    assert (each.pop("sycophancy"), each.pop(PLACEBO), each.total()) == (60, 30, 30)
    audited = {p.statement for p in flat(audit_prompts(job, style, documents, RUBRICS))} - {None}
    assert audited == {*statements(job.context, job.audit_categories, "test")}
    assert PLACEBO not in job.unseen_categories


# --- content words


def test_content_words_by_hand() -> None:
    assert content_words("The Teachers' licenses, and this teacher\u2019s licensing: {best}!") == {
        "teache", "licens", "{best}",
    }  # fmt: skip
    assert content_words("It was so.") == frozenset()
    assert content_words("a 'strict' one") == content_words("a strict one") == {"strict"}
    texts = [["A small class."], ["Small rooms."], ["The class ended."], ["Rain."], ["Class 5."]]
    assert common_words(texts) == {"class"}
    assert common_words(texts[:2]) == {"small"}


def test_scripts_without_spaces_have_words_too() -> None:
    """Of two characters in a row; else a sentence is one word, and shares none with another."""
    test = "这位老师已经教了二十五年书"
    assert said(test) in said(f"听说{test}。")
    assert said(test) not in said("听说这位老师今年刚开始教书。")
    assert content_words("老师教书。カタ") == {"老师", "师教", "教书", "カタ"}
    apart = Apart(frozenset({"老师"}), frozenset(), (content_words(test) - {"老师"},))
    assert apart.too_near(f"听说{test}。")
    assert not apart.too_near("听说这位老师今年刚开始工作。")
    thai = "ครูคนนี้สอนมานานแล้ว"
    assert content_words(thai) < content_words(f"เขาว่า{thai}")


@pytest.mark.parametrize("text", ["Une école privée", "A strict rule", "शिक्षक अनुभवी है"])
def test_how_a_text_is_coded_makes_no_other_words_of_it(text: str) -> None:
    found = content_words(text)
    assert len(found) == len([word for word in text.split() if word != "A"])
    apart = unicodedata.normalize("NFD", text).replace("t", "t\u00ad")
    assert content_words(apart) == content_words(text.upper()) == found
    assert said(text) in said(f"({apart})")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("A blue teacher sings.", set()),
        ("A green teacher sings.", {"green"}),
        ("She sings a red song.", set()),
        ("She sings a red old song.", {"red", "old"}),
        ("Green, red and old.", {"green", "red", "old"}),
    ],
)
def test_what_is_too_near_by_hand(text: str, near: set[str]) -> None:
    tests = (frozenset({"red", "old", "house", "hill"}), frozenset({"teache", "wall"}))
    apart = Apart(frozenset({"teache"}), frozenset({"green"}), tests)
    assert apart.too_near(text) == near


# --- grammar


@given(st.lists(st.text("xyz ", min_size=1), min_size=1, max_size=4), st.integers())
def test_a_slot_becomes_one_of_its_alternatives(texts: list[str], seed: int) -> None:
    rules = {"a": texts, "b": ["<{a}|{a}>"]}
    found = expand("{b}{best}", rules, random.Random(seed))
    one, other = found.removesuffix(">{best}").removeprefix("<").split("|")
    assert {one, other} <= set(texts)


def test_sentences_begin_with_a_capital() -> None:
    assert sentences("one e-mail. two! (three). 4 is it. {best}.") == (
        "One e-mail. Two! (Three). 4 is it. {best}."
    )
