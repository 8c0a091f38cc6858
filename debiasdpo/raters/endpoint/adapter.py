"""A LoRA adapter that a server has beside its base (`model.adapter`), as `vllm serve --enable-lora` does.

It is served under the fingerprint of its files: vLLM keeps what it has computed for a name, and would serve
another adapter of the same name from it (vllm 30931). An adapter that matches no layer is served as the base,
without a word (vllm 55193): so both are asked the same before any rating, one after the other. vLLM 0.32 on
a CPU answers for the adapter, where it is asked for both at once, whoever is asked: so that is tried too.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from debiasdpo.errors import UserError
from debiasdpo.raters.endpoint.asking import Asker
from debiasdpo.raters.endpoint.request import Request
from debiasdpo.raters.endpoint.response import Token, answer_of
from debiasdpo.storage.files import digest, fingerprint, read_json

log = logging.getLogger(__name__)

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What vLLM takes for --max-lora-rank, which is at least an adapter's own.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_LEAST = 1e-3  # difference of a log-probability, beside that of the base from itself
_TOGETHER = 3  # requests to each of both, at once


@dataclass(frozen=True)
class Adapter:
    """One on disk."""

    folder: Path
    rank: int

    @cached_property
    def name(self) -> str:
        """By its files, as it is asked for."""
        digests = [digest(self.folder / file) for file in (_CONFIG, _WEIGHTS)]
        return f"adapter-{fingerprint(digests)}"

    @property
    def arguments(self) -> Sequence[str]:
        """Of `vllm serve`."""
        modules = f"{self.name}={self.folder}"
        most = next((rank for rank in _RANKS if rank >= self.rank), self.rank)
        return "--enable-lora", "--max-lora-rank", str(most), "--lora-modules", modules


def open_adapter(folder: Path) -> Adapter:
    """`UserError` where none is there, or vLLM cannot serve it."""
    try:
        config: dict[str, Any] = read_json(folder / _CONFIG)
        rank = int(config["r"])
        (folder / _WEIGHTS).stat()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"model.adapter: {folder} holds no LoRA adapter ({_CONFIG}, {_WEIGHTS}); give the folder"
            " of one, as debiasdpo export writes it"
        ) from error
    if config.get("modules_to_save"):
        raise UserError(
            f"model.adapter: {folder} has whole layers beside LoRA (modules_to_save), which vLLM does not"
            " serve; export the merged model (debiasdpo export --merge)"
        )
    return Adapter(folder.absolute(), rank)


def require_effect(
    asker: Asker, make: Callable[[str, int], Request], base: str, adapter: Adapter
) -> None:
    """Ask base and adapter for the likeliest first tokens of one reply. `UserError` where they differ by no
    more than the base differs from itself; a warning where the base is another one when both are asked at
    once. `make`: the request to a model, by its name, and a repeat."""

    def first(*requests: Request) -> list[Token]:
        records = asker.ask(requests)
        answers = [answer_of(records[request.key]).tokens for request in requests]
        return [tokens[0] for tokens in answers if tokens]

    alone = [first(make(*who)) for who in ((base, 0), (base, 1), (adapter.name, 0))]
    if not all(alone):
        log.warning("no log-probabilities: whether the adapter changes anything cannot be seen")
        return
    (one,), (again,), (adapted,) = alone
    noise = max(_LEAST, 2 * _difference(one, again))
    found = _difference(one, adapted)
    log.info("adapter %s: log-probabilities differ by %.3g from the base", adapter.name, found)
    if found <= noise:
        raise UserError(
            f"model.adapter: {adapter.folder} changes nothing: its log-probabilities differ by {found:.2g}"
            f" from those of {base}, and {noise:.2g} would be chance; give one that was trained on this model"
        )
    repeats = range(2, 2 + _TOGETHER)
    mixed = first(*(make(name, i) for i in repeats for name in (base, adapter.name)))[::2]
    if any(_difference(one, token) > noise for token in mixed):
        log.warning(
            "model.adapter: asked at the same time as its adapter, %s answers otherwise than alone: this"
            " server mixes them up; let it serve no other job while this one runs", base,
        )  # fmt: skip


def _difference(one: Token, other: Token) -> float:
    """The largest of a log-probability, of tokens that both list; infinite where they list none alike."""
    mine, its = dict(one.top), dict(other.top)
    both = mine.keys() & its.keys()
    return max((abs(mine[text] - its[text]) for text in both), default=float("inf"))
