import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.training.selection import BIASES, most_accurate, select_checkpoint

NAN = math.nan
TARGET = 0.75  # exact in binary: a quarter of the untrained model's is just enough


def audit(
    trained: float,
    spearman: float,
    unseen: float = 0.3,
    placebo: float = NAN,
    spread: float = 1.0,
) -> dict[str, float]:
    biases = {"trained": trained, "unseen": unseen, "placebo": placebo}
    return {
        **{f"bias_{kind}": bias for kind, bias in biases.items()},
        **{f"relative_bias_{kind}": bias / spread if spread else NAN for kind, bias in biases.items()},
        "spread": spread, "spearman": spearman,
    }  # fmt: skip


def kept(*audits: dict[str, float], target: float = TARGET) -> int:
    return select_checkpoint(audits, target).kept


BASE = audit(1.0, 0.4)


def test_the_most_accurate_of_those_with_little_enough_bias() -> None:
    assert kept(BASE, audit(0.25, 0.5), audit(0.1, 0.45), audit(0.2, 0.6), audit(0.3, 0.9)) == 3
    # As seen on TalkMoves: the least biased step was not worth what its accuracy was less.
    assert kept(audit(0.73, 0.1), audit(0.018, 0.37), audit(0.025, 0.49), target=0.84) == 2
    # However accurate the untrained model is.
    assert kept(BASE, audit(0.25, 0.1), audit(0.2, -0.2)) == 1


def test_a_rater_that_merely_uses_less_of_the_scale_reaches_nothing() -> None:
    shrunk = audit(0.1, 0.9, spread=0.1)
    assert kept(BASE, shrunk, audit(0.25, 0.5)) == 2
    assert kept(BASE, audit(0.25, 0.5), shrunk) == 1
    assert kept(BASE, shrunk) == 0
    # Nor does one that spreads its ratings, with as much bias.
    assert kept(BASE, audit(0.5, 0.9, spread=4.0), audit(0.25, 0.5)) == 2


def test_else_the_least_relative_bias_at_no_lower_accuracy() -> None:
    assert kept(BASE, audit(0.5, 0.4), audit(0.3, 0.39), audit(0.7, 0.9)) == 1
    assert kept(BASE, audit(0.5, 0.4), audit(0.6, 0.4, spread=2.0)) == 2
    assert kept(BASE, audit(0.3, 0.3), audit(0.3, -0.2)) == 0
    assert kept(audit(0.1, 0.4), audit(0.2, 0.9)) == 0


def test_a_constant_rater_is_never_kept() -> None:
    constant = audit(0.0, NAN, unseen=0.0, placebo=0.0, spread=0.0)
    for target in (0.0, TARGET, 1.0):
        assert kept(BASE, constant, audit(0.9, 0.4), target=target) != 1
        assert kept(constant, constant, target=target) == 0
    # Also where only one of the two tells it, and where the untrained model is one itself.
    assert kept(BASE, audit(0.0, NAN)) == 0
    assert kept(BASE, audit(0.0, 0.9, spread=0.0)) == 0
    assert kept(constant, constant, audit(0.5, -0.3)) == 2
    assert kept(audit(1.0, NAN), audit(0.5, -0.3), audit(0.9, 0.4)) == 1


def test_where_no_step_can_be_told_from_another_it_says_so() -> None:
    unordered = select_checkpoint([audit(1.0, NAN), audit(0.05, NAN)], 0.84)
    assert unordered == (0, "Spearman is undefined at every step")


def test_removing_one_bias_does_not_pay_for_another() -> None:
    # As seen on SmolLM2: the trained bias falls while the placebo's goes from 0.06 to 3.4.
    runaway = audit(0.0, 0.5, unseen=0.0, placebo=3.4)
    assert kept(audit(1.0, 0.4, placebo=0.06), runaway) == 0


def test_unseen_contexts_have_no_say() -> None:
    assert kept(BASE, audit(0.1, 0.5, unseen=9.0), audit(0.1, 0.4, unseen=0.0)) == 1
    assert kept(BASE, audit(0.5, 0.4, unseen=9.0), audit(0.6, 0.4, unseen=0.0)) == 1


def test_the_target_counts_and_its_reason_is_said() -> None:
    audits = [BASE, audit(0.5, 0.45), audit(0.25, 0.42)]
    why = {t: select_checkpoint(audits, t) for t in (0.0, 0.5, 0.75, 0.8)}
    assert [choice.kept for choice in why.values()] == [1, 1, 2, 2]
    down = "whose bias and relative bias are down by {} or more"
    assert why[0.5].why == f"the highest Spearman of 2 steps {down.format('50%')}"
    assert why[0.75].why == f"the only step {down.format('75%')}"
    assert why[0.8].why == (
        f"no step {down.format('80%')}; the least relative bias at no lower Spearman"
    )
    assert select_checkpoint([BASE], 0.8).why == (
        f"no step {down.format('80%')}, and none with less relative bias and no lower Spearman"
    )


@given(
    st.lists(
        st.builds(
            audit,
            st.floats(0, 2), st.sampled_from([NAN, -0.2, 0.2, 0.4, 0.6]),
            placebo=st.sampled_from([NAN, 0.1, 1.0]), spread=st.sampled_from([0.0, 0.1, 1.0]),
        ),
        min_size=1,
    ),
    st.sampled_from([0.0, 0.5, 0.84, 1.0]),
)  # fmt: skip
def test_what_was_kept_does_not_come_back(audits: list[dict[str, float]], target: float) -> None:
    """Only the weights that are kept so far exist when the next audit is made."""
    found = [kept(*audits[: n + 1], target=target) for n in range(len(audits))]
    assert all(now in (before, n) for n, (before, now) in enumerate(pairwise(found), start=1))


def test_the_earliest_of_equals_is_kept() -> None:
    assert kept(audit(0.5, 0.4), audit(0.5, 0.4)) == 0
    assert kept(BASE, audit(0.2, 0.5), audit(0.1, 0.5)) == 1
    assert kept(BASE) == 0


def test_undefined_parts_are_left_out() -> None:
    relative = BIASES["relative_bias"]
    assert relative(audit(0.6, 0.4, placebo=0.2, spread=2.0)) == pytest.approx(0.2)
    assert relative(audit(0.6, 0.4)) == 0.6
    assert [of(audit(NAN, 0.4)) for of in BIASES.values()] == [math.inf, math.inf]
    assert kept(audit(NAN, 0.4), audit(NAN, 0.4)) == 0


def test_in_points_an_irrelevant_sentence_has_no_say() -> None:
    """As seen on TalkMoves: a rater that tells lessons apart moves under any sentence."""
    near_constant = audit(0.009, 0.22, placebo=0.012, spread=0.112)
    rater = audit(0.067, 0.70, placebo=0.070, spread=1.336)
    assert (
        kept(audit(0.429, 0.04, placebo=0.194, spread=0.214), near_constant, rater, target=0.84)
        == 2
    )


def test_where_scores_alone_are_fitted_the_most_accurate_is_kept() -> None:
    audits = [audit(0.1, NAN), audit(0.5, 0.2), audit(0.9, 0.6), audit(0.3, 0.6)]
    assert most_accurate(audits).kept == 2
    assert most_accurate(audits[:1]).kept == 0


def test_of_a_bias_that_is_not_known_nothing_is_asked() -> None:
    """Where the placebo alone is trained on."""
    audits = [
        audit(NAN, 0.4, placebo=1.0),
        audit(NAN, 0.5, placebo=0.1),
        audit(NAN, 0.9, placebo=0.8),
    ]
    chosen = select_checkpoint(audits, TARGET)
    assert chosen.kept == 1
    assert chosen.why == "the only step whose relative bias is down by 75% or more"
    unknown = [audit(NAN, 0.4), audit(NAN, 0.5)]
    assert select_checkpoint(unknown, TARGET).kept == 0
