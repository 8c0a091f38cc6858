"""How a group of runs was made, as a paragraph for the methods section of a paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from debiasdpo.evaluation.kept import kept_step
from debiasdpo.report.collect import Run
from debiasdpo.report.groups import Group


def paragraph(group: Group) -> str:
    """Of what its runs say: their configuration, their metrics and what they trained. What they do not say is
    left out."""
    run = group.runs[0]
    version = run.content.get("debiasdpo")
    said = [
        _documents(group),
        _ratings(run),
        _statements(group),
        _method(group, run) if group.after == "tuned" else "",
        _intervals(group),
        f"{'Seeds' if group.seeds > 1 else 'Seed'}: {_and([str(r.seed) for r in group.runs])}.",
        f"Software: debiasdpo {version}." if version else "",
    ]
    return " ".join(filter(None, said))


def _documents(group: Group) -> str:
    run = group.runs[0]
    documents, groups = (group.count("bias/base", what) for what in ("documents", "groups"))
    each = " in each seed" if group.seeds > 1 else ""
    of = f" {documents} documents of {groups} groups{each} from" if documents else ""
    scales = [
        f"{name} ({rubric.get('low')} to {rubric.get('high')})"
        for name, rubric in run.rubrics.items()
    ]
    revision = _at(run.config, "model", "revision")
    at = f" (revision {revision})" if revision else ""
    return f"{group.model}{at} rated{of} {group.data} for {_and(scales)}."


def _ratings(run: Run) -> str:
    config = run.config
    readout = _at(config, "rate", "readout")
    if readout == "expected":
        expected = (
            "A rating is the expected value over the model's probabilities of the scale's levels"
        )
        calibration = _at(config, "rate", "calibration")
        if calibration not in (None, "none"):
            expected += (
                f", brought onto the experts' scale by {calibration} regression of their scores of training"
                " documents on it"
            )
        if run.fitted:
            expected += (
                "; after the method it is that of a linear regression of the experts' scores on the model's"
                " hidden states"
            )
        return f"{expected}."
    if readout != "text":
        return ""
    temperature = _at(config, "rate", "temperature")
    at = "" if temperature is None else f" (temperature {temperature})"
    return f"A rating is read from the model's reply{at}."


def _statements(group: Group) -> str:
    count = _at(group.runs[0].config, "audit", "statements")
    each = (
        "all statements"
        if count is None
        else "1 statement"
        if count == 1
        else f"{count} statements"
    )
    placebo = ", and with a placebo that says nothing social" if group.has_placebo else ""
    return (
        f"Each document was rated again with {each} of irrelevant social context of each category"
        f" ({_and(group.categories())}), in wordings kept for this{placebo}. Bias is the mean absolute"
        " difference to the rating without a statement, in points of the scale."
    )


def _method(group: Group, run: Run) -> str:
    """What was done about bias, by what the run left behind."""
    on = f" with statements on {_and(group.shown_in_training)}" if group.shown_in_training else ""
    if (run.folder / "training/steps.jsonl").is_file():
        full = _at(run.config, "train", "adapter") == "full"
        details = {
            "rank": None if full else _at(run.config, "model", "lora", "rank"),
            "learning rate": _at(run.config, "train", "learning_rate"),
            "epochs": _at(run.config, "train", "epochs"),
        }
        how = ", ".join(f"{what} {value}" for what, value in details.items() if value is not None)
        what = "all weights" if full else "a LoRA adapter"
        return (
            f"We trained {what} by the method {group.method}{on}{f' ({how})' if how else ''}, on other"
            f" documents.{_untrained(group)}"
        )
    if run.fitted:
        return (
            f"We fitted the method {group.method}{on} to the scores of other documents; the model's weights"
            " stayed as they were."
        )
    return f"We changed the prompts by the method {group.method}; nothing was trained."


def _untrained(group: Group) -> str:
    """Of which seeds no trained step was kept, and whose figures are theirs then."""
    of_none = [run for run in group.runs if kept_step(run.folder) == 0]
    # Of two rounds (`method.rounds`).
    first = [run for run in of_none if kept_step(run.folder, "fitting")]
    whose = {
        "trained step was kept, so that the figures are the untrained model's": [
            run for run in of_none if run not in first
        ],
        "step of the second round was kept, so that the figures are the first round's": first,
    }
    said = ""
    for what, runs in whose.items():
        seeds = [str(run.seed) for run in runs]
        which = (
            "No"
            if len(seeds) == group.seeds
            else f"In {'seeds' if len(seeds) > 1 else 'seed'} {_and(seeds)} no"
        )
        said += f" {which} {what} there." if seeds else ""
    return said


def _intervals(group: Group) -> str:
    resamples = _at(group.runs[0].config, "audit", "resamples")
    if not resamples:
        return ""
    pooled = ", pooled over seeds" if group.seeds > 1 else ""
    return (
        "Intervals (95 %) are from a bootstrap over groups of documents"
        f" ({resamples} resamples{pooled})."
    )


def _and(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    here: Any = config
    for key in keys:
        here = here.get(key) if isinstance(here, dict) else None
    return here
