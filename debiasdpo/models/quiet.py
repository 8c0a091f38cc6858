"""Keep harmless noise of the libraries off the console."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide bars that last a moment and warnings that mean nothing; downloads keep their bar."""
    from transformers.utils import logging as bars

    def hidden(factory: Any, args: Any, kwargs: Any) -> Any:
        return factory(*args, **{**kwargs, "disable": True})

    def relevant(record: logging.LogRecord) -> bool:
        return "Failed to load CPU gemm_4bit_forward" not in record.getMessage()

    backend = logging.getLogger("bitsandbytes.backends.cpu.ops")
    hook = bars.set_tqdm_hook(hidden)
    backend.addFilter(relevant)
    try:
        with warnings.catch_warnings():  # peft asks for an attribute by its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            yield
    finally:
        backend.removeFilter(relevant)
        bars.set_tqdm_hook(hook)
