"""The command line: its commands, what it says where one is wrong, and how little it imports to say so."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from debiasdpo import __version__
from debiasdpo.cli import AUDIT, COMMANDS, main
from debiasdpo.run import conf_dir
from tests.helpers.jobs import SMALL, rows, run_folder

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "wandb",
    "accelerate",
    "numpy",
    "pydantic",
    "matplotlib",
)
HYDRA = ("hydra", "omegaconf")


def python(*arguments: str, path: Path = ROOT, cwd: Path = ROOT) -> str:
    """Standard output of a Python that finds the package in `path`; anything but 0 is a failure."""
    return command([sys.executable, *arguments], path, cwd)


def command(words: Sequence[str], path: Path, cwd: Path, code: int = 0, **variables: str) -> str:
    """Standard output of a command, which ends with this exit code."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    done = subprocess.run(
        words, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def ended(*arguments: str) -> int:
    """The exit code, also where argparse leaves by itself."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def composed(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict:
    """The configuration that a command would run."""
    assert main([*arguments, "--cfg", "job"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


# --- what it says of itself


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_shows_its_commands(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert "debiasdpo COMMAND --help" in said


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
def test_the_version_is_that_of_debiasdpo(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"debiasdpo {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_has_a_help_of_one_screen_with_examples(
    name: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(name, flag) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: debiasdpo {name} ")
    assert sum(line.startswith(f"  debiasdpo {name}") for line in lines) >= 2
    assert len(lines) <= 28
    assert all(len(line) <= 112 for line in lines)


def test_the_help_of_run_names_every_group_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "model=qwen7b", "--help"]) == 0  # where it is looked for while writing
    said = capsys.readouterr().out
    for group in (ROOT / "conf").iterdir():
        if group.is_dir() and any(group.glob("*.yaml")):
            assert f"\n  {group.name} " in said
    assert "--hydra-help" in said
    assert "--cfg job" in said
    assert said == python("-m", "debiasdpo.run", "--help")
    assert not list(tmp_path.iterdir())


# --- what it says of a wrong command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stauts"], "no such command: stauts; did you mean debiasdpo status?"),
        (["repotr", "a b"], "did you mean debiasdpo report 'a b'?"),
        (["--verison"], "did you mean debiasdpo --version?"),
        (["model=llama8b"], "a command comes first: debiasdpo run model=llama8b"),
        (["-m", "seed=0,1"], "a command comes first: debiasdpo run -m seed=0,1"),
        (["--cfg", "job"], "a command comes first: debiasdpo run --cfg job"),
        (["~tracker"], "a command comes first: debiasdpo run '~tracker'"),
        (["xyz"], "no such command: xyz; there are init, run, audit, plan, status, report, rate"),
    ],
)
def test_a_wrong_command_is_told_the_right_one(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_a_wrong_command(name: str) -> None:
    assert ended(name, "--no-such-option") == 2


# --- what it imports


@pytest.mark.parametrize(
    ("line", "code", "unneeded"),
    [
        ("", 0, (*HEAVY, *HYDRA)),
        ("--version", 0, (*HEAVY, *HYDRA)),
        ("stauts", 2, (*HEAVY, *HYDRA)),
        ("model=qwen7b", 2, (*HEAVY, *HYDRA)),
        ("run --help", 0, (*HEAVY, *HYDRA)),
        ("audit --help", 0, (*HEAVY, *HYDRA)),
        ("plan --help", 0, (*HEAVY, *HYDRA)),
        ("status --help", 0, (*HEAVY, *HYDRA)),
        ("report --help", 0, (*HEAVY, *HYDRA)),
        ("-sc query=bash", 0, (*HEAVY, *HYDRA)),
        ("run --cfg job", 0, HEAVY),
        ("run modle=qwen7b", 1, ("torch", "transformers", "numpy", "matplotlib")),
        ("run loss.beta=0", 1, ("transformers", "peft", "trl", "wandb", "matplotlib")),
    ],
)
def test_it_imports_what_it_needs_and_no_more(
    line: str, code: int, unneeded: tuple[str, ...], tmp_path: Path
) -> None:
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('heavy:', [m for m in {unneeded} if m in sys.modules]))\n"
        "from debiasdpo.cli import main\n"
        f"sys.exit(main({line.split()}))"
    )
    said = command([sys.executable, "-c", script], ROOT, tmp_path, code, COMP_LINE="debiasdpo s")
    assert said.splitlines()[-1] == "heavy: []"


# --- audit, plan, and what Hydra is given


def test_an_audit_takes_all_documents_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = composed("audit", capsys=capsys)
    assert config["method"]["name"] == "none"
    assert config["data"]["split"] == {"train": 0, "validation": 0, "test": 1}
    assert config["data"]["limit"]["test"] is None
    mine = "method=prompt_strip", "data.limit.test=5", "data.split={train:0.2,test:0.3}"
    config = composed("audit", *mine, capsys=capsys)
    assert config["method"]["name"] == "prompt_strip"
    assert config["data"]["split"] == {"train": 0.2, "validation": 0, "test": 0.3}
    assert config["data"]["limit"]["test"] == 5


def test_a_home_stands_where_a_shell_would_have_put_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for override, path in {
        "model.path=~/a b": "/home/me/a b",
        "model.path=~": "/home/me",
        'model.path="~/a"': "~/a",  # quoted for Hydra: as it is, and a home where it is opened
    }.items():
        assert composed("run", override, capsys=capsys)["model"]["path"] == path
    lora = composed("run", "model.lora.targets=[~/a,~]", capsys=capsys)["model"]["lora"]
    assert lora["targets"] == ["/home/me/a", "/home/me"]
    monkeypatch.setenv("HOME", "/home/it's")  # which Hydra could not read
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `run` has set it
    assert main(["run", "model.path=~/a", "--cfg", "job"]) == 1
    assert "'model.path=\"~/a\"'" in capsys.readouterr().err


def test_an_audit_of_a_preset_that_trains_does_not_train(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert composed("audit", "experiment=quick", capsys=capsys)["method"]["name"] == "none"


@pytest.mark.slow
def test_an_audit_measures_on_every_document(tiny_llama: Path, tmp_path: Path) -> None:
    small = [o for o in SMALL if not o.startswith(("train.", "data.limit"))]
    more = (
        f"model.path={tiny_llama}",
        f"output_dir={tmp_path}",
        "rate=expected",
        "context=experience",
    )
    assert main(["audit", *small, *more]) == 0
    folder = run_folder(tmp_path)
    parts = [row["part"] for row in rows(folder / "documents/documents.jsonl")]
    assert parts == ["test"] * 10  # data.teachers, one lesson each
    assert {row["document"] for row in rows(folder / "ratings_base.jsonl")} >= {
        row["id"] for row in rows(folder / "documents/documents.jsonl")
    }
    assert not (folder / "weights").exists()


@pytest.mark.slow
@pytest.mark.parametrize("given", [["seed=0,1"], ["-m", "seed=0,1"], ["seed=0,1", "-m"]])
def test_plan_launches_nothing(
    given: list[str], tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = (
        f"model.path={tiny_llama}",
        "model.max_length=1024",
        f"output_dir={tmp_path}",
        "method=none",
    )
    assert main(["plan", *options, *given]) == 0
    said = capfd.readouterr().out
    assert "seed=0 " in said
    assert "seed=1 " in said
    assert not (tmp_path / "runs").exists()


def test_overrides_may_stand_before_and_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "seed=3", "--cfg", "job", "gpu_hour_price=2"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["seed"], config["gpu_hour_price"]) == (3, 2)


def test_mappings_that_users_extend_take_new_keys_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = (
        "data=table", "data.path=t.csv", "cluster=slurm",
        "data.rubrics.clarity={question:Clear?,low:1,high:5}",
        "data.rubrics.clarity.high_is_good=false",
        "data.score_columns.clarity=points",
        "context.train.race=true",
        "context.categories.mine={description:d,neutral:{train:[a],test:[b]}}",
        "cluster.more.exclude=node07",
        "+cluster.more.nice=1",  # as ever
    )  # fmt: skip
    config = composed("run", *given, capsys=capsys)
    rubric = {"question": "Clear?", "low": 1, "high": 5, "high_is_good": False}
    assert config["data"]["rubrics"] == {"clarity": rubric}
    assert config["data"]["score_columns"] == {"clarity": "points"}
    assert config["context"]["train"] == {"sycophancy": True, "race": True}
    assert config["context"]["categories"]["mine"]["neutral"]["test"] == ["b"]
    assert len(config["context"]["categories"]) == 9
    assert config["cluster"]["more"] == {"exclude": "node07", "nice": 1}


def test_a_new_key_can_be_swept_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "-m", "context.train.race=true,false", "seed=-1", "output_dir=out"]) == 1
    assert "2 of 2 jobs failed" in capfd.readouterr().err


# --- an installed wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the project's wheel was installed."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"  # building must not write into the checkout
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("debiasdpo", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(base), "."],
        source,
        source,
    )
    (wheel,) = base.glob("*.whl")
    pip = ["pip", "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    python("-m", *pip, "--target", str(base / "target"), str(wheel), path=base, cwd=base)
    names = zipfile.ZipFile(wheel).namelist()
    assert "debiasdpo/py.typed" in names
    assert not [name for name in names if name.startswith(("conf/", "tests/"))]
    shipped = {n.removeprefix("debiasdpo/") for n in names if n.startswith("debiasdpo/conf/")}
    here = {f.relative_to(ROOT).as_posix() for f in (ROOT / "conf").rglob("*.yaml")}
    assert shipped == here
    return base / "target"


@pytest.mark.slow
def test_an_installed_wheel_shows_the_same_configuration_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    expected = python("-m", "debiasdpo.run", "--cfg", "job")
    assert "experience" in expected
    where = python(
        "-c", "import debiasdpo; print(debiasdpo.__file__)", path=installed, cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(installed)
    module = python("-m", "debiasdpo.run", "--cfg", "job", path=installed, cwd=tmp_path)
    script = command([f"{installed}/bin/debiasdpo", "run", "--cfg", "job"], installed, tmp_path)
    assert module == script == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("debiasdpo ", sorted(COMMANDS)),
        ("debiasdpo st", ["status"]),
        ("debiasdpo run model=q", ["model=qwen3b", "model=qwen7b"]),
        ("debiasdpo audit seed=1 train=", ["train=cpu", "train=full", "train=qlora"]),
        ("debiasdpo run -m loss.w_s", ["loss.w_sft="]),
        ("debiasdpo run -m loss.be", ["loss.beta="]),
        ("debiasdpo status out", []),  # bash then completes paths
        ("debiasdpo stauts model=q", []),
    ],
)
def test_bash_completes_the_console_script(
    installed: Path, tmp_path: Path, line: str, choices: list[str]
) -> None:
    word = line.count(" ")
    script = (
        f'export PATH="{installed}/bin:$PATH"\n'
        'eval "$(debiasdpo -sc install=bash)"\n'
        "complete -p debiasdpo | grep -q default || exit 3\n"
        f'COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={word}\n'
        "hydra_bash_completion\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    output = command(["bash", "-c", script], installed, tmp_path)
    found = sorted(part.split("=")[0] + "=" if "." in part else part for part in output.split())
    assert found == choices


def test_fish_is_given_folders_for_commands_that_read_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outputs/runs").mkdir(parents=True)
    (tmp_path / "other").write_text("")
    monkeypatch.chdir(tmp_path)
    for line, said in (
        ("debiasdpo status o", "outputs/\n"),
        ("debiasdpo report outputs/", "outputs/runs/\n"),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        assert main(["-sc", "query=fish"]) == 0
        assert capsys.readouterr().out == said
    monkeypatch.setenv("COMP_LINE", f"debiasdpo report {tmp_path}/out")
    assert main(["-sc", "query=fish"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/outputs/\n"


def test_what_an_audit_sets_is_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--help"]) == 0
    assert " ".join(AUDIT) in capsys.readouterr().out


def test_a_file_of_ones_own_is_read_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra reads a file of the project's in place of one of the same name in --config-dir."""
    race = yaml.safe_load((conf_dir() / "category/race.yaml").read_text())
    race["flattering"]["test"] = ["A sentence of one's own."]
    names = ("category/race.yaml", "rate/text.yaml", "config.yaml")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(race))
    for command in ("run", "audit", "plan"):
        assert main([command, "--config-dir", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert all(name in said for name in names)
    (tmp_path / "rate/text.yaml").unlink()
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "category/race.yaml").rename(tmp_path / "category/origin.yaml")
    given = ["--config-dir", str(tmp_path), "+category@context.categories.origin=origin"]
    config = composed("run", *given, capsys=capsys)
    assert config["context"]["categories"]["origin"]["flattering"]["test"] == [
        "A sentence of one's own."
    ]


def test_the_projects_own_folders_may_be_a_config_dir(capsys: pytest.CaptureFixture[str]) -> None:
    """conf/ is what `init` names, in a checkout too; the examples have names of their own."""
    for folder in (conf_dir(), conf_dir().parent / "docs/examples/conf"):
        assert composed("run", "--config-dir", str(folder), capsys=capsys)["data"]
