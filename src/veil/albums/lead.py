"""A face of a video on its way to be covered: its mask, its seed, its paint of the frame before, and its figures."""

import io

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from veil.albums.targets import Targets, views_mean
from veil.albums.tracks import Course, Track
from veil.albums.worker import COVERS, REPAINT, SPARED, VIEWS, Plan, Row, Worker, whole_masks
from veil.anonymization.anonymizer import paint
from veil.data.split import face_seed
from veil.faces.frames import Frame
from veil.faces.pictures import as_saved, to_images
from veil.maskers.budget import budget, covered
from veil.maskers.protect import protected
from veil.types import CROP, Embeddings, Faces, Images, Masks, Scores

ANOTHER = 0.15  # mean change of the clear crop, in [0, 1], from frame to frame, at which all is new
Crop = Float[Tensor, "3 h w"]


class Lead:
    """One track: the same mask in all of its frames, so that nothing flickers.

    Args:
        plan: of the face, whose sighting has a track.

    """

    def __init__(self, plan: Plan, track: Track, worker: Worker) -> None:
        self.plan, self.worker, self.rules = plan, worker, worker.rules
        self.course = Course(track, self.rules.clips)
        self.middle = int(track.numbers[len(track.numbers) // 2])
        self.action, self.attempt, self.ratio = worker.rules.action(plan), 0, 0.0
        self.mask = torch.zeros(1, 1, CROP, CROP, dtype=torch.bool, device=worker.device)
        self.scores: Scores | None = None
        self.protected: Masks | None = None
        self.followed = ""
        if self.action == REPAINT:
            self._prepare(_decoded(track.samples).to(worker.device))
        elif self.action != SPARED:
            self.mask, self.ratio = whole_masks(self.action, self.mask), 1.0
        self.begin()

    def begin(self) -> None:
        """A round begins: nothing is measured yet."""
        self.frames, self.known, self.last = 0, 0, -2
        self.given_up = dict.fromkeys(COVERS, 0)
        self.cosines: dict[str, float] = {}
        self.times: list[float] = []
        self.still = 0.0
        self._before: tuple[Crop, Crop] | None = None  # the paint, and what it is on, in the frame before

    @torch.no_grad()
    def _prepare(self, samples: Images) -> None:
        """Scores and mask of the track, and the first attempt that hides its samples."""
        masking = self.rules.masking
        if masking.protect:
            self.protected = protected(samples, masking.protect).any(dim=0, keepdim=True)
        name, network = next(iter(self.worker.recognizers.items()))
        faces = self.faces(samples)
        known = self.plan.others.get(name) if len(samples) == 1 else self.plan.sighting.vectors[name]

        def targets() -> Embeddings:
            target = views_mean(samples, network) if known is None else known.to(samples)[None]
            return target.expand(len(samples), -1)

        box = Targets(network, targets)
        scores = self.worker.masker(faces, box)
        self.followed = "its mean over all frames" if box.asked and known is not None else VIEWS if box.asked else ""
        scores = scores - scores.mean(dim=(1, 2), keepdim=True)  # any scale: each sample counts as much as another
        scores = scores / scores.std(dim=(1, 2), keepdim=True, correction=0).clamp_min(1e-12)
        self.scores = scores.mean(dim=0, keepdim=True)
        self._mask()
        if self.rules.until is not None:
            clear = self.worker.embedded(samples)
            while self.can_grow and not self._hidden(samples, clear):
                self.grow()

    def _hidden(self, samples: Images, clear: dict[str, Embeddings]) -> bool:
        painted = paint(self.worker.inpainter, self.faces(samples), self.mask.expand(len(samples), -1, -1, -1))
        after = self.worker.embedded(as_saved(painted, "png"))
        return not any(self.is_known(self.likeness(after, clear, index)) for index in range(len(samples)))

    def faces(self, crops: Images) -> Faces:
        """Crops of this face, as masker and inpainter take them: all from its one seed."""
        _, reseeded = self.rules.step(self.attempt)
        key = f"{self.plan.seed_key}#{reseeded}" if reseeded else self.plan.seed_key
        seeds = torch.full((len(crops),), face_seed(key, self.rules.seed))
        return Faces(crops, torch.arange(len(crops)).to(crops.device), seeds, (key,) * len(crops))

    @property
    def can_grow(self) -> bool:
        """Whether it may be repainted otherwise."""
        return self.action == REPAINT and self.attempt + 1 < self.rules.tries

    def grow(self) -> None:
        """A larger mask, or where it is whole, another seed."""
        self.attempt += 1
        self._mask()

    def _mask(self) -> None:
        assert self.scores is not None
        masking, size = self.rules.masking, (CROP, CROP)
        ratio, _ = self.rules.step(self.attempt)
        self.mask = budget(self.scores, ratio, masking.cells, size, self.protected, masking.raggedness)
        self.ratio = float(covered(self.mask)[0])
        self._before = None  # of another mask: it shows what this one hides

    def smoothed(self, painted: Crop, clear: Crop, number: int) -> Crop:
        """The exponential mean of the paint up to this frame, the next one; of what is gone, as when a hand before the
        face is, nothing stays.
        """
        if self._before is not None and number == self.last + 1:
            before, clear_before = self._before
            change = float((clear - clear_before).abs()[:, self.mask[0, 0]].mean())
            weight = self.rules.clips.smooth * max(1 - change / ANOTHER, 0)
            painted = weight * before + (1 - weight) * painted
        self._before, self.last = (painted, clear), number
        return painted

    def leave(self) -> None:
        """No frame shows it any more."""
        self._before = None

    def likeness(self, after: dict[str, Embeddings], clear: dict[str, Embeddings], row: int) -> dict[str, float]:
        """By recogniser, the larger of a shown crop's cosines to the clear crop and to the track's mean."""
        found = {}
        for name, vectors in after.items():
            vector = F.normalize(vectors[row], dim=0)
            references = [F.normalize(clear[name][row], dim=0), self.plan.sighting.vectors[name].to(vector)]
            references += [self.plan.others[name].to(vector)] if name in self.plan.others else []
            found[name] = max(float(vector @ reference) for reference in references)
        return found

    def is_known(self, likeness: dict[str, float]) -> bool:
        """Whether some recogniser takes it for the same person."""
        limits = self.rules.thresholds
        return self.action != SPARED and any(cosine > limits[name] for name, cosine in likeness.items())

    def note(self, frame: Frame, likeness: dict[str, float], action: str) -> None:
        """A frame of it is done, by its action or by what was done instead of it."""
        self.frames += 1
        self.times.append(frame.seconds)
        if frame.number == self.middle:
            self.still = frame.seconds
        if action != self.action:
            self.given_up[action] += 1
        self.known += self.is_known(likeness)
        for name, cosine in likeness.items():
            self.cosines[name] = max(cosine, self.cosines.get(name, -1.0))

    def row(self) -> Row:
        """What was done to it, as for a face of a photo, and over which frames."""
        changed = [name for name, count in self.given_up.items() if count]
        return {
            "confidence": round(self.plan.sighting.confidence, 4),
            "box": [round(float(edge), 1) for edge in self.course.at(self.middle).box],
            "action": changed[-1] if changed else self.action,
            "ratio": round(self.ratio, 4),
            "tries": self.attempt + 1 if self.action == REPAINT else 0,
            "masker_followed": self.followed,
            "recognised": self.known > 0,
            **{f"cosine/{name}": round(cosine, 4) for name, cosine in self.cosines.items()},
            "frames": self.frames,
            "recognised_frames": self.known,
            "given_up_frames": sum(self.given_up.values()),
            "first_s": round(self.times[0], 3),
            "last_s": round(self.times[-1], 3),
            "still_s": self.still,
        }


def _decoded(samples: list[bytes]) -> Images:
    crops = [np.asarray(Image.open(io.BytesIO(sample)).convert("RGB")) for sample in samples]
    return to_images(np.stack(crops))
