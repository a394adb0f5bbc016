"""Veil: how much of a face must be repainted before nobody recognises the person, and what is lost by it.

`veil.scores`, `veil.anonymize`, `veil.evaluate` and `veil.photos` do from Python what the command `veil` does; they
are loaded when they are used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veil.api import anonymize, evaluate, photos, scores

    __version__: str

__all__ = ["__version__", "anonymize", "evaluate", "photos", "scores"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("veil")
    if name in ("anonymize", "evaluate", "photos", "scores"):
        from veil import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
