"""Look at a photo, then cover its faces: what every engine runs, photo by photo."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from veil.albums.targets import Targets, views_mean
from veil.albums.tracks import Clips, Track
from veil.anonymization.anonymizer import Masker, Masking, paint
from veil.data.split import face_seed
from veil.faces.align import Found, Pixels, crop_face, crop_square, paste_face
from veil.faces.decode import decode
from veil.faces.detect import Detector
from veil.faces.pictures import to_images, to_pixels
from veil.faces.rewrite import Rewritten, rewrite
from veil.inpainters.classical import blur, fill, pixelate
from veil.maskers.budget import budget, covered
from veil.maskers.protect import protected
from veil.types import CROP, Embeddings, Faces, Images, Inpainter, Masks, Scores, view

GROWTH = 1.5  # of the ratio, from one try to the next
BATCH = 32  # faces at once, however many a photo has
MOSAIC, BLUR = 40, 24.0  # px of a crop of 256: blocks, of which the view has four by four, and a standard deviation
COVERS: dict[str, Inpainter] = {
    "blur": lambda faces, masks: blur(faces, masks, BLUR),
    "pixelate": lambda faces, masks: pixelate(faces, masks, MOSAIC),
    "fill": fill,
}
REPAINT, SPARED = "repaint", "spared"
PASTED = (SPARED, "blur", "pixelate", REPAINT, "fill")  # first to last
OTHERS, VIEWS = "the person's other photos", "other views of the face"  # what a masker may follow
Row = dict[str, Any]
Vectors = dict[str, Float[Tensor, " d"]]  # of a face, by recogniser


@dataclass(frozen=True)
class Rules:
    """What is done to faces.

    Args:
        masking: ratio, grid and what is protected.
        until: false acceptance rate; None: whatever comes out is taken.
        thresholds: by recogniser, the cosine that strangers exceed at that rate.
        tries: at most so many repaints of a face; with more than one its ratio grows, then its seed changes.
        doubtful: one of `COVERS`, or `repaint`, for detections that are less sure than `sure`.
        sure: confidence in [0, 1].
        seed: of the run.
        clips: how faces are followed through videos.

    """

    masking: Masking
    until: float | None
    thresholds: Mapping[str, float]
    tries: int
    doubtful: str
    sure: float
    seed: int
    clips: Clips = field(default_factory=Clips)

    def action(self, plan: "Plan") -> str:
        """What is done to a face first."""
        if plan.spared:
            return SPARED
        return self.doubtful if plan.sighting.confidence < self.sure else REPAINT

    def step(self, attempt: int) -> tuple[float, int]:
        """Of a repaint, from 0 on, the ratio, and how often the seed has changed: only once the ratio is 1."""
        full = next(step for step in itertools.count() if self.masking.ratio * GROWTH**step >= 1)
        return min(self.masking.ratio * GROWTH**attempt, 1.0), max(attempt - full, 0)


class Sighting(NamedTuple):
    """A face of a photo, before anything is done."""

    found: Found
    confidence: float
    vectors: Vectors
    track: Track | None = None  # of a face of a video, whose mean the vectors are


class Plan(NamedTuple):
    """What is known of a face when it is covered."""

    sighting: Sighting
    seed_key: str  # its person's, or its own
    others: Vectors  # mean of the same person's other photos, by recogniser; empty for a face that is seen once
    spared: bool  # its person agreed


class Covered(NamedTuple):
    """A photo that may be shown, and what was done to each of its faces."""

    file: Rewritten
    rows: list[Row]


class Worker:
    """Networks, and what they do to a photo. Nothing that it does depends on other photos, but what a Plan says.

    Args:
        recognizers: the white box first; all of them judge.

    """

    def __init__(
        self,
        detector: Detector,
        recognizers: Mapping[str, nn.Module],
        masker: Masker,
        inpainter: Inpainter,
        rules: Rules,
        device: torch.device,
    ) -> None:
        self.detector, self.masker, self.inpainter, self.rules, self.device = detector, masker, inpainter, rules, device
        self.recognizers = {name: network.to(device) for name, network in recognizers.items()}

    @torch.no_grad()
    def look(self, content: bytes) -> list[Sighting]:
        """Every face of a photo file, as each recogniser sees it. Raises Unreadable."""
        return self.sightings(decode(content))

    @torch.no_grad()
    def sightings(self, photo: Pixels) -> list[Sighting]:
        """Every face of a picture, the largest first."""
        detections = self.detector(photo)
        if not detections:
            return []
        vectors = self.embedded(self.crops(photo, [detection.found for detection in detections]))
        return [
            Sighting(found, confidence, {name: vectors[name][index].cpu() for name in vectors})
            for index, (found, confidence) in enumerate(detections)
        ]

    def cover(self, content: bytes, plans: Sequence[Plan]) -> Covered:
        """The photo file with every face covered, but those of people who agreed. Raises Unreadable."""
        photo = decode(content)
        shown, rows = self.covered(photo, plans)
        return Covered(rewrite(content, shown, (shown != photo).any(axis=2)), rows)

    def covered(self, photo: Pixels, plans: Sequence[Plan]) -> tuple[Pixels, list[Row]]:
        """The picture with its faces covered, and a row of figures for each face.

        Faces are painted from what the photo shows, never from another's paint, and pasted in their order.
        """
        state = _State(self, photo, plans)
        for attempt in range(self.rules.tries):
            state.repaint(attempt)
            if self.rules.until is None or not state.known().any():
                break
        for name in ("pixelate", "fill"):
            if self.rules.until is not None and state.known().any():
                state.give_up(name)
        return state.shown(), state.rows()

    def crops(self, photo: Pixels, faces: Sequence[Found]) -> Float[Tensor, "b 3 crop crop"]:
        """The crops of some faces of a picture."""
        crops = [crop_face(*window(photo, face)[:2]) for face in faces]
        return to_images(np.stack(crops)).to(self.device)

    def embedded(self, crops: Images) -> dict[str, Embeddings]:
        """As each recogniser sees them."""
        return {
            name: torch.cat([network(part) for part in crops.split(BATCH)])
            for name, network in self.recognizers.items()
        }


class _State:
    """A photo on its way: the paint, mask and figures of each face."""

    def __init__(self, worker: Worker, photo: Pixels, plans: Sequence[Plan]) -> None:
        self.worker, self.rules, self.photo, self.plans = worker, worker.rules, photo, plans
        self.places = [plan.sighting.found for plan in plans]
        self.crops = worker.crops(photo, self.places) if plans else torch.zeros(0, 3, CROP, CROP)
        self.paints, self.masks = self.crops.clone(), torch.zeros_like(self.crops[:, :1], dtype=torch.bool)
        self.actions = [self.rules.action(plan) for plan in plans]
        self.ratios, self.tried, self.followed = [0.0] * len(plans), [0] * len(plans), [""] * len(plans)
        self._seen: dict[str, Tensor] | None = None  # cosines of what is shown now
        for name in COVERS:
            self._cover_whole([index for index, action in enumerate(self.actions) if action == name], name)

    def repaint(self, attempt: int) -> None:
        """Paint the faces that are still known, or all at the first attempt: a larger ratio, then another seed."""
        who = [index for index, action in enumerate(self.actions) if action == REPAINT]
        if attempt:
            known = self.known()
            who = [index for index in who if known[index]]
        for start in range(0, len(who), BATCH):
            self._repaint(who[start : start + BATCH], attempt)

    def _repaint(self, who: Sequence[int], attempt: int) -> None:
        ratio, reseeded = self.rules.step(attempt)
        faces = self._faces(who, reseeded)
        masks = self._masks(faces, who, ratio)
        self.paints[who], self.masks[who], self._seen = paint(self.worker.inpainter, faces, masks), masks, None
        for index, share in zip(who, covered(masks).tolist(), strict=True):
            self.ratios[index], self.tried[index] = share, attempt + 1

    def _faces(self, who: Sequence[int], reseeded: int) -> Faces:
        keys = tuple(
            f"{self.plans[index].seed_key}#{reseeded}" if reseeded else self.plans[index].seed_key for index in who
        )
        seeds = torch.tensor([face_seed(key, self.rules.seed) for key in keys])
        return Faces(self.crops[who], torch.arange(len(who)).to(self.crops.device), seeds, keys)

    def _masks(self, faces: Faces, who: Sequence[int], ratio: float) -> Masks:
        masking = self.rules.masking
        kept = protected(faces.images, masking.protect) if masking.protect else None
        return budget(self._scores(faces, who), ratio, masking.cells, (CROP, CROP), kept, masking.raggedness)

    def _scores(self, faces: Faces, who: Sequence[int]) -> Scores:
        name, network = next(iter(self.worker.recognizers.items()))

        def targets() -> Embeddings:
            found = views_mean(faces.images, network)
            for row, index in enumerate(who):
                if name in self.plans[index].others:
                    found[row] = self.plans[index].others[name].to(found)
            return found

        box = Targets(network, targets)
        with torch.no_grad():
            scores = self.worker.masker(faces, box)
        for index in who:
            self.followed[index] = (OTHERS if self.plans[index].others else VIEWS) if box.asked else ""
        return scores

    def _cover_whole(self, who: Sequence[int], name: str) -> None:
        if who:
            masks = whole_masks(name, self.masks[who])
            self.paints[who], self.masks[who], self._seen = COVERS[name](self._faces(who, 0), masks), masks, None
            for index in who:
                self.ratios[index] = 1.0

    def give_up(self, name: str) -> None:
        """Cover all of the faces that are still known."""
        who = self.known().nonzero()[:, 0].tolist()
        self._cover_whole(who, name)
        for index in who:
            self.actions[index] = name

    def shown(self) -> Pixels:
        """The photo with the paint of every face pasted back: what is made of the face itself first, so that no blur
        comes to lie on the repaint of a face that it is in.
        """
        shown, pixels, masks = self.photo.copy(), to_pixels(self.paints), self.masks[:, 0].cpu().numpy()
        for index in sorted(range(len(self.plans)), key=lambda index: PASTED.index(self.actions[index])):
            part, face, rows, columns = window(shown, self.places[index])
            shown[rows, columns] = paste_face(part, face, pixels[index], masks[index])
        return shown

    def _cosines(self) -> dict[str, Float[Tensor, " faces"]]:
        """Of each face as it is shown now, by recogniser: the larger of its cosines to itself and to its person."""
        if self._seen is None:
            self._seen = self._measured()
        return self._seen

    def _measured(self) -> dict[str, Float[Tensor, " faces"]]:
        found = {}
        with torch.no_grad():
            after = self.worker.embedded(self.worker.crops(self.shown(), self.places))
        for name, vectors in after.items():
            vectors = F.normalize(vectors.cpu(), dim=1)
            cosines = []
            for vector, plan in zip(vectors, self.plans, strict=True):
                references = [plan.sighting.vectors[name], *([plan.others[name]] if name in plan.others else [])]
                cosines.append(max(float(vector @ reference) for reference in references))
            found[name] = torch.tensor(cosines)
        return found

    def known(self) -> Bool[Tensor, " faces"]:
        """The faces, not spared, that some recogniser takes for the same person at the rate `until`."""
        if not self.plans:
            return torch.zeros(0, dtype=torch.bool)
        above = [cosines > self.rules.thresholds[name] for name, cosines in self._cosines().items()]
        return torch.stack(above).any(dim=0) & torch.tensor([not plan.spared for plan in self.plans])

    def rows(self) -> list[Row]:
        """What was done to each face, and how like itself each recogniser finds it."""
        if not self.plans:
            return []
        cosines, known = self._cosines(), self.known()
        return [
            {
                "confidence": round(plan.sighting.confidence, 4),
                "box": [round(float(edge), 1) for edge in plan.sighting.found.box],
                "action": self.actions[index],
                "ratio": round(self.ratios[index], 4),
                "tries": self.tried[index],
                "masker_followed": self.followed[index],
                "recognised": bool(known[index]),
                **{f"cosine/{name}": round(float(cosines[name][index]), 4) for name in cosines},
            }
            for index, plan in enumerate(self.plans)
        ]


def whole_masks(name: str, masks: Masks) -> Masks:
    """What one of `COVERS` hides, as masks of the same number: the view; `fill` all of the crop but its edge, whose
    colour it takes, hair and outline too.
    """
    masks = torch.zeros_like(masks)
    hidden = masks[..., 1:-1, 1:-1] if name == "fill" else view(masks)
    hidden[:] = True
    return masks


def window(photo: Pixels, face: Found) -> tuple[UInt8[ndarray, "rows columns 3"], Found, slice, slice]:
    """The part of a photo that a face's crop, and what blurring it reads, lies in; and the face in it."""
    square = crop_square(face)
    reach = square.side * 0.75 + 16  # half a diagonal, and the blur's
    height, width = photo.shape[:2]
    left, top = (int(np.clip(at - reach, 0, side - 1)) for at, side in zip(square.centre, (width, height), strict=True))
    right, bottom = (
        int(np.clip(at + reach, start + 1, side))
        for at, start, side in zip(square.centre, (left, top), (width, height), strict=True)
    )
    corner = np.array([left, top], np.float32)
    inner = Found(face.box - np.tile(corner, 2), face.points - corner)
    return photo[top:bottom, left:right], inner, slice(top, bottom), slice(left, right)
