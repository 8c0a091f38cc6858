"""An environment with what `pip install 'debiasdpo[endpoint,report]'` installs and nothing else: without
torch, it plans and audits a model behind an endpoint, and reports on it.

To install from a registry takes minutes. The packages are those of this environment instead: the declared
dependencies, theirs and so on, each linked into an environment of its own. One that is missing from
pyproject.toml is missing there.
"""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.endpoint_server import served

PROJECT = Path(__file__).parents[2]
EXTRAS = ("endpoint", "report")
JOB = (
    "model=endpoint", "model.name=served-2026-01-01", "data.teachers=4", "data.words=30",
    "data.lessons_per_teacher=1", "audit.categories=[education,placebo]", "audit.resamples=100",
)  # fmt: skip
COMMAND = "import sys; from debiasdpo.cli import main; sys.exit(main())"


def needed(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Of these requirements, those that hold here, with these extras."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def closure() -> dict[str, importlib.metadata.Distribution]:
    """All packages that are installed with the extras, by name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in EXTRAS for line in project["optional-dependencies"][extra]
    ]
    found: dict[str, importlib.metadata.Distribution] = {}
    left = list(needed(lines))
    while left:
        one = left.pop()
        name = one.name.lower().replace("_", "-")
        if name not in found:
            found[name] = importlib.metadata.distribution(one.name)
            left += needed(found[name].requires or (), one.extras)
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its interpreter."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    mine = Path(sysconfig.get_paths()["purelib"])
    for distribution in closure().values():
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (packages / top).exists():
                (packages / top).symlink_to(mine / top)
    (packages / "project.pth").write_text(f"{PROJECT}\n")
    return folder / "bin/python"


@pytest.mark.slow
def test_it_plans_audits_and_reports_without_torch(python: Path, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [python, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=clean,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    heavy = ("torch", "transformers", "peft", "wandb", "pandas")
    found = f"import importlib.util as u; print([n for n in {heavy} if u.find_spec(n)])"
    assert run(found).strip() == "[]"
    with served() as server:
        job = (*JOB, f"model.base_url={server.url}")
        assert "M tokens" in run(COMMAND, "plan", *job, "method=none")
        assert server.bodies == []
        assert "bias (mean |shift|, points)" in run(COMMAND, "audit", *job)
        assert server.bodies != []
    run(COMMAND, "report", "outputs/runs", "--out", "report")
    assert "served-2026-01-01" in (tmp_path / "report/index.html").read_text()
