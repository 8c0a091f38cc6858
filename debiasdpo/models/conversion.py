"""GGUF files as folders that transformers loads, each converted once."""

import functools
import importlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from debiasdpo.errors import UserError
from debiasdpo.models.checks import require_whole
from debiasdpo.models.source import source_identity
from debiasdpo.storage.files import fingerprint
from debiasdpo.storage.packages import installed

log = logging.getLogger(__name__)


def converted(file: Path, cache: Path) -> Path:
    """The folder with the GGUF file's model as fp32 safetensors; made once, whoever asks."""
    from filelock import FileLock

    folder = conversion_folder(file, cache)
    name = folder.name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if folder.exists():
            return folder
        for dead in folder.parent.glob(f".{name}.*"):  # of a conversion that was killed
            shutil.rmtree(dead)
        log.info("converting %s to safetensors in %s (once; about 30 s)", file.name, folder)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}."))
        _convert(file, temporary)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    return folder


def conversion_folder(file: Path, cache: Path) -> Path:
    """Where `converted` keeps it; not there before."""
    identity = source_identity(str(file), None, cache)
    versions = installed("gguf", "transformers")
    return cache / "models" / fingerprint({"conversion": 2, "versions": versions, **identity})


def _convert(file: Path, folder: Path) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reading = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    # transformers reads the file three times, makes a table of all names for each module of the model, and
    # shows a bar that `quiet` leaves: what shows it takes half a second to import.
    with (
        _wrapped(functools.cache, gguf, "GGUFReader", "get_tensor_name_map"),
        _wrapped(lambda bar: functools.partial(bar, disable=True), reading, "tqdm"),
    ):
        _refuse_scaled_positions(gguf.GGUFReader(str(file)), file)  # as transformers names it
        found: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
        loaded, report = found
        require_whole(
            report, str(file), "give a file that holds all of it; merge a model in several files"
            " (llama-gguf-split --merge)",
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # What comes from GGUF counts as quantised and refuses to be saved: an equal model does not.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(settings))
    fresh.load_state_dict(loaded.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _refuse_scaled_positions(reader: Any, file: Path) -> None:
    """Raise `UserError` where the file says that rotary positions are scaled, as of Llama 3.1 and later, and
    of Gemma 3 from 4B on: transformers leaves that out, and each text would be scored by another model."""
    scaling = f"{reader.fields['general.architecture'].contents()}.rope.scaling."
    kind, factor = (
        reader.fields[scaling + name].contents() if scaling + name in reader.fields else default
        for name, default in (("type", "none"), ("factor", None))
    )
    scaled = [] if kind == "none" or factor == 1 else [f"{scaling}type: {kind}"]
    scaled += [
        tensor.name
        for tensor in reader.tensors
        if re.match("rope_f(?:req|actor)s", tensor.name) and (tensor.data != 1).any()
    ]
    if scaled:
        raise UserError(
            f"model.path: {file} scales positions ({scaled[0]}), which transformers does not read from a GGUF"
            " file; give the model's hub id, or a folder with its safetensors"
        )


@contextmanager
def _wrapped(wrap: Callable[[Any], Any], module: ModuleType, *names: str) -> Iterator[None]:
    """These functions of a module are what `wrap` makes of them."""
    own = {name: getattr(module, name) for name in names}
    for name, function in own.items():
        setattr(module, name, wrap(function))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(module, name, function)
