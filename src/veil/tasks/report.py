"""One page and its tables over finished runs, wherever they lie."""

from pathlib import Path

from veil.config import Config
from veil.errors import InputError
from veil.report.runs import find_runs
from veil.report.sweep import Options, summarise


def report(config: Config) -> Path:
    """Compare the evaluations below `task.folders` and write the page and its tables into `task.output`.

    Raises InputError for a folder that is not there, one without finished evaluations, and an option out of range.
    """
    task = config.task
    for knob, least in (("people", 1), ("pictured", 0)):
        if task[knob] < least:
            raise InputError(f"task.{knob} must be at least {least}, got {task[knob]}")
    asked = task["folders"] or config.outputs
    named = [asked] if isinstance(asked, str) else asked
    folders = [Path(folder).expanduser() for folder in named]
    options = Options(**{name: task[name] for name in Options._fields})
    output = Path(task["output"]).expanduser()
    if not summarise(find_runs(folders), output, options):
        raise InputError(f"task.folders must hold finished evaluations, got none in {', '.join(map(str, folders))}")
    return output
