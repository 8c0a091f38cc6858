"""`debiasdpo export`: each form is loaded again as its card says, and rates as the run did."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from debiasdpo.cli import main
from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import Run, open_run
from debiasdpo.models.source import source_identity
from debiasdpo.storage.files import read_json, write_json
from debiasdpo.use import gguf
from debiasdpo.use.bases import base_of
from tests.helpers.finished_runs import Runs
from tests.helpers.hub import FIRST, Hub, in_place_of_the_hub, served
from tests.helpers.jobs import SMALL, JobConfigs, rows, run_folder, run_job
from tests.helpers.models import SMOLLM2

Rate = Callable[[str, str], Any]  # rubric, document -> a rating, or what the model writes

# In points: of the same arithmetic in another order, and of weights that are rounded to 8 bits of mantissa.
FLOAT32, BFLOAT16, NF4 = 5e-4, 0.05, 0.05


def export(run: Path, to: Path, *options: str) -> Path:
    assert main(["export", str(run), "--to", str(to), *options]) == 0
    return to


def as_the_card_says(folder: Path, base: Path | None, patch: pytest.MonkeyPatch) -> Rate:
    """The function `rate` of the Python in the card, run from within the folder."""
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[0]
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
    patch.delitem(__import__("sys").modules, "rate_with_head", raising=False)
    found: dict[str, Any] = {}
    exec(code.replace("PATH/TO/THE/FOLDER", str(base)), found)
    rate: Rate = found["rate"]
    return rate


def assert_alike(rate: Rate, run: Run, tolerance: float) -> None:
    """As the run rated its own test documents, before calibration; also where they come as a file of another
    system has them."""
    texts = {d["id"]: d["text"] for d in rows(run.folder / "documents/documents.jsonl")}
    neutral = [r for r in rows(run.folder / "ratings_tuned.jsonl") if r["statement"] is None]
    assert neutral
    for row in neutral:
        text = texts[row["document"]].replace("\n", "\r\n")
        found = rate(row["rubric"], f"\ufeff{text}\r\n\r\n")
        if run.config.rate.readout == "text":
            assert found.strip() == row["text"].strip()
        else:
            assert found == pytest.approx(row.get("raw", row["rating"]), abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "files", "tolerance"),
    [
        ("adapter", (), {"adapter_config.json", "adapter_model.safetensors", "Modelfile"}, FLOAT32),
        ("adapter", ("--merge",), {"model.safetensors", "config.json", "Modelfile"}, FLOAT32),
        ("adapter", ("--merge", "--dtype", "bfloat16"), {"model.safetensors"}, BFLOAT16),
        ("full", (), {"model.safetensors", "tokenizer.json", "Modelfile"}, FLOAT32),
        ("head", (), {"head.safetensors", "rate_with_head.py"}, FLOAT32),
        ("head in 4 bits", (), {"head.safetensors", "rate_with_head.py"}, NF4),
        ("adapter in 4 bits", (), {"adapter_config.json", "adapter_model.safetensors"}, NF4),
    ],
    ids=["adapter", "merged", "bfloat16", "full", "head", "head in 4 bits", "adapter in 4 bits"],
)
def test_each_form_rates_as_the_run_did(
    finished: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: tuple[str, ...],
    files: set[str],
    tolerance: float,
) -> None:
    run = finished(name)
    base = Path(run.config.local_model.path)
    folder = export(run.folder, tmp_path / "rater", *options)
    there = {file.name for file in folder.iterdir()}
    assert there >= files | {"prompts.json", "README.md"}
    assert ("calibration.json" in there) == (name == "adapter")
    for file in folder.iterdir():  # no path of this machine
        assert str(base).encode() not in file.read_bytes(), file
        assert str(run.folder.parent).encode() not in file.read_bytes(), file
    if "Modelfile" in there:  # as the run decodes, and not as Ollama does unless told
        model_file = (folder / "Modelfile").read_text().splitlines()
        told = ("temperature 0", "top_p 1", "top_k 0", "repeat_penalty 1")
        assert set(model_file) >= {f"PARAMETER {one}" for one in told}
    if name == "full":  # as the base of an adapter may have them, which is loaded with its own
        decoding = read_json(folder / "generation_config.json")
        write_json(folder / "generation_config.json", {**decoding, "repetition_penalty": 5.0})
    assert_alike(as_the_card_says(folder, base, monkeypatch), run, tolerance)
    card = (folder / "README.md").read_text()
    assert (run.folder / "table.txt").read_text().strip() in card
    assert (run.folder / "verdict.txt").read_text().strip() in card
    # `sft` fits the scores of neutral prompts, and shows no statement.
    alike = (
        "to rate them alike whether or not an irrelevant statement of these kinds comes along"
        in card
    )
    assert alike == run.config.method.sees_statements == (run.config.method.name == "head")
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == ("peft" if files & {"adapter_config.json"} else "transformers")
    assert "Licence of the base model: not said by its files" in card
    if name == "adapter" and not options:
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert (settings["base_model_name_or_path"], settings["revision"]) == (base.name, None)
        assert f"the model folder {base.name} of the machine where it was trained" in card


@pytest.fixture(scope="module")
def ending(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that soon ends its turns, which its own settings do not know for an end of what it writes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "ending"
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, tie_word_embeddings=False)
    head = model.get_input_embeddings().weight.detach().clone()
    head[tokenizer.eos_token_id] = (
        3 * head[100]
    )  # of all tokens the likeliest, at some places of many
    model.lm_head.weight.data = head
    model.config.eos_token_id = model.generation_config.eos_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "options"),
    [("full", ()), ("lora", ()), ("lora", ("--merge",))],
    ids=["full", "adapter", "merged"],
)
def test_what_is_written_ends_where_the_turn_does(
    ending: Path, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    trained: str, options: tuple[str, ...],
) -> None:  # fmt: skip
    overrides = (
        f"model.path={ending}",
        f"output_dir={tmp_path}",
        *SMALL,
        "method=sft",
        "rate=text",
    )
    more = (f"train.adapter={trained}", "rate.max_new_tokens=48", "train.learning_rate=1e-6")
    run_job(job_config(*overrides, *more), "ending")
    run = open_run(run_folder(tmp_path))
    written = [row["status"] for row in rows(run.folder / "ratings_tuned.jsonl")]
    assert set(written) - {"cut"}
    folder = export(run.folder, tmp_path / "rater", *options)
    rate = as_the_card_says(folder, ending, monkeypatch)
    assert_alike(rate, run, FLOAT32)
    assert read_json(folder / "prompts.json")["stop"] == [0, 2]
    lines = (folder / "Modelfile").read_text().splitlines()
    assert {'PARAMETER stop "<|endoftext|>"', 'PARAMETER stop "<|im_end|>"'} <= set(lines)
    if trained == "full" or options:
        assert read_json(folder / "generation_config.json")["eos_token_id"] == [0, 2]
    else:
        assert '`"stop_token_ids": [0, 2]`' in (folder / "README.md").read_text()


@pytest.mark.slow
def test_what_the_run_drew_is_drawn(
    finished: Runs, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else the base model's own files say of sampling."""
    import torch

    full = finished("full")
    model = full.config.local_model.path
    run_job(
        job_config(
            f"model.path={model}", f"output_dir={tmp_path}", *SMALL, "method=sft", "rate=text",
            "rate.temperature=1.5", "rate.top_p=0.9", "rate.max_new_tokens=12",
        ),
        "tiny",
    )  # fmt: skip
    base = Path(shutil.copytree(model, tmp_path / "base"))
    own = {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.01, "min_p": 0.99}
    decoding = read_json(base / "generation_config.json")
    write_json(base / "generation_config.json", {**decoding, **own})
    folder = export(run_folder(tmp_path), tmp_path / "rater")
    rate = as_the_card_says(folder, base, monkeypatch)
    torch.manual_seed(0)
    written = {rate("focus", "An essay.") for _ in range(4)}
    assert len(written) == 4
    card = (folder / "README.md").read_text()
    assert "do_sample=True, temperature=1.5, top_p=0.9, top_k=0" in card
    assert "Drawn anew each time" in card
    written = set((folder / "Modelfile").read_text().splitlines())
    assert written >= {"PARAMETER temperature 1.5", "PARAMETER top_p 0.9"}
    greedy = export(full.folder, tmp_path / "greedy")
    assert "do_sample=False" in (greedy / "README.md").read_text()


# --- a base of a hub, and a hub to push to


@pytest.fixture(scope="module")
def server(tiny_llama: Path) -> Iterator[Hub]:
    with served({FIRST: tiny_llama}) as server:
        yield server


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with in_place_of_the_hub(server, tmp_path / "hub", monkeypatch) as hub:
        yield hub


def of_base(run: Run, folder: Path, path: str, source: dict[str, str]) -> Path:
    """A copy of the run as if its model had been this one."""
    shutil.copytree(run.folder, folder)
    config, versions = folder / "config.yaml", folder / "versions.json"
    config.write_text(config.read_text().replace(run.config.local_model.path, path))
    versions.write_text(json.dumps({**json.loads(versions.read_text()), "model": source}))
    status = json.loads((folder / "status.json").read_text())
    for file in (config, versions):
        status["files"].pop(file.name)
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def with_other_weights(run: Run, folder: Path) -> Path:
    """A copy of the run as if another adapter had come out of its training."""
    copied = of_base(run, folder, run.config.local_model.path, run.versions["model"])
    weights = copied / "training/weights/adapter_model.safetensors"
    tensors = {
        name: tensor + 0.1 * (tensor == 0) + 0.01 for name, tensor in load_file(weights).items()
    }
    weights.unlink()
    save_file(tensors, weights)
    status = read_json(copied / "status.json")
    status["files"].pop("training/weights/adapter_model.safetensors")
    write_json(copied / "status.json", status)
    return copied


@pytest.mark.slow
def test_an_adapter_on_the_output_projection_is_merged_into_that_alone(
    finished: Runs, job_config: JobConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has one weight with the embedding."""
    base = Path(finished("none").config.local_model.path)
    assert read_json(base / "config.json")["tie_word_embeddings"]
    overrides = (f"model.path={base}", f"output_dir={tmp_path / 'out'}", *SMALL, "method=sft")
    run_job(job_config(*overrides, "rate=expected", "model.lora.targets=[q_proj,lm_head]"), "tiny")
    run = open_run(run_folder(tmp_path / "out"))
    moved = with_other_weights(run, tmp_path / "moved")
    forms = [
        as_the_card_says(export(folder, tmp_path / name, *options), base, monkeypatch)
        for name, folder, options in (
            ("as it was", run.folder, ()),
            ("adapter", moved, ()),
            ("merged", moved, ("--merge",)),
        )
    ]
    before, adapter, merged = (rate("focus", "Why is it seven?") for rate in forms)
    assert merged == pytest.approx(adapter, abs=FLOAT32)
    assert abs(adapter - before) > 10 * FLOAT32
    assert not read_json(tmp_path / "merged/config.json")["tie_word_embeddings"]


def test_a_rater_that_was_trained_anew_is_served_under_another_name(
    finished: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """debiasdpo finds replies again by the name that was asked."""
    run = finished("adapter")
    anew = with_other_weights(run, tmp_path / "anew")
    names = []
    of: list[tuple[Path, tuple[str, ...]]] = [
        (run.folder, ()), (run.folder, ()), (run.folder, ("--merge",)), (anew, ()), (anew, ("--merge",)),
    ]  # fmt: skip
    for number, (folder, options) in enumerate(of):
        to = export(folder, tmp_path / f"rater {number}", *options)
        said = capsys.readouterr().out
        (name,) = re.findall(r"ollama create (rater-[0-9a-f]{16}) -f Modelfile", said)
        served = f"--served-model-name {name} " if options else f"--lora-modules {name}="
        assert served in said.replace("'", "")  # round a path with a space
        told = [shlex.split(line) for line in said.splitlines()]
        assert ["cd", str(to), "&&"] in [words[:3] for words in told]
        (words,) = [words for words in told if words[:2] == ["vllm", "serve"]]
        assert (words[2] if options else words[words.index("--lora-modules") + 1]) in (
            str(to), f"{name}={to}",
        )  # fmt: skip
        card = (to / "README.md").read_text()
        assert served in card
        assert f"ollama create {name} -f Modelfile" in card
        assert f"ollama create {name} -f Modelfile" in (to / "Modelfile").read_text()
        names.append(name)
    first, again, *others = names
    assert first == again
    assert len({first, *others}) == 4


def test_servers_are_told_what_the_run_told_a_model_that_thinks(
    finished: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished("adapter")
    base = Path(shutil.copytree(run.config.local_model.path, tmp_path / "base"))
    template = base / "chat_template.jinja"
    silent = (
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}"
    )
    template.write_text(template.read_text() + silent)
    source = source_identity(str(base), None, tmp_path)
    folder = export(of_base(run, tmp_path / "run", str(base), source), tmp_path / "rater")
    line = """--default-chat-template-kwargs '{"enable_thinking": false, "thinking": false}'"""
    assert line in capsys.readouterr().out
    assert line in (folder / "README.md").read_text()
    assert '"think": false' in (folder / "Modelfile").read_text()
    export(run.folder, tmp_path / "plain")  # one that never thinks
    assert "chat-template-kwargs" not in capsys.readouterr().out
    assert "think" not in (tmp_path / "plain/Modelfile").read_text()


@pytest.mark.parametrize("options", [(), ("--merge",)], ids=["adapter", "merged"])
def test_servers_write_the_date_that_the_run_wrote(
    finished: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    run = finished("adapter")
    base = Path(shutil.copytree(run.config.local_model.path, tmp_path / "base"))
    template = base / "chat_template.jinja"
    today = "<|im_start|>system\nToday: {{ strftime_now('%d %b %Y') }}<|im_end|>\n"
    template.write_text(today + template.read_text())
    source = source_identity(str(base), None, tmp_path)
    moved = of_base(run, tmp_path / "run", str(base), source)
    folder = export(moved, tmp_path / "rater", *options)
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("vllm serve")]
    served = AutoTokenizer.from_pretrained(folder if options else base)
    if not options:
        assert f" --chat-template {folder}/chat_template.jinja" in line
        served.chat_template = (folder / "chat_template.jinja").read_text()
    for asked in read_json(folder / "prompts.json")["rubrics"].values():
        assert "Today: 26 Jul 2024" in asked["text"]
        found = served.apply_chat_template(
            asked["messages"], tokenize=False, add_generation_prompt=True
        )
        assert found == asked["text"]
    assert "always 2024-07-26" in (folder / "README.md").read_text()
    assert "always 2024-07-26" in (folder / "Modelfile").read_text()
    plain = export(run.folder, tmp_path / "plain", *options)
    assert (plain / "chat_template.jinja").exists() == bool(options)
    assert "--chat-template" not in capsys.readouterr().out
    assert "2024" not in (plain / "Modelfile").read_text()


@pytest.mark.slow
def test_an_adapter_of_a_hub_model_is_loaded_by_its_name_and_commit_alone(
    finished: Runs,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import AutoPeftModelForCausalLM

    run = finished("adapter")
    source = {"hub": "good/model", "commit": FIRST}
    moved = of_base(run, tmp_path / "run", "good/model", source)
    folder = export(moved, tmp_path / "rater", "--push", "mine/rater")
    said = capsys.readouterr().out
    assert f"vllm serve good/model --revision {FIRST} " in said
    assert """--override-generation-config '{"repetition_penalty": 1.0}'""" in said
    assert "--max-lora-rank 8 " in said  # of rank 4: vLLM takes no less
    assert f"http://127.0.0.1:{hub.server_port}/mine/rater" in said
    sent = hub.pushed["mine/rater"]
    assert sent == {file.name: file.read_bytes() for file in folder.iterdir()}
    head = yaml.safe_load(sent["README.md"].decode().split("---")[1])
    assert (head["base_model"], head["base_model_relation"]) == ("good/model", "adapter")
    assert_alike(as_the_card_says(folder, None, monkeypatch), run, FLOAT32)
    peft = AutoPeftModelForCausalLM.from_pretrained(str(folder))
    assert peft.active_peft_config.revision == FIRST
    assert peft.active_peft_config.base_model_name_or_path == "good/model"
    again = main(["export", str(moved), "--to", str(tmp_path / "b"), "--push", "gated/rater"])
    assert again == 1
    assert "gated/rater could not be uploaded" in capsys.readouterr().err
    assert (tmp_path / "b/README.md").exists()


def test_a_base_that_is_a_file_is_named_by_its_name_and_content(
    finished: Runs, tmp_path: Path
) -> None:
    moved = of_base(finished("adapter"), tmp_path / "run", SMOLLM2, {"gguf": "0123abcd"})
    base = base_of(open_run(moved))
    assert (base.name, base.licence) == ("SmolLM2-135M-Instruct.Q4_1.gguf", "apache-2.0")
    assert base.needed.startswith("the file SmolLM2-135M-Instruct.Q4_1.gguf (SHA-256 0123abcd)")
    assert base.loading == '"PATH/TO/THE/FOLDER", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"'


def test_the_licence_of_a_folder_is_that_of_its_card(
    finished: Runs, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    moved = of_base(finished("adapter"), tmp_path / "run", str(folder), {})
    for head, licence in (
        ("license: llama3.1", "llama3.1"),
        ("license: other\nlicense_name: qwen-research", "qwen-research"),
        ("tags: [a]", None),
        ("license: [a", None),
    ):
        (folder / "README.md").write_text(f"---\n{head}\n---\nA model.\n")
        assert base_of(open_run(moved)).licence == licence


# --- GGUF


@pytest.mark.slow
def test_a_gguf_file_rates_as_the_run_did(
    finished: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        gguf.require_converter()
    except UserError as error:
        pytest.skip(str(error))
    run = finished("adapter")
    folder = export(run.folder, tmp_path / "rater", "--merge", "--gguf")
    assert (folder / "Modelfile").read_text().startswith("FROM ./rater-f32.gguf\n")
    card = folder / "README.md"
    card.write_text(
        card.read_text().replace(
            'from_pretrained("."', 'from_pretrained(".", gguf_file="rater-f32.gguf"'
        )
    )
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    assert_alike(as_the_card_says(folder, None, monkeypatch), run, FLOAT32)


# --- what is refused


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("none", (), "method=none trained nothing; use the base model as it is"),
        ("think", (), "method=prompt_think only changed the prompts"),
        ("head", ("--merge",), "there is no adapter to merge: a head stays beside its base model"),
        ("adapter", ("--dtype", "float16"), "--dtype: is of whole models; add --merge"),
        ("adapter", ("--gguf",), "--gguf: is of a whole model; add --merge"),
        ("adapter", ("--merge", "--gguf"), "llama.cpp's converter is not on the PATH"),
        ("adapter", ("--push", "rater"), "'rater' is not of the form ORGANISATION/NAME"),
        ("adapter", ("--to", "{here}/full"), "is there already; give a new or an empty folder"),
    ],
    ids=["none", "prompts", "head", "dtype", "gguf", "converter", "push", "folder"],
)  # fmt: skip
def test_what_cannot_be_exported_is_told(
    finished: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a file").touch()
    filled = [option.format(here=tmp_path) for option in options]
    assert main(["export", str(finished(name).folder), "--to", str(tmp_path / "to"), *filled]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
