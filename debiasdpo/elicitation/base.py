"""What the parts of elicitation hand to each other: prompts, and replies with their labels."""

from dataclasses import dataclass
from typing import Literal, get_args

# A prompt's form: SC, complete the sentence with one of two options; CTO, choose the option (A or B).
Form = Literal["SC", "CTO"]
FORMS: tuple[Form, ...] = get_args(Form)

# What a judge says of a reply: stereotyped, counter-stereotyped, debiased (it rejects the question, or takes
# neither side), refused; and of a refusal looked at again, misunderstood.
Label = Literal["S", "CS", "D", "R", "M"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True)
class ElicitationPrompt:
    """One prompt. `base` is the id of the prompt that was attacked: its own where there is no attack.
    `stereotype` and `counter_stereotype` are the two options as the prompt words them."""

    id: str  # unique, e.g. "age/SC/3" or "age/SC/3+role_playing/2"
    base: str
    category: str  # in lower case, words joined by "_" ("gender_ethnicity")
    form: Form
    stereotype: str
    counter_stereotype: str
    text: str
    attack: str | None = None
    variant: str | None = None


def settled_label(status: str, judged: Label | None) -> Label | None:
    """The label of a reply at first sight: R where the service itself says that it refuses, else what the
    judge said. Of a refusal that was looked at again, the second look's label, if any, takes its place."""
    return "R" if status == "refused" else judged


@dataclass(frozen=True)
class Labelled:
    """A prompt's reply and what the judge made of it. `label` is None where the reply failed (`status` is not
    ok and not refused) or the judge's own reply could not be read; such replies are counted apart."""

    prompt: ElicitationPrompt
    reply: str
    status: str  # of the reply, as in `raters.base.STATUSES`
    label: Label | None

    @property
    def question(self) -> tuple[str, str]:
        """What two models' replies to the same prompt have in common; an id alone is a place in a file."""
        return self.prompt.id, self.prompt.text
