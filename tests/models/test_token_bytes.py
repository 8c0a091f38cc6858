"""What tokens write, against what the tokenizers themselves make of texts."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from debiasdpo.models.token_bytes import token_bytes


def falling_back(before: str = "▁") -> Any:
    """A tokenizer of characters, and of bytes where one is unknown: as Llama 2 has, which puts a blank
    before a text, and Gemma, which puts nothing there."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *'ABab"{}:.1',
    ]
    pieces += ["ab", "▁a", '"}']
    merges = [("a", "b"), ("▁", "a"), ('"', "}")]
    model = models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True,
        fuse_unk=True,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend(before)] if before else []), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_level(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["bytes", "falling back"])
def known(request: pytest.FixtureRequest, smollm2_tokenizer: Path) -> Any:
    """A tokenizer, and what its tokens write."""
    of_bytes = request.param == "bytes"
    tokenizer = byte_level(smollm2_tokenizer) if of_bytes else falling_back()
    return tokenizer, token_bytes(tokenizer)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=40))
def test_tokens_add_up_to_the_text(known: Any, text: str) -> None:
    tokenizer, written = known
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    # SmolLM2 has no token for the first byte of some characters.
    assume(tokenizer.decode(ids) == text)
    whole = b"".join(written[i] for i in ids)
    assert whole in (text.encode(), b" " + text.encode())  # some put a blank before it


def test_control_tokens_write_nothing(known: Any) -> None:
    tokenizer, written = known
    assert {written[i] for i in tokenizer.all_special_ids} == {None}


def test_texts_that_are_added_tokens_are_left_to_others() -> None:
    """Gemma has line breaks and runs of blanks among its added tokens."""
    from tokenizers import AddedToken

    tokenizer = falling_back(before="")
    added = ["\n", "\n\n", "▁▁", "<table>"]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    written = token_bytes(tokenizer)
    assert {written[i] for i in tokenizer.convert_tokens_to_ids(added)} == {None}
    assert b"\n" in written


def test_a_tokenizer_of_whole_words_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="neither bytes nor fall back"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"))


def test_a_tokenizer_that_changes_texts_is_refused() -> None:
    from tokenizers import normalizers

    tokenizer = falling_back()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), backend.normalizer])
    with pytest.raises(ValueError, match="do not add up"):
        token_bytes(tokenizer)
