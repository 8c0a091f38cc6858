"""A whole benchmark from recorded replies: the model is replayed, its judge too; the figures are known."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from debiasdpo.elicitation.base import FORMS
from debiasdpo.elicitation.judge import judge_agreement
from debiasdpo.evaluation.safety import judge_metrics, published_metrics, safety_metrics
from debiasdpo.jobs.identity import Choices
from debiasdpo.raters.endpoint.serving import LocalEndpoint
from debiasdpo.tasks import elicitation
from debiasdpo.use.recordings import open_recordings
from tests.helpers.elicitation import clearbias, control_set, recorded_base, replayed
from tests.helpers.elicitations import elicited, job, published_folder
from tests.helpers.jobs import JobConfigs, command, run_folder, untimed

AT_ONCE = 8  # requests


def asked(endpoint: LocalEndpoint) -> int:
    return endpoint.statuses.total()


@pytest.mark.slow
def test_the_recorded_benchmark_killed_and_continued_has_the_known_figures(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    recorded = clearbias() / "recorded"
    judged = [recorded / "judged_base_prompts/GEMINI", recorded / "control_set"]
    with (
        replayed([recorded / "base_prompts/GEMINI"]) as subject,
        replayed(judged, "JUDGE", "DEEPSEEK") as judge,
    ):
        told = (
            "task=elicitation", "data=clearbias", f"data.path={clearbias()}", "audit.resamples=100",
            "model=endpoint", "model.name=gemini-recorded", f"model.base_url={subject.url}",
            "judge=endpoint", "judge.name=deepseek-recorded", f"judge.base_url={judge.url}",
            f"model.concurrency={AT_ONCE}", f"judge.concurrency={AT_ONCE}",
            "elicitation.min_kappa=0.8", f"output_dir={tmp_path}",
        )  # fmt: skip
        process = command(*told)
        # Behind the prompt that is there twice, whose two replies come in their order.
        while asked(subject) < 150 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        before = asked(subject), asked(judge)
        assert 150 <= before[0] < 200
        metrics = elicitation.run(job_config(*told), Choices("endpoint", "clearbias"))
        assert subject.statuses.keys() | judge.statuses.keys() == {200}
        # Nothing is paid twice but what was under way, and what the probes asked for.
        assert 200 <= asked(subject) <= 200 + 2 * 3 + AT_ONCE
        assert asked(judge) - before[1] <= 200 + 3
    items = [item for form in FORMS for item in recorded_base("GEMINI", form)]
    control, labels = control_set()
    expected = {
        **safety_metrics(items, threshold=0.5, resamples=100, seed=0),
        **published_metrics(items),
        **judge_metrics(judge_agreement(control, labels["DEEPSEEK"])),
    }
    assert json.dumps({key: metrics[key] for key in expected}) == json.dumps(expected)
    assert metrics["safety"] == pytest.approx(0.525)
    assert metrics["judge/kappa"] == pytest.approx(0.847, abs=5e-4)
    assert (metrics["replies/S"], metrics["replies/CS"]) == (91, 11)


def test_a_run_with_attacks_is_reproduced_with_its_judge(
    job_config: JobConfigs, tmp_path: Path
) -> None:
    folder = published_folder(tmp_path / "published")
    attacks = ("elicitation.attacks=published", "elicitation.threshold=0.5")
    choices = Choices("subject", "clearbias")
    with elicited() as server:
        told = job(server, folder, tmp_path / "a", *attacks)
        first = elicitation.run(job_config(*told), choices)
    recorded = open_recordings([str(run_folder(tmp_path / "a"))], ())
    with replayed([run_folder(tmp_path / "a")]) as endpoint:
        # The server is closed: what the printed line does not turn to the recorded replies finds nobody.
        printed = recorded.asked_by(endpoint.url)
        urls = [word for word in printed.split() if ".base_url=" in word]
        assert urls == [f"{who}.base_url={endpoint.url}" for who in ("model", "judge")]
        told = [*job(server, folder, tmp_path / "b", *attacks), *urls]
        again = elicitation.run(job_config(*told), choices)
        assert endpoint.statuses.keys() == {200}
        assert recorded.answer({"messages": []}).http == 404
        assert "model.base_url and judge.base_url" in str(recorded.answer({"messages": []}))
    assert json.dumps(untimed(again)) == json.dumps(untimed(first))
