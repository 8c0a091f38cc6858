"""Jobs on NCTE files, from their published format to the metrics."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job
from tests.helpers.ncte import write_lessons
from tests.helpers.parrot import parrot


def test_the_raters_of_a_chapter_are_held_against_each_other_and_the_model(
    job_config: JobConfigs, tiny_llama: Path, tmp_path: Path
) -> None:
    told = write_lessons(tmp_path, 5)
    found = run_job(job_config(
        *told, "data.use=[CLPC,EXPL,SMQR]", f"model.path={tiny_llama}", "model.max_length=1024",
        "rate=expected", "method=none", "data.split={train: 0, validation: 0, test: 1}",
        "audit.categories=[race,placebo]", "audit.resamples=100", f"output_dir={tmp_path / 'out'}",
    ))  # fmt: skip
    ratings = pd.DataFrame(rows(run_folder(tmp_path / "out") / "ratings_base.jsonl"))
    neutral = ratings[ratings["category"].isna()].set_index(["rubric", "document"])["rating"]
    table = pd.read_table(tmp_path / "36095-0003-Data.tsv", encoding="utf-8-sig")
    table["document"] = table["OBSID"].astype(str) + "-" + table["CHAPNUM"].astype(str)
    humans, models, kappas, apart, shifts = [], [], [], [], []
    for name in ("EXPL", "SMQR"):  # CLPC has one rater
        given = table[table[name] < 4].pivot(index="document", columns="RATERID", values=name)
        # Those of the first lesson on EXPL are of 9 and 101.
        pairs = pd.DataFrame(
            [one.dropna().iloc[:2].tolist() for _, one in given.iterrows()], given.index
        )
        rating = neutral[name].loc[given.index]
        humans.append(stats.spearmanr(pairs[0], pairs[1]).statistic)
        models.append([stats.spearmanr(rating, pairs[one]).statistic for one in (0, 1)])
        kappas.append(cohen_kappa_score(pairs[0], pairs[1], weights="quadratic", labels=[1, 2, 3]))
        apart.append((pairs[0] - pairs[1]).abs().mean())
        said = ratings[(ratings["rubric"] == name) & (ratings["category"] == "race")]
        said = said.set_index("document")["rating"]
        shifts.append((said - rating.loc[said.index]).abs().mean())

    def mean(values: Any) -> Any:
        return pytest.approx(np.mean(values))

    assert found["agreement/spearman/human"] == mean(humans)
    assert found["agreement/spearman/base"] == mean(models)
    assert found["agreement/qwk/human"] == mean(kappas)
    assert found["agreement/mae/human"] == mean(apart)
    assert found["agreement/mae/human_of"]["documents"] == 10
    key = "category/race/bias_in_disagreements/base"
    assert found[key] == pytest.approx(np.mean(shifts) / np.mean(apart))
    shown = (run_folder(tmp_path / "out") / "table.txt").read_text()
    assert "with one human rater" in shown
    alone = "on EXPL, SMQR alone: on others two human raters scored too few documents"
    assert alone in " ".join(shown.split())
    verdict = (run_folder(tmp_path / "out") / "verdict.txt").read_text()
    assert "(QWK) on EXPL, SMQR with one human rater" in " ".join(verdict.split())


def test_the_papers_experiment_runs_to_its_end(
    job_config: JobConfigs, small_tokenizer: Path, tmp_path: Path
) -> None:
    """`experiment=paper`, only smaller. Random weights write no rating; these write one that follows some
    words, of lessons and of statements."""
    words = {
        "1": [" guess", " only", " first", " almost", " least", " few", " last"],
        "3": [" because", " years", " two", " most", " passed", " close"],
        "2": [],
    }
    weights, chat = parrot(small_tokenizer, "They explain why. Rating: ", words)
    weights.save_pretrained(tmp_path / "model")
    chat.tokenizer.save_pretrained(tmp_path / "model")
    found = run_job(job_config(
        "experiment=paper", "model=llama8b", f"model.path={tmp_path / 'model'}",
        "model.max_length=2048", *write_lessons(tmp_path, 8), "context=experience",
        "data.use=[CLPC,EXPL]", "data.limit={train: 6, validation: 2, test: 6}",
        "audit.categories=[experience,placebo]", "audit.resamples=100",
        f"output_dir={tmp_path / 'out'}",
    ))  # fmt: skip
    folder = run_folder(tmp_path / "out")

    # Every statement, of every document and rubric.
    assert found["pairs/made"] == 6 * 2 * 8
    asked = Counter(row["category"] for row in rows(folder / "ratings_base.jsonl"))
    assert asked == {None: 6 * 2, "experience": 6 * 2 * 6, "placebo": 6 * 2 * 4}
    for model in ("base", "tuned"):
        assert found[f"parse_rate/{model}"] == 1
        assert found[f"bias/trained/{model}"] > 0
        assert found[f"accuracy/mae/{model}"] > 0
        assert found[f"agreement/mae/{model}"] > 0
    assert found["bias/placebo/base"] == 0  # it says none of the words

    # Chosen: what it writes without the statement; rejected: with it.
    written = {
        (row["document"], row["rubric"], row["statement"]): row["text"]
        for row in rows(folder / "reasoning.jsonl")
    }
    pairs = rows(folder / "pairs/pairs.jsonl")
    official = rows(folder / "pairs/pairs_official.jsonl")
    assert len(pairs) == len(official) == found["pairs/kept"] > 24
    documents = {row["id"]: row for row in rows(folder / "documents/documents.jsonl")}
    for pair, row in zip(pairs, official, strict=True):
        assert row.keys() == {"chosen", "rejected", "neutral_prompt", "score"}
        (*prompt, chosen), (*same, rejected) = row["chosen"], row["rejected"]
        assert prompt == same
        of = pair["document"], pair["rubric"]
        assert chosen == {"role": "assistant", "content": written[*of, None]}
        assert rejected == {"role": "assistant", "content": written[*of, pair["statement"]]}
        assert pair["statement"] in prompt[-1]["content"]
        assert pair["statement"] not in row["neutral_prompt"]
        assert row["score"] == documents[pair["document"]]["scores"][pair["rubric"]]

    # The paper's loss, at its rate, in two passes.
    steps = rows(folder / "training/steps.jsonl")
    assert len(steps) == 2 * math.ceil(len(pairs) / 24)
    for step in steps:
        loss = step["train/dpo"] + 0.1 * step["train/sft"]
        assert step["train/loss"] == pytest.approx(loss)
    # Its reference is the untrained model.
    assert steps[0]["train/dpo"] == pytest.approx(math.log(2))
    assert max(step["train/learning_rate"] for step in steps) == 1e-6
    assert (folder / "training/weights/model.safetensors").is_file()
