"""What ran: package versions, Python, and the git commit of a checkout."""

import platform
import subprocess
from pathlib import Path

from debiasdpo.storage.packages import installed
from debiasdpo.version import __version__

_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "hydra-core", "numpy")


def versions() -> dict[str, str | None]:
    """What ran: package versions, Python, and the git commit of a checkout."""
    return {
        "debiasdpo": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **installed(*_PACKAGES),
    }


def _commit() -> str | None:
    """Commit of the checkout this runs from, `+` if it was changed since; None elsewhere."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
