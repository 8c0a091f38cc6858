"""Which precision a machine is for, by what it says of itself."""

from pathlib import Path

import pytest

from debiasdpo.cluster import cpu, precision

# Lines of /proc/cpuinfo, shortened.
SAPPHIRE_RAPIDS = "flags\t\t: fpu avx512_bf16 avx512_fp16 amx_tile flush_l1d amx_bf16 amx_int8"
GENOA = "flags\t\t: fpu avx512f avx512_bf16 avx512_vnni"
TILES_OF_INTEGERS = "flags\t\t: fpu amx_tile amx_int8"


@pytest.mark.parametrize(
    ("line", "rates", "trains"),
    [
        (SAPPHIRE_RAPIDS, "bfloat16", "bfloat16"),
        (GENOA, "bfloat16", "float32"),
        (TILES_OF_INTEGERS, "float32", "float32"),
        ("", "float32", "float32"),
    ],
    ids=["AMX", "AVX512-BF16", "AMX of integers", "of another processor"],
)
def test_a_cpu_is_for_what_its_instructions_say(
    line: str, rates: str, trains: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    monkeypatch.setattr(cpu, "_FILE", tmp_path / "cpuinfo")
    for training, wanted in ((False, rates), (True, trains)):
        found, why = precision.best("cpu", trains=training)
        assert found == wanted
        assert "this CPU" in why


def test_this_cpu_is_as_torch_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    amx, avx = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
    assert precision.best("cpu", trains=True)[0] == ("bfloat16" if amx else "float32")
    assert precision.best("cpu", trains=False)[0] == ("bfloat16" if amx or avx else "float32")
    monkeypatch.setattr(cpu, "_FILE", tmp_path / "no such file")
    assert precision.best("cpu", trains=False)[0] == "float32"


@pytest.mark.parametrize(
    ("name", "capability", "rates", "trains"),
    [
        ("Tesla V100", (7, 0), "float16", "float32"),
        ("Tesla T4", (7, 5), "float16", "float32"),
        ("A100", (8, 0), "bfloat16", "bfloat16"),
        ("RTX 4090", (8, 9), "bfloat16", "bfloat16"),
        ("H100", (9, 0), "bfloat16", "bfloat16"),
    ],
)
def test_a_gpu_is_for_what_its_page_says(
    name: str, capability: tuple[int, int], rates: str, trains: str
) -> None:
    for training, wanted in ((False, rates), (True, trains)):
        found, why = precision.best_on_card(name, capability, trains=training)
        assert found == wanted
        assert name in why
