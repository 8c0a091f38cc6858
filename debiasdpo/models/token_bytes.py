"""What each token of a vocabulary writes, as bytes."""

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRIED = 'A {"ä": [1.5, "雨 \\n🙂"]}\n\tx'  # what the bytes are checked with


def token_bytes(tokenizer: "PreTrainedTokenizerBase") -> list[bytes | None]:
    """By token id; None of added tokens, which control, or stand for what others can write too, and of ids
    without a token. A token may be a part of a character. Raises `ValueError` where the tokenizer is of a
    kind of which this is not known."""
    if not tokenizer.is_fast:
        raise ValueError("it is none of the library tokenizers")
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    if "ByteLevel" in decoder:
        of = _byte_level
    elif "ByteFallback" in decoder:
        of = _byte_fallback
    else:
        raise ValueError("its tokens are neither bytes nor fall back to them")
    vocabulary = tokenizer.get_vocab()
    found: list[bytes | None] = [None] * (max(vocabulary.values()) + 1)
    for text, i in vocabulary.items():
        found[i] = of(text)
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}
    for i in added:
        found[i] = None
    ids = tokenizer(_TRIED, add_special_tokens=False)["input_ids"]
    written = b"".join(found[i] or added.get(i, "").replace("▁", " ").encode() for i in ids)
    if written.removeprefix(b" ") != _TRIED.encode():
        raise ValueError("its tokens do not add up to the text")
    return found


def _byte_level(text: str) -> bytes | None:
    if any(character not in _BYTES for character in text):
        return None
    return bytes(_BYTES[character] for character in text)


def _byte_fallback(text: str) -> bytes:
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", text):
        return bytes.fromhex(byte[1])
    return text.replace("▁", " ").encode()


def _letters() -> dict[str, int]:
    """The letter that a byte-level tokenizer has for each byte: its own if it can be seen, else the next one
    from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }


_BYTES = _letters()
