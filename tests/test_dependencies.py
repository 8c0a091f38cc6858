"""What pyproject.toml asks for, beside what is installed and tested (constraints.txt)."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    pin.name.lower().replace("_", "-"): next(iter(pin.specifier)).version
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}
ASKED = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
    if not text.startswith("debiasdpo[")
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
def test_what_is_pinned_is_what_is_asked_for(asked: Requirement) -> None:
    assert asked.specifier.contains(PINS[asked.name.lower().replace("_", "-")])


def test_the_floors_have_what_is_used_since() -> None:
    """Of torch 2.8 and transformers 5.23, which the releases before lack; see pyproject.toml."""
    import torch
    from transformers import PreTrainedModel

    floors = {asked.name: str(asked.specifier) for asked in ASKED}
    assert ">=2.8" in floors["torch"]
    assert ">=5.23" in floors["transformers"]
    assert "dtype" in torch.ops.aten.mm.overloads()
    assert issubclass(torch.AcceleratorError, RuntimeError)
    assert callable(PreTrainedModel.activation_checkpointing_enable)
