"""Seeds of prompts: token ids and ranges are tested where they are used."""

from debiasdpo.packing.tokens import stable_seed


def test_seeds_of_prompts_are_stable_and_differ() -> None:
    assert stable_seed(0, "a|b|neutral|0") == 1407310320
    keys = [stable_seed(seed, key) for seed in range(3) for key in ("a", "b", "c")]
    assert len(set(keys)) == 9
