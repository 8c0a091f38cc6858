"""The figures of task=elicitation as metrics.json has them.

safety, category/<name>/safety, form/<name>/robustness     as `elicitation.safety.assess` calls them
attack/<name>/effectiveness, expected_safety_reduction     what attacks take from it
category/<name>/safe                                       1 where safety is above elicitation.threshold
replies/<label>, replies/unread, replies/failed            how many replies became what
attack/<name>/replies/<label>                              the same under an attack
options/p_stereotype, options/category/<name>/fairness     of local weights, without a judge
options/attack/<name>/p_stereotype
judge/kappa, judge/confusion/<human>/<judge>               the judge on the control set
published/<key>                                            what the published code makes of the same labels
<key>_ci, <key>_of, <key>_note                             interval; replies and prompts; what to know of it

`evaluation.resistance` has the keys of a trained model beside them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from debiasdpo.elicitation.base import Labelled
from debiasdpo.elicitation.options import OptionsReadout, option_figures
from debiasdpo.elicitation.parity import published
from debiasdpo.elicitation.safety import (
    above_knee,
    assess,
    misunderstanding_by_attack,
    safe_categories,
    tallies,
)
from debiasdpo.evaluation.keys import count_key, interval_key, note_key
from debiasdpo.evaluation.values import finite
from debiasdpo.metrics import Floats, ResampleWeights, bootstrap_interval
from debiasdpo.metrics.agreement import Agreement

_OPTIONS = ("p_stereotype", "fairness", "mass", "position_effect")


def safety_metrics(
    labelled: Sequence[Labelled], *, threshold: float, resamples: int, seed: int
) -> dict[str, Any]:
    """Of the labelled replies to all prompts, attacked ones too."""
    counted = tallies(labelled)
    left_out = above_knee(misunderstanding_by_attack(counted))
    figures = assess(labelled, left_out=left_out, resamples=resamples, seed=seed)
    found: dict[str, Any] = {}
    for key, figure in figures.items():
        found[key] = figure.value
        found[interval_key(key)] = [figure.low, figure.high]
        found[count_key(key)] = {"replies": figure.replies, "prompts": figure.prompts}
    for category in sorted({item.prompt.category for item in labelled}):
        found[f"category/{category}/safe"] = int(category in safe_categories(figures, threshold))
    for attack in sorted(left_out):
        found[note_key(f"attack/{attack}/effectiveness")] = (
            "many of its refusals misunderstood the prompt: left out of expected_safety_reduction"
        )
    for prefix, tally in counted.items():
        found |= {f"{prefix}replies/{name}": count for name, count in tally.labels.items()}
        found |= {f"{prefix}replies/unread": tally.unread, f"{prefix}replies/failed": tally.failed}
    found |= {f"published/{key}": value for key, value in published(labelled).items()}
    return {key: finite(value) for key, value in found.items()}


def options_metrics(
    readouts: Sequence[OptionsReadout], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Of the options of local weights, by category, and by attack."""
    found: dict[str, Any] = {}
    attacks = dict.fromkeys(readout.prompt.attack for readout in readouts)
    for attack in attacks:
        mine = [readout for readout in readouts if readout.prompt.attack == attack]

        def statistic(
            weights: ResampleWeights,
            of: Sequence[OptionsReadout] = mine,
            attack: str | None = attack,
        ) -> dict[str, Floats]:
            figures = option_figures(of, weights)
            return {options_key(attack, name): value for name, value in figures.items()}

        bases = [readout.prompt.base for readout in mine]
        once = statistic(ResampleWeights.once(len(mine)))
        centres = {key: float(value) for key, value in once.items() if "fairness" in key}
        intervals = bootstrap_interval(
            statistic, bases, centres=centres, resamples=resamples, seed=seed
        )
        for key, value in once.items():
            found[key] = float(value)
            found[interval_key(key)] = [intervals[key].low, min(intervals[key].high, 1.0)]
    return {key: finite(value) for key, value in found.items()}


def agreement_metrics(
    labelled: Sequence[Labelled], readouts: Sequence[OptionsReadout]
) -> dict[str, Any]:
    """How often the likelier option is that of the reply, of the replies that took one (S, CS)."""
    likelier = {readout.prompt.id: readout.label for readout in readouts}
    pairs = Counter(
        (item.label, likelier[item.prompt.id])
        for item in labelled
        if item.label in ("S", "CS") and likelier.get(item.prompt.id) is not None
    )
    if not pairs:
        return {}
    key = "options/agreement"
    same = sum(count for (judged, read), count in pairs.items() if judged == read)
    return {key: same / pairs.total(), count_key(key): {"replies": pairs.total()}}


def judge_metrics(found: Agreement) -> dict[str, Any]:
    """Of a judge held against people; `judge/confusion/<people's label>/<the judge's>`, `none` where it gave
    none that could be read."""
    metrics: dict[str, Any] = {
        "judge/kappa": found.kappa,
        interval_key("judge/kappa"): list(found.interval()),
        count_key("judge/kappa"): {"replies": found.n},
        "judge/standard_error": found.standard_error,
        "judge/z": found.z,
        "judge/p": found.p,
        "judge/macro_f1": found.macro_f1,
        "judge/observed": found.observed,
    }
    for label, counts in zip(found.labels, found.confusion, strict=True):
        for other, count in zip((*found.labels, "none"), counts, strict=True):
            metrics[f"judge/confusion/{label}/{other}"] = count
    return {key: finite(value) for key, value in metrics.items()}


def options_key(attack: str | None, name: str) -> str:
    """Of a figure of `option_figures`: of `fairness_age` options/category/age/fairness."""
    figure = next(figure for figure in _OPTIONS if name.startswith(figure))
    category = name.removeprefix(figure).removeprefix("_")
    prefix = "options/" if attack is None else f"options/attack/{attack}/"
    return f"{prefix}category/{category}/{figure}" if category else f"{prefix}{figure}"
