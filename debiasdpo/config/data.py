"""Keys of `data=`: one section a source of documents, and what all of them share."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import model_validator

from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.config.scale import Scale
from debiasdpo.schema import Count, Fraction, NonNegative, Section, Text

_MOST_LEVELS = 1000  # each is scored where rate.readout=expected


class Rubric(Section):
    """One dimension to rate on. Ratings are levels of the scale; an expert's score is a level too, or lies
    between two, as the mean of several experts does."""

    question: Text
    low: int | float
    high: int | float
    step: int | float = 1  # from one level to the next; 0.5 for half points
    high_is_good: bool = True

    @property
    def scale(self) -> Scale:
        return Scale(self.low, self.high, self.step)

    @property
    def asks(self) -> tuple[object, ...]:
        """What rubrics are put in order by, so that their names decide nothing."""
        return normal_text(self.question), *self.scale, self.high_is_good

    @model_validator(mode="after")
    def _scale_has_levels(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, but low={self.low} and high={self.high}")
        if self.step <= 0:
            raise ValueError(f"step must be above 0, but step={self.step}")
        steps = self.scale.position(self.high)
        if not steps.is_integer():
            raise ValueError(
                f"from low={self.low}, steps of {self.step} never reach high={self.high}: choose a step that"
                " divides the distance between them"
            )
        if steps >= _MOST_LEVELS:
            raise ValueError(
                f"low={self.low}, high={self.high} and step={self.step} make {steps + 1:g} levels, and"
                f" {_MOST_LEVELS} is the most; choose a larger step"
            )
        return self


class SplitConfig(Section):
    """Share of the *groups* (teachers) that goes to each part; what is left over is not used."""

    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if total > 1 + 1e-9:
            raise ValueError(
                f"train + validation + test must not exceed 1, but they sum to {total:g}"
            )
        if not self.test:
            raise ValueError(
                "test must be above 0: bias and accuracy are measured on the test part"
            )
        return self


class LimitConfig(Section):
    """Largest number of documents of each part (drawn by seed); null takes all."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


class DataConfig(Section):
    """What all sources have in common."""

    heading: Text  # stands before the document in the prompt
    about: Text  # what of the document a model is to reason about, in place of {about} in the instruction
    split: SplitConfig
    limit: LimitConfig

    @property
    def unscored(self) -> bool:
        """Whether nobody scored the documents: bias is measured, and no accuracy."""
        return False

    @property
    def several_raters(self) -> bool:
        """Whether a score may be the mean of what several human raters gave."""
        return False


TRAITS = ("reasoning", "focus")  # of simulated lessons, which their rubrics are about


class SimulatedConfig(DataConfig):
    """Keys of `data=simulated`."""

    source: Literal["simulated"]
    teachers: Count  # groups
    lessons_per_teacher: Count  # documents of each teacher
    words: Count  # length of a document; the exchange that reaches it is the last
    rater_noise: (
        NonNegative  # standard deviation of the expert's error, in points of a 7-point scale
    )
    rubrics: Mapping[str, Rubric]  # names must be among `TRAITS`

    @model_validator(mode="after")
    def _rubrics_are_traits(self) -> Self:
        unknown = sorted(set(self.rubrics) - set(TRAITS))
        if unknown or not self.rubrics:
            raise ValueError(
                f"rubrics must be some of {', '.join(TRAITS)}, got {', '.join(unknown) or 'none'};"
                " use data=table for rubrics of your own"
            )
        return self


Instrument = Literal["class", "mqi"]


class NcteRubric(Rubric):
    """A column of one of the score files, named as the rubric."""

    file: Instrument


class NcteConfig(DataConfig):
    """Keys of `data=ncte`."""

    source: Literal["ncte"]
    transcripts: Text  # single_utterances.csv
    class_scores: Text | None  # CLASS, tab-separated
    mqi_scores: Text | None  # MQI, tab-separated
    use: Sequence[Text] | None  # names of the rubrics to use; None uses all
    exclude_obsids: Sequence[int]  # lessons to leave out
    raters: Literal["average", "separate"]  # of one chapter: one document, or one for each rater
    max_words: Count | None  # cut a longer chapter at the end of an utterance; None keeps it whole
    rubrics: Mapping[str, NcteRubric]

    @model_validator(mode="after")
    def _files_are_given(self) -> Self:
        unknown = sorted(set(self.use or ()) - set(self.rubrics))
        if unknown or not self.used:
            raise ValueError(
                f"use must name some of: {', '.join(self.rubrics)}; got {unknown or 'none'}"
            )
        for name, rubric in self.used.items():
            if self.score_files[rubric.file] is None:
                raise ValueError(
                    f"rubric {name} needs {rubric.file}_scores: give its path, or set use to"
                    " the rubrics of the other file"
                )
        return self

    @property
    def several_raters(self) -> bool:
        return self.raters == "average"

    @property
    def used(self) -> dict[str, NcteRubric]:
        """The rubrics to read scores for."""
        names = self.rubrics if self.use is None else self.use
        return {name: self.rubrics[name] for name in names}

    @property
    def score_files(self) -> dict[Instrument, str | None]:
        """Path of each instrument's score file, None where there is none."""
        return {"class": self.class_scores, "mqi": self.mqi_scores}


class TableConfig(DataConfig):
    """Keys of `data=table`."""

    source: Literal["table"]
    path: Text  # .csv, .tsv, .xlsx, .jsonl or .parquet, or a folder of such files
    id_column: Text  # names the document; different for each
    group_column: Text  # what a split must not cut through (teacher, author); may be the id column
    text_column: Text  # what is rated
    layout: Literal["wide", "long"]  # a row per document, or a row per document and rubric
    # wide: rubric -> its column, where the names differ; several: of each human rater; none: nobody scored
    score_columns: Mapping[str, Text | Sequence[Text]]
    rubric_column: Text | None  # long: holds the rubric's name; None: there is one rubric
    score_column: Text  # long: holds the score
    rater_column: Text | None  # long: says which human rater gave it, where several did
    group_columns: Sequence[
        Text
    ]  # of real groups, such as gender: ratings are compared between their values
    rubrics: Mapping[str, Rubric]

    def scored_in(self, rubric: str) -> tuple[str, ...]:
        """wide: the columns that hold a rubric's scores."""
        columns = self.score_columns.get(rubric, rubric)
        return (columns,) if isinstance(columns, str) else tuple(columns)

    @property
    def unscored(self) -> bool:
        return not any(map(self.scored_in, self.rubrics))

    @property
    def several_raters(self) -> bool:
        if self.layout == "long":
            return self.rater_column is not None
        return any(len(self.scored_in(rubric)) > 1 for rubric in self.rubrics)

    @model_validator(mode="after")
    def _all_or_none_are_scored(self) -> Self:
        without = [name for name in self.rubrics if not self.scored_in(name)]
        if without and len(without) < len(self.rubrics):
            raise ValueError(
                f"score_columns.{without[0]} is empty, as if nobody scored it, and others are scored; audit"
                " what is not scored by itself, with another data="
            )
        return self

    @model_validator(mode="after")
    def _names_rubrics(self) -> Self:
        if not self.rubrics:
            raise ValueError("rubrics is empty: name at least one")
        unknown = sorted(set(self.score_columns) - set(self.rubrics))
        if unknown:
            raise ValueError(f"score_columns names {unknown[0]!r}, which is not among rubrics")
        for name in self.score_columns:
            columns = self.scored_in(name)
            if len({same_name(column) for column in columns}) < len(columns):
                raise ValueError(
                    f"score_columns.{name} names a column twice; give one of each rater"
                )
        if self.rater_column and self.layout == "wide":
            raise ValueError(
                "rater_column is for layout=long; in a wide table, give score_columns.RUBRIC the columns of"
                " its raters as a list"
            )
        if self.layout == "long" and self.rubric_column is None and len(self.rubrics) > 1:
            raise ValueError(
                "rubric_column is null, so that all scores are of one rubric, but rubrics has"
                f" {len(self.rubrics)}; name the column that tells them apart"
            )
        return self

    @model_validator(mode="after")
    def _scores_have_columns_of_their_own(self) -> Self:
        """Ids that are numbers could else be read as scores."""
        other = {
            same_name(getattr(self, key)): key
            for key in ("text_column", "group_column", "id_column")
        }
        columns = {self.score_column: "set score_column"}
        if self.layout == "wide":
            columns = {
                column: f"set score_columns.{name}"
                for name in self.rubrics
                for column in self.scored_in(name)
            }
        for column, cure in columns.items():
            if same_name(column) in other:
                raise ValueError(
                    f"scores would be read from the column {column!r}, which is the"
                    f" {other[same_name(column)]}; {cure} to the column that holds them"
                )
        return self


class TalkmovesRubric(Rubric):
    """A rubric measured as the share of one side's sentences that carry one of `tags`."""

    speaker: Literal["teacher", "student"]  # whose sentences are counted
    tags: Sequence[Count]  # leading digits: 1-9 in "Teacher Tag", 1-5 in "Student Tag"

    @model_validator(mode="after")
    def _tags_exist(self) -> Self:
        last = 9 if self.speaker == "teacher" else 5
        if not self.tags or max(self.tags) > last:
            raise ValueError(f"tags of a {self.speaker} must be some of 1 to {last}")
        return self


class TalkmovesConfig(DataConfig):
    """Keys of `data=talkmoves`."""

    source: Literal["talkmoves"]
    path: Text  # folder with the workbooks, searched with all its subfolders
    max_words: Count  # longest segment, in spoken words (the speakers' labels not counted)
    min_words: Count  # a shorter rest of a lesson is left out
    min_sentences: Count  # a side that says fewer tagged sentences in a segment gets no score there
    rubrics: Mapping[str, TalkmovesRubric]

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words must not exceed max_words, but they are {self.min_words}"
                f" and {self.max_words}"
            )
        if not self.rubrics:
            raise ValueError("rubrics is empty: name at least one")
        return self


AnyDataConfig = SimulatedConfig | TalkmovesConfig | NcteConfig | TableConfig
