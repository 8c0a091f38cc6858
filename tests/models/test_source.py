"""What tells one model from another: content, wherever it is."""

import json
import os
import shutil
from pathlib import Path

import pytest

from debiasdpo.errors import UserError
from debiasdpo.jobs.raters import hold_model
from debiasdpo.models import source
from debiasdpo.models.held import model_identity
from tests.helpers.jobs import JobConfigs
from tests.helpers.models import SMOLLM2, ModelConfigs


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_llama, tmp_path / "copy")


def identity(path: str | Path, cache: Path) -> str:
    return json.dumps(source.source_identity(str(path), None, cache))


def test_a_copy_elsewhere_is_the_same_model(copy: Path, tiny_llama: Path, tmp_path: Path) -> None:
    assert identity(copy, tmp_path) == identity(tiny_llama, tmp_path)
    os.utime(copy / "model.safetensors", ns=(0, 0))
    (copy / "README.md").write_text("What it is for.")
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (copy / "checkpoint-5").mkdir()
    (copy / "checkpoint-5/model.safetensors").write_text("not read")
    assert identity(copy, tmp_path) == identity(tiny_llama, tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_every_file_counts(name: str, copy: Path, tmp_path: Path) -> None:
    before = identity(copy, tmp_path)
    status, text = (copy / name).stat(), (copy / name).read_text()
    at = text.rindex("e")
    (copy / name).write_text(f"{text[:at]}E{text[at + 1 :]}")
    os.utime(copy / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (copy / name).stat().st_size == status.st_size
    assert identity(copy, tmp_path) != before


def test_other_weights_of_equal_size_and_time_are_another_model(
    copy: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    file = copy / "model.safetensors"
    status, before = file.stat(), identity(copy, tmp_path)
    tensors = load_file(file)
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert identity(copy, tmp_path) != before
    shutil.copy2(tiny_llama / "model.safetensors", file)  # and back
    assert identity(copy, tmp_path) == before


def test_files_in_folders_below_count_where_they_are_read(copy: Path, tmp_path: Path) -> None:
    (copy / "parts").mkdir()
    (copy / "model.safetensors").rename(copy / "parts/one.safetensors")
    weight_map = {"lm_head.weight": "parts/one.safetensors", "absent": "parts/two.safetensors"}
    index = {"metadata": {}, "weight_map": weight_map}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    seen = {identity(copy, tmp_path)}
    with (copy / "parts/one.safetensors").open("ab") as stream:
        stream.write(b"\0")
    seen.add(identity(copy, tmp_path))
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates/tools.jinja").write_text("{{ messages }}")
    seen.add(identity(copy, tmp_path))
    config = json.loads((copy / "config.json").read_text())
    named = {**config, "transformers_weights": "parts/three.safetensors"}
    (copy / "config.json").write_text(json.dumps(named))
    seen.add(identity(copy, tmp_path))
    (copy / "parts/three.safetensors").write_bytes(b"three")
    seen.add(identity(copy, tmp_path))
    assert len(seen) == 5


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_for_loading_to_tell(text: str, copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors.index.json").write_text(text)
    assert "index.json" in identity(copy, tmp_path)


def test_a_gguf_file_is_known_by_content_also_inside_a_package(tmp_path: Path) -> None:
    file = source.local_path(SMOLLM2)
    assert file is not None
    (tmp_path / "renamed.gguf").symlink_to(file)
    assert identity(tmp_path / "renamed.gguf", tmp_path) == identity(SMOLLM2, tmp_path)
    with file.open("rb") as whole, (tmp_path / "short.gguf").open("wb") as beginning:
        beginning.write(whole.read(5 * 2**20))
    assert identity(tmp_path / "short.gguf", tmp_path) != identity(SMOLLM2, tmp_path)


def test_what_decides_outputs_is_in_the_identity(model_config: ModelConfigs) -> None:
    def of(source: dict[str, str], **changes: object) -> dict[str, object]:
        return dict(model_identity(model_config("a/b", **changes), source))

    local, gguf = {"files": "x"}, {"gguf": "x"}
    every = [
        of(local), of(gguf), of(local, nf4=True), of(local, dtype="bfloat16"),
        of(local, attention="dense"),
    ]  # fmt: skip
    assert all(one != other for one in every for other in every if one is not other)
    assert of(local, max_length=99) == of(local)
    versions = [sorted(one["versions"]) for one in every[:3]]  # type: ignore[call-overload]
    base = ["tokenizers", "torch", "transformers"]
    assert versions == [base, ["gguf", *base], ["bitsandbytes", *base]]


def test_ratings_with_an_adapter_on_a_projection_in_16_bits_are_told_from_those_of_rounded_logits(
    model_config: ModelConfigs,
) -> None:
    """Those of any other adapter, and in float32, are what they were."""

    def told(targets: object, dtype: str, trained: str = "adapter_config.json") -> bool:
        lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": targets}
        config = model_config("a/b", lora=lora, dtype=dtype)
        return "logits" in model_identity(config, {}, {f"weights/{trained}": {}})

    on_head = ["q_proj", "lm_head"]
    assert told(on_head, "bfloat16")
    assert told(["embed_out"], "float16")
    assert not told(on_head, "float32")
    assert not told(on_head, "bfloat16", "config.json")
    assert not told("all-linear", "bfloat16")
    assert not told(["q_proj"], "bfloat16")


def test_a_model_that_changes_while_a_job_runs_is_refused(
    copy: Path, job_config: JobConfigs, tmp_path: Path
) -> None:
    held = hold_model(job_config(f"model.path={copy}", "model.max_length=1024"), tmp_path)
    before = held.identity()
    held.load()
    held.release()
    with (copy / "generation_config.json").open("a") as stream:
        stream.write("\n")
    assert held.identity() == before  # of the job, to its end
    with pytest.raises(UserError, match=r"model.path: the files of .*copy were changed while"):
        held.load()


def test_files_that_cannot_be_read_are_named(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"model.path: .* cannot be read \(Input/output error\)"):
        identity(copy, tmp_path)
