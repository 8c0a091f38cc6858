"""A training step of the four models in NF4, with the tensors of a GPU but without their contents. A tensor
on the CPU where one on the GPU is needed would have raised."""

from typing import Any

import pytest

from benchmarks.models import SHAPES, ModelOptions, architecture
from debiasdpo.models.shape import shape_of
from debiasdpo.sweep.memory import GPU_OVERHEAD, optimizer_bytes, peak_memory
from tests.helpers.jobs import JobConfigs
from tests.helpers.layers import FUSED, STEPS, THE_PAPERS, extended, whole

pytestmark = [
    pytest.mark.gpu_path,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("gpu steps"),
]

COPIES_OF_A_NORM = 4  # to float32 and back, forward and backward


@pytest.fixture(scope="module")
def counted(run: Any) -> Any:
    return run("steps")


@pytest.fixture
def steps(counted: Any) -> Any:
    return counted["training"]


def having(rows: Any, **what: Any) -> list[Any]:
    """The rows that have these values."""
    return [row for row in rows if what.items() <= row.items()]


def first(rows: Any, **what: Any) -> Any:
    return having(rows, **what)[0]


@pytest.mark.parametrize("shape", THE_PAPERS)
def test_a_step_goes_through_in_the_dtypes_it_should(steps: Any, shape: str) -> None:
    rows = [row for row in steps if row["shape"] == shape]
    assert [row["checkpointing"] for row in rows[:4]] == [1, 1, 0, 0]
    for row in rows:
        assert row["wrong gradients"] == []
        assert {*row["logits"], *row["logits with grad"]} == {"torch.float32"}
        assert row["logprobs"] == "torch.float32"


def test_the_vocabulary_is_read_a_few_times(steps: Any) -> None:
    """Once for each chunk of 512 MiB. Llama's logits of 2,114 tokens take 1.1 GB, Qwen's 1.3."""
    for row in steps:
        assert sum(row["logits"].values()) <= 3
        assert sum(row["logits with grad"].values()) <= 3


@pytest.mark.parametrize("part", ["reference", "policy"])
def test_the_host_does_not_wait_for_the_gpu(steps: Any, part: str) -> None:
    """No number comes back to the host, and what goes to the GPU is copied once, not by every layer."""
    assert not any("to the host" in row[part] for row in steps)
    few, many, _ = having(steps, shape="qwen7b", checkpointing=0, fused=False)
    assert 2 * few["layers"] == many["layers"]
    assert few[part]["to the GPU"] == many[part]["to the GPU"] < 40


@pytest.mark.parametrize(("shape", "checkpointing", "fused"), STEPS)
def test_a_plan_foresees_the_memory(
    steps: Any, shape: str, checkpointing: int, fused: bool, job_config: JobConfigs
) -> None:
    """Of a step of two layers, and of what it takes beside the weights, within 15 %; of a step of the whole
    model within 6 and 17 %."""
    few, many, *_ = having(steps, shape=shape, checkpointing=checkpointing, fused=fused)
    config = job_config(
        f"model={shape}", f"train.gradient_checkpointing={checkpointing or 'false'}"
    )
    for layers, of_all, of_the_rest in (
        (few["layers"], 0.15, 0.15),
        (SHAPES[shape].layers, 0.06, 0.17),
    ):
        row = extended(few, many, layers)
        size = shape_of(architecture(ModelOptions(shape, layers=layers)), fused)
        planned = peak_memory(config, row["tokens"], size) - GPU_OVERHEAD
        # The optimiser's part comes after the first step.
        planned -= optimizer_bytes(config) * row["trained"]
        assert planned == pytest.approx(row["policy"]["peak"], rel=of_all)
        weights = row["weights"]
        assert planned - weights == pytest.approx(row["policy"]["peak"] - weights, rel=of_the_rest)


def test_adapters_make_no_copies_of_activations(steps: Any) -> None:
    """Under autocast they take what comes in bfloat16. Norms alone, two a layer, copy to float32 and back."""
    few, many, _ = having(steps, shape="qwen7b", checkpointing=0, fused=False)
    layers = many["layers"] - few["layers"]
    assert many["policy"]["casts"] - few["policy"]["casts"] == 2 * COPIES_OF_A_NORM * layers


@pytest.mark.parametrize("shape", FUSED)
def test_fused_kernels_move_and_keep_less(steps: Any, shape: str) -> None:
    stock, fused = (first(steps, shape=shape, checkpointing=0, fused=f) for f in (False, True))
    for part in ("reference", "policy"):
        assert fused[part]["traffic"] < 0.8 * stock[part]["traffic"]
        assert fused[part]["kernels"] < stock[part]["kernels"]
    assert fused["policy"]["peak"] < stock["policy"]["peak"]
    assert fused["policy"]["casts"] < stock["policy"]["casts"]


def test_a_token_reads_the_prompts_keys_once(counted: Any) -> None:
    """Of 32 rows behind one document. Weights, keys and values are in 16 bits and are read once each; what
    flows between the layers is little beside them."""
    for row in counted["decoding"][:4:2]:  # chosen greedily
        sizes = architecture(ModelOptions(row["shape"], layers=row["layers"]))
        shape, tokens = shape_of(sizes), 2930 + 4 * (30 + 8 * 40)
        weights = 2 * (
            shape.linear + sizes.vocab_size * shape.width
        )  # the projection's, not the embeddings
        keys = 2 * shape.cache * tokens
        logits = 4 * 32 * sizes.vocab_size
        assert row["traffic"] < 1.06 * weights + 1.6 * keys + 3 * logits
        assert row["kernels"] <= 60 * row["layers"] + 45


def test_fused_kernels_start_less_for_a_token(counted: Any) -> None:
    for shape in FUSED:
        stock, fused = (first(counted["decoding"], shape=shape, fused=f) for f in (False, True))
        assert fused["kernels"] <= stock["kernels"] - 15 * stock["layers"]
        assert fused["traffic"] < stock["traffic"]


def test_a_token_may_be_a_cuda_graph(counted: Any) -> None:
    """As far as can be told without a card: one token is the same calls on the same shapes as the one before,
    nothing goes to the host or comes from it, and of what is on the GPU none grows."""
    for row in counted["decoding"]:
        assert row["same calls"]
        assert row["copies"] == {}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("training", {"shape": "qwen7b", "checkpointing": 0, "fused": False}),
        ("training", {"shape": "llama8b", "checkpointing": 1, "fused": True}),
        *(("decoding", {"shape": shape, "fused": True}) for shape in FUSED),
    ],
)
def test_counts_of_few_layers_tell_those_of_more(
    counted: Any, kind: str, what: dict[str, Any]
) -> None:
    """Every number that `python -m tests.gpu_path.counted` extends, to the last byte."""
    two, four, six = having(counted[kind], **what)
    assert [row["layers"] for row in (two, four, six)] == [2, 4, 6]
    assert two != six
    assert extended(two, four, 6) == six


def test_a_model_has_all_of_its_layers() -> None:
    def count(layers: int) -> dict[str, Any]:
        return {"shape": "llama8b", "layers": layers, "policy": {"peak": 3 + 5 * layers}}

    assert whole(count) == {"shape": "llama8b", "layers": 32, "policy": {"peak": 163}}
