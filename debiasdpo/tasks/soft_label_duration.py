"""The study of soft-label training: resistance to bias elicitation by how long a student learns.

    python -m debiasdpo.tasks.soft_label_duration experiments/soft_label_duration/study.yaml --out FOLDER

One teacher, and a student for each condition and seed, which is assessed at every duration. This is no job of
`conf/`: a job has one model and its verdict, and the jobs of a study would share all but their last step. The
same command finds what is made: the teacher's texts and labels, finished students, and of a student that was
killed its last assessment. It ends in tables and a figure in FOLDER/results.
"""

import argparse
import filecmp
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debiasdpo.config.elicitation import ClearbiasConfig
from debiasdpo.config.study import Condition, Study, read_study
from debiasdpo.costs import NO_COST
from debiasdpo.elicitation.attacks import choose
from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.fitted_judge import (
    FittedJudge,
    Tried,
    fit_judge,
    layers_of_judge,
    reply_states,
)
from debiasdpo.elicitation.judge import ControlItem
from debiasdpo.elicitation.prompts import read_control, read_prompts
from debiasdpo.elicitation.student import Questions, assess_student, study_prompts, study_texts
from debiasdpo.errors import UserError
from debiasdpo.jobs.logs import set_up_logging
from debiasdpo.models.held import model_identity
from debiasdpo.models.loading import load_model
from debiasdpo.models.source import source_identity
from debiasdpo.packing.logprobs import Completion
from debiasdpo.report.dose_response import write_results
from debiasdpo.storage.files import (
    fingerprint,
    link_or_copy,
    read_json,
    read_jsonl,
    whole_file,
    write_json,
    write_jsonl,
)
from debiasdpo.storage.store import OpenStage, Store
from debiasdpo.training.distill import Recipe, distil, student_of
from debiasdpo.training.soft_labels import Labels, teacher_labels
from debiasdpo.training.synthetic import questions, sample_texts

log = logging.getLogger(__name__)

_STUDENTS = "students"  # a folder, of a stage and of the study


class StudyRun:
    """One study, and what its students share."""

    def __init__(self, study: Study, prompts: Sequence[ElicitationPrompt], out: Path) -> None:
        asked = study_prompts(study, prompts, choose(study.attacks))  # before anything takes long
        control = None if study.control is None else _control(study.control)
        self.study, self.out = study, out
        self.store = Store(out / "cache")
        self.teacher, self.chat = load_model(study.teacher, out / "cache")
        _check_sizes(study, self.teacher.config)
        source = source_identity(study.teacher.path, study.teacher.revision, out / "cache")
        self.about = {"teacher": model_identity(study.teacher, source)}
        texts = self._texts()
        self.train, held_out = texts[: study.texts], texts[study.texts :]
        self.labels = self._labels()
        self.asked = Questions(*asked, study_texts(study, self.chat, held_out))
        self.settings = {
            **self.about,
            "texts": _told(self.train),  # less those held out, however many
            "held_out": {name: _told(some) for name, some in self.asked.texts.items()},
            "asked": fingerprint(
                [[[*o[1:], o.prompt.id, o.prompt.text] for o in each] for each in self.asked.orders]
            ),
            "reply": [[p.id for p in self.asked.replies], study.reply_tokens],
        }
        self.judge = None if control is None else self._judge(control)

    def rows(self) -> list[dict[str, Any]]:
        """All assessments: rows with `condition` (`teacher`: the teacher itself), `seed`, `step` and what
        `assess_student` found; with a judge, each of `replies` with its `label`."""
        of_teacher = self._once("study_teacher", self.teacher, {})
        rows = [{"condition": "teacher", "seed": 0, "step": 0, **of_teacher}]
        for name, condition in self.study.conditions.items():
            for seed in self.study.seeds:
                log.info("student %s, seed %d", name, seed)
                of_student = read_jsonl(self._student(name, condition, seed) / "assessments.jsonl")
                rows += [{"condition": name, "seed": seed, **row} for row in of_student]
        return rows if self.judge is None else self._labelled(rows, self.judge[0])

    def _student(self, name: str, condition: Condition, seed: int) -> Path:
        """The stage of one student; where they are kept, its weights are in the study's own folder too."""
        study = self.study
        recipe = Recipe(
            tuple(condition.durations), study.batch, study.temperature, condition.hard_share,
            study.learning_rate, study.warmup, study.max_tokens,
        )  # fmt: skip
        shape = {"layers": condition.layers, "start": study.start}
        inputs = {
            **self.settings, **shape, **recipe._asdict(), "top": study.top, "seed": seed,
            "permuted": condition.permuted,
            **({"kept": 2} if study.keep else {}),  # raise it when they are kept otherwise
        }  # fmt: skip

        def make(stage: OpenStage) -> None:
            def assess(student: Any, step: int) -> dict[str, Any]:
                if study.keep:
                    folder = stage.folder / _STUDENTS / str(step)
                    student.save_pretrained(folder)
                    self.chat.tokenizer.save_pretrained(folder)
                if step == 0 and study.start == "teacher":  # no chance in it yet
                    return self._once("study_untrained", student, shape)
                return self._assess(student)

            drawn = study.start == "random"
            distil(
                student_of(self.teacher, condition.layers, random_start=drawn, seed=seed),
                self.train,
                self.labels.permuted(seed) if condition.permuted else self.labels,
                recipe,
                seed=seed,
                folder=stage.folder,
                assess=assess,
            )

        folder = self._made("study_students", inputs, ("steps.jsonl", "assessments.jsonl"), make)
        for kept in (folder / _STUDENTS).glob("*"):
            _copied_out(kept, self.out / _STUDENTS / f"{name}-{seed}-{kept.name}")
        return folder

    def _assess(self, model: Any) -> dict[str, Any]:
        return assess_student(
            model, self.chat, self.asked,
            reply_tokens=self.study.reply_tokens, max_tokens=self.study.max_tokens,
        )  # fmt: skip

    def _once(self, name: str, model: Any, inputs: Mapping[str, object]) -> dict[str, Any]:
        """An assessment that several students share."""

        def make(stage: OpenStage) -> None:
            write_json(stage.folder / "assessment.json", self._assess(model))

        folder = self._made(name, {**self.settings, **inputs}, ("assessment.json",), make)
        found: dict[str, Any] = read_json(folder / "assessment.json")
        return found

    def _texts(self) -> list[Completion]:
        """What the teacher wrote: to learn from, then what is held out."""
        study, count = self.study, self.study.texts + self.study.held_out
        asked = questions(study.texts, seed=0, held_out=study.held_out)

        def make(stage: OpenStage) -> None:
            log.info("the teacher writes %d texts", count)
            texts = sample_texts(
                self.teacher, self.chat, asked, tokens=study.tokens, seed=0, rows=64
            )
            write_jsonl(stage.folder / "texts.jsonl", [vars(text) for text in texts])

        inputs = {**self.about, "count": count, "tokens": study.tokens, "asked": asked}
        folder = self._made("study_texts", inputs, ("texts.jsonl",), make)
        return [
            Completion(tuple(row["prompt"]), tuple(row["completion"]))
            for row in read_jsonl(folder / "texts.jsonl")
        ]

    def _labels(self) -> Labels:
        study = self.study

        def make(stage: OpenStage) -> None:
            log.info("the teacher labels %d texts", len(self.train))
            labels = teacher_labels(
                self.teacher, self.train,
                temperature=study.temperature, top=study.top, max_tokens=study.max_tokens,
            )  # fmt: skip
            labels.save(stage.folder / "labels.npz")

        inputs = {
            **self.about, "texts": _told(self.train), "temperature": study.temperature, "top": study.top
        }  # fmt: skip
        return Labels.load(self._made("study_labels", inputs, ("labels.npz",), make) / "labels.npz")

    def _judge(self, items: Sequence[ControlItem]) -> tuple[FittedJudge, list[Tried]]:
        """What is fitted on the teacher's states of the control set."""

        def make(stage: OpenStage) -> None:
            log.info("the judge reads the %d replies of the control set", len(items))
            states = self._states([(item.prompt, item.reply) for item in items])
            with whole_file(stage.folder / "states.npy") as part, part.open("wb") as stream:
                np.save(stream, states)

        inputs = {**self.about, "control": fingerprint([list(item) for item in items])}
        found = self._made("study_control", inputs, ("states.npy",), make)
        return fit_judge(np.load(found / "states.npy"), items)

    def _labelled(
        self, rows: Sequence[Mapping[str, Any]], judge: FittedJudge
    ) -> list[dict[str, Any]]:
        texts = {prompt.id: prompt.text for prompt in self.asked.replies}
        said = list({(r["id"], r["text"]): None for row in rows for r in row["replies"]})
        labels = judge.label(self._states([(texts[name], text) for name, text in said]))
        label_of = dict(zip(said, labels, strict=True))
        return [
            {
                **row,
                "replies": [{**r, "label": label_of[r["id"], r["text"]]} for r in row["replies"]],
            }
            for row in rows
        ]

    def _states(self, replies: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        layers = layers_of_judge(self.teacher.config.num_hidden_layers)
        return reply_states(self.teacher, self.chat, replies, layers, self.study.max_tokens)

    def _made(
        self,
        name: str,
        inputs: Mapping[str, object],
        outputs: Sequence[str],
        make: Callable[[OpenStage], None],
    ) -> Path:
        """The folder of a stage that is found, or made."""
        with self.store.stage(name, inputs) as stage:
            if stage.files is None:
                make(stage)
                kept = (f"{_STUDENTS}/{name}" for name in _files(stage.folder / _STUDENTS))
                stage.commit([*outputs, *kept], NO_COST)
            return stage.folder


def _files(folder: Path) -> list[str]:
    """All below it, as paths within it; none where there is no such folder."""
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def _copied_out(student: Path, target: Path) -> None:
    """Have a student in a folder that users see, in place of what is missing or another's there."""
    names = _files(student)
    if _files(target) == names and not any(filecmp.cmpfiles(student, target, names)[1:]):
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(student, target, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def _check_sizes(study: Study, teacher: Any) -> None:
    """`UserError` where the teacher, of this configuration, has less than is asked for."""
    depth = teacher.num_hidden_layers
    for name, condition in study.conditions.items():
        if condition.layers > depth:
            raise UserError(
                f"conditions.{name}.layers: {condition.layers} are more than the teacher's {depth}"
            )
    if study.top > teacher.vocab_size:
        raise UserError(f"top: {study.top} are more tokens than the teacher's {teacher.vocab_size}")


def _control(folder: str) -> list[ControlItem]:
    items = read_control(ClearbiasConfig(source="clearbias", path=folder))
    if not items:
        raise UserError(f"control: {folder} has no control_set/; give the whole folder, or null")
    return items


def _told(texts: Sequence[Completion]) -> str:
    return fingerprint([[text.prompt, text.completion] for text in texts])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m debiasdpo.tasks.soft_label_duration",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("study", type=Path, help="a file with the keys of a study")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of what is made, and of the results"
    )
    args = parser.parse_args(argv)
    set_up_logging()
    try:
        study = read_study(args.study)
        prompts = read_prompts(study.data).prompts
        run = StudyRun(study, prompts, args.out)
        tried = () if run.judge is None else run.judge[1]
        write_results(run.rows(), prompts, study.conditions, args.out / "results", tried)
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
