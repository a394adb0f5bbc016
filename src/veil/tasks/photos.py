"""Cover the faces of a user's own photos."""

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from torch import nn

from veil.albums.album import Agreed, Album, Engine, Local, Tell
from veil.albums.files import Sources
from veil.albums.ledger import Ledger
from veil.albums.tracks import Clips
from veil.albums.worker import COVERS, REPAINT, Rules, Vectors, Worker
from veil.anonymization.anonymizer import Masker, Masking
from veil.config import Config
from veil.data.faces import FaceSet, everybody
from veil.data.photos import SUFFIXES, read_file
from veil.errors import InputError
from veil.faces.decode import Unreadable, read_photo
from veil.faces.frames import VIDEOS
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

REPORT = "veil-report"  # folder in the output
ONE_PERSON = 1e-3  # false acceptance rate at which two faces of an album are one person's


def photos(config: Config) -> Path:
    """Cover the faces of `input`, write the photos into `output`, and say what was done.

    Exits with 1 where no repaint hid a face, which is pixelated then.
    """
    summary = covered_album(config)
    page = Path(str(config.output)).expanduser() / REPORT / "index.html"
    console.print(f"{summary}\nPage: {page}", soft_wrap=True, markup=False)
    if summary.failed:
        raise SystemExit(f"{summary.failed} of {summary.faces} faces were pixelated: no repaint hid them")
    return page.parent


def covered_album(config: Config) -> Summary:
    """The album, covered; what is covered already stays as it is. Raises InputError for what cannot be begun."""
    setup, output = Photos(config), _output(config)
    sources = Sources(setup.asked, output, frozenset(SUFFIXES) | VIDEOS)
    with locked(output / REPORT / ".lock", _say, knob="output"):
        _begin(output / REPORT, album_parts(config, setup.data))
        join(config.cache)
        looks = looks_folder(config, [str(root.path.resolve()) for root in sources.roots])
        looked, people = (Ledger(looks / f"{name}.sqlite", "cache") for name in ("looked", "people"))
        done = Ledger(output / REPORT / "done.sqlite", "output")
        album = Album(sources, output, looked, people, done, setup.stages)
        engine = setup.engine(output)
        album.look(engine, config.on_no_face)
        tell = Tell(setup.one_person, config.task["sure"], config.consistent)
        album.cover(engine, tell, lambda: setup.agreed)
        return _reported(setup, output, sources, done)


def _reported(setup: "Photos", output: Path, sources: Sources, done: Ledger) -> Summary:
    config, summary = setup.config, Summary(ignored=sources.ignored)
    there = {source.name: source.path for source in sources} if config.task["originals"] else None
    facts = {
        "masker": config.choices.masker,
        "inpainter": config.choices.inpainter,
        "ratio": config.ratio,
        "until": config.until,
        "tries": config.tries,
        "consistent": config.consistent,
        "thresholds set on": f"{config.choices.data}, {len(setup.enrolment.people)} people",
    }
    limits = setup.worker.rules.thresholds
    write_album(output, output / REPORT, done, summary, limits, facts, there, config.task["pictured"])
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


def _begin(report: Path, parts: Mapping[str, Any]) -> None:
    """Note what the album depends on. Raises InputError where it was begun with other settings."""
    path = report / "address.json"
    if path.exists():
        differing = unlike(parts, json.loads(path.read_text()))
        if differing:
            raise InputError(
                f"output holds an album that was made otherwise (it differs in {', '.join(differing[:6])}): choose "
                f"another, or remove it, got {report.parent}"
            )
    with whole(path) as partial:
        partial.write_text(json.dumps(parts, indent=1))


class Photos(Judging):
    """What an album is covered with, each part made when it is first asked for."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        doubtful, sure = config.task["doubtful"], config.task["sure"]
        if doubtful not in (*COVERS, REPAINT):
            raise InputError(f"task.doubtful must be one of {(*COVERS, REPAINT)}, got {doubtful!r}")
        if not 0 <= sure <= 1:
            raise InputError(f"task.sure is a confidence, in [0, 1], got {sure}")
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
        far = config.until or ONE_PERSON
        limits = {name: limits[far] for name, limits in self.thresholds.items()}
        doubtful, sure = config.task["doubtful"], config.task["sure"]
        clips = Clips(**config.task["video"], batch=config.batch_size)
        rules = Rules(masking, config.until, limits, config.tries, doubtful, sure, config.seed, clips)
        detector = instantiate(config.detector)
        return Worker(detector, self.recognizers, self.own_masker, self.inpainter, rules, self.device)

    @functools.cached_property
    def own_masker(self) -> Masker:
        """The masker; one that takes other people's maps has nobody to take them of."""

        def nobody() -> FaceSet:
            raise InputError(
                f"masker={self.config.choices.masker} takes maps of labelled people: none with task=photos"
            )

        return asking_masker(replace(self.config, cache_scores=False), lambda: self.inpainter, nobody)

    @functools.cached_property
    def agreed(self) -> Agreed:
        """The people of `spare=`. Raises InputError for a photo there that does not show one face."""
        if self.config.spare is None:
            return Agreed([], {})
        vectors: list[Vectors] = []
        for source in Sources([self.config.spare], Path(str(self.config.output))):
            try:
                faces = self.worker.look(read_photo(functools.partial(read_file, source.path)))
            except Unreadable as error:
                raise InputError(f"spare: {source.name} cannot be read ({error})") from error
            if len(faces) != 1:
                raise InputError(f"spare must hold photos of one face each, got {len(faces)} in {source.name}")
            vectors.append(faces[0].vectors)
        if not vectors:
            raise InputError(f"spare must be a folder with photos of those who agreed, got {self.config.spare}")
        return Agreed(vectors, {name: limits[min(limits)] for name, limits in self.thresholds.items()})

    @property
    def one_person(self) -> float:
        """The white box's cosine from which two faces of the album are one person's."""
        return self.thresholds[self.name][ONE_PERSON]

    def engine(self, output: Path) -> Engine:
        """Where photos are worked on."""
        if self.config.engine == "ray":
            from veil.tasks.ray_engine import RayEngine

            return RayEngine(self.config, output, self.config.task["workers"])
        return Local(lambda: self.worker, output, self.config.on_no_face)
