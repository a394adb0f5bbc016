"""What happens to a picture on its way into the world, and may undo what hides it: compression, scaling, smoothing."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from veil.data.faces import Side
from veil.errors import InputError
from veil.evaluation.material import Absent, Attempt, Material, attempt, clear_comparison
from veil.evaluation.outcome import calibrating
from veil.faces.pictures import to_images, to_pixels
from veil.metrics.identification import Comparison
from veil.metrics.verification import area, pairs
from veil.types import Images


def jpeg(images: Images, quality: int) -> Images:
    """JPEG's losses at a quality in [1, 100], with the usual halved colours."""
    done = []
    for pixels in to_pixels(images):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=quality)
        done.append(np.array(Image.open(file)))
    return to_images(np.stack(done)).to(images)


def half(images: Images) -> Images:
    """To half the size and back."""
    small = F.interpolate(images, scale_factor=0.5, mode="area")
    return F.interpolate(small, images.shape[-2:], mode="bicubic").clamp(0, 1)


def smooth(images: Images) -> Images:
    """Gaussian blur of 1 px."""
    return gaussian_blur(images, [7, 7], [1.0, 1.0])


def shifted(images: Images) -> Images:
    """Cut 3 px to the right and 2 px higher."""
    return F.pad(images, (0, 3, 2, 0), mode="replicate")[..., : images.shape[-2], 3:]


CHANGES: dict[str, Callable[[Images], Images]] = {
    "jpeg 50": lambda images: jpeg(images, 50),
    "jpeg 75": lambda images: jpeg(images, 75),
    "jpeg 95": lambda images: jpeg(images, 95),
    "half": half,
    "smooth": smooth,
    "shifted": shifted,
}


def published(material: Material, judge: str) -> Attempt:
    """As `naive`, after what happens to a published picture: JPEG of quality 50, 75 or 95, half the size and back, a
    blur of 1 px, or a shifted crop; whichever tells attacker people apart best (area under the ROC curve).

    Results that hide by fine texture lose it on the way, and judges may gain by smoothing.
    """
    if not len(material.attackers.probes):
        raise InputError("attacks.published is chosen on attacker people: split.attackers must leave some, got none")

    def changed(side: Side, change: Callable[[Images], Images]) -> Comparison:
        recognizer, results = material.recognizers[judge], material.anonymize(side.probes)
        seen = material.embed(recognizer, results, f"published {judge}", change)
        return clear_comparison(material, judge, side)._replace(probes=seen)

    def told_apart(change: Callable[[Images], Images]) -> float:
        known = calibrating(changed(material.attackers, change))
        if isinstance(known, str):
            raise Absent(known)
        compared = pairs(known)
        return area(compared.genuine, compared.impostors)

    best = max(CHANGES.values(), key=told_apart)
    return attempt(material, lambda side: changed(side, best))
