"""Where a run can be watched: Weights & Biases, or nowhere.

`open_tracker` gives a context manager with `log`, `summary`, `table`, `image`, `page` and `adapter`.
A network that is refused, silent or dies in the middle costs bounded time and no data: everything
W&B gets is first written under the run folder and can be uploaded later with `wandb sync`.
"""

import hashlib
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from debiasdpo.config.shown import joined, visible
from debiasdpo.config.tracker import TrackerConfig
from debiasdpo.errors import UserError
from debiasdpo.redaction import mask_known, mask_text, redact, secret_values
from debiasdpo.tracking.wandb_server import first_line, wants_online

logger = logging.getLogger(__name__)

# In a run's configuration: equal for runs that differ in their seed alone.
SETTING = "setting"
# Characters that W&B takes of a group's or a run's name, and of a tag.
_LONGEST_NAME, _LONGEST_TAG = 128, 64
_FLUSH_S = 1  # between two writes of what was logged


class Tracker:
    """The tracker that does nothing, and the interface of all trackers."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row of history. `step` may repeat or go back; not-a-number is kept as it is."""

    def summary(self, metrics: Mapping[str, object]) -> None:
        """Set final metrics. What is not finite is undefined, and written as None."""

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Show rows, for instance sample ratings; columns in order of first appearance."""

    def image(self, name: str, file: Path, caption: str) -> None:
        """Show a PNG file; `caption` says what to see in it."""

    def page(self, name: str, file: Path) -> None:
        """Show an HTML file that needs nothing but itself."""

    def adapter(self, folder: Path) -> None:
        """Keep the adapter in `folder` as an artifact, where `log_adapter` asks for it."""

    def close(self, exit_code: int = 0) -> None:
        """End the run: any exit code but 0 marks it failed. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(0 if kind is None else 1)


class _WandbTracker(Tracker):
    def __init__(self, wandb: Any, run: Any, sync: str, log_adapter: bool) -> None:
        self._wandb = wandb
        self._run = run
        self._sync = sync
        self._log_adapter = log_adapter
        self._closed = False
        self._warned: set[str] = set()
        # W&B drops a row whose own step is not the latest. An axis of ours keeps every row.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._try("log metrics", lambda: self._run.log({**metrics, "step": step}))

    def summary(self, metrics: Mapping[str, object]) -> None:
        self._try("write the summary", lambda: self._run.summary.update(_finite(metrics)))

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        secrets = secret_values(os.environ)
        data = [[_cell(row.get(column), secrets) for column in columns] for row in rows]

        def send() -> None:
            # Mixed types: a rating that could not be parsed is None or text beside numbers.
            table = self._wandb.Table(columns=columns, data=data, allow_mixed_types=True)
            self._run.log({name: table})

        self._try(f"log table {name!r}", send)

    def image(self, name: str, file: Path, caption: str) -> None:
        said = visible(mask_known(caption))
        self._try(
            f"log image {name!r}",
            lambda: self._run.log({name: self._wandb.Image(str(file), caption=said)}),
        )

    def page(self, name: str, file: Path) -> None:
        # W&B would else add a style sheet from its own server to the page.
        self._try(
            f"log page {name!r}",
            lambda: self._run.log({name: self._wandb.Html(str(file), inject=False)}),
        )

    def adapter(self, folder: Path) -> None:
        if not self._log_adapter:
            return

        def send() -> None:
            artifact = self._wandb.Artifact(f"adapter-{self._run.id}", type="model")
            # The folder stays where it is: no second copy under ~/.local/share or ~/.cache.
            artifact.add_dir(str(folder), policy="immutable", skip_cache=True)
            self._run.log_artifact(artifact)

        self._try("log the adapter", send)

    def close(self, exit_code: int = 0) -> None:
        if self._closed:
            return
        self._closed = True
        _open_runs.discard(self._run.id)
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:  # noqa: BLE001 (see _try)
            logger.warning(
                "W&B did not finish (%s). Nothing is lost; upload the rest with: %s",
                first_line(error),
                self._sync,
            )

    def _try(self, what: str, send: Any) -> None:
        # A dashboard must never cost a result, whatever goes wrong inside it.
        try:
            send()
        except Exception as error:  # noqa: BLE001
            if what not in self._warned:
                logger.warning("W&B could not %s: %s", what, first_line(error))
            self._warned.add(what)


# Runs of this process that are not closed yet, by id.
_open_runs: set[str] = set()


def group_name(model: str, data: str, trained: Iterable[str]) -> str:
    """`llama8b talkmoves age+race`: the group of runs that differ in method, settings (`SETTING`) and seed;
    different for other models, data and training contexts."""
    return visible(joined([model, data, joined(trained)], by=" ", nothing=""))


def _within(text: str, length: int) -> str:
    """At most so many characters, of which others than these would be other ones."""
    text = visible(text)
    if len(text) <= length:
        return text
    return f"{text[: length - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def open_tracker(
    config: TrackerConfig,
    *,
    run_id: str,
    name: str,
    group: str | None,
    tags: Sequence[str],
    job_config: Mapping[str, object],
    folder: Path,
) -> Tracker:
    """Start the job's run; files lie in `folder`/wandb. Never blocks longer than ~`timeout_s`.

    The run id decides what is one run: the same id continues it, another is always another run.
    `config.group` wins over `group`, tags are joined, `job_config` is masked by `redact`.
    """
    if config.kind == "none" or os.environ.get("WANDB_MODE", "").lower() == "disabled":
        return Tracker()
    # W&B's own error reports carry tracebacks away, and wait 20 s at exit for a silent server.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "tracker=wandb needs the package wandb, which is not installed. "
            "Install it with `pip install wandb`, or use tracker=none."
        ) from error

    arguments: dict[str, Any] = {
        "name": _within(name, _LONGEST_NAME),
        "project": config.project,
        "entity": config.entity,
        "group": _within(mask_known(config.group or group or ""), _LONGEST_NAME) or None,
        "tags": [
            _within(mask_known(tag), _LONGEST_TAG) for tag in dict.fromkeys([*config.tags, *tags])
        ],
        "config": redact(job_config),
        "dir": str(folder),
        "resume": "allow",  # a killed job that starts again goes on in the same run
        "reinit": "create_new",  # without it a second init hands back the first job's run
    }
    settings: dict[str, Any] = {
        "silent": True,
        "console": "off",
        "disable_code": True,
        "save_code": False,
        "disable_git": True,
        "label_disable": True,
        "x_disable_meta": True,  # the command line could hold a secret
        "x_save_requirements": False,
        "init_timeout": config.timeout_s * 2 / 3,
        "finish_timeout": config.finish_s,
        "finish_timeout_raises": True,
    }
    if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
        # Else the last 32 KiB of rows, often all of them, are lost with a process that is killed.
        settings["x_transaction_log_flush_interval"] = _FLUSH_S
    # W&B falls back to /tmp where the folder does not exist.
    folder.mkdir(parents=True, exist_ok=True)

    def start(mode: Literal["online", "offline"], id: str) -> Any:
        return wandb.init(id=id, **arguments, settings=wandb.Settings(mode=mode, **settings))

    try:
        # Of W&B's own output only warnings about data that is not uploaded may pass.
        base_url = wandb.setup(wandb.Settings(show_info=False)).settings.base_url
        id, run = run_id, None
        if wants_online(config, base_url, wandb.setup().settings.api_key):
            try:
                run = start("online", run_id)
            except Exception as error:  # noqa: BLE001 (a real fault shows again offline)
                logger.warning("W&B refused: %s. Going on offline.", first_line(error))
                # W&B holds on to the id of a run that failed to start. Letting go of it would end
                # the other runs of this process; where there are any, the id changes instead.
                if _open_runs:
                    id = f"{run_id}-offline"
                else:
                    wandb.teardown()
                    wandb.setup(wandb.Settings(show_info=False))
        if run is None:
            run = start("offline", id)
    except Exception as error:
        raise UserError(
            f"tracker=wandb could not start, not even offline, in {folder}: {first_line(error)}. "
            "Mend that, or use tracker=none."
        ) from error

    option = "" if id == run_id else f"--id {run_id} "
    sync = f"wandb sync {option}{run.settings.sync_dir}"
    if run.settings.mode == "online":
        logger.info("W&B run %s: %s", name, run.url)
    else:
        logger.info("W&B run %s is offline; upload it with: %s", name, sync)
    _open_runs.add(run.id)
    return _WandbTracker(wandb, run, sync, config.log_adapter)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {visible(str(key)): _finite(item) for key, item in value.items()}
    return None if isinstance(value, Real) and not math.isfinite(value) else value


def _cell(value: object, secrets: Sequence[str]) -> object:
    if value is None or isinstance(value, int | float):
        return value
    return visible(mask_text(str(value), secrets))
