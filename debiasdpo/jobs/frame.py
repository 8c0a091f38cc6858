"""The frame of a job: its run folder, status, log and tracker; and what it says at the end."""

import contextlib
import logging
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from debiasdpo.config.job import JobConfig
from debiasdpo.jobs.failures import cause
from debiasdpo.jobs.identity import (
    Choices,
    cache_folder,
    contents,
    identify,
    inputs_key,
    pinned_job,
    settings_key,
    sources,
)
from debiasdpo.jobs.job import Job
from debiasdpo.jobs.logs import RunLog
from debiasdpo.jobs.precision import settle
from debiasdpo.jobs.run_folder import RunFolder
from debiasdpo.jobs.versions import versions
from debiasdpo.raters.base import Rater
from debiasdpo.redaction import mask_known, redact
from debiasdpo.storage.files import write_json, write_text
from debiasdpo.storage.store import Store
from debiasdpo.tracking.tracker import SETTING, group_name, open_tracker

log = logging.getLogger("debiasdpo")


@contextlib.contextmanager
def open_job(config: JobConfig, choices: Choices, rater: Rater | None = None) -> Iterator[Job]:
    """The job with its run folder and tracker; status.json tells how it ended, whatever happens."""
    config, why = settle(config, choices)
    key, folder = identify(config, choices)
    plain = redact(config.model_dump(mode="json"))
    run = RunFolder(folder, choices.to_status(config))
    handler = RunLog(run.folder / "run.log")
    log.addHandler(handler)
    log.info("run folder: %s", run.folder)
    if why:
        log.info("model.dtype: %s", why)
    before = run.content()
    try:
        _write_config(run, plain)
        run.status("running", stage="start", config=key)
        config = pinned_job(config)
        write_json(run.folder / "versions.json", {**versions(), **sources(config)})
        content = contents(config)
        if others := [what for what, known in before.items() if content.get(what) != known]:
            log.warning(
                "the results in this run folder were of the same configuration and another state of: %s. They"
                " are replaced; to keep such results, give each an output_dir of its own",
                ", ".join(others),
            )
        of_any_seed = config.model_copy(update={"seed": 0})
        with open_tracker(
            config.tracker,
            # What it shows of one state of data and model does not go on with what another state gives.
            run_id=inputs_key(key, content),
            name=run.folder.name,
            group=group_name(choices.model, choices.data, config.context.train_categories),
            tags=[
                choices.model,
                choices.data,
                *config.context.train_categories,
                config.method.name,
            ],
            job_config={**plain, SETTING: inputs_key(settings_key(of_any_seed), content)[:8]},
            folder=run.folder,
        ) as tracker:
            job = Job(config, Store(cache_folder(config)), run, tracker, rater)
            with contextlib.closing(job):
                yield job
        run.finish(
            config=key,
            inputs=inputs_key(key, content),
            content=content,
            tracker=config.tracker.kind,
            gpu_hour_price=config.gpu_hour_price,
        )
    except (
        SystemExit
    ):  # told to stop, and put back into a queue; whoever looks sees the process gone
        raise
    except BaseException as error:
        # A full disk cannot take the status either; the error itself must still come through.
        with contextlib.suppress(OSError):
            run.status(
                "interrupted" if isinstance(error, KeyboardInterrupt) else "failed",
                config=key,
                cause=cause(error),
                error=mask_known(
                    f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                ),
                traceback=mask_known(traceback.format_exc()),
            )
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def show(folder: Path) -> None:
    """What a finished job found."""
    verdict = (folder / "verdict.txt").read_text(encoding="utf-8")
    if verdict:  # empty where nothing social was audited
        print(verdict)
    print((folder / "table.txt").read_text(encoding="utf-8"), end="")
    print(f"\nrun folder: {folder}")


def _write_config(run: RunFolder, plain: Mapping[str, object]) -> None:
    text = yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True)
    write_text(run.folder / "config.yaml", text)
