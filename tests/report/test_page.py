"""The page in a real browser: it renders at both widths, asks for nothing and complains of nothing."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from debiasdpo.report.build import build
from debiasdpo.report.save import write
from tests.helpers.report_files import write_odd_runs, write_run
from tests.helpers.run_folders import Runs, read, write_rows
from tests.helpers.run_folders import write as put

CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))),
    None,
)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all runs, one of which has names that would break out of the page if they could."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(runs.folder, folder / "runs")
    copied = Runs(folder / "runs")
    hostile = "<script>document.title = 'run'</script><img src='https://example.invalid/x'>"
    error = f"{hostile} {'a_word_without_end' * 40}"
    put(copied.named("_s2_") / "status.json", {"state": "failed", "error": error})
    metrics = copied.finished[0] / "metrics.json"
    put(metrics, {k.replace("race", "<b>race</b>"): v for k, v in read(metrics).items()})
    write(build([copied.folder], "debiasing_dpo"), folder / "out")
    return folder / "out" / "index.html"


class Seen:
    """The page as it is at one width, and whatever the browser said or asked for meanwhile."""

    def __init__(self, browser: Any, file: Path, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(120_000)  # a screenshot of a long page, on a machine at work
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")


@pytest.fixture(scope="module", params=[1280, 400])
def seen(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Seen]:
    found = Seen(browser, page_file, request.param)
    yield found
    found.page.close()


@pytest.fixture(scope="module")
def odd_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write(build([write_odd_runs(folder / "runs")]), folder / "out")
    return folder / "out" / "index.html"


@pytest.mark.parametrize("width", [1280, 400])
def test_odd_names_and_texts_are_shown_and_run_by_nothing(
    browser: Any, odd_file: Path, width: int
) -> None:
    seen = Seen(browser, odd_file, width)
    seen.page.screenshot(full_page=True)
    assert seen.said == []
    assert seen.asked == [odd_file.as_uri()]
    assert seen.page.title() == "Bias and accuracy of LLM ratings"
    assert seen.page.query_selector("img, iframe, object") is None
    assert len(seen.page.query_selector_all("script")) == 1  # the page's own
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert [w for w in words_in_figures(seen.page) if not w["inside"]] == []
    # No name is painted over the numbers beside it.
    wide = "all => all.filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.innerText)"
    assert seen.page.eval_on_selector_all("td, thead th", wide) == []
    first = "all => Math.max(...all.map(cell => cell.getBoundingClientRect().width))"
    assert seen.page.eval_on_selector_all("tbody td:first-child", first) < 0.55 * width
    ids = seen.page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(set(ids)) == len(ids)
    seen.page.close()


def test_nothing_is_said_and_nothing_is_asked_for(seen: Seen, page_file: Path) -> None:
    seen.page.screenshot(full_page=True)  # everything was drawn
    assert seen.said == []
    assert seen.asked == [page_file.as_uri()]
    assert seen.page.title() == "Bias and accuracy of LLM ratings"


def test_the_page_itself_never_scrolls_sideways(seen: Seen) -> None:
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_every_figure_and_table_can_be_seen(seen: Seen) -> None:
    width = seen.page.evaluate("innerWidth")
    figures = seen.page.query_selector_all("figure svg")
    assert len(figures) == 7
    for figure in figures:
        box = figure.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 80
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    tables = seen.page.query_selector_all("table")
    assert {t.get_attribute("id") for t in tables} == {
        f"table-{name}"
        for name in (
            "runs",
            "attempts",
            "stages",
            "main",
            "accuracy",
            "versus",
            "transfer",
            "shifts",
            "statements",
        )
    }
    assert all(table.is_visible() for table in tables)


def words_in_figures(page: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
            const whole = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].map(text => {
                const box = text.getBoundingClientRect();
                return {
                    words: text.textContent,
                    figure: svg.closest('figure').id,
                    size: parseFloat(getComputedStyle(text).fontSize)
                        * whole.width / svg.viewBox.baseVal.width,
                    inside: box.left >= whole.left - 3 && box.right <= whole.right + 3
                        && box.top >= whole.top - 3 && box.bottom <= whole.bottom + 3,
                };
            });
        })"""
    )
    return found


def test_words_in_figures_are_legible_and_inside(seen: Seen) -> None:
    words = words_in_figures(seen.page)
    assert len(words) > 100
    assert [w for w in words if not w["inside"]] == []
    assert [w for w in words if w["size"] < 7] == []
    assert sum(w["size"] >= 8.5 for w in words) > 0.8 * len(words)


def test_the_context_is_marked_in_each_example(seen: Seen) -> None:
    examples = seen.page.query_selector_all(".example")
    assert len(examples) == 6  # 3 with the method, 1 of the base model, 2 pairs
    for example in examples:
        assert example.query_selector("mark").inner_text()


def test_it_prints_with_everything_open(browser: Any, page_file: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert page.query_selector("#table-accuracy").bounding_box()["height"] > 20
    page.close()


def test_tables_are_sorted_by_their_heads_and_filtered_by_words(
    browser: Any, odd_file: Path
) -> None:
    page = Seen(browser, odd_file, 1280).page
    table = page.query_selector("#table-shifts")
    column = "all => all.filter(r => !r.hidden).map(r => r.cells[2].textContent)"

    def values() -> list[list[str]]:
        blocks = table.query_selector_all("tbody")
        return [b.eval_on_selector_all("tr:not(.section)", column) for b in blocks]

    before = values()
    assert max(map(len, before)) > 2
    button = table.query_selector_all("thead button")[2]
    for reverse, says in ((False, "ascending"), (True, "descending")):
        button.click()
        assert table.query_selector_all("thead th")[2].get_attribute("aria-sort") == says
        assert values() == [sorted(block, reverse=reverse) for block in before]
    field = page.query_selector("input[aria-label*='shift' i]")
    field.fill("PLACEBO")
    words = "all => all.filter(r => r.checkVisibility()).map(r => r.textContent)"
    left = table.eval_on_selector_all("tbody tr:not(.section)", words)
    assert left
    assert all("placebo" in row.lower() for row in left)
    assert len(left) < sum(map(len, before))
    page.close()


def test_every_prompt_can_be_looked_through(browser: Any, page_file: Path) -> None:
    (file, *_) = sorted((page_file.parent / "prompts").iterdir())
    seen = Seen(browser, file, 1280)
    page = seen.page
    assert seen.said == []
    assert seen.asked == [file.as_uri()]
    data = json.loads(page.inner_text("#data") or page.text_content("#data"))
    ratings = page_file.parent.parent / "runs" / file.stem
    asked = [
        row
        for model in ("base", "tuned")
        for row in map(json.loads, (ratings / f"ratings_{model}.jsonl").read_text().splitlines())
        if row["statement"] is not None
    ]
    assert len(data["rows"]) == len(asked) > 12
    assert page.inner_text("#told").startswith(f"{len(asked)} of {len(asked)} prompts")
    first = page.query_selector(".example")
    assert asked[0]["statement"] in first.inner_text()
    assert [h.inner_text() for h in first.query_selector_all("h6")] == [
        f"{side}: {rating:.2f}"
        for side, rating in (
            ("neutral", asked[0]["rating"] - data["rows"][0]["shift"]),
            ("with the statement", asked[0]["rating"]),
        )
    ]
    page.select_option("[name=category]", "race")
    page.select_option("[name=model]", "base model")
    page.select_option("[name=order]", "shift")
    tags = page.eval_on_selector_all(".example", "all => all.map(e => e.textContent)")
    base = [r for r in data["rows"] if r["model"] == "base model" and r["category"] == "race"]
    assert len(tags) == len(base) > 0
    assert all("race" in t and "base model" in t for t in tags)
    largest = max(base, key=lambda r: abs(r["shift"]))
    assert f"document {largest['document']}" in tags[0]
    page.check("[name=different]")
    far = [r for r in base if abs(r["shift"]) >= data["least"]]
    assert len(page.query_selector_all(".example")) == len(far)
    page.fill("[name=document]", "no such document")
    assert page.query_selector(".example") is None
    page.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_by_night_words_stand_out_from_a_dark_ground(
    browser: Any, page_file: Path, width: int
) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark", reduced_motion="reduce"
    )
    page.goto(page_file.as_uri())
    colours = page.evaluate(
        """() => [...document.querySelectorAll('p, td, th, summary, h2, a, .tag, .size, mark, li')].map(e => {
            let ground = e;
            while (ground && getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)')
                ground = ground.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(ground ?? document.body).backgroundColor];
        })"""
    )
    for ink, ground in {tuple(pair) for pair in colours}:
        assert contrast(ink, ground) >= 4.5, (ink, ground)  # WCAG 2.2, AA
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.02
    page.close()


def luminance(colour: str) -> float:
    """WCAG 2.2, of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("high", "step"), [(5, 0.5), (100, 1)])
def test_numbers_of_a_fine_scale_do_not_lie_on_each_other(
    browser: Any, tmp_path: Path, high: float, step: float
) -> None:
    rubric = {"question": "Clear?", "low": 1, "high": high, "step": step}
    names = [f"d{i}" for i in range(900)]
    data = {"source": "table", "rubrics": {"clarity": rubric}}
    run = write_run(tmp_path / "runs/one", documents=names, config={"data": data})
    levels = [1 + i * (high - 1) / 8 for i in range(9)]
    write_rows(run / "documents/documents.jsonl", [
        {"part": "test", "id": name, "group": name, "text": "t", "scores": {"clarity": levels[i % 9]}}
        for i, name in enumerate(names)
    ])  # fmt: skip
    write(build([tmp_path / "runs"]), tmp_path / "out")
    page = Seen(browser, tmp_path / "out/index.html", 1280).page
    boxes = page.eval_on_selector_all(
        "figure[id^='figure-calibration'] svg text",
        "all => all.map(t => [t.textContent, t.getBoundingClientRect()])",
    )
    assert sum(words == "100" for words, _ in boxes) >= 9  # documents of each level
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[:i]:
            apart = (
                a["right"] <= b["left"] + 1 or b["right"] <= a["left"] + 1
                or a["bottom"] <= b["top"] + 2 or b["bottom"] <= a["top"] + 2
            )  # fmt: skip
            assert apart, (one, other)
    page.close()
