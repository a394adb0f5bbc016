"""Look at a video, then cover its faces, a frame after the other: however long it is, a few are in memory."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from veil.albums.lead import Lead
from veil.albums.tracks import Seen, Tracker
from veil.albums.worker import COVERS, REPAINT, SPARED, Plan, Row, Sighting, Worker, whole_masks, window
from veil.anonymization.anonymizer import paint
from veil.faces.align import Found, Pixels, paste_face
from veil.faces.frames import Frame, Reader, Writer
from veil.faces.pictures import to_pixels
from veil.storage.atomic import whole
from veil.storage.progress import Stages
from veil.types import Embeddings, Faces, Images, Masks


@torch.no_grad()
def look_at_video(path: Path, worker: Worker) -> list[Sighting]:
    """The faces of a video, each once, with its track and the mean of its embeddings. Raises Unreadable."""
    clips, (first, *_) = worker.rules.clips, worker.recognizers
    tracker = Tracker(clips, worker.rules.thresholds[first])
    with Reader(path) as reader, Stages().bar(f"look at {path.name}", reader.count, "frames") as advance:
        for frame in reader.frames():
            if tracker.cut(frame.number, frame.pixels) or frame.number % clips.every == 0:
                tracker.add(frame.number, _seen(frame.pixels, worker))
            advance(1)
    return [
        Sighting(
            one.places[one.best],
            one.confidence,
            {name: F.normalize(total, dim=0, eps=1e-6) for name, total in one.sums.items()},
            track,
        )
        for one, track in tracker.finish()
    ]


def _seen(pixels: Pixels, worker: Worker) -> list[Seen]:
    faces = worker.sightings(pixels)
    if not faces:
        return []
    crops = to_pixels(worker.crops(pixels, [face.found for face in faces]))
    return [Seen(face.found, face.confidence, face.vectors, crop) for face, crop in zip(faces, crops, strict=True)]


def cover_video(source: Path, target: Path, plans: Sequence[Plan], worker: Worker) -> list[Row]:
    """Write the video with its faces covered, but those of people who agreed; what was done to each. Raises Unreadable.

    Where a face is still known in some frame, all of its frames are covered more, and the video is written anew.
    """
    leads = [Lead(plan, plan.sighting.track, worker) for plan in plans if plan.sighting.track is not None]
    with whole(target) as partial:
        while not _Round(leads, worker).passes(source, partial):
            pass
    return [lead.row() for lead in leads]


class _Shot(NamedTuple):
    """A frame that waits for its faces' paint."""

    frame: Frame
    leads: list[Lead]


class _Patches(NamedTuple):
    """The faces of some frames, one after the other."""

    shots: list[_Shot]
    at: list[tuple[int, Lead]]  # index of the shot, and whose face it is
    places: list[Found]
    paints: Images
    masks: Masks

    def shown(self) -> list[Pixels]:
        """The frames with the paint of every face pasted back, the largest first."""
        shown = [shot.frame.pixels.copy() for shot in self.shots]
        pixels, masks = to_pixels(self.paints), self.masks[:, 0].cpu().numpy()
        for index in sorted(range(len(self.at)), key=lambda index: -_area(self.places[index])):
            picture = shown[self.at[index][0]]
            part, face, rows, columns = window(picture, self.places[index])
            picture[rows, columns] = paste_face(part, face, pixels[index], masks[index])
        return shown


class _Round:
    """The whole video, written once."""

    def __init__(self, leads: Sequence[Lead], worker: Worker) -> None:
        self.leads, self.worker, self.rules = leads, worker, worker.rules
        self.again = False
        self._coming = deque(sorted(leads, key=lambda lead: lead.course.first))
        self._here: list[Lead] = []

    @torch.no_grad()
    def passes(self, source: Path, target: Path) -> bool:
        """Write the file; whether nobody's mask had to grow."""
        for lead in self.leads:
            lead.begin()
        with (
            Reader(source) as reader,
            Writer(target, reader) as writer,
            Stages().bar(f"cover {source.name}", reader.count, "frames") as advance,
        ):
            shots: list[_Shot] = []
            for item in reader.everything():
                if not isinstance(item, Frame):
                    writer.copy(item)
                    continue
                shots.append(_Shot(item, self._leads_at(item.number)))
                if max(len(shots), sum(len(shot.leads) for shot in shots)) >= self.rules.clips.batch:
                    self._write(shots, writer)
                    advance(len(shots))
                    shots = []
            self._write(shots, writer)
            advance(len(shots))
        return not self.again

    def _leads_at(self, number: int) -> list[Lead]:
        while self._coming and self._coming[0].course.first <= number:
            self._here.append(self._coming.popleft())
        for lead in [lead for lead in self._here if number >= lead.course.end]:
            lead.leave()
            self._here.remove(lead)
        return list(self._here)

    def _write(self, shots: list[_Shot], writer: Writer) -> None:
        for shot, shown in zip(shots, self._covered(shots), strict=True):
            writer.write(shot.frame, shown)

    def _covered(self, shots: list[_Shot]) -> list[Pixels]:
        """The frames with their faces covered, and compared with what they were."""
        at = [(index, lead) for index, shot in enumerate(shots) for lead in shot.leads]
        if not at:
            return [shot.frame.pixels for shot in shots]
        places = [lead.course.at(shots[index].frame.number) for index, lead in at]
        crops = self._crops([shot.frame.pixels for shot in shots], at, places)
        patches = _Patches(shots, at, places, crops.clone(), torch.cat([lead.mask for _, lead in at]))
        self._paint(patches, crops)
        clear = self.worker.embedded(crops)
        shown = patches.shown()
        likeness = self._likeness(shown, patches, clear)
        actions = [lead.action for _, lead in at]
        grown = self._grown([lead for row, (_, lead) in enumerate(at) if lead.is_known(likeness[row])])
        for name in ("pixelate", "fill") if self.rules.until is not None else ():
            known = [row for row, (_, lead) in enumerate(at) if lead.is_known(likeness[row])]
            failing = [row for row in known if at[row][1] not in grown]
            if failing:
                masks = whole_masks(name, patches.masks[failing])
                patches.paints[failing] = COVERS[name](self._faces(at, crops, failing), masks)
                patches.masks[failing] = masks
                shown = patches.shown()
                likeness = self._likeness(shown, patches, clear)
                for row in failing:
                    actions[row] = name
        for row, (index, lead) in enumerate(at):
            lead.note(shots[index].frame, likeness[row], actions[row])
        return shown

    def _grown(self, known: list[Lead]) -> list[Lead]:
        """Those of the known faces that can be covered more: from here on, and in the next round from their start."""
        grown = [lead for lead in dict.fromkeys(known) if lead.can_grow and self.rules.until is not None]
        for lead in grown:
            lead.grow()
        self.again = self.again or bool(grown)
        return grown

    def _paint(self, patches: _Patches, crops: Images) -> None:
        for action in (REPAINT, *COVERS):
            rows = [row for row, (_, lead) in enumerate(patches.at) if lead.action == action]
            if rows:
                inpainter = self.worker.inpainter if action == REPAINT else COVERS[action]
                patches.paints[rows] = paint(inpainter, self._faces(patches.at, crops, rows), patches.masks[rows])
        for row, (index, lead) in enumerate(patches.at):
            if lead.action != SPARED:
                smoothed = lead.smoothed(patches.paints[row], crops[row], patches.shots[index].frame.number)
                patches.paints[row] = torch.where(patches.masks[row], smoothed, crops[row])

    @staticmethod
    def _faces(at: list[tuple[int, Lead]], crops: Images, rows: list[int]) -> Faces:
        each = [at[row][1].faces(crops[row : row + 1]) for row in rows]
        seeds, keys = torch.cat([one.seeds for one in each]), tuple(one.keys[0] for one in each)
        return Faces(crops[rows], torch.arange(len(rows)).to(crops.device), seeds, keys)

    def _crops(
        self, pictures: list[Pixels], at: list[tuple[int, Lead]], places: list[Found]
    ) -> Float[Tensor, "b 3 crop crop"]:
        each = [self.worker.crops(pictures[index], [place]) for (index, _), place in zip(at, places, strict=True)]
        return torch.cat(each)

    def _likeness(self, shown: list[Pixels], patches: _Patches, clear: dict[str, Embeddings]) -> list[dict[str, float]]:
        after = self.worker.embedded(self._crops(shown, patches.at, patches.places))
        return [lead.likeness(after, clear, row) for row, (_, lead) in enumerate(patches.at)]


def _area(place: Found) -> float:
    left, top, right, bottom = place.box
    return float((right - left) * (bottom - top))
