"""Flex attention, compiled for real by Inductor, Triton and ptxas; computed in Triton's interpreter."""

from typing import Any

import pytest

from debiasdpo.models.fused import KINDS
from tests.helpers.fake_gpu import CARDS, COMPILED_FOR, COMPILED_IN
from tests.helpers.thorough import THOROUGH

pytestmark = [
    pytest.mark.gpu_path,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("gpu kernels"),
]

WAYS = ("forward", "backward")

of_each_card = pytest.mark.parametrize("capability", COMPILED_FOR.values(), ids=list(COMPILED_FOR))


@pytest.fixture(scope="module")
def kernels(run: Any) -> Any:
    return run("kernels")


@pytest.mark.parametrize(("capability", "dtype"), COMPILED_IN, ids=str)
def test_both_ways_compile_for_the_card_and_fit(
    kernels: Any, capability: tuple[int, int], dtype: str
) -> None:
    """Heads of 128, for lengths that vary."""
    card = {"card": list(capability), "dtype": dtype}
    found = [k for k in kernels["kernels"] if card.items() <= k.items()]
    products = [kernel for kernel in found if "triton_tem" in kernel["name"]]
    assert len(products) == 2  # forward, backward
    assert all(kernel["tensor_cores"] > 0 for kernel in products)
    assert all(kernel["binary"] > 1000 for kernel in found)
    assert all(kernel["shared"] <= CARDS[capability].shared for kernel in found)


@of_each_card
def test_fused_kernels_compile_for_the_card_and_fit(
    kernels: Any, capability: tuple[int, int]
) -> None:
    found = [k for k in kernels["fused"] if k["card"] == list(capability)]
    both = [f"_{name}_{way}_kernel" for name in ("rms_norm", "swiglu") for way in WAYS]
    assert {k["name"] for k in found} == {*both, "_triton_rope"}
    assert all(k["binary"] > 1000 for k in found)
    assert all(k["shared"] <= CARDS[capability].shared for k in found)


def test_float32_has_no_tensor_cores_by_itself(kernels: Any) -> None:
    assert kernels["float32"] == 0


def test_cards_have_kernels_of_their_own(kernels: Any) -> None:
    """What was compiled for one is not taken for the next; those of an A10 and a 4090 are equally long."""
    sizes = {
        (*k["card"], k["dtype"]): k["binary"]
        for k in kernels["kernels"]
        if k["name"].endswith("flex_attention_0")
    }
    assert len(sizes) == len(COMPILED_IN)
    assert len(set(sizes.values())) == (6 if THOROUGH else 3)


def test_a_sweep_over_all_models_keeps_the_fused_kernels(kernels: Any) -> None:
    """Many more graphs than torch would compile by itself (8), and few for each model whatever the sizes."""
    assert list(kernels["graphs"]) == ["llama8b", "qwen7b", "llama3b", "qwen3b"]
    assert sum(kernels["graphs"].values()) > 8
    assert max(kernels["graphs"].values()) <= 8


def test_flex_is_taken_where_it_can_be_compiled(kernels: Any) -> None:
    kind, said = kernels["choices"]["H100"]
    assert kind == "flex"
    assert "a GPU" in said


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("T4", "Tesla T4 does not compute in bfloat16"),
        ("no compiler", "Failed to find C compiler"),
        ("A10, heads of 256", "out of resource: shared memory"),
    ],
)
def test_dense_is_taken_with_a_reason_where_it_cannot(kernels: Any, name: str, reason: str) -> None:
    kind, said = kernels["choices"][name]
    assert kind == "dense"
    assert reason in said


@pytest.mark.usefixtures("kernels")
def test_what_the_kernels_compute_is_a_masked_softmax(run: Any) -> None:
    """Three query heads over one of keys, no power of two, in float32; against float64."""
    errors = run("interpreted", fake=False)
    assert set(errors) == {"output", "gradient of query", "gradient of key", "gradient of value"}
    assert max(errors.values()) < 2e-6


def test_what_fused_kernels_compute_over_a_tree_is_the_models(run: Any) -> None:
    """In float32; against transformers' own code in float64. Positions are those of the tree."""
    errors = run("fused", fake=False)
    assert tuple(errors) == KINDS
    for found in errors.values():
        assert found["logprob"] < 1e-5
        assert found["gradient"] < 1e-5
