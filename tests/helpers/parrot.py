"""A model that says one text, whatever it is asked; after it, if need be, a rating by the prompt's words."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debiasdpo.models.chat import Chat
from tests.helpers.models import Loaded

_SIZE = 128


def parrot(
    tokenizer_folder: Path, text: str, ratings: Mapping[str, Sequence[str]] | None = None
) -> Loaded:
    """Each token decides the next one: those of `text` in their order, then the end of the turn. No token may
    come twice. With `ratings`, one of these comes before the end: the one whose words, each a token, are most
    in the prompt, and where several are, the last of them."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    chat = Chat(AutoTokenizer.from_pretrained(tokenizer_folder), "parrot")
    start = chat.prompt_ids(({"role": "user", "content": "x"},))[-1]
    chain = (start, *chat.text_ids(text))
    rated = [ids for rating in ratings or () for ids in chat.text_ids(rating)]
    said = (*chain, *rated, chat.end[0])
    assert len(set(said)) == len(said), text
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer), hidden_size=_SIZE, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        tie_word_embeddings=False, eos_token_id=chat.end[-1],
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        embedded = torch.randn(config.vocab_size, _SIZE)
        embedded[:, : len(rated)] = 0  # where words are counted
        embedded = torch.nn.functional.normalize(embedded, dim=-1)
        model.model.embed_tokens.weight.copy_(embedded)
        for weights in model.model.layers.parameters():
            if weights.ndim == 2:
                weights.zero_()  # what is asked changes nothing
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(chain if rated else said):
            model.lm_head.weight[following] += 10 * embedded[token]
        attention = model.model.layers[0].self_attn  # takes the mean over all tokens so far
        for i, (token, words) in enumerate(zip(rated, (ratings or {}).values(), strict=True)):
            for (word,) in map(chat.text_ids, words):
                model.model.embed_tokens.weight[word, i] = 1
            attention.v_proj.weight[i, i] = attention.o_proj.weight[i, i] = 1
            model.lm_head.weight[token] += (10 + i / 10) * embedded[chain[-1]]
            model.lm_head.weight[token, i] = 20
            model.lm_head.weight[chat.end[0]] += 10 * embedded[token]
    return model, chat
