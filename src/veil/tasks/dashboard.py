"""Write what W&B's workspace and report of a project show, and save both there if asked."""

import importlib.util
import json
from pathlib import Path

from veil.config import Config
from veil.errors import InputError
from veil.storage.atomic import whole
from veil.storage.progress import console


def dashboard(config: Config) -> Path:
    """Write `workspace.json` and `report.json` into `<outputs>/dashboard`; with `task.entity`, save them to W&B, too.

    Raises InputError without the package wandb-workspaces, or where W&B cannot be reached or refuses.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise InputError("task=dashboard needs the package wandb-workspaces: pip install 'veil[dashboard]'")
    from veil.report.dashboard import report, sections, workspace
    from veil.report.tracking import connection, failures, first_line

    project, entity = config.logger.get("project", "veil"), config.task["entity"]
    judges = [judge for judge in config.judges if judge != config.choices.recognizer]
    panels = sections(config.choices.recognizer, judges)
    folder = Path(config.outputs, "dashboard")
    for view in (workspace, report):
        name = view.__name__
        with whole(folder / f"{name}.json") as partial:  # of nobody's project: somebody's is looked up at W&B
            spec = view(project, "", panels)._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
            partial.write_text(json.dumps(spec, indent=1))
        console.print(f"{name.capitalize()}: {folder / f'{name}.json'}", soft_wrap=True)
    if entity is not None:
        _, reason = connection()
        if reason:
            raise InputError(f"task.entity={entity}: nothing can be saved to W&B, for {reason}")
        try:
            for view in (workspace, report):
                console.print(f"W&B:      {view(project, entity, panels).save().url}", soft_wrap=True)
        except failures() as error:
            raise InputError(f"task.entity={entity}: W&B refuses the dashboard: {first_line(error)}") from error
    return folder
