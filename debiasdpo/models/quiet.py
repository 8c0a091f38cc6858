"""Keep harmless noise of the libraries off the console."""

import contextlib
import functools
import importlib
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
    gguf: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    hook, bar = bars.set_tqdm_hook(hidden), gguf.tqdm
    gguf.tqdm = functools.partial(bar, disable=True)
    backend.addFilter(relevant)
    try:
        with warnings.catch_warnings():  # peft asks for an attribute by its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            yield
    finally:
        backend.removeFilter(relevant)
        gguf.tqdm = bar
        bars.set_tqdm_hook(hook)
