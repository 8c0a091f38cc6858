"""Jobs on NCTE files, from their published format to the metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tests.helpers.jobs import JobConfigs, rows, run_folder, run_job
from tests.helpers.ncte import write_lessons


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
    assert "with one human rater" in (run_folder(tmp_path / "out") / "table.txt").read_text()
