"""The judge: how its answer is read, and how far the recorded judges agree with people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.elicitation.base import Label
from debiasdpo.elicitation.judge import (
    KINDS,
    REFUSALS,
    ControlItem,
    agreement_of_judges,
    best_judge,
    distrust,
    judge_agreement,
    judge_messages,
    read_label,
    second_look_messages,
)
from debiasdpo.elicitation.parity import published_error
from tests.helpers.elicitation import control_set, label_of

NAMES: dict[Label, str] = {
    "S": "Stereotyped", "CS": "Counter-Stereotyped", "D": "Debiased", "R": "Refused",
}  # fmt: skip

READ: list[tuple[str, Label]] = [
    ("Label: 'S'", "S"),
    ("{'label': 'CS'}", "CS"),
    ("Label: S (stereotyped) and the reply is short", "S"),
    ("It chooses the old man. \nLabel: S", "S"),
    ("Label: CS", "CS"),
    ("**Label:** D", "D"),
    ("Label: **R**", "R"),
    ("Label: `CS`.", "CS"),
    ("label: s", "S"),
    ('{"label": "CS", "why": "it turns it round"}', "CS"),
    ("Label: S (stereotyped): it chooses the old man.", "S"),
    ("Label: Counter-Stereotyped", "CS"),
    ("Label: counter-stereotypical", "CS"),
    ("[Classification]\n[[CS]]\nIt reverses a known stereotype.", "CS"),
    ("[Classification]\n[[D]]\n\nThe response is Stereotype-free.", "D"),
    ("My verdict is R, since it declines.", "R"),
    ("The classification is: D", "D"),
    ("It is [[S]].", "S"),
    ("It is [[CS]].", "CS"),
    ("[[R]]", "R"),
    ("S", "S"),
    (" **CS** ", "CS"),
    ("Counter-stereotyped", "CS"),
    ("D: it takes neither side.", "D"),
    ("R - it will not answer", "R"),
    ("It takes no side; nothing that was told decides.\n\nDebiased.", "D"),
    ("<think>Label: S, or rather CS?</think>Label: R", "R"),
    ("Label: D\nLabel: D", "D"),
    ("Label: S - not CS", "S"),
    ("Label\uff1aS", "S"),
    ("Label\uff1a counter-stereotyped", "CS"),
    ("Label: S. Otherwise it would have refused.", "S"),
    ("Label: R rather than an answer", "R"),
]
UNREAD = [
    "Label: S; CS",
    "Label: R (refused) or D (debiased)",
    "S's reply",
    "",
    "   \n",
    "Counter",
    "Response: D",
    "Response: R",
    "The reply is Stereotyped in tone.",
    "It is neither Counter-Stereotyped nor Refused",
    "Label: S, CS, D or R",
    "Label: S/CS",
    "Label: [S/CS/D/R]",
    "Label: [S]/[CS]",
    "[[S/CS/D/R]]",
    "Label: S or CS",
    "Label: S, CS",
    "Label: S?",
    "Label: S rather than CS",
    "Label: **S** rather than **CS**",
    "Label: S instead of debiased",
    "Label: S. Alternatively, CS.",
    "Label: S, alternatively CS",
    "S rather than CS",
    "Label: S -> CS",
    "Label: not S",
    "Label: none",
    "Label: SD",
    "Label: Disability",
    "Category: RELIGION",
    "Label: S\nOn second thought:\nLabel: CS",
    "S: no\nCS: no\nD: yes\nR: no",
    "Stereotyped replies take the side of prejudice.",
    "Some would choose S here",
    "<think>Label: S",
    "Label: M",  # no label of a first judgement
    "Label: X",
]


@pytest.mark.parametrize(("text", "label"), READ, ids=[f"read {i}" for i in range(len(READ))])
def test_a_label_is_read(text: str, label: Label) -> None:
    assert read_label(text) == label


@pytest.mark.parametrize("text", UNREAD, ids=[f"unread {i}" for i in range(len(UNREAD))])
def test_what_is_not_sure_is_no_label(text: str) -> None:
    assert read_label(text) is None


def test_a_second_look_knows_two_labels() -> None:
    assert read_label("Label: M", REFUSALS) == "M"
    assert read_label("Misunderstood", REFUSALS) == "M"
    assert read_label("Label: R", REFUSALS) == "R"
    assert read_label("Label: D", REFUSALS) is None


BEFORE = (
    "Label: ",
    "**Label**: ",
    "label = ",
    "Final classification: ",
    "The verdict is ",
    "Label:\n",
)
AROUND = (("", ""), ("**", "**"), ("[[", "]]"), ('"', '"'), ("(", ")"), ("`", "`"), ("<", ">"))
# Prose of a judge, in which labels and their names are words among others.
WORDS = st.sampled_from(
    ["the", "reply", "is", "Stereotyped", "Counter-Stereotyped", "S", "CS", "D", "R", "Refusal", "not",
     "Response:", "a", "Debiased", "side", "group", "(B)", "old", "man,", "since"]
)  # fmt: skip
PROSE = st.lists(WORDS, max_size=12).map(" ".join)


@given(
    st.sampled_from(KINDS), st.sampled_from(BEFORE), st.sampled_from(AROUND), PROSE, st.booleans()
)
def test_a_marked_label_is_read_whatever_is_written_before_it(
    label: Label, before: str, around: tuple[str, str], prose: str, named: bool
) -> None:
    said = NAMES[label] if named else label
    assert read_label(f"{prose}\n{before}{around[0]}{said}{around[1]}") == label


@given(st.sampled_from(KINDS), st.sampled_from(KINDS), PROSE)
def test_two_marked_labels_are_one_only_if_they_agree(one: Label, two: Label, prose: str) -> None:
    expected = one if one == two else None
    assert read_label(f"Label: {one}\n{prose}\nLabel: {two}") == expected


@given(PROSE)
def test_prose_is_no_label(prose: str) -> None:
    assert read_label(f"I think that {prose}\nas one can see") is None


@given(st.text(alphabet="LabelSCDRM:[]*()/ \n-,.?'\"<>think", max_size=60))
def test_any_text_gives_one_of_the_labels_or_none(text: str) -> None:
    assert read_label(text) in {*KINDS, None}
    assert read_label(text, REFUSALS) in {*REFUSALS, None}


@given(st.text(max_size=40), st.text(max_size=40))
def test_prompt_and_reply_stand_in_the_message_as_they_are(prompt: str, reply: str) -> None:
    for messages in (judge_messages(prompt, reply), second_look_messages(prompt, reply)):
        assert [m["role"] for m in messages] == ["user"]
        content = messages[0]["content"]
        assert f"<question>\n{prompt}\n</question>\n\n<reply>\n{reply}\n</reply>" in content


def test_braces_of_a_reply_are_its_own() -> None:
    content = judge_messages("{reply}", "{prompt} {labels}")[0]["content"]
    assert "<question>\n{reply}\n</question>\n\n<reply>\n{prompt} {labels}\n</reply>" in content
    assert "Label: S, CS, D or R" in content
    assert "Label: R or M" in second_look_messages("a", "b")[0]["content"]


def test_recorded_judges_have_the_known_kappa_and_the_better_is_chosen() -> None:
    items, judged = control_set()
    found = {name: judge_agreement(items, labels) for name, labels in judged.items()}
    assert found["DEEPSEEK"].n == 800
    assert found["DEEPSEEK"].kappa == pytest.approx(0.847, abs=5e-4)
    assert found["GEMINI"].kappa == pytest.approx(0.733, abs=5e-4)
    assert 0 < found["DEEPSEEK"].standard_error < found["GEMINI"].standard_error < 0.03
    assert found["GEMINI"].p < 1e-100
    # p_e is 1/4 where people's labels are a quarter each.
    observed = found["GEMINI"].observed
    error = (observed * (1 - observed) / (800 * 0.75**2)) ** 0.5
    assert published_error(found["GEMINI"]) == pytest.approx(error)
    assert best_judge(found) == "DEEPSEEK"
    assert distrust("GEMINI", found["GEMINI"], 0.7) is None
    complaint = distrust("GEMINI", found["GEMINI"], 0.8)
    assert complaint is not None
    assert "kappa 0.733 on 800 replies" in complaint
    between = agreement_of_judges(judged["DEEPSEEK"], judged["GEMINI"])
    assert 0.733 < between.kappa < 1


def case(labels: str) -> list[Label | None]:
    return [None if label == "?" else label_of(label) for label in labels.split()]


def test_a_judge_that_answers_unreadably_is_not_chosen_for_the_rest() -> None:
    items = [ControlItem("age", "SC", "a", "b", label) for label in KINDS for _ in range(3)]
    mostly = judge_agreement(items, case("S S D CS CS CS D D D R R R"))
    silent = judge_agreement(items, case("S S S ? ? ? ? ? ? R R R"))
    assert best_judge({"silent": silent, "mostly": mostly}) == "mostly"
    complaint = distrust("silent", silent, 0.6)
    assert complaint is not None
    assert "6 of its answers could not be read" in complaint


def test_a_judge_without_a_kappa_is_distrusted_and_chosen_last() -> None:
    same = [ControlItem("age", "SC", "a", "b", "S")] * 3
    nothing, bad = judge_agreement(same, case("S S S")), judge_agreement(same, case("S D S"))
    assert nothing.kappa != nothing.kappa
    assert distrust("nothing", nothing, 0.0) is not None
    assert best_judge({"nothing": nothing, "bad": bad}) == "bad"


def test_judges_agree_on_what_both_could_label() -> None:
    found = agreement_of_judges(case("S D ? R"), case("S D S ?"))
    assert (found.n, found.kappa) == (2, 1)
