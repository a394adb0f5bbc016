r"""Names that W&B can sort and filter by: `/^[_a-zA-Z][_a-zA-Z0-9\/]*$/`."""

import re
from collections import Counter
from collections.abc import Iterable

from veil.config import Config
from veil.storage.fingerprint import digest


def run_name(config: Config) -> str:
    """What loggers call the run; the folder of another tool's pictures has a private name."""
    choices = config.choices
    return f"{choices.masker}-{choices.inpainter}-{config.ratio:g}" if config.anonymized is None else "another-tool"


def logged_name(name: str) -> str:
    """`privacy/facenet/tar@far=1e-3` -> `privacy/facenet/tar_at_far_1e_3`."""
    plain = re.sub(r"[^_a-zA-Z0-9/]", "_", name.replace("@", "_at_"))
    return plain if re.match(r"[_a-zA-Z]", plain) else f"_{plain}"


def logged_names(names: Iterable[str]) -> dict[str, str]:
    """The logged name of each name. Of several that would be called the same, those that were changed get a digest."""
    asked = list(dict.fromkeys(names))
    shared = Counter(map(logged_name, asked))
    logged = {}
    for name in asked:
        plain = logged_name(name)
        logged[name] = f"{plain}_{digest(name, 4)}" if shared[plain] > 1 and plain != name else plain
    return logged
