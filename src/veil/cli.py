"""The command `veil`: one run, or a sweep of runs with `-m`.

Every command imports this, `--help` too: nothing heavy at the top.
"""

import hydra
from hydra.errors import CompactHydraException, InstantiationException
from hydra.utils import get_method
from omegaconf import DictConfig

from veil.config import conf_folder, validate
from veil.errors import InputError


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def main(cfg: DictConfig) -> str:
    """Check the config, run its task, return the run's folder."""
    try:
        config = validate(cfg)
        return str(get_method(config.task["_target_"])(config))
    except (InputError, OSError, InstantiationException) as error:  # the user's to mend: one line, no traceback
        reason = error.__cause__ if isinstance(error, InstantiationException) else error
        raise CompactHydraException(f"error: {reason}") from error
