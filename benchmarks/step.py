"""Where the time of a training step on a CPU goes, and how much quicker it is than another checkout's.

    python -m benchmarks.step --profile
    python -m benchmarks.step --documents 2 --prefix 300 --contexts 3
    git worktree add ../before COMMIT && python -m benchmarks.step --against ../before --repeats 5

The step of `model=smollm2`: all pairs of one document in one prefix tree, LoRA in the last 12 of 30 layers,
forward and backward. Times are CPU seconds of the process, those of the system for it included, since others
may use the machine. Two checkouts have a process each and take turns. A smaller model of the same
proportions, for a machine that is busy: --layers 5 --last-layers 2 --vocabulary 8192.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import common, models
from benchmarks.methods import LOSS
from debiasdpo.models.adapters import add_adapter
from debiasdpo.packing.frozen import keeping_frozen_states
from debiasdpo.packing.logprobs import causal_model, sequence_logprobs
from debiasdpo.training.data import Pass
from debiasdpo.training.objective import PairTerms
from debiasdpo.training.terms import Reference, pair_terms

# What torch calls its operations, and what they are here; the first that fits.
KINDS = {
    "attention, gradient": ("flash_attention_for_cpu_backward",),
    "attention": ("flash_attention",),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn"),
    "exponentials": ("aten::exp", "aten::logsumexp", "aten::amax"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::_index", "aten::fill_", "aten::zero_"),
    "sums, products, SiLU": (
        "aten::mul", "aten::add", "aten::sub", "aten::silu", "aten::neg", "aten::pow", "aten::rsqrt",
        "aten::mean", "aten::sum", "aten::sigmoid", "aten::div", "aten::lerp", "aten::linalg",
    ),
}  # fmt: skip
REST = "all else"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Times(NamedTuple):
    """CPU seconds."""

    reference: float  # of all pairs without the adapter, no gradient
    first: float  # of a policy step through all layers
    later: float  # of another on the same tree, from what the frozen layers made


class Step:
    """A model with its adapter, and the pairs of one document."""

    def __init__(self, options: models.ModelOptions, sizes: common.Sizes, last_layers: int) -> None:
        lora = models.lora().model_copy(update={"targets": TARGETS, "last_layers": last_layers})
        self.model = add_adapter(models.base_model(options), lora, models.SEED)
        generator = torch.Generator().manual_seed(models.SEED)
        for name, parameter in self.model.named_parameters():
            if "lora_B" in name:  # as in the middle of a training
                values = torch.empty(parameter.shape).normal_(std=0.02, generator=generator)
                parameter.data.copy_(values)
        self.pairs = common.pairs(sizes, models.vocabulary_size(self.model))
        self.known: Reference = {}
        self.scored = torch.zeros(0)

    def reference(self) -> None:
        self.model.eval()
        with torch.no_grad(), self.model.disable_adapter():
            found = sequence_logprobs(self.model, [c for p in self.pairs for c in p.preference])
        rows = zip(self.pairs, found.view(-1, 2).tolist(), strict=True)
        self.known = {pair.key: row for pair, row in rows}

    def policy(self) -> None:
        """Leaves gradients of the mean loss on the adapter."""
        self.model.train()
        self.model.zero_grad(set_to_none=True)

        def score(model: Any, completions: Any, *, states: Any = None) -> torch.Tensor:
            found = sequence_logprobs(model, completions, states=states)
            self.scored = found.detach()
            return found

        terms = pair_terms(self.model, self.pairs, reference=self.known, loss=LOSS, score=score)
        (terms.loss.sum() / len(self.pairs)).backward()

    def run(self) -> Times:
        with _timed() as reference:
            self.reference()
        with keeping_frozen_states(causal_model(self.model)):
            with _timed() as first:
                self.policy()
            with _timed() as later:
                self.policy()
        return Times(reference[0], first[0], later[0])

    def at_once(self, documents: int) -> dict[str, float]:
        """Wall seconds of a step over so many documents as large as this one, from the kept states, by the
        number of threads in which its passes are made."""
        # Here: another checkout may not have them yet.
        from debiasdpo.cluster.threads import ONE_THREAD, for_passes
        from debiasdpo.training.gradients import backward_each

        passes = [Pass(self.pairs, 0)] * documents
        trained = [p for p in self.model.parameters() if p.requires_grad]
        found = {}
        self.model.train()

        def forward(one: Pass) -> tuple[PairTerms, torch.Tensor]:
            terms = pair_terms(
                self.model, one.pairs, reference=self.known, loss=LOSS, score=sequence_logprobs
            )
            return terms, terms.loss.sum() / len(one.pairs)

        with keeping_frozen_states(causal_model(self.model)):
            forward(passes[0])
            for threads in (ONE_THREAD, for_passes(self.model)):
                self.model.zero_grad(set_to_none=True)
                start = time.perf_counter()
                list(backward_each(passes, forward, torch.Tensor.backward, trained, threads))
                found[str(threads.count)] = time.perf_counter() - start
        return found

    def outcome(self) -> dict[str, Any]:
        """Log-probabilities and gradients of the last step."""
        gradients = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        return {"scored": self.scored, "gradients": gradients}

    def profile(self) -> dict[str, float]:
        """Seconds of each kind of operation in a step through all layers."""
        self.run()
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as seen:
            self.policy()
        found = dict.fromkeys([*KINDS, REST], 0.0)
        for event in seen.key_averages():
            kinds = (k for k, names in KINDS.items() if any(n in event.key for n in names))
            found[next(kinds, REST)] += event.self_cpu_time_total / 1e6
        return found


@contextlib.contextmanager
def _timed() -> Iterator[list[float]]:
    found: list[float] = []
    start = time.process_time()
    yield found
    found.append(time.process_time() - start)


class Checkout:
    """The same step by the code of a checkout, in a process of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        paths = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}  # not that of this file
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", *arguments], env={**os.environ, **paths},
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(step: Step) -> None:
    """Answers the lines of standard input: `run`, or the file that the outcome goes to."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        if line.strip() == "run":
            print(json.dumps(step.run()), file=out, flush=True)
        else:
            torch.save(step.outcome(), line.strip())
            print("null", file=out, flush=True)


def compare(here: Path, there: Path, arguments: Sequence[str], repeats: int) -> dict[str, Any]:
    """Medians of both, and of the ratios of neighbouring runs; the largest differences of their outcomes."""
    sides = [Checkout(folder, arguments) for folder in (there, here)]
    try:
        for side in sides:  # what libraries do at their first call is not timed
            side.ask("run")
        runs = []
        for repeat in range(repeats):  # each is the first of two as often as the other
            order = sides if repeat % 2 else sides[::-1]
            found = {side: Times(*side.ask("run")) for side in order}
            runs.append([found[side] for side in sides])
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("there", "here")]
            for side, file in zip(sides, files, strict=True):
                side.ask(str(file))
            before, after = (torch.load(file) for file in files)
    finally:
        for side in sides:
            side.close()
    parts = {
        part: {
            "before_s": statistics.median(before[i] for before, _ in runs),
            "after_s": statistics.median(after[i] for _, after in runs),
            "ratio": statistics.median(before[i] / after[i] for before, after in runs),
        }
        for i, part in enumerate(Times._fields)
    }
    gradients = (
        float((after["gradients"][n] - g).norm() / g.norm()) for n, g in before["gradients"].items()
    )
    return {
        "parts": parts,
        "runs": len(runs),
        "logprob_difference": float((after["scored"] - before["scored"]).abs().max()),
        "gradient_difference": max(gradients),
    }


def parser() -> argparse.ArgumentParser:
    found = common.parser("step", __doc__)
    common.add_model_options(found)
    common.add_size_options(found, contexts=7, rubrics=1)
    found.add_argument("--chosen", type=common.positive, default=100, help="tokens of chosen texts")
    found.add_argument("--rejected", type=common.positive, default=100, help="of rejected ones")
    found.add_argument("--last-layers", type=common.positive, default=12, help="that have LoRA")
    found.add_argument(
        "--documents", type=common.positive, help="of a step: one at a time, two at once"
    )
    found.add_argument("--profile", action="store_true", help="shares of kinds of operations")
    found.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    found.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    common.add_run_options(found)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    given = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(given)
    options = common.model_options(args)
    sizes = common.sizes(args, chosen=args.chosen, rejected=args.rejected)
    result: dict[str, Any] = {
        "benchmark": "step",
        "model": vars(options),
        "sizes": vars(sizes),
        "last_layers": args.last_layers,
        "environment": common.environment(options),
    }
    if args.against:
        here = Path(__file__).parents[1]
        at = given.index("--against")
        found = compare(here, args.against.absolute(), given[:at] + given[at + 2 :], args.repeats)
        rows = [[part, *times.values()] for part, times in found["parts"].items()]
        print(common.table(["CPU seconds", "before", "now", "ratio"], rows) + "\n")
        common.report(result | found, args.json)
        return
    step = Step(options, sizes, args.last_layers)
    if args.serve:
        serve(step)
    elif args.documents:
        step.run()
        runs = [step.at_once(args.documents) for _ in range(args.repeats)]
        seconds = {n: statistics.median(run[n] for run in runs) for n in runs[0]}
        print(common.table([f"{n} at once, s" for n in seconds], [list(seconds.values())]) + "\n")
        common.report(result | {"seconds": seconds, "runs": runs}, args.json)
    elif args.profile:
        seconds = step.profile()
        whole = sum(seconds.values())
        rows = [[kind, s, f"{s / whole:.0%}"] for kind, s in seconds.items()]
        print(common.table(["", "seconds", "share"], rows) + "\n")
        common.report(result | {"seconds": seconds}, args.json)
    else:
        step.run()
        times = [step.run() for _ in range(args.repeats)]
        medians = Times(*(statistics.median(t) for t in zip(*times, strict=True)))
        print(common.table(list(Times._fields), [medians]) + "\n")
        common.report(result | {"seconds": medians._asdict()}, args.json)


if __name__ == "__main__":
    common.run(main)
