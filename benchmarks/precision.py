"""Whether a training in fewer bits finds the same: SmolLM2 on a CPU, in the precisions of a GPU.

Trains the default adapter on the same pairs, as the job's own stages do, in float32 and in others, and
compares every step's loss and the expected ratings of validation prompts before and after. A CPU has no TF32:
what goes into a matrix product, forward and backward, is rounded to its 10 bits.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from benchmarks import common
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.evaluation.validation import validation_metrics
from debiasdpo.jobs.checks import build_job
from debiasdpo.jobs.frame import open_job
from debiasdpo.jobs.identity import Choices
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.run import conf_dir
from debiasdpo.stages import training
from debiasdpo.stages.documents import load_documents
from debiasdpo.stages.pairs import pair_up
from debiasdpo.storage.files import read_jsonl

OPTIONS = (
    "~data.rubrics.focus", "audit.categories=[sycophancy,placebo]", "train.epochs=1",
    "train.audit_every=1000",
)  # fmt: skip
# Name -> dtype of the frozen weights, and whether adapters are under autocast.
PRECISIONS = {
    "float32": ("float32", False),
    "TF32": ("float32", False),
    "bfloat16, adapters in float32": ("bfloat16", False),
    "bfloat16, adapters under autocast": ("bfloat16", True),
}


class Tf32Linear(torch.autograd.Function):
    """A linear layer whose products have inputs of 10 bits, and sums in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return rounded(x) @ rounded(weight).t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        low = rounded(grad)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = low.flatten(0, -2).t() @ rounded(x).flatten(0, -2)
        return low @ rounded(weight), of_weight


def rounded(values: Tensor) -> Tensor:
    """To the nearest number of 10 bits, as the tensor cores' TF32."""
    bits = values.detach().contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = Tf32Linear.apply(x, weight)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias


@contextmanager
def precision(name: str) -> Iterator[None]:
    low = PRECISIONS[name][1]
    products = mock.patch.object(torch.nn.functional, "linear", linear)
    with (
        mock.patch.object(training, "computes_in_16_bits", return_value=low),
        products if name == "TF32" else nullcontext(),
    ):
        yield


def job(dtype: str, folder: Path, documents: int, *more: str) -> JobConfig:
    changes = (
        *OPTIONS, f"model.dtype={dtype}", f"output_dir={folder}",
        f"data.limit={{train:{documents},validation:{documents},test:2}}",
    )  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build_job(compose("config", overrides=[*changes, *more]))


def trained(name: str, folder: Path, documents: int, more: list[str]) -> dict[str, Any]:
    """Losses of every step, validation ratings of every audit, and the bias at the last."""
    ratings: list[list[float]] = []
    bias: list[float] = []

    def measured(
        config: JobConfig,
        documents: Iterable[Document],
        rubrics: Mapping[str, Rubric],
        rows: list[dict[str, Any]],
    ) -> dict[str, float]:
        ratings.append([row["rating"] for row in rows])
        found = validation_metrics(config, list(documents), rubrics, rows)
        bias.append(found["bias_trained"])
        return found

    dtype, own = PRECISIONS[name][0], folder / name.replace(" ", "_").replace(",", "")
    unfinished = mock.patch.object(RunFolder, "finish")  # of a job, only its training is wanted
    # The pairs are those of float32: training alone differs.
    with (
        unfinished,
        open_job(job("float32", folder, documents, *more), Choices("smollm2", "simulated")) as one,
    ):
        pairs = pair_up(one, load_documents(one))[0]
    with (
        unfinished,
        precision(name),
        mock.patch.object(training, "validation_metrics", measured),
        open_job(job(dtype, own, documents, *more), Choices("smollm2", "simulated")) as opened,
    ):
        weights = training.train(opened, load_documents(opened), pairs)
    steps = [row["train/loss"] for row in read_jsonl(weights.parent / "steps.jsonl")]
    return {"losses": steps, "ratings": ratings, "bias": bias}


def compared(name: str, found: dict[str, Any], exact: dict[str, Any]) -> list[Any]:
    losses = zip(found["losses"], exact["losses"], strict=True)
    moved = [
        [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(found["ratings"], exact["ratings"], strict=True)
    ]
    return [
        name,
        found["losses"][-1],
        max(abs(a - b) for a, b in losses),
        *(value for rows in (moved[0], moved[-1]) for value in (sum(rows) / len(rows), max(rows))),
        found["bias"][0],
        found["bias"][-1],
    ]


def main() -> None:
    parser = common.parser("precision", __doc__)
    parser.add_argument("--documents", type=common.positive, default=12, help="of each part")
    parser.add_argument("--folder", type=Path, help="keeps what is made, to go on from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, help="of the job")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        found = {name: trained(name, folder, args.documents, args.overrides) for name in PRECISIONS}
    header = [
        "precision", "last loss", "largest difference of a loss", "of a rating before, mean", "largest",
        "after, mean", "largest", "bias before", "after",
    ]  # fmt: skip
    print(common.table(header, [compared(n, one, found["float32"]) for n, one in found.items()]))
    line = json.dumps(found)
    print(line)
    if args.json:
        args.json.write_text(line + "\n")


if __name__ == "__main__":
    common.run(main)
