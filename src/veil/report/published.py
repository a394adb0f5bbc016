"""Where a run was logged, in its folder: `published.json`. A run that was logged is shown without loading a logger."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veil.storage.atomic import whole

FILE = "published.json"
AGENT = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SWEEP_ID", "WANDB_RUN_ID")  # change where W&B logs


def logged_at(run: Path, logger: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `note` was told of this run and this logger; None where the run has not been logged by it.

    Args:
        logger: the config group.

    """
    path = run / FILE
    if os.environ.get("WANDB_MODE") == "disabled" and _is_wandb(logger):
        return {}  # as the user wants it
    return json.loads(path.read_text()).get(_place(logger)) if path.exists() else None


def unlogged(run: Path, logger: Mapping[str, Any]) -> bool:
    """Whether the run has still to be logged, or had to stay offline against the user's wish."""
    told = logged_at(run, logger)
    return told is None or bool(told.get("again"))


def note(run: Path, logger: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Keep that this run was logged by this logger."""
    path = run / FILE
    before = json.loads(path.read_text()) if path.exists() else {}
    with whole(path) as partial:
        partial.write_text(json.dumps(before | {_place(logger): dict(told)}, indent=1))


def _is_wandb(logger: Mapping[str, Any]) -> bool:
    return "wandb" in logger["_target_"]


def _place(logger: Mapping[str, Any]) -> str:
    """The logger, its project and, under W&B, what an agent or the user's environment says."""
    parts = [logger["_target_"], str(logger.get("project", ""))]
    if _is_wandb(logger):
        parts += [f"{name}={os.environ[name]}" for name in AGENT if os.environ.get(name)]
    return " ".join(part for part in parts if part)
