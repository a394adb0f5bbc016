"""Cover the faces of a user's own photos."""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from torch import nn

from veil.albums.album import REPORT, Agreed, Album, Engine, InProcess, Tell
from veil.albums.files import Sources
from veil.albums.ledger import Ledger
from veil.albums.tracks import Clips
from veil.albums.worker import COVERS, REPAINT, Rules, Vectors, Worker
from veil.anonymization.anonymizer import Masker, Masking
from veil.config import Config
from veil.data.faces import everybody
from veil.data.photos import SUFFIXES, read_file
from veil.errors import InputError
from veil.faces.decode import Unreadable, read_photo
from veil.faces.frames import VIDEOS
from veil.faces.jpeg import remove_leftovers
from veil.metrics.pairs import all_pairs
from veil.metrics.verification import strangers_of
from veil.report.album import Summary, write_album
from veil.storage.addresses import album_parts, looks_folder
from veil.storage.atomic import whole
from veil.storage.cache import join
from veil.storage.fingerprint import unlike
from veil.storage.locks import locked
from veil.storage.progress import console
from veil.tasks.judges import Judging
from veil.tasks.whitebox import asking_masker

ADDRESS = "address.json"  # there: what the album depends on
SAME = "are still taken for the same person: look at them"
ONE_PERSON = 1e-3  # false acceptance rate at which two faces of an album are one person's


def photos(config: Config) -> Path:
    """Cover the faces of `input`, write the photos into `output`, and say what was done.

    Exits with 1 where no repaint hid a face, which is pixelated or filled then, or one is still recognised.
    """
    summary = covered_album(config)
    page = Path(str(config.output)).expanduser() / REPORT / "index.html"
    console.print(f"{summary}\nPage: {page}", soft_wrap=True, markup=False)
    if config.until is not None and (summary.failed or summary.recognised):
        counts = {"are covered whole, as no repaint hid them": summary.failed, SAME: summary.recognised}
        raise SystemExit("; ".join(f"{n} of {summary.faces} faces {what}" for what, n in counts.items() if n))
    return page.parent


def covered_album(config: Config) -> Summary:
    """The album, covered; what is covered already stays as it is. Raises InputError for what cannot be begun."""
    setup, output = AlbumSetup(config), _output(config)
    sources = Sources(setup.asked, output, frozenset(SUFFIXES) | VIDEOS)
    if next(iter(sources), None) is None:
        ignored = ", ".join(f"{count} x {reason}" for reason, count in sources.ignored.items())
        raise InputError(f"input must hold photos or videos, got none in {setup.asked} ({ignored or 'empty'})")
    with locked(output / REPORT / ".lock", _say, knob="output"):
        parts = album_parts(config, setup.data)
        _refuse_another(output / REPORT, parts)
        join(config.cache)
        looks = looks_folder(config, [os.path.abspath(os.path.expanduser(name)) for name in setup.asked])
        looked = Ledger(looks / "looked.sqlite", "cache")
        people, done = (Ledger(output / REPORT / f"{name}.sqlite", "output") for name in ("people", "done"))
        album = Album(sources, output, looked, people, done, setup.stages)
        if album.pending:
            agreed, engine = setup.agreed, setup.engine(output)  # what is wrong with them is told before hours of work
            with whole(output / REPORT / ADDRESS) as partial:
                partial.write_text(json.dumps(parts, indent=1))
            album.look(engine, config.on_no_face)
            album.cover(engine, Tell(setup.one_person, config.task["sure"], config.consistent), agreed)
        return _reported(setup, output, album)


def _reported(setup: "AlbumSetup", output: Path, album: Album) -> Summary:
    config, summary = setup.config, Summary(ignored=album.sources.ignored)
    there = {source.name: source.path for source in album.sources} if config.task["originals"] else None
    facts = {
        "masker": config.choices.masker,
        "inpainter": config.choices.inpainter,
        "ratio": config.ratio,
        "until": config.until,
        "tries": config.tries,
        "consistent": config.consistent,
        "thresholds set on": f"{config.choices.data}, {len(setup.enrolment.people)} people",
    }
    write_album(output, output / REPORT, album.lines(), summary, setup.limits, facts, there, config.task["pictured"])
    return summary


def _say(owner: str) -> None:
    console.print(f"Waiting: {owner} is covering this album", soft_wrap=True)


def _output(config: Config) -> Path:
    """Raises InputError for none, a file, and a folder that holds something else than this album."""
    if config.output is None:
        raise InputError("output must be a new folder for the covered photos, got null")
    output = Path(config.output).expanduser()
    if output.exists() and not output.is_dir():
        raise InputError(f"output must be a folder, got the file {output}")
    if output.exists() and any(output.iterdir()) and not (output / REPORT).exists():
        raise InputError(f"output must be a new or empty folder, or an album that goes on, got {output}")
    return output


def _refuse_another(report: Path, parts: Mapping[str, Any]) -> None:
    """Raise InputError where the album was begun with other settings."""
    path = report / ADDRESS
    if path.exists():
        differing = unlike(parts, json.loads(path.read_text()))
        if differing:
            raise InputError(
                f"output holds an album that was made otherwise (it differs in {', '.join(differing[:6])}): choose "
                f"another, or remove it, got {report.parent}"
            )


class AlbumSetup(Judging):
    """What an album is covered with, each part made when it is first asked for."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        remove_leftovers()
        doubtful, sure = config.task["doubtful"], config.task["sure"]
        if doubtful not in (*COVERS, REPAINT):
            raise InputError(f"task.doubtful must be one of {(*COVERS, REPAINT)}, got {doubtful!r}")
        if not 0 <= sure <= 1:
            raise InputError(f"task.sure is a confidence, in [0, 1], got {sure}")
        if config.protect and config.until is not None and config.tries > 1:
            raise InputError(
                f"protect leaves no room for the ratio to grow: set until=null or tries=1 with it, got {config.protect}"
            )
        workers = config.task["workers"]
        if workers is not None and workers < 1:
            raise InputError(f"task.workers is how many processes engine=ray starts, null or at least 1, got {workers}")
        Clips(**config.task["video"])  # raises for what it cannot be
        for knob, value, allowed in (
            ("surrogates", config.surrogates, {}),
            ("hide_at_far", config.hide_at_far, None),
            ("anonymized", config.anonymized, None),
        ):
            if value != allowed:
                raise InputError(f"{knob} must be {'none' if allowed == {} else 'null'} with task=photos, got {value}")

    @property
    def asked(self) -> list[str]:
        """What `input` names."""
        asked = self.config.input
        return [str(asked)] if isinstance(asked, str) else [str(name) for name in asked or []]

    @functools.cached_property
    def thresholds(self) -> dict[str, dict[float, float]]:
        """By recogniser, the white box first, and false acceptance rate: the cosine that two strangers of `data=`
        exceed so often. Raises InputError where the data has too few people for a rate that is asked.
        """
        faces = everybody(self.enrolment)
        found: dict[str, dict[float, float]] = {}
        for name, network in self.recognizers.items():
            vectors = self.embedder(name, network).clear(faces)
            strangers = strangers_of(all_pairs(vectors, np.array(faces.identities)))
            found[name] = {}
            for far in sorted({ONE_PERSON, self.config.until or ONE_PERSON}):
                reason = strangers.unsupported(far)
                if reason:
                    raise InputError(f"until={far:g} needs more people in data={self.config.choices.data}: {reason}")
                found[name][far] = strangers.threshold(far)
        return found

    @functools.cached_property
    def recognizers(self) -> dict[str, nn.Module]:
        """The white box and the judges, which all judge. Raises InputError where a judge cannot be had: a face that it
        would know would pass.
        """
        judges, missing = self.judges
        if missing:
            name, reason = next(iter(missing.items()))
            raise InputError(f"judges must all be there with task=photos, and {name} is not: {reason}")
        return {self.name: self.recognizer, **judges}

    @functools.cached_property
    def worker(self) -> Worker:
        """The networks."""
        config = self.config
        masking = Masking(config.ratio, config.cells, config.protect, raggedness=config.raggedness)
        doubtful, sure = config.task["doubtful"], config.task["sure"]
        clips = Clips(**config.task["video"], batch=config.batch_size)
        rules = Rules(masking, config.until, self.limits, config.tries, doubtful, sure, config.seed, clips)
        detector = instantiate(config.detector)
        return Worker(detector, self.recognizers, self.own_masker, self.inpainter, rules, self.device)

    @functools.cached_property
    def own_masker(self) -> Masker:
        """The masker; one that takes other people's maps has nobody to take them of."""
        if "of" in self.config.masker:
            name = self.config.choices.masker
            raise InputError(f"masker={name} takes maps of labelled people, of whom task=photos has none")
        config = replace(self.config, cache_scores=False)
        return asking_masker(config, lambda: self.inpainter, lambda: self.enrolment.probes)

    @functools.cached_property
    def agreed(self) -> Agreed:
        """The people of `spare=`. Raises InputError for a photo there that does not show one face."""
        worker = self.worker
        if self.config.spare is None:
            return Agreed([], {})
        vectors: list[Vectors] = []
        for source in Sources([self.config.spare], Path(str(self.config.output))):
            try:
                faces = worker.look(read_photo(functools.partial(read_file, source.path)))
            except Unreadable as error:
                raise InputError(f"spare: {source.name} cannot be read ({error})") from error
            if len(faces) != 1:
                raise InputError(f"spare must hold photos of one face each, got {len(faces)} in {source.name}")
            vectors.append(faces[0].vectors)
        if not vectors:
            raise InputError(f"spare must be a folder with photos of those who agreed, got {self.config.spare}")
        return Agreed(vectors, {name: limits[min(limits)] for name, limits in self.thresholds.items()})

    @property
    def limits(self) -> dict[str, float]:
        """By recogniser, the cosine above which it takes two faces for one person's, at the rate `until`."""
        far = self.config.until or ONE_PERSON
        return {name: limits[far] for name, limits in self.thresholds.items()}

    @property
    def one_person(self) -> float:
        """The white box's cosine from which two faces of the album are one person's."""
        return self.thresholds[self.name][ONE_PERSON]

    def engine(self, output: Path) -> Engine:
        """Where photos are worked on."""
        if self.config.engine == "ray":
            from veil.tasks.ray_engine import RayEngine

            return RayEngine(worker_of, self.config, output, self.config.task["workers"])
        return InProcess(lambda: self.worker, output, self.config.on_no_face)


def worker_of(config: Config) -> Worker:
    """The networks of a process of its own."""
    return AlbumSetup(config).worker
