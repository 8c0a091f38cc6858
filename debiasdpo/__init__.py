"""Measure how far irrelevant social context moves a model's ratings, train it away, and show it.

Method: Debiasing-DPO (Nam & Demszky, arXiv 2604.02585).
"""

from typing import TYPE_CHECKING

from debiasdpo.version import __version__

if TYPE_CHECKING:
    from debiasdpo.api import Reply, audit, load

__all__ = ["Reply", "__version__", "audit", "load"]


def __getattr__(name: str) -> object:
    """`debiasdpo.audit` and the others, imported when they are first asked for (PEP 562)."""
    if name not in ("Reply", "audit", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from debiasdpo import api

    return getattr(api, name)
