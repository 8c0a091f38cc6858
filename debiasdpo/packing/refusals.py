"""Models whose sequences cannot be packed as a prefix tree, told before they give wrong results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from debiasdpo.errors import UserError
from debiasdpo.packing.finite import NotFinite, overflow, require_logits

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Gemma's use_bidirectional_attention="vision" is of pictures alone; with "all", is_causal is False too.
_NOT_CAUSAL = (
    ("is_causal", False),
    ("is_decoder", False),
    ("use_bidirectional_attention", True),
)

# Others, as GPT-NeoX, have is_decoder=False as well, and are causal all the same.
_HEED_IS_DECODER = {
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
    "xmod",
}  # fmt: skip


def refuse_unpackable(config: "PreTrainedConfig", kind: Any) -> None:
    """Raise `UserError` for an architecture (and model class, None if unknown) that mixes packed
    sequences up, or is not causal.

    Tokens of a state space, a linear attention or a convolution see every token packed before them,
    whatever a mask says.
    """
    text = config.get_text_config()
    mixing = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    reason = None
    if mixing:
        reason = f"layers of kind {', '.join(sorted(mixing))}"
    elif config.is_encoder_decoder:
        reason = "an encoder beside the decoder"
    elif kind is not None and kind._is_stateful:
        reason = "a recurrent state"
    elif kind is not None and not kind._supports_attention_backend:
        reason = "an attention of its own, which cannot be exchanged"
    if reason:
        raise UserError(
            f"model.path: {config.model_type} models have {reason}: their sequences cannot be packed"
            " as a prefix tree. Choose a transformer whose layers are full or sliding-window"
            " attention, such as Llama, Qwen2, Qwen3 or Mistral"
        )
    for key, value in _NOT_CAUSAL:
        heeded = key != "is_decoder" or config.model_type in _HEED_IS_DECODER
        if heeded and getattr(text, key, None) == value:
            raise UserError(
                f"model.path: the configuration of this {config.model_type} model has {key}={value}: its"
                " tokens see those after them, and a text has no log-probability. Choose a model that writes"
                " from left to right"
            )


def refuse_lost_windows(
    config: "PreTrainedConfig", windows: Sequence[int | None], longest: int
) -> None:
    """Raise `UserError` where fewer layers named their sliding window than the configuration has,
    and sequences of `longest` tokens outgrow it: some put it into their own mask only."""
    window = getattr(config, "sliding_window", None)
    if not window or window >= longest or getattr(config, "use_sliding_window", True) is False:
        return
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * len(windows)
    if sum(w is not None for w in windows) < kinds.count("sliding_attention"):
        raise UserError(
            f"model.path: {config.model_type} models keep to themselves which layers have a sliding"
            f" window ({window} tokens); set model.max_length={window}, or choose another model"
        )


def check_layers(model: Any) -> None:
    """Raise `UserError` where the decoder's layers are not where training and heads look for them, as those
    of GPT-2 and its kin are not."""
    if not hasattr(model.get_decoder(), "layers"):
        raise UserError(
            f"model.path: {model.config.model_type} models keep their layers where they are not looked for:"
            " such a model can rate, and not be trained or have a head. Set method=none, or choose another"
            " model"
        )


def check_projection(model: Any) -> None:
    """Raise `UserError` where the logits are not plainly the head's output on the decoder's last hidden
    states, or cannot be computed so, or are no numbers."""
    import torch

    ids = torch.tensor([[1, 2, 3]], device=next(model.parameters()).device)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        try:
            direct = model.get_output_embeddings()(model.get_decoder()(ids, use_cache=False)[0])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            raise UserError(
                f"model.path: the vocabulary projection of {model.config.model_type} models does not take the"
                " last hidden states where packed scoring looks for them; choose another model"
            ) from error
    try:
        require_logits(direct)
    except NotFinite:
        raise overflow("whatever the model answers", model) from None
    if not torch.allclose(direct.float(), expected.float(), rtol=1e-3, atol=1e-3):
        raise UserError(
            f"model.path: {model.config.model_type} changes its logits after the vocabulary projection,"
            " which packed scoring cannot do; choose another model"
        )
