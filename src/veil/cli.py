"""The command `veil`: one run, or a sweep of runs with `-m`.

Every command imports this, `--help` too: nothing heavy at the top.
"""

import sys

import hydra
from hydra.errors import CompactHydraException, InstantiationException
from hydra.utils import get_method
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from veil.config import conf_folder, refuse_old_names, validate
from veil.errors import InputError
from veil.storage.cache import tidy
from veil.storage.stopping import Stopped, stop_if_asked, unwatch, watch
from veil.sweep import Made, Sweep, reached


def main() -> None:
    """Run what the command line asks for. Exits with 1 where a run failed, 130 on Ctrl-C, 143 on SIGTERM."""
    try:
        refuse_old_names(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
    watch()
    code = _exit_code()
    unwatch()  # from here on, once is enough
    not_done = Sweep.watch.end() if Sweep.watch is not None else 0
    sys.exit(code or min(not_done, 1))


def _exit_code() -> int:
    """Run; give Hydra's exit code or, of a run that was stopped, the signal's."""
    try:
        try:
            run()
        except SystemExit as ended:
            stop_if_asked()  # Lightning ends a training so
            return _told(ended)
    except Stopped as stopped:
        print("Stopped: what is done is kept, the same command goes on from there", file=sys.stderr)
        return stopped.exit_code
    return 0


def _told(ended: SystemExit) -> int:
    if isinstance(ended.code, str):
        print(ended.code, file=sys.stderr)
        return 1
    return ended.code or 0


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def run(cfg: DictConfig) -> Made:
    """Check the config, run its task, give the run's folder and its objectives."""
    try:
        config = validate(cfg)
        folder = get_method(config.task["_target_"])(config)
        tidy(config.cache, config.cache_limit)
        return Made(str(folder), reached(config.objectives, folder) if config.objectives else ())
    except (InputError, OSError, InstantiationException, OmegaConfBaseException) as error:  # the user's to mend
        reason = error.__cause__ if isinstance(error, InstantiationException) else str(error).split("\n")[0]
        raise CompactHydraException(f"error: {reason}") from error
