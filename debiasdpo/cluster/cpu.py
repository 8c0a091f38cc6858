"""What the CPU of this machine says of itself."""

from pathlib import Path

_FILE = Path("/proc/cpuinfo")


def cpuinfo() -> str:
    """Lines of `name : value`, for each processor; empty where the system does not tell."""
    try:
        return _FILE.read_text()
    except OSError:  # not Linux
        return ""
