"""What went wrong, in words that say what to do: memory, disk, or a user's mistake."""

import errno
import tempfile
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from debiasdpo.config.overrides import explain
from debiasdpo.errors import UserError
from debiasdpo.packing.memory import is_out_of_memory, memory_message

ELSEWHERE = "output_dir=PATH"


def cause(error: BaseException) -> str:
    """What kind of trouble it is, as far as that can be told: memory, disk, input, interrupt, error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupt"
    if isinstance(error, UserError):
        return "input"
    if isinstance(error, Exception) and is_out_of_memory(error):
        return "memory"
    return "disk" if isinstance(error, Exception) and disk_message(error) else "error"


def message(error: Exception, elsewhere: str = ELSEWHERE) -> str | None:
    """One message for an error that a user can mend; None for a fault of the program. `elsewhere`: see
    `disk_message`."""
    if isinstance(error, UserError):
        return str(error)
    return memory_message(error) or disk_message(error, elsewhere)


def command_line(error: Exception) -> str | None:
    """Why there is no job to run, in words that say what to write instead; None for a fault of the
    program."""
    known = (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError, UserError)
    if not isinstance(error, known):
        return None
    if isinstance(error, YAMLError):
        return f"A configuration file is not valid YAML; quote texts that hold : or ? or commas.\n{error}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return disk_message(error) or str(error)
    return explain(error)


# As safetensors and `torch.save` have it.
_FULL_DISK = ("No space left on device", "unexpected pos", "PytorchStreamWriter failed writing")


def disk_message(error: Exception, elsewhere: str = ELSEWHERE) -> str | None:
    """What to do about a disk that is full or refuses to be written; None for other errors. `elsewhere`: by
    which words of the command it writes to another place.

    Some libraries turn a full disk into an error of their own, which only says so in its text.
    """
    full = any(sign in str(error) for sign in _FULL_DISK)
    if not isinstance(error, OSError):
        error = OSError(errno.ENOSPC if full else 0, "")
    where = f" ({error.filename})" if error.filename else ""
    if full or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full{where}. Free some space, or write elsewhere with {elsewhere};"
            " the same command then goes on from what is finished."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"No permission to write{where}. Choose another folder with {elsewhere}."
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and error.filename:
        path = Path(error.filename)
        file = next((p for p in (*reversed(path.parents), path) if p.is_file()), path)
        return (
            f"{file} is a file where a folder is needed; choose another with {elsewhere}, or move the"
            " file."
        )
    if error.errno == errno.ENAMETOOLONG:
        return f"The name of a file would be too long{where}. Shorten it with {elsewhere}."
    if error.errno == errno.ENOENT and error.filename and (folder := _closed(error.filename)):
        return f"Nothing can be made in {folder}. Choose another folder with {elsewhere}."
    return None


def _closed(file: str) -> Path | None:
    """The folder in which the file would be made, where there is none in which anything can be, as in /proc;
    None where it is only the file that is missing."""
    there = next(p for p in Path(file).absolute().parents if p.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            return None
    except OSError:
        return there
