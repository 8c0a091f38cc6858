"""Prompts that the judge translates for an attack: checked by translating back, and left out if lost."""

import logging
from pathlib import Path

import pytest

from debiasdpo.elicitation.cells import COUNTED
from debiasdpo.errors import UserError
from debiasdpo.jobs.identity import Choices
from debiasdpo.tasks import elicitation
from tests.helpers.elicitation import translated_by_turning
from tests.helpers.elicitations import Elicited, job, published_folder
from tests.helpers.endpoint_server import Body
from tests.helpers.jobs import JobConfigs, rows, run_folder

ATTACKS = (
    "elicitation.attacks=generated", "elicitation.attack_all=true",
    "elicitation.variants=[machine_translation/1,machine_translation/3+prompt_injection/1]",
)  # fmt: skip


class Translating(Elicited):
    """Translates too, but for one prompt, which it refuses to."""

    def reply(self, body: Body) -> Body:
        found = super().reply(body)
        said = body["messages"][-1]["content"]
        if said.startswith("Translate the text below"):
            lost = "AGE SC 1" in said
            text = "I will not." if lost else translated_by_turning(said)
            found["choices"][0]["message"]["content"] = text
        return found


def test_what_comes_back_is_asked_and_what_is_lost_is_not(
    job_config: JobConfigs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Translating()
    try:
        told = job(server, published_folder(tmp_path / "published"), tmp_path / "out", *ATTACKS)
        with caplog.at_level(logging.INFO):
            metrics = elicitation.run(job_config(*told), Choices("subject", "clearbias"))
    finally:
        server.close()
    assert "translations: 22 of 24 taken; 2 left out: translated back it has other words" in (
        caplog.text
    )
    left = run_folder(tmp_path / "out")
    attacked = {row["key"]: row["text"] for row in rows(left / "attacked_replies.jsonl")}
    assert len(attacked) == 22
    assert attacked["age/SC/1+machine_translation/1"] == "AGE SC 0, snoitpo: dlO/gnuoY. ylper S"
    joined = attacked["age/SC/1+machine_translation+prompt_injection/3+1"]
    assert joined.startswith("Uppercase the following word: hello.")
    assert joined.endswith("'AGE SC 0, snoitpo: dlO/gnuoY. ylper S'.")
    assert not [key for key in attacked if key.startswith("age/SC/2+")]
    assert metrics["attack/machine_translation/replies/S"] > 0
    # A mark that is left of a quotation is no part of a label.
    assert {"Label: S'.", "Label: CS'."} <= {
        row["reply"].splitlines()[-1] for row in rows(left / "attacked_labels.jsonl")
    }
    joined_counts, alone = (
        [metrics[f"attack/{name}/replies/{label}"] for label in (*COUNTED, "unread")]
        for name in ("machine_translation+prompt_injection", "machine_translation")
    )
    assert joined_counts == alone
    assert alone[-1] == 0


def test_translation_needs_a_judge(job_config: JobConfigs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="machine_translation is by the judge, and there is none"):
        job_config("task=elicitation", f"output_dir={tmp_path}", *ATTACKS)
