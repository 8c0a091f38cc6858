"""Keys of metrics.json, which are built and taken apart here and nowhere else.

    bias/base, accuracy/spearman/tuned     a metric of the untrained ("base") or the changed ("tuned") model
    bias/trained/reduction, accuracy/gain  what changed from the one to the other
    accuracy/mae/constant                  what the best constant rater would get
    agreement/qwk/human                    what one human rater gets, held against another
    category/<name>/<metric>/<of>          a metric of one category of spurious context
    rubric/<name>/<metric>/<of>            a metric of one rubric
    group/<column>=<value>/<metric>/<of>   a metric of the documents of a real group (data.group_columns)
    scores/<rubric>/<level>                how many documents have this score
    failures/<reason>/<model>              how many ratings could not be read for this reason
    <key>_ci, <key>_of                     the interval; of how many documents, groups and prompts
    <key>_note                             why it is missing, or to be trusted little; only where it is

Names that users choose stand between a first part and last parts that only this module uses, so no name,
whatever its slashes, makes a key that means something else.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from debiasdpo.config.shown import points

Each = Literal["category", "rubric", "group"]

MODELS = ("base", "tuned")
CHANGES = ("reduction", "gain", "difference")
CONSTANT, HUMAN = "constant", "human"
_OF = {*MODELS, *CHANGES, CONSTANT, HUMAN}


class Key(NamedTuple):
    """A key in its parts; `str()` of it is the key. `metric` has no slash where there is a name."""

    metric: str
    of: str  # one of MODELS or of CHANGES, CONSTANT or HUMAN
    each: Each | None = None  # what `name` names
    name: str = ""

    def __str__(self) -> str:
        return "/".join([*([self.each, self.name] if self.each else []), self.metric, self.of])


def parse(text: str) -> Key | None:
    """The parts of a metric's key; None of any other key, such as those of costs and intervals."""
    head, _, of = text.rpartition("/")
    if of not in _OF or parse_failure(text):
        return None
    first, _, rest = head.partition("/")
    for each in get_args(Each):
        if first == each:
            name, _, metric = rest.rpartition("/")
            return Key(metric, of, each, name) if name else None
    return Key(head, of) if head else None


def names(found: Iterable[str], each: Each) -> list[str]:
    """The categories, or the rubrics, that keys are of, in the order of the keys."""
    known = (parse(text) for text in found)
    return list(dict.fromkeys(key.name for key in known if key and key.each == each))


def interval_key(key: Key | str) -> str:
    return f"{key}_ci"


def count_key(key: Key | str) -> str:
    return f"{key}_of"


def note_key(key: Key | str) -> str:
    return f"{key}_note"


def score_key(rubric: str, level: float) -> str:
    return f"scores/{rubric}/{points(level)}"


def parse_score(text: str) -> tuple[str, float] | None:
    """Rubric and level of a key of `score_key`; None of any other key."""
    found = re.fullmatch(r"scores/(.+)/(-?[\d.]+(?:e[-+]\d+)?)", text, re.DOTALL)
    return (found[1], float(found[2])) if found else None


def failure_key(reason: str, model: str) -> str:
    return f"failures/{reason}/{model}"


def parse_failure(text: str) -> tuple[str, str] | None:
    """Reason and model of a key of `failure_key`; None of any other key."""
    found = re.fullmatch(rf"failures/(.+)/({'|'.join(MODELS)})", text, re.DOTALL)
    return (found[1], found[2]) if found else None
