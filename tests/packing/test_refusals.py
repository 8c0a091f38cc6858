"""Models that packing would score wrongly are refused, each with the reason."""

from pathlib import Path
from typing import Any

import pytest

from debiasdpo.errors import UserError
from debiasdpo.models import loading
from debiasdpo.packing.logprobs import Completion
from debiasdpo.packing.refusals import refuse_unpackable
from tests.helpers.models import (
    Grown,
    Tiny,
    large_rows,
    load_stock,
    logprobs_alone,
    packed_logprobs,
    shared_rows,
)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("MambaConfig", {}, "linear_attention"),
        ("Qwen3NextConfig", {}, "linear_attention"),
        ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}, "conv"),
        ("FalconH1Config", {}, ""),
        ("JambaConfig", {}, ""),
        ("BloomConfig", {}, "attention of its own"),
        ("T5Config", {}, "encoder|Unrecognized"),
    ],
)
def test_sequences_that_cannot_be_packed_are_refused_before_weights_are_read(
    kind: str, changes: dict[str, Any], reason: str, model_config: Any, tmp_path: Path
) -> None:
    import transformers

    config = getattr(transformers, kind)(**{"num_hidden_layers": 2, **changes})
    config.save_pretrained(tmp_path / "model")  # no tokenizer
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"{config.model_type}[\s\S]*{reason}"):
        loading.load_model(model_config(tmp_path / "model"), tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("LlamaConfig", {"is_causal": False}, "is_causal=False"),
        (
            "Gemma3TextConfig",
            {"use_bidirectional_attention": True},
            "use_bidirectional_attention=True",
        ),
        (
            "Gemma4TextConfig",
            {"use_bidirectional_attention": "all"},
            "is_causal=False",
        ),
        ("BertGenerationConfig", {"is_decoder": False}, "is_decoder=False"),
    ],
)
def test_models_whose_tokens_see_those_after_them_are_refused(
    kind: str, changes: dict[str, Any], said: str
) -> None:
    import transformers

    config = getattr(transformers, kind)(**changes)
    with pytest.raises(UserError, match=rf"this {config.model_type} model has {said}: "):
        refuse_unpackable(config, None)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("LlamaConfig", {"is_causal": True}),
        ("Gemma3TextConfig", {}),
        ("Gemma4TextConfig", {"use_bidirectional_attention": "vision"}),
        ("BertGenerationConfig", {"is_decoder": True}),
        ("GPTNeoXConfig", {}),  # is_decoder=False, which nothing asks
        ("ModernBertDecoderConfig", {"is_decoder": False}),
    ],
)
def test_causal_models_are_not(kind: str, changes: dict[str, Any]) -> None:
    import transformers

    refuse_unpackable(getattr(transformers, kind)(**changes), None)


def test_is_decoder_is_asked_of_all_models_that_heed_it() -> None:
    """By the code of the transformers that is installed."""
    import transformers
    from transformers.models.auto.configuration_auto import model_type_to_module_name
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    folder = Path(transformers.__file__).parent / "models"
    heeding = []
    for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for file in (folder / model_type_to_module_name(kind)).glob("modeling_*.py"):
            code = file.read_text(encoding="utf-8")
            if f"class {name}(" in code and "if self.config.is_decoder:" in code:
                heeding.append(kind)
    assert len(heeding) > 10
    for kind in heeding:
        config = transformers.AutoConfig.for_model(kind, is_decoder=False)
        with pytest.raises(UserError, match=f"this {kind} model has is_decoder=False"):
            refuse_unpackable(config, None)
        refuse_unpackable(transformers.AutoConfig.for_model(kind, is_decoder=True), None)


KINDS = ["sliding_attention", "full_attention"]
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0,
    "original_max_position_embeddings": 256, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
}  # fmt: skip
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("full", "limit"),
    [(LONGROPE, 256), (LONGROPE | {"original_max_position_embeddings": 64}, 64), (PLAIN, None)],
)
def test_positions_by_the_longest_sequence_are_refused_of_one_kind_of_layers_too(
    full: dict[str, Any], limit: int | None, model_config: Any
) -> None:
    from transformers import Gemma3TextConfig

    architecture = Gemma3TextConfig(
        num_hidden_layers=2, head_dim=16, max_position_embeddings=1024, layer_types=KINDS,
        rope_parameters={"full_attention": full, "sliding_attention": PLAIN},
    )  # fmt: skip
    problem = loading.length_problem(architecture, model_config("m", max_length=512))
    if limit is None:
        assert problem is None
    else:
        assert problem is not None
        assert problem.endswith(f"set model.max_length={limit}, or choose another model")
        assert loading.length_problem(architecture, model_config("m", max_length=limit)) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma2", r"gemma2 models change their attention scores \(softcap\)"),
        ("gpt_oss", r"gpt_oss models change their attention scores \(s_aux\)"),
        ("granite", "granite changes its logits after the vocabulary projection"),
        ("cohere", "cohere changes its logits after the vocabulary projection"),
        ("electra", "the vocabulary projection of electra models does not take the last hidden"),
        ("modernbert decoder", "the vocabulary projection of modernbert-decoder models does not"),
        ("phi3 longrope", r"beyond 256 tokens, phi3 .* set model\.max_length=256"),
    ],
)
def test_scores_that_packing_would_change_are_refused_at_loading(
    name: str, reason: str, tiny: Tiny, model_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        loading.load_model(model_config(tiny(name)), tmp_path, device="cpu")


def test_positions_of_a_long_context_model_hold_up_to_its_limit(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    config = model_config(tiny("phi3 longrope"), max_length=256)
    model, _ = loading.load_model(config, tmp_path, device="cpu")
    rows = [row for row in large_rows(grown) if len(row.prompt + row.completion) <= 256]
    expected = logprobs_alone(load_stock(tiny("phi3 longrope")), rows)
    torch.testing.assert_close(packed_logprobs(model, rows), expected, rtol=1e-5, atol=1e-5)


def test_masks_that_a_model_keeps_to_itself_are_refused(
    tiny: Tiny, grown: Grown, model_config: Any, tmp_path: Path
) -> None:
    import torch

    doge, _ = loading.load_model(model_config(tiny("doge")), tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"doge models change .* \(a mask of their own\)"):
        packed_logprobs(doge, shared_rows(0))
    phimoe, _ = loading.load_model(model_config(tiny("phimoe window")), tmp_path, device="cpu")
    with pytest.raises(
        UserError, match=r"phimoe .* window \(24 tokens\); set model\.max_length=24"
    ):
        packed_logprobs(phimoe, large_rows(grown))
    short = [Completion(c.prompt[:10], c.completion[:3]) for c in large_rows(grown)]
    expected = logprobs_alone(load_stock(tiny("phimoe window")), short)
    torch.testing.assert_close(packed_logprobs(phimoe, short), expected, rtol=1e-5, atol=1e-5)
