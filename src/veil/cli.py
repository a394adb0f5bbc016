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


def main() -> None:
    """Run what the command line asks for."""
    try:
        refuse_old_names(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
    run()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def run(cfg: DictConfig) -> str:
    """Check the config, run its task, return the run's folder."""
    try:
        config = validate(cfg)
        return str(get_method(config.task["_target_"])(config))
    except (InputError, OSError, InstantiationException, OmegaConfBaseException) as error:  # the user's to mend
        reason = error.__cause__ if isinstance(error, InstantiationException) else str(error).split("\n")[0]
        raise CompactHydraException(f"error: {reason}") from error
