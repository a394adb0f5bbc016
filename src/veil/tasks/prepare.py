"""Align a data set and split it, once for all runs."""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate
from rich.markup import escape
from rich.table import Table

from veil.config import Config
from veil.data.faces import Enrolment, FaceSet, enrol
from veil.data.header import Stamps, read_header, stamps
from veil.data.inventory import NAME, Twin
from veil.data.several import Embed
from veil.data.splitfile import checksum, counts, read_split, write_split
from veil.recognizers.embed import Embedder
from veil.recognizers.facenet import FaceNet
from veil.storage.addresses import split_folder
from veil.storage.cache import join, used
from veil.storage.folders import RunFolder
from veil.storage.progress import Stages, console
from veil.types import Embeddings


def prepare(config: Config) -> Path:
    """Make the split file, or find it and check it to the last crop; print what it holds."""
    stages = Stages()
    enrolment = prepared(config, stages)
    folder = split_folder(config).path
    console.print(overview(enrolment), f"Split: {folder / 'split.npz'}", soft_wrap=True)
    console.print(f"Checksum: {checksum(enrolment)}\nAll names: {folder / NAME}", soft_wrap=True)
    return folder


def overview(enrolment: Enrolment) -> Table:
    """What the data set holds, what was left out and why, and what to look at, each with examples."""
    inventory, told = enrolment.inventory, counts(enrolment)
    table = Table("of", "count", "for example", title_justify="left")

    def add(name: str, what: Sequence[str] | int) -> None:
        examples = "" if isinstance(what, int) else ", ".join(what[:3])
        table.add_row(name, str(what if isinstance(what, int) else len(what)), escape(examples))

    photos = told["gallery"] + told["probes"]
    add("photos read", photos + told["not_found"])
    for reason, names in inventory.ignored.items():
        add(f"ignored: {escape(reason)}", names)
    add("ignored: no photo (quarantine.csv)", list(enrolment.unreadable))
    add("people", enrolment.people)
    add("people with one photo", told["single_photo"])
    add("faces found", inventory.faces)
    add("photos without a face", enrolment.not_found)
    add("photos cut by the detector's box", enrolment.by_box)
    add("several faces: the main one meant", inventory.confirmed)
    add("several faces: another one meant", inventory.chosen)
    add("several faces: nobody can tell", inventory.undecided)
    add("gallery", told["gallery"])
    add("probes", told["probes"])
    for exact, kind in ((True, "exact"), (False, "near")):
        alike = [twin for twin in inventory.twins if twin.exact == exact]
        add(f"twins, {kind}", [_pair(twin) for twin in alike])
        add(f"twins, {kind}, of two people", [_pair(twin) for twin in alike if not twin.one_person])
        add(f"twins, {kind}, gallery and probe", [_pair(twin) for twin in alike if twin in inventory.leaks])
    return table


def _pair(twin: Twin) -> str:
    return f"{twin.one} = {twin.other}"


def _embedding(config: Config, stages: Stages) -> Embed:
    """The packaged FaceNet, whichever recogniser the run has: a split is the same for all. Loaded when first asked."""

    @functools.cache
    def embedder() -> Embedder:
        return Embedder("facenet", FaceNet("packaged", config.cache), config.cache, stages)

    def embed(crops: Sequence[Path]) -> Embeddings:
        nobody = [0] * len(crops)
        return embedder().clear(FaceSet(crops, [crop.stem for crop in crops], nobody, nobody, config.seed))

    return embed


def _read(config: Config, stages: Stages) -> tuple[Enrolment, Stamps]:
    """The data set, and what the file system said of it before and after it was read: the same, or it is read anew. On
    file systems that never say the same, until it was read twice alike.
    """
    sums = set[str]()
    while True:
        photos = instantiate(config.data)
        before = stamps(photos.sources)
        knobs = config.split.gallery, config.seed, config.cache, stages, config.on_error
        enrolment = enrol(photos, *knobs, _embedding(config, stages))
        again = instantiate(config.data)
        alike = checksum(enrolment) in sums
        if list(again.keys) == list(photos.keys) and (alike or stamps(again.sources) == before):
            return enrolment, before
        sums = {checksum(enrolment)}
        console.print("The data set has changed while it was read: reading it again")


def _made(config: Config, run: RunFolder, stages: Stages) -> Enrolment:
    """What the split file says, which is written first where there is none."""
    if not run.complete:
        shutil.rmtree(run.partial, ignore_errors=True)
        enrolment, sources = _read(config, stages)
        with run.writing() as folder:
            write_split(folder, enrolment, sources)
        left_out = [f"{len(names)} x {reason}" for reason, names in enrolment.inventory.ignored.items()]
        if left_out:
            console.print(escape(f"Ignored: {', '.join(left_out)}; task=prepare shows which"), soft_wrap=True)
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
            first, *others = read_header(run.path).touched
            told = f"{escape(first)}{f' and {len(others)} others have' if others else ' has'} another time or size"
            console.print(f"{told} than when the data set was prepared: reading it again", soft_wrap=True)
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
