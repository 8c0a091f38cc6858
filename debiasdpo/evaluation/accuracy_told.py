"""Whether a rater is worth anything, in sentences: bias alone does not say. Of one rater, and of two of which
one may be the better."""

from typing import NamedTuple

from debiasdpo.evaluation.evidence import Evidence, Figure, signed
from debiasdpo.evaluation.keys import HUMAN, Key
from debiasdpo.evaluation.notes import RATED_ALIKE, only_on

_WEAK = 0.3  # a correlation below it is called weak (Cohen 1988: from 0.3 on it is medium)


class Accuracy(NamedTuple):
    """How well a rater agrees with the experts; None where there is nothing to hold it against."""

    rho: Figure  # Spearman's rank correlation
    mae: Figure  # mean absolute error, in points
    constant: Figure  # that of the best constant rater
    undefined: str  # why the correlation is, where it is

    @classmethod
    def of(cls, evidence: Evidence, model: str) -> "Accuracy":
        key = str(Key("accuracy/spearman", model))
        rho = evidence.figure(key)
        mae, constant = (evidence.figure(f"accuracy/mae/{one}") for one in (model, "constant"))
        return cls(rho, mae, constant, evidence.note(key) if rho.mean is None else "")

    @property
    def no_better_than_chance(self) -> bool:
        """Whether other documents may well show no correlation, or a negative one."""
        return self.rho.low is not None and self.rho.low <= 0

    @property
    def open(self) -> bool:
        """Whether they may as well show a correlation that is worth something: these are too few to tell."""
        return self.no_better_than_chance and self.rho.high is not None and self.rho.high >= _WEAK

    @property
    def beside_chance(self) -> str:
        """`, no better than chance`; empty where it is better, or undefined."""
        if self.open:
            return ", not told from chance by so few documents"
        if self.no_better_than_chance:
            return f", {'worse' if (self.rho.high or 0) < 0 else 'no better'} than chance"
        return ""

    @property
    def no_order(self) -> bool:
        """Whether experts' scores differ, and its own ratings, of a rubric, do not."""
        return RATED_ALIKE in self.undefined and bool(self.constant.mean)

    @property
    def useless(self) -> bool:
        """Whether nobody should use it, swayed or not."""
        return self.no_better_than_chance or self.no_order

    @property
    def not_to_be_used(self) -> str:
        """Why not, in a sentence; empty where nothing is against it."""
        if self.open:
            few = "from so few it is not told whether the rater tells good from poor"
            return f"Rate more documents before you use it: {few}."
        if not self.useless:
            return ""
        why = "it tells good from poor no better than chance"
        if self.no_order:
            why = "it does not tell good from poor"
        return f"Do not use this rater: {why}, swayed or not."

    @property
    def ranks(self) -> str:
        """`ranks them better than chance`, as far as that is told."""
        if self.open:
            return "ranks them in an order that may be chance"
        return f"ranks them {'no ' if self.no_better_than_chance else ''}better than chance"

    def beats(self, other: "Accuracy", gain: Figure) -> bool:
        """Whether it ranks better than chance, better than the other by more than other documents would
        change (`gain`: the difference of the correlations), and is less far off."""
        if self.useless or None in (self.rho.mean, self.mae.mean, other.mae.mean, gain.low):
            return False
        return gain.low > 0 and self.mae.mean < other.mae.mean  # type: ignore[operator]

    @property
    def short(self) -> str:
        """`Spearman 0.55, off by 0.34 points`."""
        return f"Spearman {self.rho.mean:z.2f}, off by {self.mae.mean:.2f} points"

    @property
    def beside_constant(self) -> str:
        """How it compares with one rating for all; empty where that is not known."""
        if self.mae.mean is None or not self.constant.mean:
            return ""
        less = round(100 * (1 - self.mae.mean / self.constant.mean))
        how = f"{less}% less than" if less > 0 else f"{-less}% more than" if less else "as far as"
        ranks = ""
        if less <= 0 and self.rho.low is not None and self.rho.low > 0:
            ranks = "; its order of documents is of more use than its points"
        return (
            f"It is off by {self.mae.mean:.2f} points on average, {how} the same best rating for every"
            f" document would be ({self.constant.mean:.2f}){ranks}."
        )


def accuracy_sentence(evidence: Evidence, model: str) -> str:
    accuracy = Accuracy.of(evidence, model)
    rho, mae, constant, undefined = accuracy
    spread = evidence.figure(str(Key("spread", model)))
    parts = []
    if rho.mean is not None:
        parts.append(
            f"Spearman's rank correlation with the experts {signed(rho, signs=False)}{accuracy.beside_chance}"
        )
    if accuracy.no_order:
        parts.append(
            "Spearman's rank correlation with the experts is undefined, as it gives all documents one rating"
        )
    elif undefined and mae.mean is not None:
        parts.append(f"Spearman's rank correlation with the experts is undefined ({undefined})")
    if mae.mean is not None and constant.mean is not None:
        parts.append(
            f"off by {mae.mean:.2f} points on average, where the same best rating for every document would be"
            f" off by {constant.mean:.2f}"
        )
    if mae.mean is None and constant.mean is not None:
        parts.append(f"unknown ({evidence.note(str(Key('accuracy/mae', model)))})")
    elif mae.mean is None:
        parts.append("unknown, as there are no scores to hold it against")
    if spread.mean is not None:
        parts.append(f"the standard deviation of its own ratings is {spread.mean:.2f} points")
    keys = [str(Key("agreement/qwk", of)) for of in (HUMAN, model)]
    human, one = map(evidence.figure, keys)
    if human.mean is not None and one.mean is not None:
        parts.append(
            f"quadratic weighted kappa (QWK){only_on(evidence.note(keys[0]))} with one human rater"
            f" {signed(one, signs=False)}, of two of these {signed(human, signs=False)}"
        )
    return f"Accuracy: {'; '.join(parts)}." if parts else ""
