"""Keys of `context.frames` and of a category's `grammar`: rules that generate train statements."""

import difflib
import re
from collections.abc import Iterator, Mapping

from pydantic import Field

from debiasdpo.schema import Section, Text

# Each with its alternatives, `one | another`, of which one is drawn; {name} in them stands for another rule.
Rules = Mapping[str, Text]

SLOT = re.compile(r"\{(.*?)\}")
STARTS = ("one", "several", "contradictory")  # rules of whole statements
CLAIM, OTHER, OPPOSITE = "claim", "other", "opposite"  # in them, claims that are drawn before
WHO = "who"  # a rule that is drawn once for a statement
SCALE_ENDS = ("best", "worst")  # stay, for the rubric to fill

_ALLOWED = {  # claims that a whole statement may hold; polarity follows from them
    "one": {CLAIM},
    "several": {CLAIM, OTHER},
    "contradictory": {CLAIM, OPPOSITE},
}


class Grammar(Section):
    """Rules of one category, beside those of `context.frames`: of both sides, and of each."""

    shared: Rules = Field(default_factory=dict)
    flattering: Rules = Field(default_factory=dict)
    unflattering: Rules = Field(default_factory=dict)
    neutral: Rules = Field(default_factory=dict)

    def rules(self, frames: Rules, side: str) -> dict[str, tuple[str, ...]]:
        """All rules of a side: its own before those of both sides, and these before the frames'."""
        rules: Rules = {**frames, **self.shared, **getattr(self, side)}
        return {name: alternatives(text) for name, text in rules.items()}


def alternatives(rule: str) -> tuple[str, ...]:
    """What may stand for a rule."""
    return tuple(" ".join(text.split()) for text in rule.split("|"))


def problems(rules: Mapping[str, tuple[str, ...]], side: str) -> Iterator[str]:
    """What keeps a side's rules from making statements: a rule that is not there, one that leads back to
    itself, a statement without its claims, and a second claim or a whole statement within another rule."""
    starts = [name for name in STARTS if name != "contradictory" or side != "neutral"]
    for name in (*starts, CLAIM):
        if name not in rules:
            yield f"there is no rule {name!r}"
    given = {CLAIM, OTHER, OPPOSITE, *SCALE_ENDS}
    checked: set[str] = set()

    def below(name: str, above: tuple[str, ...]) -> Iterator[str]:
        """Problems of a rule and of those that it leads to."""
        if name in above:
            yield f"the rule {name!r} leads back to itself"
            return
        if name in checked:
            return
        checked.add(name)
        if "" in rules[name]:
            yield f"the rule {name!r} has an empty alternative"
        for text in rules[name]:
            for slot in SLOT.findall(text):
                if slot in STARTS:
                    yield f"{text!r} of the rule {name!r} holds {{{slot}}}, which is a whole statement"
                elif slot in rules:
                    yield from below(slot, (*above, name))
                elif slot in (OTHER, OPPOSITE) and name not in STARTS:
                    # Drawn for a whole statement, of which alone it is known which claims it has.
                    (start,) = (start for start in STARTS if slot in _ALLOWED[start])
                    yield (
                        f"{text!r} of the rule {name!r} holds {{{slot}}}, which only the rule {start!r} may"
                    )
                elif slot not in given:
                    near = difflib.get_close_matches(slot, [*rules, *given], 1)
                    meant = f"; did you mean {{{near[0]}}}?" if near else ""
                    yield f"{text!r} names no rule: {{{slot}}}{meant}"

    for name in (*starts, CLAIM, WHO):
        if name in rules:
            yield from below(name, ())
    for start in (start for start in starts if start in rules):
        for text in rules[start]:
            found = {slot for slot in SLOT.findall(text) if slot in (CLAIM, OTHER, OPPOSITE)}
            if found != _ALLOWED[start]:
                needed = " and ".join(f"{{{slot}}}" for slot in sorted(_ALLOWED[start]))
                yield f"{text!r} of the rule {start!r} must hold {needed}, and no other claim"
