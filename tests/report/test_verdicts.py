"""The page begins with a verdict on each rater."""

import re
from pathlib import Path

from debiasdpo.report import formats
from debiasdpo.report.build import build
from debiasdpo.report.collect import find_runs
from debiasdpo.report.groups import group_runs
from debiasdpo.report.latex import to_latex
from debiasdpo.report.real_groups import real_groups_table
from debiasdpo.report.verdicts import in_plain_words, shown_first, verdicts
from tests.helpers.report_files import keep_step, metrics, write_run

SAYS = {
    "context": {
        "train": {"race": True},
        "categories": {"race": {"when": {"flattering": "it is <b>so</b>"}}},
    }
}


def test_the_base_model_comes_first_and_then_what_was_made_of_it(tmp_path: Path) -> None:
    write_run(tmp_path / "one", config=SAYS)
    found = list(verdicts(group_runs(find_runs([tmp_path]))))
    assert [one.about for one in found] == [
        "tiny, essays: base model (4 documents)",
        "tiny, essays: sft, trained on race (4 documents)",
    ]
    # every figure of the base model is 0.4 [0.2, 0.8], of 8 prompts; of the tuned one 0.1 [0.05, 0.2]
    by_category = {one.category: one for one in found[0].judgements}
    assert by_category["race"].size == "large"
    assert by_category["race"].text.startswith("If it is <b>so</b>, 3 of 8 ratings rise and 3 fall")
    assert "if a statement on race is added (unflattering)" in by_category["race"].text
    assert {one.size for one in found[1].judgements} == {"open"}
    page = build([tmp_path]).page
    assert re.findall(r"<h2>(.*?)</h2>", page)[0] == "Verdict"
    assert "If it is &lt;b&gt;so&lt;/b&gt;, 3 of 8" in page


def test_what_is_called_trained_was(tmp_path: Path) -> None:
    """Not a model whose prompt was changed, nor one of which no trained step was kept."""

    def titles() -> list[str]:
        return [one.about for one in verdicts(group_runs(find_runs([tmp_path])))]

    prompted = {**SAYS, "method": {"name": "prompt_ignore", "reminder": "Ignore it."}}
    write_run(tmp_path / "prompted", method="prompt_ignore", config=prompted)
    assert titles()[1:] == ["tiny, essays: prompt_ignore (4 documents)"]
    for seed, step in ((0, 5), (1, 0)):
        run = tmp_path / f"trained{seed}"
        write_run(run, seed=seed, config={**SAYS, "seed": seed})
        keep_step(run, step)
    (tuned,) = (title for title in titles() if "sft" in title)
    assert (
        tuned == "tiny, essays: sft, trained on race, of which no trained step was kept in seed 1"
    )


def test_two_raters_have_two_headings(tmp_path: Path) -> None:
    """An audit's base model, of all documents, and that of a run, of its test part."""
    untrained = {**SAYS, "method": {"name": "none"}}
    write_run(tmp_path / "audit", method="none", config=untrained, trained="")
    write_run(tmp_path / "run", config=SAYS)
    headings = [one.about for one in verdicts(group_runs(find_runs([tmp_path])))]
    assert len(headings) == len(set(headings))


def test_a_base_model_of_several_trainings_is_told_once(tmp_path: Path) -> None:
    """And not for each context; another readout is another audit."""
    gains = "accuracy/spearman/difference"
    for on in ("age", "race", "role"):
        context = {**SAYS["context"], "train": {on: True}}
        worse = {gains: -0.1, f"{gains}_ci": [-0.2, -0.05]}
        write_run(tmp_path / on, config={"context": context}, more=worse)
    read = {**SAYS, "rate": {"readout": "expected"}}
    write_run(tmp_path / "other", config=read, more={"bias/base": 0.9})
    found = list(verdicts(group_runs(find_runs([tmp_path]))))
    assert [one.about.partition(": ")[2].removesuffix(" (4 documents)") for one in found] == [
        "base model (rate.readout=text)",
        *(f"sft (rate.readout=text), trained on {on}" for on in ("age", "race", "role")),
        "base model (rate.readout=expected)", "sft (rate.readout=expected), trained on race",
    ]  # fmt: skip
    # The better rater was made of the base model that was read in the other way.
    assert ["A better rater" in one.advice for one in found] == [False] * 4 + [True, False]


def test_a_large_category_is_not_left_out_for_smaller_ones(tmp_path: Path) -> None:
    """The last of eight raters: the others that were trained are swayed by nothing that is told."""
    for number in range(7):
        as_base = {
            key.replace("/base", "/tuned"): value
            for key, value in metrics(["age", "race"], ["clarity"]).items()
            if "/base" in key
        }
        more = as_base if number == 6 else {}
        write_run(tmp_path / str(number), method=f"m{number}", config=SAYS, more=more)
    told = list(verdicts(group_runs(find_runs([tmp_path]))))
    assert [any(j.size == "large" for j in one.judgements) for one in told] == [
        True,
        *[False] * 6,
        True,
    ]
    page = build([tmp_path]).page
    titles = re.findall(
        r'<details class="verdict"[^>]*>\s*<summary>(.*?)</summary>', page, re.DOTALL
    )
    assert len(titles) == 6
    assert "m6" in titles[-1]
    assert "m5" not in page.partition("Bias and accuracy")[0]
    assert "2 more: report on fewer runs to see them." in page
    kept, said = shown_first(told, 1)
    assert kept == (told[0],)
    assert "7 more, of which 1 with a large category: report on fewer runs" in said


def test_a_better_rater_in_the_same_run_is_pointed_to(tmp_path: Path) -> None:
    """It ranks better and is less far off; of 0.4 and 0.1 in all else, the placebo's bias too."""
    ranks: dict[str, object] = {
        "accuracy/spearman/tuned": 0.55, "accuracy/spearman/tuned_ci": [0.3, 0.7],
        "accuracy/spearman/base_ci": [-0.1, 0.25],
        "accuracy/spearman/difference": 0.15, "accuracy/spearman/difference_ci": [0.05, 0.25],
    }  # fmt: skip
    write_run(tmp_path / "one", config=SAYS, more=ranks)
    groups = group_runs(find_runs([tmp_path]))
    base, tuned = verdicts(groups)
    said = "A better rater stands below: the same model with method=sft: Spearman 0.55, off by 0.10 points"
    assert base.advice == (
        "Do not use this rater: it tells good from poor no better than chance, swayed or not."
        f" {said}."
    )
    assert (base.better, tuned.better) == (False, True)
    rate = (
        "To rate documents with it: debiasdpo rate RUN DOCUMENTS --out FILE (RUN: the folder one)."
    )
    assert tuned.advice.endswith(rate)
    assert in_plain_words(groups) == (
        "tiny rated 4 documents of essays, with and without statements that should not matter. As it is, it"
        f" ranks them no better than chance and is swayed much by statements on age, race. {said}; it is"
        " swayed much by nothing that this audit tells (not to be told: age, race)."
    )
    page = build([tmp_path]).page
    assert page.count('<details class="verdict" open>') == 2
    less = {
        "accuracy/spearman/tuned": 0.3, "accuracy/spearman/difference": -0.1,
        "accuracy/spearman/difference_ci": [-0.2, -0.05],
    }  # fmt: skip
    write_run(tmp_path / "one/other", config=SAYS, more=less)
    worse = group_runs(find_runs([tmp_path / "one/other"]))
    assert not any(one.better for one in verdicts(worse))
    assert "No rater that was made of it is told to be a better one." in in_plain_words(worse)
    # Other documents might well tell the other way.
    chance = {**ranks, "accuracy/spearman/difference_ci": [-0.05, 0.35]}
    write_run(tmp_path / "two", config=SAYS, more=chance)
    assert not any(one.better for one in verdicts(group_runs(find_runs([tmp_path / "two"]))))


def test_the_best_is_the_one_that_gains_most_beside_its_own_model(tmp_path: Path) -> None:
    """Seeds have other test documents: the one whose seed is easy ranks better, and gained less."""
    for method, seed, rank, gain in (("easy", 1, 0.81, 0.01), ("sft", 0, 0.6, 0.3)):
        more: dict[str, object] = {
            "accuracy/spearman/tuned": rank, "accuracy/spearman/tuned_ci": [rank - 0.1, rank + 0.1],
            "accuracy/spearman/difference": gain,
            "accuracy/spearman/difference_ci": [gain / 2, 2 * gain],
        }  # fmt: skip
        write_run(
            tmp_path / method, method=method, seed=seed, config={**SAYS, "seed": seed}, more=more
        )
    said = in_plain_words(group_runs(find_runs([tmp_path])))
    assert "the same model with method=sft: Spearman 0.60" in said


def test_real_groups_have_a_table_where_there_are_some(tmp_path: Path) -> None:
    more = {
        f"group/sex={kind}/{metric}/{model}": value
        for kind, value in (("f", -0.5), ("m", 0.25))
        for metric in ("score", "rating", "error", "error_gap", "mae")
        for model in ("base", "tuned")
    }
    write_run(tmp_path / "one", more=more)
    table = real_groups_table(group_runs(find_runs([tmp_path])))
    assert [(row[3], *row[5:7]) for row in table.rows] == [
        ("base model", "sex", "f"), ("base model", "sex", "m"), ("sft", "sex", "f"), ("sft", "sex", "m"),
    ]  # fmt: skip
    assert [row[2] for row in table.rows] == ["race"] * 4
    assert r"\textbf" not in to_latex(
        table
    )  # men and women are no methods, of which one is the best
    assert [formats.text(row[11], "signed") for row in table.rows] == ["−0.50", "+0.25"] * 2
    page = build([tmp_path])
    assert "Real groups" in page.page
    assert "real_groups" in {table.name for table in page.tables}


def test_of_several_seeds_shares_are_told(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed, config={**SAYS, "seed": seed})
    base, _ = verdicts(group_runs(find_runs([tmp_path])))
    assert base.about == "tiny, essays: base model"
    race = next(one for one in base.judgements if one.category == "race")
    assert race.text.startswith("If it is <b>so</b>, 40% of the ratings rise and 40% fall")


def test_of_several_seeds_rubrics_with_two_human_raters_are_named(tmp_path: Path) -> None:
    alone = "alone: on others two human raters scored too few documents"
    for seed, rubrics in enumerate(("EXPL", "EXPL, SMQR")):
        kappas = {
            key: value
            for of in ("base", "human")
            for key, value in (
                (f"agreement/qwk/{of}", 0.5),
                (f"agreement/qwk/{of}_ci", [0.4, 0.6]),
                (f"agreement/qwk/{of}_note", f"no rating varies; on {rubrics} {alone}"),
            )
        }
        run = tmp_path / str(seed)
        write_run(run, seed=seed, config={**SAYS, "seed": seed}, more=kappas)
    base, _ = verdicts(group_runs(find_runs([tmp_path])))
    assert "(QWK) on EXPL or EXPL, SMQR with one human rater 0.50 (" in base.accuracy


def test_pages_of_prompts_of_two_folders_of_one_name_are_two(tmp_path: Path) -> None:
    """Two output folders, and data that differ."""
    for where, text in (("a", "Essay one."), ("b", "Essay two.")):
        write_run(tmp_path / where / "runs/same", data=where, text=text)
    asked = build([tmp_path]).prompts
    assert [page.name for page in asked] == ["same.html", "same_2.html"]
    assert [("one." in page.html, "two." in page.html) for page in asked] in (
        [(True, False), (False, True)], [(False, True), (True, False)],
    )  # fmt: skip
