"""Work on prompts in packed passes of bounded size."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from debiasdpo.cluster.threads import Threads, for_passes
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.packing.finite import each_finite, overflow
from debiasdpo.packing.memory import BatchLimit, is_out_of_memory
from debiasdpo.packing.tokens import packed_ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")
Load = Callable[[], "tuple[PreTrainedModel, Chat]"]


class Passes:
    """Of one model, which is loaded at the first of them."""

    def __init__(self, load: Load, max_tokens: int) -> None:
        """`max_tokens`: packed tokens of one pass."""
        self._load, self._max_tokens = load, max_tokens
        # Prompts in one pass: fewer where memory runs out.
        self._together = BatchLimit(sys.maxsize)

    def threads(self) -> Threads:
        """In which these passes are quickest."""
        model, _ = self._load()
        return for_passes(model)

    def run(
        self,
        keys: Sequence[str],
        ids: Sequence[tuple[int, ...]],
        extra: Sequence[int],
        work: Callable[[Sequence[int]], list[Result]],
    ) -> list[Result]:
        """`work` on row numbers, as many together as `max_tokens` and the memory allow. Of each row: the key
        of its prompt, the tokens of it, and how many come after them."""
        model, _ = self._load()

        def fault(row: int) -> UserError:
            return overflow(f"the model's answer to prompt {keys[row]}", model)

        def finite(rows: Sequence[int]) -> list[Result]:
            return each_finite(rows, work, fault)

        order = sorted(range(len(ids)), key=ids.__getitem__)  # those that share most are neighbours
        ranges = packed_ranges(
            [ids[row] for row in order], [extra[row] for row in order], self._max_tokens
        )
        try:
            found = {
                row: result
                for members in ranges
                for row, result in zip(
                    order[members.start : members.stop],
                    self._together.run(order[members.start : members.stop], finite),
                    strict=True,
                )
            }
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"Out of memory with a single prompt of {max(map(len, ids))} tokens or less. Give"
                " shorter documents (data.max_words), a smaller model, or model.nf4=true"
            ) from error
        return [found[row] for row in range(len(ids))]
