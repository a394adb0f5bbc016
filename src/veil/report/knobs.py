"""Knobs of a config as they may be shown to others."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH = "a path of this machine"
PLACES = ("anonymized", "cache", "checkpoint", "outputs", "root")  # knobs that name places


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a/b": 1}`."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def without_paths(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs without the paths of this machine, which say who works there, and may say on whom."""
    return {name: PATH if _tells_a_path(name, value) else value for name, value in knobs.items()}


def _tells_a_path(name: str, value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_tells_a_path(name, part) for part in value)
    if not isinstance(value, str) or not value:
        return False
    if name.startswith("choices/"):  # of our own names
        return False
    last = name.rpartition("/")[2]
    return last in PLACES or value.startswith(("~", ".")) or Path(value).is_absolute() or os.path.exists(value)
