"""Seeds of prompts: token ids and ranges are tested where they are used."""

from debiasdpo.packing.tokens import stable_seed
from debiasdpo.prompts.rendering import Messages


def test_seeds_of_prompts_are_stable_and_differ() -> None:
    def asked(text: str, role: str = "user") -> Messages:
        return ({"role": role, "content": text},)

    assert stable_seed(0, asked("a"), 0) == 1495301981
    prompts = [asked("a"), asked("b"), asked("a", "system"), asked("a") + asked("b")]
    seeds = [stable_seed(s, p, repeat) for s in range(3) for p in prompts for repeat in range(2)]
    assert len(set(seeds)) == len(seeds)
