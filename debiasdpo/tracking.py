"""Where a run can be watched: Weights & Biases, or nowhere.

`open_tracker` gives a context manager with `log`, `summary`, `table` and `adapter`. A network that
is refused, silent or dies in the middle costs bounded time and no data: everything W&B gets is
first written under the run folder and can be uploaded later with `wandb sync`.
"""

import http.client
import logging
import math
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field

from debiasdpo.errors import UserError
from debiasdpo.redaction import mask_text, redact, secret_values
from debiasdpo.schema import Positive, Section, Text

logger = logging.getLogger(__name__)


class TrackerConfig(Section):
    """Group `tracker` of the configuration. With kind `none` the other keys mean nothing."""

    kind: Literal["none", "wandb"]
    project: Text = "debiasdpo"
    entity: Text | None = None
    # auto: online where a key is configured, else offline. WANDB_MODE=offline/disabled wins.
    mode: Literal["auto", "online", "offline"] = "auto"
    group: Text | None = None
    tags: list[Text] = Field(default_factory=list)
    log_adapter: bool = False
    timeout_s: Positive = 15.0
    finish_s: Positive = 60.0


class Tracker:
    """The tracker that does nothing, and the interface of all trackers."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row of history. `step` may repeat or go back; not-a-number is kept as it is."""

    def summary(self, metrics: Mapping[str, object]) -> None:
        """Set final figures. What is not finite is undefined, and written as None."""

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Show rows, for instance sample ratings; columns in order of first appearance."""

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
                _first_line(error),
                self._sync,
            )

    def _try(self, what: str, send: Any) -> None:
        # A dashboard must never cost a result, whatever goes wrong inside it.
        try:
            send()
        except Exception as error:  # noqa: BLE001
            if what not in self._warned:
                logger.warning("W&B could not %s: %s", what, _first_line(error))
            self._warned.add(what)


# Runs of this process that are not closed yet, by id.
_open_runs: set[str] = set()


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
        "name": name,
        "project": config.project,
        "entity": config.entity,
        "group": config.group or group,
        "tags": list(dict.fromkeys([*config.tags, *tags])),
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
    # W&B falls back to /tmp where the folder does not exist.
    folder.mkdir(parents=True, exist_ok=True)

    def start(mode: Literal["online", "offline"], id: str) -> Any:
        return wandb.init(id=id, **arguments, settings=wandb.Settings(mode=mode, **settings))

    try:
        # Of W&B's own output only warnings about data that is not uploaded may pass.
        base_url = wandb.setup(wandb.Settings(show_info=False)).settings.base_url
        id, run = run_id, None
        if _wants_online(config, base_url, wandb.setup().settings.api_key):
            try:
                run = start("online", run_id)
            except Exception as error:  # noqa: BLE001 (a real fault shows again offline)
                logger.warning("W&B refused: %s. Going on offline.", _first_line(error))
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
            f"tracker=wandb could not start, not even offline, in {folder}: {_first_line(error)}. "
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


def _wants_online(config: TrackerConfig, base_url: str, settings_key: str | None) -> bool:
    if config.mode == "offline" or os.environ.get("WANDB_MODE", "").lower() in (
        "offline",
        "dryrun",
    ):
        return False
    if not (settings_key or _key_configured(base_url)):
        # Without this check wandb.init would ask for a key at the terminal.
        if config.mode == "online":
            logger.warning(
                "tracker.mode=online, but no W&B key is configured for %s (WANDB_API_KEY or "
                "`wandb login`). Going on offline.",
                base_url,
            )
        return False
    problem = _unreachable(base_url, config.timeout_s / 3)
    if problem:
        logger.warning("W&B at %s cannot be reached: %s. Going on offline.", base_url, problem)
    return problem is None


def _key_configured(base_url: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    path = next((p for f in files if f and (p := Path(f).expanduser()).is_file()), None)
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).netloc) if path else None
    except (netrc.NetrcParseError, OSError):
        return False
    return bool(entry and entry[2])


def _unreachable(url: str, seconds: float) -> str | None:
    """Why no HTTP answer of any kind comes from `url` within `seconds`, or None if one does."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError, http.client.HTTPException) as error:
            # An unknown certificate is still an answer: W&B may know a certificate we do not.
            if not isinstance(getattr(error, "reason", None), ssl.SSLError):
                outcome.append(_first_line(error))
                return
        outcome.append(None)

    # In a thread, since the timeout of a socket does not hold for looking up its name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:.3g} s"


def _first_line(error: BaseException) -> str:
    return mask_text(
        (str(error) or type(error).__name__).splitlines()[0], secret_values(os.environ)
    )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return None if isinstance(value, Real) and not math.isfinite(value) else value


def _cell(value: object, secrets: Sequence[str]) -> object:
    if value is None or isinstance(value, int | float):
        return value
    return mask_text(str(value), secrets)
