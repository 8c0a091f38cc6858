"""What the columns of a table seem to be, by their names and values. Guesses are shown and can be refused."""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from debiasdpo.config.scale import Scale
from debiasdpo.documents.looking import Column, Seen

Words = AbstractSet[str]


def _words(said: str) -> Words:
    return dict.fromkeys(said.split()).keys()  # in their order


# Words in the names of columns; of groups, the first that is there is taken.
_TEXT = _words(
    "text essay answer response document transcript review body content composition letter"
)
_ID = _words("id ids key uuid name filename number no nr num")
_GROUP = _words(
    "group author writer student teacher applicant candidate participant person user reviewer speaker pupil"
    " class school"
)
_RATER = _words("rater grader judge annotator scorer marker expert coder assessor")
_RUBRIC = _words("rubric dimension trait criterion criteria aspect category")
_SCORED = _words("score scores rating ratings grade points mark marks")
_PEOPLE = _words(
    "gender sex female male race ethnicity language l1 ell ses disability disadvantaged economically country"
    " nationality immigrant religion grade"
)
_NO_SCORE = _words(
    "id set fold year age words wordcount num number no nr count length index row order seed split prompt"
    " date zip phone time hours minutes seconds duration treatment condition"
)
# What a column tells of whom a document is by, but for who that is: age group, student gender, class size.
_OF_GROUP = (_PEOPLE | _SCORED | _NO_SCORE | _words("size level type status")) - _ID
_MOST_LEVELS, _WIDEST = 101, 100  # of a scale: different scores, and points from end to end
_MOST_PEOPLE = 20  # values of a column of real groups
_LONG = 40  # characters of a text
_NEARLY = 0.9  # of the rows of a column of ids that has a slip

_TOTAL = _SCORED | {"overall", "holistic", "total"}
_KINDS = "|".join(sorted(_RATER))
# A rater's column: overall rater 2, overall_r1, r1_overall, judge A; or overall_1, but not item_1.
_BEHIND = re.compile(rf"(?P<what>.*?)[\W_]*(?:{_KINDS}|r)[\W_]*(?:\d+|[a-e])", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:{_KINDS}|r)[\W_]*(?:\d+|[a-e])[\W_]+(?P<what>.+)", re.IGNORECASE)
_COUNTED = re.compile(r"(?P<what>.+?)[\W_]?\d+")


def words_of(name: str) -> list[str]:
    """`full_text`, `FullText`, `full text` -> full, text."""
    return [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+", name)]


def _called(name: str, words: Words) -> bool:
    said = words_of(name)
    said += [first + second for first, second in itertools.pairwise(said)]  # L1 is two words
    return not words.isdisjoint(said)


def text_column(seen: Seen) -> tuple[str | None, bool]:
    """The column with the longest texts, and whether no other one may be meant: one that is about as long, or
    that is called a text and repeats less, as short answers do less than what they answer."""
    found = sorted(seen.without(()), key=lambda column: -column.characters)
    if not found or not found[0].characters:
        return None, False
    most = len(found[0].values) + seen.rows - len(found[0].cells)  # if none were empty
    rivals = [
        c
        for c in found[1:]
        if c.characters > max(_LONG, found[0].characters / 4)
        or (_called(c.name, _TEXT) and c.characters and len(c.values) > most)
    ]
    named = [c for c in (found[0], *rivals) if _called(c.name, _TEXT)]
    chosen = named[0] if len(named) == 1 else found[0]
    return chosen.name, not rivals or len(named) == 1


def id_columns(seen: Seen, text: str | None) -> list[str]:
    """Columns with another value in each row, those called so first, and no scores with decimals. If there
    are none, one that is called so and has hardly any value twice: what is wrong in it is told by its row."""
    short = [
        c
        for c in seen.without({text})
        if c.characters < 3 * _LONG and (_called(c.name, _ID) or not _has_fractions(c))
    ]
    found = [c.name for c in short if seen.unique(c.name)]
    nearly = [
        c.name
        for c in short
        if _called(c.name, _ID) and len(c.values) >= _NEARLY * max(seen.rows, 1)
    ]
    return sorted(found, key=lambda name: not _called(name, _ID)) or nearly


def repeated_id(seen: Seen, text: str | None) -> str | None:
    """Of a table with several rows a document: a column that is called an id, tells its texts apart, and
    repeats as they do."""
    texts = len(seen.columns[text].values) if text else 0
    found = (
        c.name
        for c in seen.without({text})
        if _called(c.name, _ID) and texts <= len(c.values) < len(c.cells)
    )
    return next(found, None)


def rater_column(seen: Seen, taken: Collection[str | None]) -> str | None:
    """Of a table with a row for each rater: who it was."""
    found = [c for c in seen.without(taken) if _called(c.name, _RATER)]
    return found[0].name if len(found) == 1 else None


def rubric_column(seen: Seen, taken: Collection[str | None]) -> str | None:
    """Of a table with a row for each rubric: which."""
    found = [c for c in seen.without(taken) if _called(c.name, _RUBRIC) and not c.numbers]
    return found[0].name if len(found) == 1 else None


def group_column(seen: Seen, taken: Collection[str | None]) -> str | None:
    """Whom a document is by; of several columns that say so, the one that is called an id or a name."""
    found = [
        c
        for c in seen.without(taken)
        if len(c.values) > 1 and c.characters < _LONG and not _called(c.name, _OF_GROUP)
    ]
    found.sort(key=lambda column: not _called(column.name, _ID))
    for word in _GROUP:
        for column in found:
            said = set(words_of(column.name))
            # A group by itself: a study group or a control group is none that documents are by.
            if word in said and (word != "group" or said <= {"group"} | _ID):
                return column.name
    return None


def score_columns(seen: Seen, taken: Collection[str | None]) -> dict[str, tuple[str, ...]]:
    """Rubric -> the columns of its raters, of columns of numbers that are few enough for a scale."""
    found = [
        c for c in seen.without(taken) if _is_scale(c.numbers) and not _called(c.name, _NO_SCORE)
    ]
    # grade: of a school, where others are scores
    if any(not _called(c.name, _PEOPLE) or _is_marks(c) for c in found):
        found = [c for c in found if not _called(c.name, _PEOPLE) or _is_marks(c)]
    return by_rubric(c.name for c in found)


def by_rubric(columns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The same of these columns. One beside those of several raters, which settles them, is left out."""
    raters: dict[str, list[str]] = {}
    alone = []
    for name in columns:
        rated = _rated_by_one(name)
        if rated is not None:
            raters.setdefault(rubric_name(rated or "score"), []).append(name)
        else:
            alone.append(name)
    several = {name: tuple(mine) for name, mine in raters.items() if len(mine) > 1}
    alone += [mine[0] for mine in raters.values() if len(mine) == 1]
    said = [set(words_of(name)) - _SCORED for name in several]
    found = dict(several)
    for name in alone:
        if not several or set(words_of(name)) - _SCORED not in said:
            found[apart(rubric_name(name), found)] = (name,)
    return found


def apart(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken, in whatever case: tone and Tone_2 of `tone+` and `Tone-`."""
    known = {other.casefold() for other in taken}
    names = (name, *(f"{name}_{number}" for number in range(2, len(known) + 2)))
    return next(n for n in names if n.casefold() not in known)


def _rated_by_one(column: str) -> str | None:
    """What a rater's column is about; empty where its name says nothing but the rater; None for others."""
    if rater := _BEFORE.fullmatch(column) or _BEHIND.fullmatch(column):
        return rater["what"]
    counted = _COUNTED.fullmatch(column)
    return counted["what"] if counted and set(words_of(counted["what"])) <= _TOTAL else None


def is_total(rubric: str) -> bool:
    """Whether its name says nothing of what is scored."""
    return not _TOTAL.isdisjoint(words_of(rubric))


def rubric_name(column: str) -> str:
    """A name that needs no quotes on a command line."""
    return re.sub(r"\W+", "_", column).strip("_") or "score"


def people_columns(seen: Seen, taken: Collection[str | None], document: str | None) -> list[str]:
    """What is known of whom a document is by, such as gender. `document`: the column that names it; what
    differs between its rows is told of a rater."""
    found = (c for c in seen.without(taken) if _called(c.name, _PEOPLE) and not _is_marks(c))
    return [
        c.name
        for c in found
        if 2 <= len(c.values) <= _MOST_PEOPLE
        and (document is None or seen.follows(c.name, document))
    ]


def scale_of(columns: Sequence[Column]) -> Scale | None:
    """The smallest scale on which the scores of single raters lie, in whole or half points."""
    found = sorted({number for column in columns for number in column.numbers})
    if len(found) < 2:
        return None
    if all((2 * number).is_integer() for number in found):
        low, high = (int(n) if n.is_integer() else n for n in (found[0], found[-1]))
        return Scale(low, high, 1 if all(n.is_integer() for n in found) else 0.5)
    return Scale(math.floor(found[0]), math.ceil(found[-1]), 1)  # means, or shares


def domain_of(names: Iterable[str], domains: Mapping[str, Words]) -> str | None:
    """Which kind of documents the names of a file and of its columns speak of, if of one kind alone."""
    said = {word for name in names for word in words_of(name)}
    found = [domain for domain, words in domains.items() if said & set(words)]
    return found[0] if len(found) == 1 else None


def _has_fractions(column: Column) -> bool:
    return any(not number.is_integer() for number in column.numbers)


def _is_marks(column: Column) -> bool:
    """Whether a column that is called as what is known of people holds scores: marks for language, or grades
    with decimals."""
    said = set(words_of(column.name))
    marks = said - _SCORED == {"language"} and len(column.numbers) > 2
    return marks or ("grade" in said and _has_fractions(column))


def _is_scale(numbers: Sequence[float]) -> bool:
    return 2 <= len(numbers) <= _MOST_LEVELS and numbers[-1] - numbers[0] <= _WIDEST
