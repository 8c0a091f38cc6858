"""A real model behind a real server: SmolLM2 by llama.cpp, beside the same weights in this process."""

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.llama_cpp import embedded, serving
from debiasdpo.config.model import EndpointConfig, ModelConfig
from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.raters.endpoint.rater import EndpointRater
from debiasdpo.raters.written import WrittenRater
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
    with serving(embedded()) as url:
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
def test_it_writes_reasoning_that_the_weights_here_close_with_their_rating(
    rater: Raters,
    smollm2: Path,
    tiny_llama: Path,
    model_config: ModelConfigs,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Served in 4 bits, it writes nearly what they write; other weights are seen by what it writes."""
    how = reading("expected", max_new_tokens=12)
    caplog.set_level(logging.INFO, "debiasdpo")

    def served(path: Path) -> WrittenRater:
        load = functools.cache(
            lambda: loading.load_model(model_config(path), tmp_path, device="cpu")
        )
        return WrittenRater(local_rater(load), rater())

    one = served(smollm2)
    one.check(QUESTIONS, [], 100, how)
    (said,) = (line for line in caplog.messages if "nats a token" in line)
    assert float(said.split()[5]) < 0.2
    written = rater().reply(QUESTIONS, "text", reading("text", 12))
    closed = one.reply(QUESTIONS, "reasoning", how)
    for of_question, text, reply in zip(QUESTIONS, written, closed, strict=True):
        begun = reply.text.rpartition("Rating: ")[0]
        assert begun.strip() in text.text
        # The expectation over the levels behind that reasoning, whose shared tokens cancel.
        answers = [f"{begun}Rating: {level}" for level in range(1, 8)]
        (scores,) = one._own.logprobs({"q": of_question.messages}, [answers])
        shares = np.exp(np.array(scores) - max(scores))
        assert reply.rating == pytest.approx(shares @ np.arange(1, 8) / shares.sum(), abs=1e-4)
        assert reply.rating is not None
        assert reply.text.endswith(f"Rating: {round(reply.rating)}")
    with pytest.raises(UserError, match="writer: the server has other weights, or another chat"):
        served(tiny_llama).check(QUESTIONS, [], 100, how)


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
