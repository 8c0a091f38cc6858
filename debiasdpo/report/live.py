"""debiasdpo report --live FOLDER     the report in a browser, made anew while jobs run."""

import contextlib
import functools
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

from debiasdpo.cluster.states import state_of
from debiasdpo.errors import UserError
from debiasdpo.report.build import build, check_packages
from debiasdpo.report.folders import run_folders
from debiasdpo.report.save import write
from debiasdpo.storage.files import write_text
from debiasdpo.storage.reading import read_mapping

log = logging.getLogger("debiasdpo.report")

_EVERY = 15  # seconds between two looks, and between two visits of the browser to a page


class Live:
    """A server for this machine alone, at a free port, and the report that it serves."""

    def __init__(
        self,
        paths: Sequence[Path],
        against: str | None,
        classes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """`paths`: folders at or below which runs are, or will be."""
        check_packages()
        self._paths, self._against, self._classes = paths, against, classes
        self._folder = tempfile.TemporaryDirectory(prefix="debiasdpo-report-")
        self._seen: object = None
        handler = functools.partial(_Handler, directory=self._folder.name)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def renew(self) -> bool:
        """Make the report anew where a run began, went on to another stage or ended; returns whether."""
        seen = _states(self._paths)
        if seen == self._seen:
            return False
        folder = Path(self._folder.name)
        try:
            write(build(self._paths, self._against, self._classes), folder)
        except UserError as error:  # no run yet, or none of the method to compare with
            write_text(folder / "index.html", _EMPTY)
            log.info("nothing to show yet: %s", error)
        self._seen = seen
        return True

    def serve(self, stop: threading.Event, every: float = _EVERY) -> None:
        """Until `stop` is set, or Ctrl-C."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                while not stop.wait(every):
                    self.renew()
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
            self._folder.cleanup()


_EMPTY = (
    "<!doctype html><title>No run yet</title><p>No run has begun yet. This page renews itself.</p>"
)


class _Handler(SimpleHTTPRequestHandler):
    """Files of the report; a browser asks for its page again by itself."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        if self.path in ("/", "/index.html"):
            self.send_header("Refresh", str(_EVERY))
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def _states(paths: Sequence[Path]) -> list[tuple[str, ...]]:
    """What a report depends on that jobs write: where there are runs, and their states and stages."""
    found = []
    for path in paths:
        for folder in run_folders(path) if path.exists() else ():
            status = read_mapping(folder / "status.json", [])
            state = state_of(status)
            # One that ended may have begun and ended anew since.
            ended = "" if state in ("running", "queued") else str(status.get("time"))
            found.append((str(folder), state, str(status.get("stage")), ended))
    return sorted(found)
