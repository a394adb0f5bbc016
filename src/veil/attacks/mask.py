"""What was repainted, as a sign of who it is: masks that follow a person's face are alike from photo to photo."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.data.faces import FaceSet, Side
from veil.errors import InputError
from veil.evaluation.material import (
    BATCH,
    Absent,
    Attempt,
    Material,
    attempt,
    device_of,
    first,
    identities,
    judge_free,
    needs,
    taught_and_held_back,
    together,
)
from veil.metrics.identification import Comparison
from veil.types import Embeddings, Images, view

STEM = 4  # px; the detector works on squares of this side
GRID = 16  # maps are compared on a grid of this side
TAUGHT = 1000  # photos that the detector learns from, at most
CHANGED = 0.05  # a pixel that differs by more from the clear photo's was repainted; less may be compression
ROUNDING = 1e-5  # of a mean of shares: what maps differ by that are all the same
Maps = Float[Tensor, "b 1 i j"]


class Detector(nn.Sequential):
    """Results to how surely each square of 4 px of the view was repainted, as log odds."""

    def __init__(self, width: int = 32) -> None:
        layers: list[nn.Module] = []
        for inputs, dilation in ((3 * STEM**2, 1), (width, 1), (width, 2), (width, 4)):
            layers += [nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, images: Images) -> Maps:
        """See the class."""
        return super().forward(F.pixel_unshuffle(view(images) - 0.5, STEM))


@torch.enable_grad()
def train_detector(
    results: Images, changed: Maps, *, steps: int, seed: int, batch_size: int = 8, learning_rate: float = 3e-3
) -> Detector:
    """A detector in eval mode.

    Args:
        results: of attacker people.
        changed: share of each square that was repainted, in [0, 1].
        steps: of AdamW; the learning rate falls to 0 along a cosine.
        seed: of weights and draws; the global generator is not touched.

    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector().to(results.device)
    optimizer = torch.optim.AdamW(detector.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        chosen = torch.randint(len(results), (batch_size,), generator=generator).to(results.device)
        loss = F.binary_cross_entropy_with_logits(detector(results[chosen]), changed[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return detector.requires_grad_(False).eval()


@judge_free
@needs(gallery="photos", attackers="attackers")
def mask(
    material: Material,
    judge: str,
    photos: int = 1,
    attackers: int = 4,
    steps: int = 200,
    known: bool = False,
    published: bool = True,
) -> Attempt:
    """As `linkage`, by the masks alone: does what was repainted in two photos of one person agree?

    No recogniser takes part. The mean map of the attacker people is taken off; what is left is compared by cosine.

    Args:
        photos: of each person's gallery, anonymised as the probes are.
        attackers: photos of each attacker person that the detector learns from.
        steps: of the detector's training.
        known: take the masks themselves, where the set has them; else what a small detector, trained on attacker
            people's photos before and after, makes out in the results.
        published: whether the attacker has what `known` takes; else the attack is no part of the worst case.

    """
    taught, held_back = taught_and_held_back(material)
    if not len(taught.probes):
        raise InputError("attacks.mask learns from attacker people: split.attackers must leave some, got none")
    learned = together(taught, attackers)
    # spread over the people, so that any number of them fits in memory
    learned = learned.select(range(0, len(learned), math.ceil(len(learned) / TAUGHT)))
    if known:
        maps = partial(masks_themselves, material)
    else:
        detector = material.once(f"detector {attackers} {steps}", lambda: _trained(material, learned, steps))
        maps = partial(masks_made_out, material, detector)
    mean = maps(learned).mean(dim=0)

    def embedded(faces: FaceSet) -> Embeddings:  # zero for a map that is the mean one
        own = (maps(faces) - mean).flatten(1)
        return F.normalize(torch.where(own.abs() > ROUNDING, own, 0), dim=1)

    def compare(side: Side) -> Comparison:
        others = first(side.gallery, photos)
        probes, templates = embedded(side.probes), embedded(others)
        if not probes.any() or not templates.any():
            raise Absent("the masks of all photos are the same: they tell nobody apart")
        return Comparison(probes, identities(side.probes), templates, identities(others))

    return attempt(material, compare, held_back)._replace(variant=not published, links=True)


def masks_themselves(material: Material, faces: FaceSet) -> Maps:
    """The share of each square of the grid that was repainted."""
    return torch.cat([F.adaptive_avg_pool2d(view(masks.float()), GRID) for masks in material.masks(faces)])


@torch.no_grad()
def masks_made_out(material: Material, detector: Detector, faces: FaceSet) -> Maps:
    """The same by the detector, yes or no at each place: how sure it is depends on the face, and would recognise it."""
    device, hidden = device_of(detector), material.anonymize(faces).loader(BATCH)
    maps = [(detector(batch.images.to(device)) > 0).float().cpu() for batch in hidden]
    return torch.cat([F.adaptive_avg_pool2d(batch, GRID) for batch in maps])


def _trained(material: Material, faces: FaceSet, steps: int) -> Detector:
    with material.stages.clock("train detector"):
        device = device_of(material.recognizers[material.whitebox])
        results, changed = (torch.cat(parts).to(device) for parts in zip(*_pairs(material, faces), strict=True))
        return train_detector(results, changed, steps=steps, seed=material.seed)


def _pairs(material: Material, faces: FaceSet) -> Iterator[tuple[Images, Maps]]:
    hidden = material.anonymize(faces)
    for clear, result in zip(faces.loader(BATCH), hidden.loader(BATCH), strict=True):
        differs = (clear.images - result.images).abs().amax(dim=1, keepdim=True) > CHANGED
        yield result.images, F.avg_pool2d(view(differs.float()), STEM)
