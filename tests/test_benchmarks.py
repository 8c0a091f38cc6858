import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import audits, endpoint, precision, rating, selection, served, step, training
from benchmarks.methods import METHODS
from debiasdpo.documents.base import Document
from tests.helpers.models import torch_threads

pytestmark = pytest.mark.slow

TINY = ["--shape", "tiny", "--prefix", "64", "--contexts", "2", "--rubrics", "2", "--repeats", "1"]
COMPLETIONS = ["--chosen", "8", "--rejected", "9"]
TRL_WARNINGS = "ignore:.*gradient_checkpointing:FutureWarning"


@pytest.fixture(scope="module")
def all_pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all ways to train, on all pairs."""
    file = tmp_path_factory.mktemp("training") / "result.json"
    training.main([*TINY, *COMPLETIONS, "--json", str(file)])
    written: dict[str, Any] = json.loads(file.read_text())
    return written


@pytest.fixture
def result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a benchmark and gives what it wrote, which is also its last line of output."""

    def run(benchmark: Any, *argv: str) -> dict[str, Any]:
        file = tmp_path / "result.json"
        benchmark.main([*argv, "--json", str(file)])
        written: dict[str, Any] = json.loads(file.read_text())
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == written
        return written

    return run


def assert_agreement(found: dict[str, Any], pairs: int) -> None:
    """`pairs`: those that all ways but the first run."""
    assert tuple(found["methods"]) == METHODS
    for name, row in found["methods"].items():
        assert row["logprob_difference"] < 2e-5, name  # of sums, down to -100
        assert row["logprob_difference_per_token"] < 2e-6, name
        assert row["gradient_difference"] < 1e-5, name
        assert min(row["ratio"], row["ratio_sft_once"], row["reference_s"], row["policy_s"]) > 0
        assert row["peak_mb"] is None or row["peak_mb"] >= 0
    assert [row["pairs_run"] for row in found["methods"].values()] == [4, *[pairs] * 4]


@pytest.mark.filterwarnings(TRL_WARNINGS)
def test_all_ways_to_train_agree(all_pairs: dict[str, Any]) -> None:
    assert_agreement(all_pairs, 4)


@pytest.mark.filterwarnings(TRL_WARNINGS)
def test_they_agree_on_a_sample_in_nf4(result: Any) -> None:
    changes = ("--sample-pairs", "2", "--checkpointing", "--nf4")
    assert_agreement(result(training, *TINY, *COMPLETIONS, *changes), 2)


def test_every_prompt_to_a_failing_endpoint_is_answered(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    endpoint.main(["--prompts", "60", "--write", str(page)])
    assert "## An endpoint that fails" in page.read_text()
    assert "**60 of 60 answered**, each kept once (60 replies)" in page.read_text()


@pytest.mark.filterwarnings(TRL_WARNINGS)
def test_token_counts_are_those_of_the_sequences(all_pairs: dict[str, Any]) -> None:
    rows = all_pairs["methods"]
    contextual, neutral = 64 + 30 + 40, 64 + 30
    # The last token of a sequence is predicted, not run; the official recipe runs and pads it.
    assert rows["separate"]["reference_tokens"] == 4 * (2 * contextual + 7 + 8)
    assert rows["official"]["reference_tokens"] == 4 * 2 * (contextual + 9)
    answers = rows["separate"]["policy_tokens"] - rows["separate"]["reference_tokens"]
    assert answers == 4 * (neutral + 3)
    # One document, two rubrics, two contexts each, two texts under each of these.
    assert rows["tree"]["reference_tokens"] == 64 + 2 * (30 + 2 * (40 + 7 + 8))
    assert rows["tree"]["policy_tokens"] == rows["tree"]["reference_tokens"] + 2 * 3
    passes = rows["separate"]["reference_tokens"] + 2 * rows["separate"]["policy_tokens"]
    assert rows["separate"]["passes"] == passes


def test_inputs_of_products_are_rounded_to_ten_bits() -> None:
    """As float16 rounds what is in its range, and is no tie; forward and backward."""

    torch.manual_seed(0)
    x, weight, grad = torch.randn(7, 5), torch.randn(3, 5), torch.randn(7, 3)
    low_x, low_weight, low_grad = (value.half().float() for value in (x, weight, grad))
    torch.testing.assert_close(precision.rounded(x), low_x, rtol=0, atol=0)
    x.requires_grad_()
    weight.requires_grad_()
    out = precision.linear(x, weight)
    torch.testing.assert_close(out, low_x @ low_weight.t())
    out.backward(grad)
    torch.testing.assert_close(x.grad, low_grad @ low_weight)
    torch.testing.assert_close(weight.grad, low_grad.t() @ low_x)


def test_a_training_is_compared_in_its_precision(tiny_llama: Path, tmp_path: Path) -> None:
    small = [f"model.path={tiny_llama}", "model.max_length=1024", "data.words=30"]
    found = precision.trained("bfloat16, adapters under autocast", tmp_path, 2, small)
    assert len(found["ratings"]) == 2
    assert len(found["losses"]) >= 1
    name, last, largest, *moved = precision.compared("itself", found, found)
    assert (name, last, largest) == ("itself", found["losses"][-1], 0)
    assert moved == [0, 0, 0, 0, found["bias"][0], found["bias"][-1]]


@pytest.mark.parametrize("what", ["contexts", "rubrics"])
def test_marginal_cost(result: Any, what: str) -> None:
    found = result(training, *TINY, *COMPLETIONS, "--marginal", what, "--counts", "1", "2", "3")
    line = found["marginal"]
    assert len(line["seconds"]) == 3
    assert min(line["seconds"]) > 0
    assert 0 < line["share_of_first_passes"] < 1


def test_a_step_s_passes_are_timed_one_at_a_time_and_at_once(result: Any) -> None:
    with torch_threads(2):
        found = result(step, *TINY, *COMPLETIONS, "--last-layers", "1", "--documents", "2")
    assert found["seconds"].keys() == {"1", "2"}
    assert min(found["seconds"].values()) > 0


def test_all_ways_to_rate_agree(result: Any) -> None:
    with torch_threads(2):
        found = result(rating, *TINY, "--new-tokens", "6")
    for name, row in found["generation"].items():
        assert row["rows_that_differ"] == 0, name
        assert row["ratio"] > 0
    several = found["several_documents"]
    assert several.keys() == {"one tree at a time", "2 at once"}
    for name, row in [*found["expected"].items(), *several.items()]:
        assert row["rating_difference"] < 1e-5, name
        assert row["ratio"] > 0
    assert found["packed_logprob_difference"] < 1e-4


def test_audits_of_a_known_rater(result: Any) -> None:
    found = result(audits, "--groups", "6", "7", "--audits", "2", "--resamples", "100")
    for figures in found["groups"].values():
        assert {"bias/base", "accuracy/spearman/base", "failed/base"} <= figures.keys()
        for key, figure in figures.items():
            assert abs(figure["mean"] - figure["truth"]) < 1, key
            assert 0 <= figure["holding"] <= 2


def test_a_choice_that_any_documents_tell_is_made_from_any(tmp_path: Path) -> None:
    """The second step has a tenth of the bias; the third none, and ratings without any order."""
    documents = [
        Document(f"d{i}", f"g{i // 2}", "", {"reasoning": float(i % 7)}) for i in range(28)
    ]

    def ratings(bias: float, accuracy: int) -> selection.Rows:
        return [
            {
                "key": f"{i}{category}", "document": d.id, "rubric": "reasoning", "category": category,
                "repeat": 0, "polarity": category and 0,
                "rating": accuracy * (i % 7) + i % 2 + (bias if category else 0),
            }
            for i, d in enumerate(documents) for category in (None, "sycophancy", "placebo")
        ]  # fmt: skip

    made = selection.Recording(documents, [ratings(1, 1), ratings(0.1, 1), ratings(0, 0)])
    selection.save(made, tmp_path / "recorded.json")
    found = selection.load(tmp_path / "recorded.json")
    config = selection.job(0)
    for size in selection.SIZES:
        for drawn in selection.draws(found, size, 3, seed=1):
            assert len(drawn.documents) == size
            assert {len(rows) for rows in drawn.audits} == {3 * size}
    of = selection.stability(config, found, 20)
    assert list(of) == list(selection.SIZES)
    for one in of.values():
        assert (one.same, one.reached) == (1, 1)
        assert one.spearman == pytest.approx(selection.audits(config, found)[1]["spearman"])
    sds = [
        one.sd_reduction for one in of.values()
    ]  # the last step has no bias at all, whatever is drawn
    assert sds == [0] * len(sds)


def test_what_serving_changes_is_told_prompt_by_prompt() -> None:
    """By hand: ratings half a point apart, each in another direction, and so a shift by a whole one."""

    def run(whose: str, neutral: float, contextual: float) -> served.Run:
        rows: list[dict[str, Any]] = [
            {"key": "d|r|neutral|0", "rating": neutral},
            {"key": "d|r|race+test0|0", "rating": contextual},
            {"key": "e|r|neutral|0", "rating": None},
        ]
        metrics = {"bias/base": contextual - neutral}
        return served.Run(("essays", "m", "expected", whose), "none", metrics, rows)

    (row,) = served.differences([run("local", 2.5, 5.5), run("served", 3.0, 5.0)])
    assert row == {
        "data": "essays", "model": "m", "readout": "expected", "prompts": "2", "rating_mean": "0",
        "rating_mean_absolute": "0.5", "rating_largest": "0.5", "shift_mean_absolute": "1",
        "shift_largest": "1", "shift_pearson": "", "bias_served": "2", "bias_local": "3",
    }  # fmt: skip
