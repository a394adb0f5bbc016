"""The command `veil`: one run, or a sweep of runs with `-m`.

Every command imports this, `--help` too: nothing heavy at the top.
"""

import os
import sys
import traceback
from collections.abc import Sequence

import hydra
from hydra.errors import CompactHydraException, ConfigCompositionException, InstantiationException
from hydra.utils import get_method
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from veil.config import conf_folder, no_knob, refuse_old_names, validate
from veil.errors import InputError
from veil.search import Made, reached
from veil.storage.cache import tidy
from veil.storage.stopping import Stopped, stop_if_asked, unwatch, watch
from veil.sweep import Sweep, cause

WHOLE = "HYDRA_FULL_ERROR"  # 1: errors with their tracebacks
NO_KNOB = "Could not override '"  # begins what Hydra says of one


def main() -> None:
    """Run what the command line asks for. Exits with 1 where a run failed, 130 on Ctrl-C, 143 on SIGTERM."""
    sys.argv[1:] = flags_first(sys.argv[1:])
    try:
        refuse_old_names(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
    watch()
    code = _exit_code()
    unwatch()  # from here on, once is enough
    not_done = Sweep.watch.end() if Sweep.watch is not None else 0
    sys.exit(code or min(not_done, 1))


def flags_first(words: Sequence[str]) -> list[str]:
    """The words of a command with overrides last: between two of them, Hydra does not know its own flags."""
    return sorted(words, key=lambda word: word.startswith("~") or ("=" in word and not word.startswith("-")))


def _exit_code() -> int:
    """Run; give Hydra's exit code or, of a run that was stopped, the signal's."""
    whole = os.environ.get(WHOLE) == "1"
    os.environ[WHOLE] = "1"  # Hydra raises what it would tell in words of its own
    try:
        try:
            run()
        except SystemExit as ended:
            stop_if_asked()  # Lightning ends a training so
            return _told(ended)
        except Exception as error:  # the last who can tell it
            stop_if_asked()
            words = ["".join(traceback.format_exception(error))] if whole else _words(error) or _own_trace(error)
            print("\n".join(words).rstrip(), file=sys.stderr)
            return 1
    except Stopped as stopped:
        print("Stopped: what is done is kept, the same command goes on from there", file=sys.stderr)
        return stopped.exit_code
    return 0


def _told(ended: SystemExit) -> int:
    if isinstance(ended.code, str):
        print(ended.code, file=sys.stderr)
        return 1
    return ended.code or 0


def _words(error: Exception) -> list[str]:
    """What an error says to who can mend it; nothing of one that needs its traceback."""
    text = str(error)
    if isinstance(error, ConfigCompositionException) and text.startswith(NO_KNOB):
        name = text.removeprefix(NO_KNOB).partition("'")[0]
        return [f"error: {no_knob(name, sys.argv[1:])}"]
    if isinstance(error, CompactHydraException):
        why = str(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else ""
        return [part for part in (text, why) if part]
    if Sweep.watch is not None:  # runs' own are told and kept: the sweeper's or launcher's, of what it was asked for
        return [f"error: hydra.sweeper or hydra.launcher: {cause(error)} ({WHOLE}=1 shows where)"]
    return []


def _own_trace(error: Exception) -> list[str]:
    """An error with its traceback from where Hydra's part ends."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not run.__wrapped__.__code__:
        trace = trace.tb_next
    return ["".join(traceback.format_exception(type(error), error, trace or error.__traceback__))]


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
