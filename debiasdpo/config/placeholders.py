"""Names in braces, in whose place something stands in a prompt; of any other, a model reads the braces."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from debiasdpo.config.context import ContextConfig
    from debiasdpo.config.data import AnyDataConfig
    from debiasdpo.config.method import MethodConfig
    from debiasdpo.config.rate import PromptConfig, RateConfig

ENDS = ("best", "worst")  # of the rubric's scale
# In a text that may hold formulas and code: no part of one, as `\frac{rate}{time}` or `${name}`.
_LONG_NAME = re.compile(r"(?<![\w\\}^$])\{([A-Za-z_]{3,})\}")


def of_statements(context: "ContextConfig") -> Iterable[str]:
    """Problems of statements."""
    for place, text in (*context.texts("train"), *context.texts("test")):
        for other in sorted(set(re.findall(r"\{(\w+)\}", text)) - {*ENDS, "value"}):
            yield (
                f"context.{place}: {text!r} has {{{other}}}, which nothing stands for; there are {{best}},"
                " {worst} and, with a column, {value}"
            )


def of_prompts(
    documents: "AnyDataConfig", prompt: "PromptConfig", rate: "RateConfig", method: "MethodConfig"
) -> Iterable[str]:
    """Problems of what stands around document and statement."""
    instruction = prompt.instruction_for(rate.format) or ""
    yield from _wrong("prompt.instruction", instruction, ("about", *ENDS))
    yield from _wrong("data.heading", documents.heading, ())
    yield from _wrong("method.reminder", method.reminder or "", ENDS)
    for name, rubric in documents.rubrics.items():
        yield from _wrong(f"data.rubrics.{name}.question", rubric.question, ENDS)


def _wrong(key: str, text: str, known: Collection[str]) -> Iterator[str]:
    there = " and ".join(f"{{{name}}}" for name in known) or "none here"
    for other in sorted(set(_LONG_NAME.findall(text)) - set(known)):
        yield f"{key}: {text!r} has {{{other}}}, which nothing stands for; there are: {there}"
