"""Veil: how much of a face must be repainted before nobody recognises the person, and what is lost by it."""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("veil")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
