"""Whether an evaluation is there already, asked of what lies on disk: no library of networks is loaded for that."""

from pathlib import Path

from veil.anonymization.matching import match
from veil.config import Config
from veil.data.header import read_header, read_keys
from veil.storage.addresses import evaluation_folder, foreign_folder, set_folder, split_folder
from veil.storage.folders import RunFolder


def finished(config: Config) -> RunFolder | None:
    """The finished evaluation of this config; None where there is none, or where its photos have changed since."""
    split = split_folder(config)
    if not split.complete:
        return None
    header = read_header(split.path)
    if not header.unchanged:
        return None
    if config.anonymized is None:
        made = set_folder(config, header.checksum)
    else:
        pictures = match(Path(config.anonymized).expanduser(), read_keys(split.path)).pictures
        made = foreign_folder(config, header.checksum, pictures)
    run = evaluation_folder(config, made, header.counts["quarantined"])
    return run if run.complete else None
