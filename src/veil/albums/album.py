"""An album from its first photo to its last: who is on it, what is done to whom, and what is done already."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from veil.albums.files import Source, Sources
from veil.albums.ledger import Ledger, from_json, to_json
from veil.albums.people import Groups
from veil.albums.video import cover_video, look_at_video
from veil.albums.worker import Plan, Row, Sighting, Vectors, Worker
from veil.data.photos import read_file
from veil.errors import InputError
from veil.faces.decode import Unreadable, decode, read_photo
from veil.faces.frames import is_video
from veil.faces.rewrite import Rewritten, rewrite
from veil.storage.atomic import whole
from veil.storage.faults import blamed
from veil.storage.progress import Stages

REPORT = "veil-report"  # folder in the output
DONE, COPIED, SKIPPED, UNREADABLE = "done", "copied", "skipped", "unreadable"
CHANGED = "changed after it was looked at: run the command again"
Line = dict[str, Any]


class Job(NamedTuple):
    """A photo to be covered, and who each of its faces is."""

    source: Source
    stamp: str  # of the file that was looked at
    plans: list[Plan]
    people: list[int | None]  # None: doubtful, nobody's


class Tell(NamedTuple):
    """How people are told apart.

    Args:
        same: cosine, by the white box, from which two faces are one person's.
        sure: confidence from which a detection is a face at all, and may be somebody's.
        consistent: whether a person's faces are all painted from one seed.

    """

    same: float
    sure: float
    consistent: bool


@runtime_checkable
class Engine(Protocol):
    """Where photos are worked on: here, or in many processes. Lines come as photos are done."""

    def look(self, sources: Iterable[Source]) -> Iterator[Line]:
        """A line for each photo: its faces, or why it is no photo."""

    def cover(self, jobs: Iterable[Job]) -> Iterator[Line]:
        """A line for each photo: what was done. Its file is written by then."""


class InProcess:
    """In the process that asks.

    Args:
        worker: gives it, with its networks, when it is first asked.

    """

    def __init__(self, worker: Callable[[], Worker], output: Path, on_no_face: str) -> None:
        self.worker, self.output, self.on_no_face = worker, output, on_no_face

    def look(self, sources: Iterable[Source]) -> Iterator[Line]:
        """As `Engine`."""
        for source in sources:
            yield look(source, self.worker())

    def cover(self, jobs: Iterable[Job]) -> Iterator[Line]:
        """As `Engine`."""
        for job in jobs:
            yield cover(job, self.worker(), self.output, self.on_no_face)


def look(source: Source, worker: Worker) -> Line:
    """A photo's faces, or why it is no photo."""
    line: Line = {"name": source.name, "stamp": stamp(source.path)}
    try:
        if is_video(source.name):
            faces = look_at_video(source.path, worker)
        else:
            faces = worker.look(read_photo(lambda: read_file(source.path)))
    except Unreadable as error:
        return line | {"error": str(error), "faces": []}
    return line | {"error": None, "faces": [to_json(face) for face in faces]}


def cover(job: Job, worker: Worker, output: Path, on_no_face: str) -> Line:
    """Cover a photo's faces and write it; what was done. Of what cannot be covered nothing is written."""
    source = job.source
    line: Line = {"name": source.name, "stamp": job.stamp, "faces": []}
    if not job.plans and on_no_face != "copy":
        return line | {"status": SKIPPED, "reason": "no face found"}
    target = output / source.name
    if REPORT in Path(source.name).parts[:1]:
        return line | {"status": UNREADABLE, "reason": f"its folder is called as the report's, {REPORT}"}
    if not target.parent.resolve().is_relative_to(output.resolve()):
        raise InputError(f"output must hold no link that leads out of it, got {target.parent}")
    try:
        identical, rows = (cover_clip if is_video(source.name) else cover_photo)(job, target, worker)
    except Unreadable as error:
        return line | {"status": UNREADABLE, "reason": str(error)}
    for row, person, plan in zip(rows, job.people, job.plans, strict=True):
        row |= {"person": person, "seed_key": plan.seed_key}
    return line | {
        "status": DONE if rows else COPIED,
        "reason": "",
        "identical": identical,
        "faces": rows,
        "written": stamp(target),
    }


def cover_photo(job: Job, target: Path, worker: Worker) -> tuple[bool, list[Row]]:
    """Write the photo with its faces covered; whether all else is identical, and what was done. Raises Unreadable."""
    content = read_photo(lambda: read_file(job.source.path))
    check_unchanged(job)
    file, rows = worker.cover(content, job.plans) if job.plans else (without_metadata(content), [])
    with blamed(target.parent, "output"), whole(target) as partial:
        partial.write_bytes(file.content)
    return file.identical, rows


def cover_clip(job: Job, target: Path, worker: Worker) -> tuple[bool, list[Row]]:
    """As `cover_photo`, a video."""
    check_unchanged(job)
    return False, cover_video(job.source.path, target, job.plans, worker)


def check_unchanged(job: Job) -> None:
    """Raises Unreadable for a file that is not the one that was looked at: its faces may be elsewhere now."""
    if stamp(job.source.path) != job.stamp:
        raise Unreadable(CHANGED)


def without_metadata(content: bytes) -> Rewritten:
    """A photo as it is, upright, with nothing told about it. Raises Unreadable."""
    pixels = decode(content)
    return rewrite(content, pixels, np.zeros(pixels.shape[:2], bool))


def stamp(path: Path) -> str:
    """Size and time of change: of a file with others, nothing is known. Empty for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


class Album:
    """Photos on their way into a folder.

    Args:
        sources: the photos, as often as they are asked for in the same order.
        output: folder of the covered photos.
        looked: what was seen; in the cache, for it holds embeddings.
        people: who is who.
        done: what was written.

    """

    def __init__(
        self, sources: Sources, output: Path, looked: Ledger, people: Ledger, done: Ledger, stages: Stages
    ) -> None:
        self.sources, self.output, self.stages = sources, output, stages
        self.looked, self.people, self.done = looked, people, done

    def look(self, engine: Engine, on_no_face: str) -> None:
        """Look at every photo that was not looked at. Raises InputError for one without a face where that is asked."""
        count = sum(1 for _ in self._unseen())
        if count:
            with self.stages.bar("look", count, "photos") as advance:
                for line in engine.look(self._unseen()):
                    self.looked.put(line)
                    advance(1)
        if on_no_face == "error":
            for source in self.sources:
                seen = self.looked.get(source.name, stamp(source.path))
                if seen is not None and not seen["faces"]:
                    raise InputError(f"on_no_face=error: {seen['error'] or 'no face found'} in {source.name}")

    def cover(self, engine: Engine, tell: "Tell", agreed: "Agreed") -> None:
        """Cover every photo that is not covered yet, but the faces of those who agreed."""
        count = sum(1 for source in self.sources if not self._finished(source))
        if count:
            with self.stages.bar("cover", count, "photos") as advance:
                for line in chain(self._unreadable(), engine.cover(self._jobs(tell, agreed)), self._changed()):
                    if line["status"] in (SKIPPED, UNREADABLE):
                        (self.output / line["name"]).unlink(missing_ok=True)  # of the file as it was before
                    self.done.put(line)
                    advance(1)

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return any(not self._finished(source) for source in self.sources)

    def _unreadable(self) -> Iterator[Line]:
        """What is no photo is done with."""
        for source in self.sources:
            line = self.looked.get(source.name, stamp(source.path))
            if line is not None and line["error"] is not None and not self._finished(source):
                yield _not_written(source, line["stamp"], line["error"])

    def _changed(self) -> Iterator[Line]:
        """What was not looked at as it is now is not written; the next command does."""
        for source in self.sources:
            seen = stamp(source.path)
            if self.looked.get(source.name, seen) is None:
                yield _not_written(source, f"{seen}, not looked at", CHANGED)

    def lines(self) -> Iterator[Line]:
        """What was done to each photo that is there."""
        for source in self.sources:
            line = self.done.get(source.name)
            if line is not None:
                yield line

    def _unseen(self) -> Iterator[Source]:
        return (source for source in self.sources if self.looked.get(source.name, stamp(source.path)) is None)

    def _finished(self, source: Source) -> bool:
        """Whether a photo is done with, and its file, where it has one, is as it was written."""
        line = self.done.get(source.name, stamp(source.path))
        if line is None or line["status"] in (SKIPPED, UNREADABLE):
            return line is not None
        return line["written"] == stamp(self.output / source.name)

    def _jobs(self, tell: "Tell", agreed: "Agreed") -> Iterator[Job]:
        """Two rounds: who is who, over all photos, then a job for each that is not covered."""
        people, keys, painted = Groups(tell.same), dict[int, str](), dict[int, str]()
        for source, seen, faces in self._seen():
            who = [people.add(face.vectors) if face.confidence >= tell.sure else None for face in faces]
            self.people.put({"name": source.name, "stamp": seen, "people": who})
            before = self._painted_from(source)
            for number, person in enumerate(who):
                if person is not None:
                    keys.setdefault(person, f"{source.name}#{number}")
                    if number in before:
                        painted.setdefault(person, before[number])
        keys |= painted  # a person who was painted already has that face
        for source, seen, faces in self._seen():
            named = self.people.get(source.name, seen)
            if named is not None and not self._finished(source):
                plans = []
                for number, (face, person) in enumerate(zip(faces, named["people"], strict=True)):
                    told = person is not None
                    key = keys[person] if told and tell.consistent else f"{source.name}#{number}"
                    others = people.others(person, face.vectors) if told else {}
                    plans.append(Plan(face, key, others, told and agreed.include(face)))
                yield Job(source, seen, plans, named["people"])

    def _painted_from(self, source: Source) -> dict[int, str]:
        """From which keys the faces of a photo that is covered already were painted."""
        line = self.done.get(source.name, stamp(source.path))
        return {} if line is None else {number: face["seed_key"] for number, face in enumerate(line["faces"])}

    def _seen(self) -> Iterator[tuple[Source, str, list[Sighting]]]:
        """Each photo, the stamp of the file that was looked at, and its faces."""
        for source in self.sources:
            seen = stamp(source.path)
            line = self.looked.get(source.name, seen)
            if line is not None and line["error"] is None:
                yield source, seen, [from_json(face) for face in line["faces"]]


def _not_written(source: Source, seen: str, reason: str) -> Line:
    return {"name": source.name, "stamp": seen, "status": UNREADABLE, "reason": reason, "faces": []}


class Agreed:
    """The people who agreed to be seen.

    Args:
        vectors: of each of their photos.
        thresholds: by recogniser; a face is theirs where every recogniser says so.

    """

    def __init__(self, vectors: Sequence[Vectors], thresholds: dict[str, float]) -> None:
        self.vectors, self.thresholds = vectors, thresholds

    def include(self, face: Sighting) -> bool:
        """Whether one of their photos shows this face, by every recogniser: who is in doubt is covered."""
        return any(
            all(float(face.vectors[name] @ theirs[name]) > limit for name, limit in self.thresholds.items())
            for theirs in self.vectors
        )
