"""How many validation documents it takes until the step that is kept is no chance.

Trains SmolLM2 on simulated lessons, once a seed, with 64 validation documents, and keeps the ratings of every
audit on the way. Then the validation part is drawn anew, many times and in several sizes, whole teachers with
replacement: how often is the same step kept as with all documents, what does another one cost, and how far do
the figures that decide vary?
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hydra import compose, initialize_config_dir

from benchmarks import common
from debiasdpo.config.data import Rubric
from debiasdpo.config.job import JobConfig
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import rubrics_of
from debiasdpo.evaluation.validation import validation_metrics
from debiasdpo.jobs.checks import build_job
from debiasdpo.jobs.frame import open_job
from debiasdpo.jobs.identity import Choices
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.run import conf_dir
from debiasdpo.stages import training
from debiasdpo.stages.documents import load_documents
from debiasdpo.stages.pairs import pair_up
from debiasdpo.training.selection import BIASES, select_checkpoint

SIZES = (8, 16, 32, 64)
# One rubric, and twice as many training documents for it: as many pairs as in the default job.
OPTIONS = (
    "~data.rubrics.focus", "data.teachers=60", "data.split={train:0.4,validation:0.55,test:0.05}",
    "data.limit={train:48,validation:64,test:2}", "audit.categories=[sycophancy,placebo]",
    "train.epochs=3", "train.audit_every=4",
)  # fmt: skip
_KEPT = ("key", "document", "rubric", "category", "polarity", "repeat", "rating")

Rows = list[dict[str, Any]]
Rubrics = Mapping[str, Rubric]


class Recording(NamedTuple):
    """The validation part of one training, and its ratings at each audit."""

    documents: list[Document]
    audits: list[Rows]


class Found(NamedTuple):
    """Of many draws of one size: shares, means over the draws of what all documents say of the step, and
    standard deviations over the draws of what they say of the last audit."""

    same: float  # the step that all documents choose
    reached: float  # a step with bias and relative bias down by the target
    spearman: float
    relative_bias: float
    sd_reduction: float  # of bias
    sd_relative_reduction: float
    sd_spearman: float
    sd_gain: float  # Spearman of the last audit less that of the first


def job(seed: int, *more: str) -> JobConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build_job(compose("config", overrides=[f"seed={seed}", *OPTIONS, *more]))


def record(config: JobConfig) -> Recording:
    """Train, with the job's own stages."""
    found = Recording([], [])

    def measured(
        config: JobConfig, documents: Iterable[Document], rubrics: Rubrics, rows: Rows
    ) -> dict[str, float]:
        found.documents[:] = documents
        found.audits.append([{name: row[name] for name in _KEPT} for row in rows])
        return validation_metrics(config, found.documents, rubrics, rows)

    with (
        mock.patch.object(RunFolder, "finish"),  # of a job, only its training is wanted
        mock.patch.object(training, "validation_metrics", measured),
        open_job(config, Choices("smollm2", "simulated")) as opened,
    ):
        corpus = load_documents(opened)
        training.train(opened, corpus, pair_up(opened, corpus)[0])
    return found


def save(found: Recording, file: Path) -> None:
    documents = [{"id": d.id, "group": d.group, "scores": dict(d.scores)} for d in found.documents]
    file.write_text(json.dumps({"documents": documents, "audits": found.audits}))


def load(file: Path) -> Recording:
    read = json.loads(file.read_text())
    documents = [Document(d["id"], d["group"], "", d["scores"]) for d in read["documents"]]
    return Recording(documents, read["audits"])


def draws(found: Recording, size: int, count: int, seed: int) -> Iterator[Recording]:
    """Validation parts of up to `size` documents, of whole groups with replacement."""
    groups: dict[str, list[Document]] = {}
    for document in found.documents:
        groups.setdefault(document.group, []).append(document)
    of_document: list[dict[str, Rows]] = [{} for _ in found.audits]
    for rows, mine in zip(found.audits, of_document, strict=True):
        for row in rows:
            mine.setdefault(row["document"], []).append(row)
    rng, names = np.random.default_rng(seed), list(groups)
    for _ in range(count):
        drawn: list[tuple[str, Document]] = []  # what it is called in this draw, and the document
        while len(drawn) < size:
            drawn += [(f"{len(drawn)}/{d.id}", d) for d in groups[names[rng.integers(len(names))]]]
        documents = [Document(name, d.group, "", d.scores) for name, d in drawn]
        yield Recording(
            documents,
            [
                [{**row, "document": name} for name, d in drawn for row in mine[d.id]]
                for mine in of_document
            ],
        )


def audits(config: JobConfig, found: Recording) -> list[Mapping[str, float]]:
    rubrics = rubrics_of(config.documents)
    return [validation_metrics(config, found.documents, rubrics, rows) for rows in found.audits]


def stability(config: JobConfig, found: Recording, count: int) -> dict[int, Found]:
    """What choices from so many documents are worth, as all documents tell."""
    target = config.train.target_reduction
    whole = audits(config, found)
    best = select_checkpoint(whole, target).kept
    limits = [(of, (1 - target) * of(whole[0])) for of in BIASES.values()]
    reached = [all(of(a) <= most for of, most in limits) for a in whole]
    result = {}
    for size in SIZES:
        drawn = [audits(config, one) for one in draws(found, size, count, config.seed)]
        chosen = [select_checkpoint(one, target).kept for one in drawn]
        sd = np.nanstd([_of_last(one) for one in drawn], axis=0)
        result[size] = Found(
            same=float(np.mean([i == best for i in chosen])),
            reached=float(np.mean([reached[i] for i in chosen])),
            spearman=float(np.mean([whole[i]["spearman"] for i in chosen])),
            relative_bias=float(np.mean([BIASES["relative_bias"](whole[i]) for i in chosen])),
            sd_reduction=float(sd[0]),
            sd_relative_reduction=float(sd[1]),
            sd_spearman=float(sd[2]),
            sd_gain=float(sd[3]),
        )
    return result


def _of_last(found: Sequence[Mapping[str, float]]) -> list[float]:
    """From the first audit to the last: reductions of bias and of relative bias, Spearman, and its gain."""
    first, last = found[0], found[-1]
    reductions = [1 - of(last) / of(first) for of in BIASES.values()]
    return [*reductions, last["spearman"], last["spearman"] - first["spearman"]]


def table(found: Mapping[int, Mapping[int, Found]]) -> str:
    """A row a seed and size."""
    rows = [
        [
            seed,
            size,
            f"{of.same:.0%}",
            f"{of.reached:.0%}",
            of.spearman,
            of.relative_bias,
            f"{of.sd_reduction:.0%}",
            f"{of.sd_relative_reduction:.0%}",
            of.sd_spearman,
            of.sd_gain,
        ]
        for seed, sizes in found.items()
        for size, of in sizes.items()
    ]
    heads = ["seed", "documents", "same step", "target reached", "Spearman", "bias / spread",
             "sd: bias reduction", "sd: relative", "sd: Spearman", "sd: gain"]  # fmt: skip
    return common.table(heads, rows)


def history(config: JobConfig, found: Recording) -> str:
    """The audits with all documents, a row each."""
    names = ("bias_trained", "bias_placebo", "spread", "relative_bias_trained", "spearman")
    whole = audits(config, found)
    choice = select_checkpoint(whole, config.train.target_reduction)
    steps = [config.train.audit_every * i for i in range(len(whole))]
    rows = [[step, *(a[name] for name in names)] for step, a in zip(steps, whole, strict=True)]
    kept = f"kept with all documents: step {steps[choice.kept]}: {choice.why}"
    return f"seed {config.seed}\n{common.table(['step', *names], rows)}\n{kept}\n"


def parser() -> argparse.ArgumentParser:
    found = common.parser("selection", __doc__)
    found.add_argument("--folder", type=Path, help="where recordings are kept and found again")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    found.add_argument("--draws", type=common.positive, default=500, help="of each size")
    found.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    found.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the jobs")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        result: dict[int, dict[int, Found]] = {}
        for seed in args.seeds:
            config = job(seed, f"output_dir={folder}", *args.set)
            file = folder / f"seed{seed}.json"
            if not file.exists():
                save(record(config), file)
            found = load(file)
            print(history(config, found), flush=True)
            result[seed] = stability(config, found, args.draws)
    print(table(result), "\n")
    shown = {s: {n: of._asdict() for n, of in sizes.items()} for s, sizes in result.items()}
    common.report({"draws": args.draws, "seeds": shown}, args.json)


if __name__ == "__main__":
    common.run(main)
