"""A model that says one text, whatever it is asked."""

import itertools
from pathlib import Path
from typing import Any

from debiasdpo.models.chat import Chat
from tests.helpers.models import Loaded

_SIZE = 128


def parrot(tokenizer_folder: Path, text: str) -> Loaded:
    """Each token decides the next one: those of `text` in their order, then the end of the turn. No token may
    come twice."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    chat = Chat(AutoTokenizer.from_pretrained(tokenizer_folder), "parrot")
    start = chat.prompt_ids(({"role": "user", "content": "x"},))[-1]
    chain = (start, *chat.text_ids(text), chat.end[0])
    assert len(set(chain)) == len(chain), text
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer), hidden_size=_SIZE, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        tie_word_embeddings=False, eos_token_id=chat.end[-1],
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        embedded = torch.nn.functional.normalize(torch.randn(config.vocab_size, _SIZE), dim=-1)
        model.model.embed_tokens.weight.copy_(embedded)
        for weights in model.model.layers.parameters():
            if weights.ndim == 2:
                weights.zero_()  # what is asked changes nothing
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(chain):
            model.lm_head.weight[following] += 10 * embedded[token]
    return model, chat
