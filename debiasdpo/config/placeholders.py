"""Names in braces, in whose place something stands in a prompt; of any other, a model reads the braces."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from debiasdpo.config.shown import points

if TYPE_CHECKING:
    from debiasdpo.config.context import ContextConfig
    from debiasdpo.config.data import AnyDataConfig
    from debiasdpo.config.method import MethodConfig
    from debiasdpo.config.rate import PromptConfig, RateConfig

ENDS = ("best", "worst")  # of the rubric's scale
_BRACES = re.compile(r"\{([^{}]*)\}")
# In a text that may hold formulas and code: no part of one, as `\frac{rate}{time}` or `${name}`.
_LONG_NAME = re.compile(r"(?<![\w\\}^$])\{([A-Za-z_]{3,})\}")


def of_statements(context: "ContextConfig") -> Iterable[str]:
    """Problems of statements."""
    there = "there are {best}, {worst} and, with a column, {value}"
    for place, text in (*context.texts("train"), *context.texts("test")):
        yield from _unknown(f"context.{place}", text, _BRACES, (*ENDS, "value"), there)


def of_prompts(
    documents: "AnyDataConfig", prompt: "PromptConfig", rate: "RateConfig", method: "MethodConfig"
) -> Iterable[str]:
    """Problems of what stands around document and statement."""

    def problems(key: str, text: str | None, known: Collection[str]) -> Iterator[str]:
        there = " and ".join(f"{{{name}}}" for name in known) or "none here"
        return _unknown(key, text or "", _LONG_NAME, known, f"there are: {there}")

    instruction = prompt.instruction_for(rate.format)
    yield from problems("prompt.instruction", instruction, ("about", *ENDS))
    yield from problems("data.heading", documents.heading, ())
    yield from problems("method.reminder", method.reminder, ENDS)
    for name, rubric in documents.rubrics.items():
        yield from problems(f"data.rubrics.{name}.question", rubric.question, ENDS)


def with_ends(text: str, low: float, high: float, high_is_good: bool) -> str:
    """The text with the ends of a rubric's scale where it says {best} or {worst}."""
    worst, best = (low, high) if high_is_good else (high, low)
    return text.replace("{best}", points(best)).replace("{worst}", points(worst))


def _unknown(
    key: str, text: str, names: "re.Pattern[str]", known: Collection[str], there: str
) -> Iterator[str]:
    for other in sorted(set(names.findall(text)) - set(known)):
        yield f"{key}: {text!r} has {{{other}}}, which nothing stands for; {there}"
