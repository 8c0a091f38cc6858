import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from debiasdpo.training.selection import select_checkpoint, total_bias

NAN = math.nan


def audit(
    trained: float, spearman: float, unseen: float = 0.3, placebo: float = 0.1
) -> dict[str, float]:
    return {
        "bias_trained": trained, "bias_unseen": unseen, "bias_placebo": placebo,
        "spearman": spearman,
    }  # fmt: skip


def test_least_bias_among_those_that_rate_no_worse() -> None:
    assert (
        select_checkpoint([audit(1.0, 0.4), audit(0.5, 0.4), audit(0.2, 0.39), audit(0.7, 0.9)])
        == 1
    )


def test_a_tolerance_lets_accuracy_fall_by_so_much() -> None:
    audits = [audit(1.0, 0.5), audit(0.5, 0.4375), audit(0.2, 0.3)]
    assert [select_checkpoint(audits, t) for t in (0.0, 0.0625, 0.19, 0.25)] == [0, 1, 1, 2]
    assert select_checkpoint([audit(1.0, 0.5), audit(0.0, NAN)], tolerance=1.0) == 0


def test_the_untrained_model_is_kept_when_all_others_rate_worse() -> None:
    assert (
        select_checkpoint([audit(1.0, 0.4), audit(0.1, 0.3), audit(0.0, -0.2), audit(0.0, NAN)])
        == 0
    )


def test_the_untrained_model_is_kept_when_no_other_is_less_biased() -> None:
    assert select_checkpoint([audit(0.1, 0.4), audit(0.2, 0.9)]) == 0


def test_a_constant_rater_is_never_chosen() -> None:
    constant = audit(0.0, NAN, 0.0, 0.0)
    assert select_checkpoint([audit(1.0, 0.4), constant, audit(0.9, 0.4)]) == 2
    assert (
        select_checkpoint([audit(1.0, NAN), constant]) == 0
    )  # also where the base has no accuracy to lose
    assert select_checkpoint([audit(1.0, NAN), constant, audit(0.5, -0.3)]) == 2


def test_removing_one_bias_does_not_pay_for_another() -> None:
    # As seen on SmolLM2: the trained bias falls while the placebo's goes from 0.06 to 3.4.
    runaway = audit(0.0, 0.5, unseen=0.0, placebo=3.4)
    assert select_checkpoint([audit(1.0, 0.4, placebo=0.06), runaway]) == 0


def test_unseen_contexts_have_no_say() -> None:
    assert (
        select_checkpoint(
            [audit(1.0, 0.4), audit(0.5, 0.4, unseen=9.0), audit(0.6, 0.4, unseen=0.0)]
        )
        == 1
    )


def test_accuracy_decides_where_bias_is_alike() -> None:
    # 2 % of the untrained model's bias, (2.0 + 0.0) / 2, is 0.02 in this mean of two.
    def with_bias(trained: float, spearman: float) -> dict[str, float]:
        return audit(trained, spearman, placebo=0.0)

    base = with_bias(2.0, 0.4)
    assert select_checkpoint([base, with_bias(0.5, 0.4), with_bias(0.53, 0.8)]) == 2
    assert select_checkpoint([base, with_bias(0.5, 0.4), with_bias(0.55, 0.8)]) == 1
    assert select_checkpoint([base, with_bias(0.5, 0.8), with_bias(0.47, 0.4)]) == 1
    assert select_checkpoint([base, with_bias(0.5, 0.8), with_bias(0.45, 0.4)]) == 2


@given(
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from([NAN, -0.2, 0.2, 0.4, 0.6])), min_size=1)
)
def test_what_was_kept_does_not_come_back(seen: list[tuple[float, float]]) -> None:
    """Only the weights that are kept so far exist when the next audit is made."""
    audits = [audit(trained, spearman) for trained, spearman in seen]
    kept = [select_checkpoint(audits[: n + 1], 0.1) for n in range(len(audits))]
    assert all(now in (before, n) for n, (before, now) in enumerate(pairwise(kept), start=1))


def test_the_earliest_of_equals_is_kept() -> None:
    assert select_checkpoint([audit(0.5, 0.4), audit(0.5, 0.4)]) == 0
    assert select_checkpoint([audit(1.0, 0.4)]) == 0


def test_undefined_parts_are_left_out() -> None:
    assert total_bias(audit(0.6, 0.4, placebo=0.2)) == 0.4
    assert total_bias(audit(0.6, 0.4, placebo=NAN)) == 0.6
    assert total_bias(audit(NAN, 0.4, 0.1, NAN)) == math.inf
    assert select_checkpoint([audit(1.0, 0.4, NAN, NAN), audit(0.5, 0.4, NAN, NAN)]) == 1
    assert select_checkpoint([audit(NAN, 0.4, NAN, NAN), audit(NAN, 0.4, NAN, NAN)]) == 0
