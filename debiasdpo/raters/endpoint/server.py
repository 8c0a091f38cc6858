"""A server of the model on this machine, such as `vllm serve`, in a process of its own, with whose end its
memory is free again.
"""

import atexit
import logging
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from debiasdpo.errors import UserError

log = logging.getLogger(__name__)

_LOAD_S = 1800.0  # that weights may take to load
_STOP_S = 30.0  # between asking it to end and ending it
_LOOK_S = 0.5
_LINES = 20  # of its log, in an error


class Server:
    """Runs a command until `stop`, or until this process ends."""

    def __init__(self, command: Sequence[str], base_url: str, log_file: Path) -> None:
        self._command, self._url, self._log = list(command), base_url, log_file
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers. One that answers already is used, and left as it is. `UserError` where it
        does not start."""
        if self._answers():
            log.info("%s answers already; it is not started again", self._url)
            return
        log.info("starting %s; its log: %s", self._command[0], self._log)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as out:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for us, which then stop it
                )
            except OSError as error:
                raise UserError(f"model.serve: {self._command[0]}: {error.strerror}") from error
        atexit.register(self.stop)
        began = time.monotonic()
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() - began > _LOAD_S:
                self.stop()
                what = "ended" if ended else f"does not answer at {self._url}"
                raise UserError(
                    f"model.serve: {self._command[0]} {what}. Its last lines:\n{self._tail()}"
                )
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """End it, with the processes that it started; nothing where this did not start it."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        for ask, patience in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, ask)
                process.wait(patience)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url.rstrip('/')}/models", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500  # it may want a key
        except OSError:
            return False

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LINES:])
