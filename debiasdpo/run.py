"""The entry point: one job, from documents to a debiased model and the proof that it is less biased.

python -m debiasdpo.run                                   SmolLM2 on a CPU, simulated documents
python -m debiasdpo.run model=qwen7b context=experience   the paper's models on a GPU
python -m debiasdpo.run -m loss.w_sft=0,0.1,1             a sweep
python -m debiasdpo.run plan model=qwen7b,llama8b          what a sweep will take
python -m debiasdpo.run status outputs                    how the jobs do
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from debiasdpo import distributed, interrupt
from debiasdpo.errors import FAILURES, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from debiasdpo.config import JobConfig

log = logging.getLogger("debiasdpo")


def run_job(config: "JobConfig", name: str) -> dict[str, Any]:
    """One way through the data flow. Returns the figures, which metrics.json holds too."""
    from debiasdpo import mitigation, rating, results, stages

    with results.open_job(config, name) as job:
        corpus = stages.load_documents(job)
        ratings = {"base": rating.rate_test(job, corpus, "base", None)}
        counts: dict[str, int] = {}
        weights = None
        if config.method.trains:
            pairs, counts = stages.make_pairs(job, corpus)
            weights = stages.train(job, corpus, pairs)
            ratings["tuned"] = rating.rate_test(job, corpus, "tuned", weights)
        elif config.method.changes_prompts:
            ratings["tuned"] = mitigation.rate_test(job, corpus)
        figures = stages.measure(job, corpus, ratings)
        return results.conclude(job, figures, counts, ratings, weights)


def conf_dir() -> Path:
    """conf/ inside the package (an installed wheel), else beside it (a checkout)."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _task(composed: "DictConfig") -> str | None:
    from debiasdpo import sweep

    return sweep.task(composed)


def main() -> None:
    """The command line; exits with 1 if a job failed."""
    if sys.argv[1:2] == ["status"]:
        from debiasdpo import status

        sys.exit(status.main(sys.argv[2:]))
    if sys.argv[1:2] == ["plan"]:
        from debiasdpo import sweep

        sweep.only_plan = True
        sys.argv[1] = "-m"
    os.umask(os.umask(0) | 0o002)  # nobody else may write what is written here
    interrupt.install()
    if distributed.rank() > 0:
        from debiasdpo import stages

        try:
            stages.follow()
        except UserError as error:
            sys.exit(f"Error: {error}")
        return
    # Hydra then raises what it would else print itself, with a traceback for a full disk.
    full_errors = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _task()
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from what is finished.", file=sys.stderr)
        sys.exit(130)
    except (
        HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError, UserError
    ) as error:  # fmt: skip
        from debiasdpo import failures

        if full_errors:
            raise
        FAILURES.append(failures.command_line(error))
        print(f"Error: {FAILURES[-1]}", file=sys.stderr)
    distributed.share(None)  # nothing more to train
    distributed.finish()
    if FAILURES:
        sys.exit(1)


if __name__ == "__main__":
    main()
