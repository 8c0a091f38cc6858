"""The form of JSON replies: whatever is drawn under it is valid, whole, and has a level of the scale."""

import codecs
import json

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from debiasdpo.config.scale import Scale
from debiasdpo.config.shown import points
from debiasdpo.packing.constrained import Constraint
from debiasdpo.raters.json_form import HEAD, json_form
from debiasdpo.raters.json_reply import read_json

BYTES = [bytes([byte]) for byte in range(256)]
# Pieces of what tokenizers have: they run over every joint of the form.
PIECES = [
    b'",', b'", "', b'." ', b'"}', b"ratin", b'rating":', b'": ', b' "rating": ', b": 1", b"10",
    b"10}", b"0}", b"5}", b"}}", b"-", b".5}", b"\\", b'\\"', b"\\n\\", b"\n", b"Well, ", " Ünï".encode(),
    b"\xe2\x80", b"\x9c", "🙂".encode()[:3], "é".encode() + b'"', b"\x80a", b"{", b"\t", b"\x00",
]  # fmt: skip

vocabularies = st.lists(
    st.one_of(st.none(), st.sampled_from(PIECES), st.binary(min_size=1, max_size=5)), max_size=40
).map(lambda more: [*more, *BYTES])
scales = st.one_of(
    st.builds(lambda low, steps, step: Scale(low, low + steps * step, step),
              st.integers(-12, 99), st.integers(1, 30), st.sampled_from([1, 0.5, 0.25, 2])),
    st.just(Scale(0, 100)),
)  # fmt: skip


def drawn(constraint: Constraint, start: int, tokens: int, seed: int, liked: bytes) -> bytes:
    """What a model writes that likes any token as well as another, but those in `liked` better."""
    import torch

    text, state, rng = b"", start, np.random.default_rng(seed)
    better = np.array([token in (liked, b'"') for token in constraint.tokens])
    for left in range(tokens, 0, -1):
        logits = torch.tensor(rng.random((1, better.size)) + better)
        given, states = logits, torch.tensor([state])
        logits = constraint.masked(given, states, left)
        token = int(logits.argmax())
        assert logits[0, token] > -np.inf
        text += constraint.tokens[token] or b""
        states = constraint.follow(given, states, torch.tensor([token]))
        if constraint.ends(given, states):
            return text
        state = int(states)
    pytest.fail(f"cut: {text!r}")


@settings(max_examples=150)
@given(vocabularies, scales, st.integers(0, 40), st.integers(0, 2**16), st.sampled_from(PIECES))
def test_whatever_is_drawn_is_one_object_with_a_level_in_time(
    vocabulary: list[bytes | None], scale: Scale, spare: int, seed: int, liked: bytes
) -> None:
    form, starts = json_form([Scale(1, 7), scale])
    constraint = Constraint(form, vocabulary)
    start = starts[scale]
    text = drawn(constraint, start, int(form.left[start]) + spare, seed, liked)
    whole = HEAD + text.decode("utf-8")  # no character is left open
    found = json.loads(whole)
    assert list(found) == ["reasoning", "rating"]
    assert found["rating"] in scale.levels
    assert read_json(whole, scale) == (found["rating"], None)


def is_begun(text: bytes, scale: Scale) -> bool:
    """Whether a text of the form can begin so, by other means than an automaton."""
    levels = "|".join(regex.escape(points(level)) for level in scale.levels)
    rest = regex.compile(
        rb'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*", "rating": (?:%b)\}' % levels.encode()
    )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return False
    return rest.fullmatch(text, partial=True) is not None


@settings(max_examples=60)
@given(vocabularies, scales, st.integers(0, 2**16), st.sampled_from(PIECES), st.data())
def test_with_room_enough_all_and_only_texts_of_the_form_may_be_begun(
    vocabulary: list[bytes | None],
    scale: Scale,
    seed: int,
    liked: bytes,
    data: st.DataObject,
) -> None:
    import torch

    form, starts = json_form([scale])
    constraint = Constraint(form, vocabulary)
    text = drawn(constraint, starts[scale], int(form.left[starts[scale]]) + 8, seed, liked)
    head = text[: data.draw(st.integers(0, len(text) - 1))]
    states, logits = torch.tensor([starts[scale]]), torch.zeros(1, len(vocabulary))
    for byte in head:
        written = torch.tensor([vocabulary.index(bytes([byte]))])
        states = constraint.follow(logits, states, written)
    allowed = constraint.masked(logits, states, 1000)[0] == 0
    for may, token in zip(allowed.tolist(), vocabulary, strict=True):
        assert may == (token is not None and is_begun(head + token, scale)), (head, token)


@pytest.mark.parametrize("scale", [Scale(1, 10), Scale(-2, 2, 0.5), Scale(0, 100)])
def test_every_level_may_still_be_chosen_where_the_room_is_least(scale: Scale) -> None:
    """A level of more tokens is not at a disadvantage, nor one that begins another."""
    import torch

    vocabulary = [b'", "rating": ', b"10}", b"1", *BYTES]
    form, starts = json_form([scale])
    constraint = Constraint(form, vocabulary)
    for level in scale.levels:
        states, left = torch.tensor([starts[scale]]), int(form.left[starts[scale]])
        logits = torch.zeros(1, len(vocabulary))
        for byte in f'", "rating": {points(level)}}}'.encode():
            token = vocabulary.index(bytes([byte]), 3)
            assert constraint.masked(logits, states, left)[0, token] == 0
            states, left = constraint.follow(logits, states, torch.tensor([token])), left - 1
        assert constraint.ends(logits, states)


def test_logits_beyond_the_vocabulary_are_never_chosen() -> None:
    import torch

    form, starts = json_form([Scale(1, 7)])
    constraint = Constraint(form, BYTES)
    states = torch.tensor([starts[Scale(1, 7)]] * 2)
    masked = constraint.masked(torch.zeros(2, 300), states, 99)
    assert (masked[:, 256:] == -np.inf).all()
    assert (masked[:, ord("a")] == 0).all()


@pytest.mark.parametrize("missing", [b'"', b"7", b"}", b"\x80"])
def test_a_vocabulary_in_which_the_end_may_not_be_written_is_refused(missing: bytes) -> None:
    form, _ = json_form([Scale(1, 7)])
    with pytest.raises(ValueError, match=f"{missing[0]:#04x}"):
        Constraint(form, [*(byte for byte in BYTES if byte != missing), b'"7}'])


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ('{"reasoning": "They explain.", "rating": 5}', 5),
        ('\n{"rating":4.5,"reasoning":""}\n', 4.5),
        ('{"reasoning": "Rating: 3, or {\\"rating\\": 2}", "rating": 5}', 5),
        # failures
        ("", "one JSON object"),
        ("Rating: 5", "one JSON object"),
        ("5", "one JSON object"),
        ("null", "one JSON object"),
        ('[{"reasoning": "", "rating": 5}]', "one JSON object"),
        ('Sure! {"reasoning": "", "rating": 5}', "one JSON object"),
        ('{"reasoning": "", "rating": 5} {"reasoning": "", "rating": 6}', "one JSON object"),
        ('{"reasoning": "", "rating": 5', "one JSON object"),
        ('{"reasoning": "", "rating": NaN}', "one JSON object"),
        ('{"reasoning": "", "rating": 1' + "0" * 5000 + "}", "one JSON object"),
        ("[" * 100_000, "one JSON object"),
        ('{"rating": 5}', "keys"),
        ('{"reasoning": "", "rating": 5, "final_rating": 6}', "keys"),
        ('{"reasoning": "", "rating": 5, "rating": 6}', "keys"),
        ('{"reasoning": "", "Rating": 5}', "keys"),
        ('{"reasoning": "", "rating": "5"}', "type"),
        ('{"reasoning": "", "rating": true}', "type"),
        ('{"reasoning": "", "rating": null}', "type"),
        ('{"reasoning": "", "rating": {"value": 5}}', "type"),
        ('{"reasoning": ["a"], "rating": 5}', "type"),
        ('{"reasoning": "", "rating": 8}', "scale"),
        ('{"reasoning": "", "rating": 1e999}', "scale"),
        ('{"reasoning": "", "rating": -5}', "scale"),
    ],
)
def test_a_reply_is_read_strictly(text: str, rating: float | str) -> None:
    found, reason = read_json(text, Scale(1, 7))
    if isinstance(rating, str):
        assert found is None
        assert rating in (reason or "")
    else:
        assert (found, reason) == (rating, None)
