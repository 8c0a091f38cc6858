"""What a job and the other commands do where nobody reads what they say, and where nobody knows the user."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.jobs import ROOT, run_folder
from tests.helpers.sweeps import SMALL

UNKNOWN_USER = "unshare --user --map-user=54321"


def shell(line: str, environment: Mapping[str, str] | None = None) -> int:
    """The exit code of a line for bash, that of the first command of a pipe; `cli` is the command line."""
    cli = f'cli() {{ {shlex.quote(sys.executable)} -m debiasdpo.cli "$@"; }}'
    code = f"{cli}\n{line}\nexit ${{PIPESTATUS[0]}}"
    given = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.run(["bash", "-c", code], env=given, cwd=ROOT).returncode


WRITES = """\
import sys
from debiasdpo.cluster import surroundings
surroundings.prepare()
print("Aufsätze\\n" * 50_000)  # more than a pipe holds
print("Aufsätze", file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2
    lost = surroundings.lost_output()
    file.write(str(lost and lost.strerror))
"""


@pytest.mark.parametrize(
    ("where", "lost"),
    [
        (">/dev/null", "None"),
        (">&- 2>&- <&-", "None"),  # nothing was there that could be lost
        (">/dev/full 2>/dev/full", "No space left on device"),
        ("2>/dev/full | true", "Broken pipe"),
        ("2>&1 | head -1 >/dev/null", "Broken pipe"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_written_is_dropped(
    where: str, lost: str, encoding: str, tmp_path: Path
) -> None:
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(WRITES, encoding="utf-8")
    line = f"{shlex.join([sys.executable, str(script), str(said)])} {where}"
    assert shell(line, {"PYTHONIOENCODING": encoding}) == 0
    assert said.read_text() == lost


def test_letters_that_a_terminal_does_not_have_are_numbered() -> None:
    line = "from debiasdpo.cluster import surroundings; surroundings.prepare(); print('ü 漢')"
    done = subprocess.run(
        [sys.executable, "-c", line], env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\\xfc \\u6f22\n"


@pytest.fixture(scope="module")
def job(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A command with an output that nothing can take, and where its job ended."""
    base = tmp_path_factory.mktemp("surroundings")
    model = shutil.copytree(tiny_llama, base / "mödel 漢")
    path, output = f'model.path="{model}"', f"output_dir={base / 'out'}"
    command = shlex.join(["cli", "run", *SMALL, "method=none", path, output])
    code = shell(f"{command} 2>/dev/full <&- | true", {"PYTHONIOENCODING": "ascii"})
    assert code == 0
    return command, base / "out"


@pytest.mark.slow
def test_a_job_ends_as_finished_whatever_becomes_of_what_it_says(job: tuple[str, Path]) -> None:
    folder = run_folder(job[1])
    assert folder.name.startswith("mödel-漢_")
    assert json.loads((folder / "status.json").read_text("utf-8"))["state"] == "finished"
    assert "metrics ..." in (folder / "run.log").read_text("utf-8")
    before = (folder / "status.json").stat().st_mtime_ns
    assert shell(f"{job[0]} >/dev/full 2>&-", {"PYTHONIOENCODING": "ascii"}) == 0
    assert (folder / "status.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("status {out} | true", 0),
        ("status {out} >&- 2>&-", 0),
        ("status {out} >/dev/full", 1),
        ("status {out} --watch --every 0.1 | true", 0),
        ("--help | true", 0),
        ("--help >/dev/full", 1),
        ("run --cfg job | head -1 >/dev/null", 0),
        ("status nowhere 2>/dev/full", 1),
        ("stauts 2>&-", 2),
    ],
)
def test_commands_end_with_the_code_of_what_they_found(
    line: str, code: int, job: tuple[str, Path]
) -> None:
    said = line.format(out=shlex.quote(str(job[1])))
    assert shell(f"cli {said}", {"PYTHONIOENCODING": "ascii"}) == code


def test_watching_ends_when_nobody_reads(tmp_path: Path) -> None:
    """And not when the job does, which may be days later."""
    running = tmp_path / "runs/one/status.json"
    running.parent.mkdir(parents=True)
    status = {"state": "running", "pid": os.getpid(), "stage": "training"}
    running.write_text(json.dumps(status))
    assert shell(f"cli status {tmp_path} --watch --every 0.1 | head -1 >/dev/null") == 3


def bare(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """As in a container: a user that the system does not know, no HOME, no USER, a clean environment."""
    clean = f"env -i PATH=/usr/bin:/bin TMPDIR={tmp_path} PYTHONPATH={ROOT} OMP_NUM_THREADS=1"
    command = [*UNKNOWN_USER.split(), *clean.split(), sys.executable, *shlex.split(line)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNKNOWN_USER.split(), "true"], capture_output=True).returncode != 0,
    reason="this system makes no user namespaces",
)
def test_a_user_whom_nobody_knows_has_a_home(tmp_path: Path) -> None:
    asks = (
        "from debiasdpo.cluster import surroundings\n"
        "surroundings.prepare()\n"
        "import getpass, pathlib\n"
        "print(pathlib.Path.home(), oct(pathlib.Path.home().stat().st_mode), getpass.getuser())"
    )
    said = {bare(f"-c {shlex.quote(asks)}", tmp_path).stdout for _ in range(2)}
    assert said == {f"{tmp_path}/debiasdpo-home-54321 0o40700 user54321\n"}
    wrong = bare("-m debiasdpo.run 'model.path=\"~/x\"' output_dir=out", tmp_path)
    assert wrong.returncode == 1
    assert f"model.path: {tmp_path}/debiasdpo-home-54321/x does not exist" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_home_that_is_known_stays_as_it_is(tmp_path: Path) -> None:
    asks = (
        "import os; before = dict(os.environ); from debiasdpo.cluster import surroundings;"
        "surroundings.prepare(); assert dict(os.environ) == before"
    )
    for home in (str(tmp_path), "/nonexistent"):
        given = {**os.environ, "HOME": home, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", asks], env=given, cwd=ROOT, check=True)
