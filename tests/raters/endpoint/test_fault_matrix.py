"""The matrix of faults in docs/reliability.md is what this code does."""

from pathlib import Path

import pytest

from benchmarks import endpoint_faults
from debiasdpo.raters.endpoint import asking, batches

PAGE = Path(__file__).parents[3] / "docs/reliability.md"


def test_each_fault_is_survived_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(batches, "_LOOK_S", 0.01)
    found = endpoint_faults.rows(processes=False)
    assert [row for row in found if not row.passed] == []
    page = PAGE.read_text()
    shown = [line for line in endpoint_faults.page(found).splitlines() if line.startswith("| ")]
    assert len(shown) > 30
    assert [line for line in shown if line not in page] == []
