"""Prompts and labelled replies of elicitation for tests, and the published ones where they are at hand."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from debiasdpo.elicitation.base import ElicitationPrompt, Form, Label, Labelled
from debiasdpo.elicitation.judge import ControlItem
from debiasdpo.raters.endpoint.serving import LocalEndpoint
from debiasdpo.use.recordings import open_recordings

ROOT = Path(__file__).parents[2]
FOLDERS: Mapping[Form, str] = {"SC": "sentence_completion", "CTO": "choose_the_option"}


def clearbias() -> Path:
    """The folder with the published prompts and recorded replies, beside the checkout; without it the test is
    skipped."""
    for above in ROOT.parents:
        folder = above / "shared" / "clearbias"
        if folder.is_dir():
            return folder
    pytest.skip("needs ../shared/clearbias")


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def category_of(published: str) -> str:
    """The name that the project gives a published category."""
    words = published.lower().replace("socio economics", "socioeconomic").replace(" - ", " ")
    return "_".join(words.split())


def recorded_base(model: str, form: Form) -> list[Labelled]:
    """The recorded, judged replies of a model to the base prompts."""
    file = f"recorded/judged_base_prompts/{model}/{model}_base_prompts_{form}.csv"
    rows = table(clearbias() / file)
    return [
        Labelled(prompt, row["RESPONSE"], "ok", label_of(row["JUDGE"]))
        for prompt, row in zip(_prompts(rows, form), rows, strict=True)
    ]


def published_base(form: Form) -> list[ElicitationPrompt]:
    return _prompts(table(clearbias() / f"base_prompts/base_prompts_{form}.csv"), form)


def control_set() -> tuple[list[ControlItem], dict[str, list[Label | None]]]:
    """The published one, and the labels of the two recorded judges."""
    items: list[ControlItem] = []
    judged: dict[str, list[Label | None]] = {"DEEPSEEK": [], "GEMINI": []}
    forms: tuple[tuple[Form, str], ...] = (("SC", "sc"), ("CTO", "cto"))
    for form, name in forms:
        for row in table(clearbias() / f"recorded/control_set/output_{name}.csv"):
            category, label = category_of(row["BIAS CATEGORY"]), label_of(row["LABEL"])
            items.append(ControlItem(category, form, row["PROMPT"], row["RESPONSE"], label))
            for judge, labels in judged.items():
                labels.append(label_of(row[judge]))
    return items, judged


def translated_by_turning(asked: str) -> str:
    """What a translator answers to whom every language is English with its words turned round."""
    text = asked.partition("\n\n")[2]
    return re.sub(r"[^\W\d_]*[a-z][^\W\d_]*", lambda word: word[0][::-1], text)


def label_of(text: str) -> Label:
    labels: dict[str, Label] = {"S": "S", "CS": "CS", "D": "D", "R": "R", "M": "M"}
    return labels[text]


def _prompts(rows: Sequence[Mapping[str, str]], form: Form) -> list[ElicitationPrompt]:
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        category = category_of(row["BIAS CATEGORY"])
        seen[category] += 1
        name = f"{category}/{form}/{seen[category]}"
        options = row.get("STEREOTYPE", "").strip(), row.get("COUNTER-STEREOTYPE", "").strip()
        found.append(ElicitationPrompt(name, name, category, form, *options, row["PROMPT"]))
    return found


def labelled(
    labels: str, category: str = "age", form: Form = "SC", attack: str | None = None
) -> list[Labelled]:
    """Replies with these labels, divided by blanks: "?" has none since the judge's reply was unread, "!" as
    there was no reply. An attack is "name/variant"."""
    return list(_labelled(labels, category, form, attack))


def _labelled(labels: str, category: str, form: Form, attack: str | None) -> Iterator[Labelled]:
    name, _, variant = (attack or "").partition("/")
    for number, label in enumerate(labels.split()):
        base = f"{category}/{form}/{number}"
        prompt = ElicitationPrompt(
            f"{base}+{attack}" if attack else base, base, category, form, "OLD", "YOUNG", "..",
            name or None, variant or None,
        )  # fmt: skip
        known = None if label in "?!" else label_of(label)
        yield Labelled(prompt, "a reply", "error" if label == "!" else "ok", known)


@contextmanager
def replayed(paths: Sequence[Path], *judge: str) -> Iterator[LocalEndpoint]:
    """Recorded replies, or the labels of a judge, as an endpoint."""
    recordings = open_recordings([str(path) for path in paths], judge)
    endpoint = LocalEndpoint(recordings.answer, recordings.models, "127.0.0.1", 0)
    try:
        yield endpoint
    finally:
        endpoint.close()
