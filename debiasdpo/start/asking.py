"""Where that comes from which a table does not say: a flag, its reader at a terminal, or what was found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from debiasdpo.documents.columns import closest
from debiasdpo.errors import UserError

Answer = TypeVar("Answer")
Read = Callable[[str], Answer]  # makes something of what was said; `UserError` where it cannot


@dataclass
class Answers:
    """`ask`: shows a question and returns what was typed; None without a terminal. `accept`: take what was
    found without asking."""

    ask: Callable[[str], str] | None
    accept: bool
    missing: list[str] = field(default_factory=list)  # what neither flag nor reader nor table said

    def get(
        self,
        flag: str,
        said: str | None,
        read: Read[Answer],
        question: str,
        found: str | None,
        *,
        sure: bool = True,
        hint: str = "",
    ) -> Answer | None:
        """The answer to a question; None where it is missing. `said`: the flag's value; `found`: what the
        table seems to say, and `sure`, whether that is good enough without a terminal; `hint`: stands behind
        the flag where it is missing."""
        if said is not None:
            return _read(flag, said, read)
        if self.accept and found is not None:
            return _read(flag, found, read)
        if self.ask is not None:
            return self._typed(flag, read, question, found)
        if found is not None and sure:
            return _read(flag, found, read)
        self.missing.append(f"{flag} {hint}".strip())
        return None

    def _typed(self, flag: str, read: Read[Answer], question: str, found: str | None) -> Answer:
        assert self.ask is not None
        shown = question if found is None else f"{question} [{found}]"
        while True:
            said = self.ask(f"{shown}: ").strip() or found
            if said is None:
                continue
            try:
                return read(said)
            except UserError as error:
                shown = f"{error} {question}"

    def require(self) -> None:
        """`UserError` that names all flags that are missing."""
        if self.missing:
            raise UserError(
                "What the table does not say has to be told, as there is no terminal to ask at: "
                + "; ".join(self.missing)
            )


def _read(flag: str, said: str, read: Read[Answer]) -> Answer:
    try:
        return read(said)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def one_of(options: Sequence[str], what: str) -> Read[str]:
    """Reads one of these."""

    def read(said: str) -> str:
        if said in options:
            return said
        raise UserError(
            f"there is no {what} {said!r}, only: {', '.join(options)}.{closest(said, options)}"
        )

    return read


def some_of(options: Sequence[str], what: str) -> Read[list[str]]:
    """Reads several of these, with commas between them; - stands for none. A name may have commas itself."""

    def read(said: str) -> list[str]:
        parts = [] if said == "-" and said not in options else said.split(",")
        found: list[str] = []
        while parts:
            ends = range(len(parts), 0, -1)
            names = {end: ",".join(parts[:end]).strip() for end in ends}
            end = next((end for end in ends if names[end] in options), 1)
            found.append(one_of(options, what)(names[end]))
            parts = parts[end:]
        return found

    return read
