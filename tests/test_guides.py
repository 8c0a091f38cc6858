"""What docs/ tells a user to type and to write is there, and works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from debiasdpo.cli import COMMANDS
from debiasdpo.config.context import POLARITIES
from debiasdpo.documents import corpus

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = ROOT / "docs/examples"


@pytest.fixture(scope="module")
def essays() -> dict[str, object]:
    """`--cfg job` of the guide's second command."""
    command = [
        sys.executable, "-m", "debiasdpo.run", "--config-dir", "docs/examples/conf", "data=essays",
        "--cfg", "job",
    ]  # fmt: skip
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, object] = yaml.safe_load(shown)
    return found


def test_the_essays_are_read_as_the_guide_says(
    essays: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from omegaconf import OmegaConf

    from debiasdpo.config.build import build

    monkeypatch.chdir(ROOT)
    config = build(OmegaConf.create(essays))
    corpus.write(config.documents, config.seed, tmp_path)
    parts = corpus.open_corpus(tmp_path, corpus.rubrics_of(config.documents)).parts
    assert sum(len(part) for part in parts.values()) == 40
    assert len({d.group for part in parts.values() for d in part}) == 20
    for part in parts.values():
        for document in part:
            assert 60 <= len(document.text.split()) <= 110
            assert set(document.scores) == {"clarity", "argument"}
    assert config.context.train_categories == ("sycophancy",)
    texts = [
        text
        for category in config.context.categories.values()
        for side in POLARITIES
        for wording in (getattr(category, side),)
        if wording
        for text in (*wording.train, *wording.test)
    ]
    assert len(texts) == len(set(texts)) > 20
    assert not [text for text in texts if re.search(r"teacher|lesson", text, re.IGNORECASE)]


def test_the_guide_shows_the_files_as_they_are() -> None:
    guide = (ROOT / "docs/own_data.md").read_text()
    shown = next(b for b in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "path:" in b)
    written = (EXAMPLES / "conf/data/essays.yaml").read_text()
    assert yaml.safe_load(shown) == yaml.safe_load(written)


@pytest.mark.parametrize("page", [*DOCS, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_are_there(page: Path) -> None:
    typed = re.findall(r"^(?:\$ |\.venv/bin/)?debiasdpo ([\w-]+)", page.read_text(), re.MULTILINE)
    assert set(typed) <= {*COMMANDS, "stauts"}  # the last is a mistake that paths.md shows


@pytest.mark.parametrize("page", [*DOCS, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*DOCS, ROOT / "README.md"], ids=lambda page: page.name)
def test_named_modules_exist(page: Path) -> None:
    named = re.findall(r"`(debiasdpo/[\w/]+\.py)`", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]
