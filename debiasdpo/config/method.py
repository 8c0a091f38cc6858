"""Keys of `method=` and `loss=`: what is done about bias, and how the terms of the objective weigh."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from debiasdpo.config.rate import Readout
from debiasdpo.schema import Count, NonNegative, Positive, Section, Text

SftPrompt = Literal["neutral", "contextual"]


class HeadConfig(Section):
    """Keys of `method.head`: what is tried for it, by cross-validation over training groups."""

    layers: Annotated[
        tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], Field(min_length=1)
    ]  # depths, alone and together: 0.5 is the middle layer, 1 the last
    # Weight of the shifts under context, beside the errors (lambda of `training.head`).
    invariance: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    penalty: Annotated[tuple[Positive, ...], Field(min_length=1)]  # of ridge regression (alpha)
    folds: Annotated[int, Field(ge=2)]


METHOD_NAME = r"^[\w.+-]+$"


class MethodConfig(Section):
    """Keys of `method=` (docs/methods.md): what is trained on, or how prompts are changed; neither: the
    model is audited as it is."""

    name: Annotated[str, Field(pattern=METHOD_NAME)]  # in tables and folder names
    # Training. These add terms to the objective (`training.objective`).
    chosen: Literal["reasoning", "rating", "score"] | None = None  # of a preference pair
    # The model's biased reasoning is rejected for it; false: it is fitted alone, and nothing is rejected.
    rejects: bool = True
    sft: tuple[SftPrompt, ...] = ()  # prompts that expert scores are fitted on
    # Rating distributions under context are held to those without it, of the model as it is (own) or
    # of the untrained model, to which those without it are then held too (base).
    consistency: Literal["own", "base"] | None = None
    ranking: bool = False  # expected ratings of a step's documents are ordered as their scores
    activation: bool = False  # hidden states behind the statement are held to those without it
    # 2: a first training fits the scores alone; pairs, reference and the second are of what it makes.
    rounds: Literal[1, 2] = 1
    # How the terms are computed.
    # The rating at the end of written reasoning where rate.readout=expected: the level nearest to the
    # expectation, or one drawn from the distribution.
    closing: Literal["nearest", "drawn"] = "nearest"
    weigh_by_shift: bool = False  # preference pairs weigh as much as their ratings differ
    # The loss by which scores are fitted, of several their sum: of the answer's text, of the expected rating.
    fit: Annotated[tuple[Literal["cross_entropy", "squared_error"], ...], Field(min_length=1)] = (
        "cross_entropy",
    )
    width: NonNegative = 0.0  # levels that the text's target is spread over (standard deviation)
    balanced: bool = False  # every score level weighs the same in the SFT term
    statements: Count | None = 1  # train statements of each category a prompt; None: all
    min_shift: NonNegative = 0.0  # keep a pair only if its two ratings are at least this far apart
    # A line through the frozen model's hidden states (`training.head`): the rater, or, where there are terms
    # too, the teacher, whose ratings of the training part stand in place of the experts' scores.
    head: HeadConfig | None = None
    # Prompts, without training.
    reminder: Text | None = None  # said before the instruction
    think: bool = False  # reason before rating also where rate.readout=expected
    rewrite: Text | None = None  # asks the model to write the request anew, which is then rated
    max_new_tokens: Count = 64  # of what think and rewrite write

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of the objective that this method has."""
        has = {
            "dpo": self.prefers,
            "imitation": self.imitates,
            "sft": self.sft,
            "consistency": self.consistency,
            "ranking": self.ranking,
            "activation": self.activation,
        }
        return tuple(name for name, there in has.items() if there)

    @property
    def scores_alone(self) -> "MethodConfig":
        """What is left of it without the terms that hold the model to itself: a first round's method."""
        others = {
            "rounds": 1,
            "chosen": None,
            "rejects": True,
            "consistency": None,
            "activation": False,
        }
        pairs = {"min_shift": 0.0, "weigh_by_shift": False, "closing": "nearest"}
        return self.model_copy(update=others | pairs)

    @property
    def trains_weights(self) -> bool:
        return bool(self.terms)

    @property
    def trains(self) -> bool:
        """Whether it makes a rater from the training part: by training weights, or a head on frozen ones."""
        return self.trains_weights or self.head is not None

    @property
    def sees_statements(self) -> bool:
        return sees_statements(dict(self))

    @property
    def changes_prompts(self) -> bool:
        return self.reminder is not None or self.think or self.rewrite is not None

    @property
    def changes_ratings(self) -> bool:
        """Whether there are ratings after it, beside those of the model as it is."""
        return self.trains or self.changes_prompts

    @property
    def prefers(self) -> bool:
        """Whether it has preference pairs: a chosen and a rejected text for each contextual prompt."""
        return self.chosen is not None and self.rejects

    @property
    def imitates(self) -> bool:
        """Whether it fits a text of the model's own after each contextual prompt."""
        return self.chosen is not None and not self.rejects

    def needs_reasoning(self, readout: Readout) -> Literal["all", "neutral"] | None:
        """The training prompts whose reasoning it uses: all, the neutral ones, or none (None)."""
        if self.prefers:
            return "all"
        return "neutral" if self.imitates or self.holds_reasoning(readout) else None

    def holds_reasoning(self, readout: Readout) -> bool:
        """Whether its consistency term is about the neutral reasoning too, after which the model rates."""
        return self.consistency is not None and readout == "text"

    @property
    def anchored(self) -> bool:
        """Whether its consistency term holds ratings to those of the untrained model, not to its own."""
        return self.consistency == "base"

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities under the untrained model go into its objective."""
        return self.prefers or self.anchored

    def generates(self, readout: Readout) -> bool:
        """Whether any of its stages has the model write text."""
        return readout != "expected" or bool(self.chosen) or self.think or self.rewrite is not None


def sees_statements(method: Mapping[str, Any]) -> bool:
    """Whether what a method of these keys trains on has statements: of scores of neutral prompts alone none
    has."""
    shown = ("head", "chosen", "consistency", "activation")
    return any(method.get(key) for key in shown) or "contextual" in (method.get("sft") or ())


# Losses of a preference pair, by TRL's names (DPOConfig.loss_type).
PreferenceLoss = Literal["sigmoid", "ipo", "hinge", "robust"]


class LossConfig(Section):
    """Keys of `loss=` (`training.objective`): the preference loss, the weights of the terms, and beta."""

    preference: PreferenceLoss

    w_dpo: NonNegative
    w_imitation: NonNegative
    w_sft: NonNegative
    w_consistency: NonNegative
    w_ranking: NonNegative
    w_activation: NonNegative
    beta: Positive
    temperature: Positive  # difference of two expected ratings at which ranking them levels off
    label_smoothing: Annotated[
        float, Field(ge=0.0, lt=0.5)
    ]  # share of pairs taken to be swapped (robust)
