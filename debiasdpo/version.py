"""The version of this package, of which a stage or a job of another version is another one; and those of
others."""

import contextlib
import importlib.metadata

__version__ = "0.1.0"


def installed(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
