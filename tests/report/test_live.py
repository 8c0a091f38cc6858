"""`debiasdpo report --live`: a page on this machine that follows the runs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from debiasdpo.report.live import Live
from tests.helpers.report_files import write_run


def read(url: str) -> tuple[str, str | None]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode(), answer.headers["Refresh"]


def test_the_page_follows_the_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    live = Live([runs], None)
    stop = threading.Event()
    server = threading.Thread(target=live.serve, args=(stop, 600))
    assert live.renew()
    server.start()
    try:
        page, refresh = read(live.url)
        assert "No run has begun yet" in page
        assert int(refresh or 0) > 0
        write_run(runs / "one")
        assert live.renew()
        assert not live.renew()  # nothing new
        page, refresh = read(live.url)
        assert "from 1 run:" in page
        (table,) = re.findall(r'href="(tables/main.csv)"', page)
        assert read(live.url + table)[0].startswith("model,")
        assert read(live.url + table)[1] is None
        status = json.loads((runs / "one/status.json").read_text())
        (runs / "one/status.json").write_text(json.dumps({**status, "state": "failed"}))
        assert live.renew()
        assert "1 failed" in read(live.url)[0]
    finally:
        stop.set()
        server.join()
    with pytest.raises(OSError, match="refused"):
        read(live.url)


def test_the_command_says_where_it_is_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/one")
    command = [sys.executable, "-m", "debiasdpo.cli", "report", str(tmp_path / "runs"), "--live"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[0]
        assert url.startswith("http://127.0.0.1:")
        assert "from 1 run:" in read(url)[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs"]
