"""The reversal: a network that paints the clear face back from the anonymised one.

The attacker runs the anonymiser on people whose photos he has and learns the way back (Hill et al. 2016, "On the
(in)effectiveness of mosaicing and blurring as tools for document redaction"; McPherson et al. 2016, arXiv:1609.00408).
Any recogniser may then be shown the rebuilt faces.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.data.faces import Side, pictures
from veil.errors import InputError
from veil.evaluation.material import (
    Attempt,
    Material,
    attempt,
    clear_comparison,
    device_of,
    identities,
    needs,
    parted,
    taught_and_held_back,
    together,
)
from veil.metrics.identification import Comparison
from veil.types import Images, view, view_box

STEM = 4  # px; the network works on squares of this side, as channels: a quarter of the resolution, all of the pixels
LEVELS = 3
BATCH = 16  # faces compared at once
KEPT = 0.1  # weight of what needs no repair
VALIDATION = 64  # pairs at most on which weights are compared

Draw = Callable[[Sequence[int]], tuple[Images, Images]]


class Rebuilder(nn.Module):
    """Anonymised crops to rebuilt crops: a U-Net that predicts what to add (Ronneberger et al. 2015, arXiv:1505.04597).

    Pixels enter as channels of squares (pixel unshuffle; Shi et al. 2016, arXiv:1609.05158), so that convolutions are
    cheap on a processor and no pixel is thrown away. Untrained, it gives back what it gets.

    Args:
        width: channels at a quarter of the resolution; doubled at each of the two levels below.

    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        pixels = 3 * STEM**2
        self.down = nn.ModuleList(
            Convolutions(inputs, outputs) for inputs, outputs in zip([pixels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Convolutions(inputs + outputs, outputs)
            for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(width, pixels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Images) -> Images:
        """Add the correction to the view, whose sides must be multiples of 16 px; round it nothing was repainted."""
        maps, skipped = F.pixel_unshuffle(view(images) - 0.5, STEM), []
        for level, convolutions in enumerate(self.down):
            maps = convolutions(F.avg_pool2d(maps, 2) if level else maps)
            skipped.append(maps)
        for convolutions, skip in zip(self.up, skipped[-2::-1], strict=True):
            maps = convolutions(torch.cat([F.interpolate(maps, scale_factor=2.0), skip], dim=1))
        rows, columns = view_box(*images.shape[-2:])
        rebuilt = images.clone()
        rebuilt[..., rows, columns] += F.pixel_shuffle(self.last(maps), STEM)
        return rebuilt


class Convolutions(nn.Sequential):
    """Two 3x3 convolutions; without normalisation, which would hide how strong an edge is (Lim et al. 2017, EDSR,
    arXiv:1707.02921).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        layers = [
            layer for channels in (inputs, outputs) for layer in (nn.Conv2d(channels, outputs, 3, padding=1), nn.SiLU())
        ]
        super().__init__(*layers)


@torch.enable_grad()
def train_rebuilder(
    draw: Draw,
    taught: int,
    validation: int,
    *,
    recognizer: nn.Module,
    seed: int,
    steps: int = 300,
    seconds: float | None = None,
    batch_size: int = 8,
    feature_weight: float = 0.3,
    feature_share: float = 0.15,
    feature_batch: int = 4,
    learning_rate: float = 1.5e-3,
    shift: int = 8,
    width: int = 32,
) -> Rebuilder:
    """A rebuilder in eval mode, trained on pairs of photos of attacker people.

    The loss is the mean absolute difference in pixels and, in the last part of the training, 1 - cosine between the
    recogniser's embeddings of the rebuilt and of the clear photo (Johnson et al. 2016, arXiv:1603.08155). A photo in
    which the recogniser finds no face adds a constant and no gradient. Of the weights after each tenth of the steps
    those are kept whose whole loss is lowest for the validation pairs.

    Args:
        draw: numbers of pairs -> what the anonymiser made of these photos, and the photos; only what a step takes is in
            memory.
        taught: how many pairs are trained on: the first.
        validation: how many after them are not, and choose the weights; 0 keeps the last weights.
        recognizer: images -> unit embeddings, differentiable and frozen. The attacker's own: what it likes is what the
            rebuilt face keeps.
        seed: of weights and draws; the global generator is not touched.
        steps: the most, of AdamW. A step without features costs a small fraction of one with them.
        seconds: after which the training ends, so that the weights depend on the machine's speed; `None`: when the
            steps are done.
        batch_size: photos a step.
        feature_weight: of the embeddings' distance beside the pixels'; 0 leaves it out.
        feature_share: share of the steps, the last ones, that have a feature loss, in [0, 1].
        feature_batch: photos of the batch that the recogniser looks at.
        learning_rate: highest; falls to 0 along a cosine.
        shift: px; both photos of a pair move by up to this far, alike, and are mirrored with probability 1/2.
        width: of the network.

    """
    generator, start, device = torch.Generator().manual_seed(seed), time.monotonic(), device_of(recognizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rebuilder = Rebuilder(width).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(rebuilder.parameters(), learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    judged = range(taught, taught + min(validation, VALIDATION))
    best = (math.inf, rebuilder.state_dict())
    for step in range(steps):
        chosen = torch.randint(taught, (batch_size,), generator=generator).tolist()
        seen, wanted = moved(torch.stack([part.to(device) for part in draw(chosen)]), shift, generator)
        rebuilt = rebuilder(seen.contiguous(memory_format=torch.channels_last))
        loss = repair_loss(view(seen), view(rebuilt), view(wanted))
        if feature_weight and step >= (1 - feature_share) * steps:
            shown = slice(feature_batch)
            loss = loss + feature_weight * feature_loss(recognizer, rebuilt[shown], wanted[shown])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rebuilder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        late = seconds is not None and time.monotonic() - start > seconds
        if judged and (late or (step + 1) % max(steps // 10, 1) == 0):
            error = _error(rebuilder, draw, judged, recognizer, feature_weight)
            if error < best[0]:
                best = (error, copy.deepcopy(rebuilder.state_dict()))
        if late:
            break
    if judged:
        rebuilder.load_state_dict(best[1])
    return rebuilder.requires_grad_(False).eval()


@torch.no_grad()
def _error(rebuilder: Rebuilder, draw: Draw, pairs: range, recognizer: nn.Module, feature_weight: float) -> float:
    """Mean loss of some pairs, features included."""
    device, errors = device_of(rebuilder), []
    for start in range(pairs.start, pairs.stop, BATCH):
        seen, wanted = (part.to(device) for part in draw(range(start, min(start + BATCH, pairs.stop))))
        rebuilt = rebuilder(seen)
        error = repair_loss(view(seen), view(rebuilt), view(wanted))
        if feature_weight:
            error = error + feature_weight * feature_loss(recognizer, rebuilt, wanted)
        errors.append(error.item())
    return sum(errors) / len(errors)


def feature_loss(recognizer: nn.Module, rebuilt: Images, wanted: Images) -> Float[Tensor, ""]:
    """Mean 1 - cosine between the embeddings of rebuilt and of clear photos."""
    with torch.no_grad():
        embeddings = recognizer(wanted)
    return 1 - (recognizer(rebuilt.clamp(0, 1)) * embeddings).sum(dim=1).mean()


def repair_loss(seen: Images, rebuilt: Images, wanted: Images) -> Float[Tensor, ""]:
    """Mean absolute difference over the pixels in which the pair differs, and `KEPT` of that over the others.

    Over all pixels alike, a network that is shown small masks learns to leave everything as it is.
    """
    changed = (seen != wanted).any(dim=1, keepdim=True).expand_as(seen)
    error = (rebuilt - wanted).abs()
    means = [error[part].mean() for part in (changed, ~changed) if part.any()]
    return means[0] + (KEPT * means[1] if len(means) == 2 else 0.0)


def moved(pairs: Float[Tensor, "2 b 3 h w"], shift: int, generator: torch.Generator) -> Float[Tensor, "2 b 3 h w"]:
    """Both photos of a pair mirrored and shifted alike, each pair its own way; the border repeats the nearest pixel."""
    height, width = pairs.shape[-2:]
    moved = []
    for pair in pairs.unbind(dim=1):
        top, left = torch.randint(2 * shift + 1, (2,), generator=generator).tolist()
        pair = F.pad(pair, [shift] * 4, mode="replicate")[..., top : top + height, left : left + width]
        moved.append(pair.flip(-1) if torch.rand((), generator=generator) < 0.5 else pair)
    return torch.stack(moved, dim=1)


@needs(attackers="photos")
def reversal(
    material: Material, judge: str, photos: int = 10, steps: int = 300, seconds: float | None = None
) -> Attempt:
    """A U-Net, trained on pairs of attacker people, rebuilds the probes; then as `naive`.

    One network is trained, with the white box's features, and shown to every judge. A third of the attacker people are
    held back (`taught_and_held_back`): thresholds and the posterior come of them. A quarter of the others choose among
    the weights.

    Args:
        photos: of each attacker person.
        steps, seconds: of the training, at most. With `seconds` the figures depend on the machine's speed.

    """
    if not len(material.attackers.probes):
        raise InputError("attacks.reversal learns from attacker people: split.attackers must leave some, got none")
    taught, held_back = taught_and_held_back(material)

    def train() -> Rebuilder:
        known, judged = (together(side, photos) for side in parted(taught, 1 / 4, material.seed))
        clear = known.union(judged)
        hidden = material.anonymize(clear)

        def draw(numbers: Sequence[int]) -> tuple[Images, Images]:
            return pictures(hidden.select(numbers)), pictures(clear.select(numbers))

        with material.stages.clock("train reversal"):
            return train_rebuilder(
                draw,
                len(known),
                len(judged),
                recognizer=material.recognizers[material.whitebox],
                seed=material.seed,
                steps=steps,
                seconds=seconds,
            )

    rebuilder = material.once(f"rebuilder {photos} {steps} {seconds}", train)

    def rebuild(images: Images) -> Images:
        return rebuilder(images.to(device_of(rebuilder))).clamp(0, 1).to(images.device)

    def compare(side: Side) -> Comparison:
        clear = clear_comparison(material, judge, side)
        hidden = material.anonymize(side.probes)
        seen = material.embed(material.recognizers[judge], hidden, f"reversal {judge}", rebuild)
        return Comparison(seen, identities(side.probes), clear.templates, clear.enrolled)

    return attempt(material, compare, held_back)._replace(rebuild=rebuild)
