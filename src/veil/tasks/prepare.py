"""Align a data set and split it, once for all runs."""

import shutil
from pathlib import Path

from hydra.utils import instantiate
from rich.table import Table

from veil.config import Config
from veil.data.faces import Enrolment, enrol
from veil.data.header import Stamps, read_header, stamps
from veil.data.splitfile import checksum, counts, read_split, write_split
from veil.storage.addresses import split_folder
from veil.storage.cache import join, used
from veil.storage.folders import RunFolder
from veil.storage.progress import Stages, console


def prepare(config: Config) -> Path:
    """Make the split file, or find it and check it to the last crop; print what it holds."""
    stages = Stages()
    enrolment = prepared(config, stages)
    table = Table("of", "count", title_justify="left")
    for name, count in counts(enrolment).items():
        table.add_row(name, str(count))
    folder = split_folder(config).path
    console.print(table, f"Split: {folder / 'split.npz'}\nChecksum: {checksum(enrolment)}", soft_wrap=True)
    return folder


def _read(config: Config, stages: Stages) -> tuple[Enrolment, Stamps]:
    """The data set, and what the file system said of it before and after it was read: the same, or it is read anew."""
    while True:
        photos = instantiate(config.data)
        before = stamps(photos.sources)
        enrolment = enrol(photos, config.split.gallery, config.seed, config.cache, stages, config.on_error)
        again = instantiate(config.data)
        if (list(again.keys), stamps(again.sources)) == (list(photos.keys), before):
            return enrolment, before
        console.print("The data set has changed while it was read: reading it again")


def _made(config: Config, run: RunFolder, stages: Stages) -> Enrolment:
    """What the split file says, which is written first where there is none."""
    if not run.complete:
        shutil.rmtree(run.partial, ignore_errors=True)
        enrolment, sources = _read(config, stages)
        with run.writing() as folder:
            write_split(folder, enrolment, sources)
    return read_split(run.path, Path(config.cache).expanduser(), config.seed)


def prepared(config: Config, stages: Stages) -> Enrolment:
    """The data set, aligned and split: read from its split file, which is made where there is none yet or where the
    data set has changed since.

    Raises InputError for a split file that does not fit its checksum.
    """
    run = split_folder(config)
    with run.claimed():
        join(config.cache)
        if run.complete and not read_header(run.path).unchanged:
            console.print("The data set has changed since it was prepared: preparing it again")
            run.discard()
        enrolment = _made(config, run, stages)
        missing = [crop for part in (enrolment.gallery, enrolment.probes) for crop in part.crops if not used(crop)]
        if missing:
            console.print(f"{len(missing)} crops are gone from the cache: making them again")
            run.discard()
            enrolment = _made(config, run, stages)
    if enrolment.unreadable:
        quarantine = run.path / "quarantine.csv"
        console.print(f"{len(enrolment.unreadable)} files are no photos and left out: {quarantine}", soft_wrap=True)
    return enrolment
