"""Every figure on a page of results comes from a committed file of results."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import results

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted(ROOT.glob("experiments/**/README.md")),
    # That of errors is written by tests/test_bad_inputs.py.
    *(page for page in sorted(ROOT.glob("docs/*.md")) if page.name != "errors.md"),
]  # fmt: skip

MAIN = """\
# of a page that is gone
model,method,bias,bias_low,bias_high,reduction,reduction_low,reduction_high,reduction_sd,p,seeds,n
tiny,base model,0.5791,0.5301,0.6388,,,,,1.0,3,7511
tiny,sft,0.1912,0.1609,0.2188,-0.4949,-0.6512,-0.3466,0.0731,0.0196,3,1024
"""
PAGE = """\
# A page

<!-- figures: results/main.csv -->

The bias falls from 0.58 to 0.19, by -49 %, with `w_sft=0.3` and 95 % intervals; Llama 3.1 8B was not run.

```sh
run loss.w_sft=0.35
```

<!-- results: results/main.csv -->
| method | bias | reduction | p | n |
|---|---:|---:|---:|---:|
| base model | 0.58 [0.53, 0.64] | | 1.00 | 7,511 |
| **sft** (ours) | 0.191 [0.161, 0.219] | -49 % [-65, -35] | 0.02 | 1,024 |

<!-- results: results/table.txt -->
```
bias 0.579
```

<!-- figures: none -->

The rate is 0.0008.
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/main.csv").write_text(MAIN)
    (tmp_path / "results/table.txt").write_text("bias 0.579\n")
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path / "README.md"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_figure_is_in_a_file_of_results(path: Path) -> None:
    assert results.strays(path) == []


def test_all_that_is_told_agrees_with_its_file(page: Path) -> None:
    assert results.strays(page) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("to 0.19", "to 0.20"),  # in a sentence
        ("-49 %, with", "-48 %, with"),
        ("0.58 [", "0.57 ["),  # in a table
        ("0.161", "0.162"),
        ("[-65", "[-66"),
        ("-49 % [", "49 % ["),
        ("0.53, 0.64", "0.64, 0.53"),
        ("1,024", "1,025"),
        ("**sft**", "**dpo**"),  # of another row
        ("base model", "sft"),
        ("| 0.02 |", "| 1.00 |"),
        ("bias 0.579", "bias 0.58"),  # in a block of text
        ("<!-- figures: results/main.csv -->", ""),  # no file is named
        ("<!-- results: results/main.csv -->", "<!-- figures: none --><!-- results: results/table.txt -->"),
        ("<!-- figures: none -->", ""),
    ],
    ids=lambda text: re.sub(r"\W+", " ", text).strip(),
)  # fmt: skip
def test_what_does_not_agree_is_told(page: Path, old: str, new: str) -> None:
    assert PAGE.count(old) == 1
    page.write_text(PAGE.replace(old, new))
    assert results.strays(page)


def test_a_file_that_is_not_there_is_an_error(page: Path) -> None:
    page.write_text(PAGE.replace("results/main.csv", "results/mine.csv"))
    with pytest.raises(FileNotFoundError, match=r"results/mine\.csv"):
        results.strays(page)


def test_no_figure_of_a_table_can_be_exchanged(tmp_path: Path) -> None:
    """Of the largest table there is: any of its figures, with 3.21 in place of it, is told."""
    name, folder = "results/main.csv", ROOT / "experiments/transfer"
    (lines,) = (
        lines
        for names, lines in results.TABLE.findall((folder / "README.md").read_text())
        if names == name
    )
    changed = [
        f"{line[: match.start()]}3.21{line[match.end() :]}"
        for line in lines.splitlines()[2:]
        for match in re.finditer(r"\d\.\d\d", line)
    ]
    assert len(changed) > 200
    (tmp_path / "results").mkdir()
    shutil.copy(folder / name, tmp_path / name)
    page = tmp_path / "README.md"
    page.write_text("\n".join([f"<!-- results: {name} -->", "| method |", "|---|", *changed, ""]))
    assert results.strays(page) == [f"{name}: {line}" for line in changed]


def test_tables_and_blocks_are_made_of_the_files(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = str(page.parent / "results/main.csv")
    assert results.main(["table", main, "method", "bias[]", "reduction[sd]%", "p", "n"]) == 0
    table = capsys.readouterr().out
    assert "| sft        | 0.19 [0.16, 0.22] | -49 % [-65, -35], sd 7 % | 0.02 | 1024 |" in table
    assert re.search(r"\| base model \| 0.58 \[0.53, 0.64\] \| +\| 1.00 \| 7511 \|", table)
    page.write_text(
        f"<!-- results: results/main.csv -->\n{table}\n{PAGE.replace('bias 0.579', '?')}"
    )
    assert results.main(["check", str(page)]) == 1
    assert "table.txt: the block has another text" in capsys.readouterr().out
    assert results.main(["write", str(page)]) == 0
    assert page.read_text().endswith(PAGE)
