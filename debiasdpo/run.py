"""The entry point: one job, from documents to a debiased model and the proof that it is less biased.

python -m debiasdpo.run                                   SmolLM2 on a CPU, simulated documents
python -m debiasdpo.run model=qwen7b context=experience   the paper's models on a GPU
python -m debiasdpo.run -m loss.w_sft=0,0.1,1             a sweep
"""

import logging
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from debiasdpo import distributed

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


_failures: list[str] = []


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _task(composed: "DictConfig") -> None:
    """One job of Hydra's. A failure is noted, so that the other jobs of a sweep still run."""
    from debiasdpo import results
    from debiasdpo.config import build
    from debiasdpo.errors import UserError
    from debiasdpo.memory import memory_message

    results.set_up_logging()
    choices = HydraConfig.get().runtime.choices
    # As they were written: a ${...} in one belongs to the job, not to Hydra's own configuration.
    written = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    overrides = " ".join(map(str, written or ())) or "(no overrides)"
    try:
        config = build(composed)
        run_job(config, f"{choices['model']}_{choices['data']}")
    except Exception as error:  # noqa: BLE001 - one failed job must not end the sweep
        message = str(error) if isinstance(error, UserError) else None
        message = message or memory_message(error) or results.disk_message(error)
        _failures.append(f"{overrides}: {message or f'{type(error).__name__}: {error}'}")
        print(f"Error: {message}" if message else traceback.format_exc(), file=sys.stderr)
        if distributed.size() > 1:  # the other processes may be in the middle of a step
            sys.exit(1)


def main() -> None:
    """The command line; exits with 1 if a job failed."""
    if distributed.rank() > 0:
        from debiasdpo import stages
        from debiasdpo.errors import UserError

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
    except (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        if full_errors:
            raise
        _failures.append(_command_line_message(error))
        print(f"Error: {_failures[-1]}", file=sys.stderr)
    distributed.share(None)  # nothing more to train
    distributed.finish()
    if len(_failures) > 1:
        print(f"\n{len(_failures)} jobs failed:", file=sys.stderr)
        for failure in _failures:
            print(f"  {failure.splitlines()[0]}", file=sys.stderr)
    if _failures:
        sys.exit(1)


def _command_line_message(error: Exception) -> str:
    """Why there is no job to run: what Hydra says, without its advice to add unknown keys."""
    from debiasdpo import results

    if isinstance(error, YAMLError):
        return f"A configuration file is not valid YAML; quote texts that hold : or ? or commas.\n{error}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return results.disk_message(error) or str(error)
    unknown = re.match(r"Could not override '(.+?)'", str(error))
    if unknown:
        return f"{unknown[1]}: no such key; --cfg job shows all there are"
    return re.sub(r"\s*Config search path:.*", "", str(error), flags=re.DOTALL)


if __name__ == "__main__":
    main()
