"""The parrot: a recogniser that has seen what the anonymiser does (Newton, Sweeney and Malin 2005, "Preserving privacy
by de-identifying face images").

The attacker runs the anonymiser on people whose photos he has and trains the end of a recogniser on the results. He
never sees a clear probe of the people he attacks. Pixelated and blurred faces are known to fall to it (McPherson et al.
2016, arXiv:1609.00408).
"""

import copy
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from veil.data.faces import FaceSet, Side
from veil.errors import InputError
from veil.evaluation.material import (
    Attempt,
    Material,
    attempt,
    device_of,
    first,
    identities,
    needs,
    taught_and_held_back,
    together,
)
from veil.metrics.identification import Comparison
from veil.types import Embeddings, Identities, Images

BATCH = 32  # photos that go through the trunk at once
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # how far to go from the original weights to the adapted ones
Features = Float[Tensor, "n c h w"]
Couples = Float[Tensor, "n 2 c h w"]  # of the anonymised photo, of the clear one
State = dict[str, Tensor]


class Adapted(NamedTuple):
    """What the attacker ends with."""

    recognizer: nn.Module
    anonymized_gallery: bool  # whether held-out people are told apart better by it than by a clear one


def adapt(
    recognizer: nn.Module,
    anonymized: Iterable[Images],
    clear: Iterable[Images],
    identities: Identities,
    *,
    steps: int = 60,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    scale: float = 16.0,
    pull: float = 4.0,
    folds: int = 2,
    seed: int,
) -> Adapted:
    """A copy of `recognizer` whose last block knows anonymised faces, and the gallery that it does best against; the
    original does not change.

    The copy is used as the original is: images -> unit embeddings, the zero vector where it makes nothing of them.
    Photos in which no face is found, before or after, are left out of the training. Where fewer than 2 x `folds` people
    are left there is nothing to hold out: the copy equals the original, and the gallery is clear.

    The weights end between the original's and the adapted ones (Wortsman et al. 2021, arXiv:2109.01903), as far as is
    best on average for attacker people that were held out (`held_out_scores`): a rational attacker does not take what
    is worse than the original there. How far, and against which gallery, is found by cross-validation over people; then
    everybody is trained on, so the weights that are returned were themselves not held out against anybody.

    Args:
        recognizer: frozen; its `last_block`, an `nn.Sequential` that ends in embeddings before normalisation, is
            what is trained. Everything before it is computed once.
        anonymized: batches of what the anonymiser made of `clear`, photo by photo.
        clear: batches of photos of attacker people.
        identities: whose they are.
        steps: of AdamW, in each fold and at the end.
        batch_size: photos a step, half of them anonymised, half the same photos clear.
        learning_rate: highest; falls to 0 along a cosine.
        scale: of cosines in the softmax over people (Wang et al. 2017, NormFace, arXiv:1704.06369).
        pull: weight of the distance (1 - cosine) of both embeddings of a photo to the original's of the clear photo,
            which keeps the adapted embedding close to galleries and carries what the network knows beyond these people
            (Hinton et al. 2015, arXiv:1503.02531). 0 leaves the softmax alone.
        folds: parts the attacker people are divided into for cross-validation, at least 2.
        seed: of the folds, the softmax's weights and the batches; the global generator is not touched.

    """
    if folds < 2:
        raise InputError(f"folds must be at least 2, got {folds}")
    adapted = copy.deepcopy(recognizer)
    before, after = see(adapted, clear), see(adapted, anonymized)
    found = before.found & after.found
    people = identities.to(found.device)[found].unique(return_inverse=True)[1]
    count = len(people.unique())
    if count < 2 * folds:
        return Adapted(adapted, anonymized_gallery=False)
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.stack([part.features[found[part.found]] for part in (after, before)], dim=1)
    wanted = before.embeddings[found]
    block = last_block(adapted)
    original = copy.deepcopy(block.state_dict())

    def fitted(chosen: Bool[Tensor, " n"]) -> State:
        knobs = (steps, batch_size, learning_rate, scale, pull)
        return fit(copy.deepcopy(block), pairs[chosen], wanted[chosen], people[chosen], *knobs, generator)

    fold = (torch.randperm(count, generator=generator) % folds).to(people.device)[people]
    scores = torch.zeros(folds, len(SHARES), 2)
    for number in range(folds):
        state, held = fitted(fold != number), fold == number
        for column, share in enumerate(SHARES):
            block.load_state_dict(between(original, state, share))
            scores[number, column] = torch.tensor(held_out_scores(block, pairs[held], people[held]))
    mean = scores.mean(dim=0).round(decimals=4).flatten().tolist()
    step, gallery = divmod(mean.index(max(mean)), 2)  # of equals, the one nearest to the original, the clear gallery
    block.load_state_dict(between(original, fitted(torch.ones_like(fold, dtype=torch.bool)), SHARES[step]))
    return Adapted(adapted, gallery == 1)


def last_block(recognizer: nn.Module) -> nn.Sequential:
    """What the recogniser says its last block is."""
    block = recognizer.last_block
    assert isinstance(block, nn.Sequential)
    return block


class Seen(NamedTuple):
    """What a recogniser makes of photos; `features`, the input of its last block, of the photos with a face only."""

    features: Features
    embeddings: Embeddings
    found: Bool[Tensor, " b"]


@torch.no_grad()
def see(recognizer: nn.Module, batches: Iterable[Images]) -> Seen:
    """Embed, and keep what enters the last block; on the recogniser's device."""
    features: list[Tensor] = []
    device = device_of(recognizer)
    hook = last_block(recognizer)[0].register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
    try:
        embeddings = torch.cat([recognizer(batch.to(device)) for batch in batches])
    finally:
        hook.remove()
    found = embeddings.norm(dim=1) > 0
    return Seen(torch.cat(features) if features else embeddings.new_zeros(0, 1, 1, 1), embeddings, found)


@torch.enable_grad()
def fit(
    block: nn.Module,
    pairs: Couples,
    wanted: Embeddings,
    people: Identities,
    steps: int,
    batch_size: int,
    learning_rate: float,
    scale: float,
    pull: float,
    generator: torch.Generator,
) -> State:
    """Weights of the block after training. The softmax's start is each person's mean clear embedding."""
    block.requires_grad_(True)
    names = people.unique()
    head = nn.Parameter(torch.stack([wanted[people == name].mean(dim=0) for name in names]))
    labels = torch.searchsorted(names, people)
    optimizer = torch.optim.AdamW([*block.parameters(), head], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        chosen = torch.randint(len(pairs), (batch_size // 2,), generator=generator).to(pairs.device)
        embeddings = F.normalize(block(pairs[chosen].flatten(0, 1)), dim=1)
        both = chosen.repeat_interleave(2)
        logits = scale * embeddings @ F.normalize(head, dim=1).T
        distance = 1 - (embeddings * wanted[both]).sum(dim=1).mean()
        loss = F.cross_entropy(logits, labels[both]) + pull * distance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return block.state_dict()


def between(original: State, adapted: State, share: float) -> State:
    """`share` of the way from the original to the adapted weights; 0 gives the original bit for bit."""
    moves = {name for name, value in original.items() if value.is_floating_point()}
    return {
        name: torch.lerp(value, adapted[name], share) if name in moves else value for name, value in original.items()
    }


@torch.no_grad()
def held_out_scores(block: nn.Module, pairs: Couples, people: Identities) -> tuple[float, float]:
    """`separation` of anonymised photos from two galleries: clear, and anonymised as they are."""
    anonymized, clear = (F.normalize(block(part), dim=1) for part in pairs.unbind(dim=1))
    return separation(anonymized, clear, people), separation(anonymized, anonymized, people)


def separation(probes: Embeddings, gallery: Embeddings, identities: Identities) -> float:
    """Area under the ROC curve of cosines, same person against different people, in [0, 1]; 0.5 is chance.

    Row i of both is the same photo, so pairs of equal rows say nothing and are left out. Tells galleries and weights
    apart where the people are too few for rank-1 to do so.
    """
    other = ~torch.eye(len(probes), dtype=torch.bool, device=probes.device)
    same = identities[:, None] == identities
    return binary_auroc(((probes @ gallery.T + 1) / 2).clamp(0, 1)[other], same[other].long()).item()


@needs(gallery="photos", attackers="photos")
def parrot(material: Material, judge: str, photos: int = 4, steps: int = 60) -> Attempt:
    """Parrot recognition (Newton, Sweeney and Malin 2005): the recogniser adapted to anonymised photos of attacker
    people (`adapt`), against a gallery that is clear or anonymised, whichever does better on those of them
    who were held out.

    A recogniser without a `last_block` is used as it is. Thresholds and the posterior come of attacker people who were
    held back (`taught_and_held_back`).

    Args:
        photos: of each person that are anonymised, of the gallery and of the attacker people; a clear gallery is whole.
        steps: of the adaptation.

    """
    if not len(material.attackers.probes):
        raise InputError("attacks.parrot learns from attacker people: split.attackers must leave some, got none")
    taught, held_back = taught_and_held_back(material)
    known = together(taught, photos)
    hidden, people = material.anonymize(known), identities(known)
    recognizer = material.recognizers[judge]

    def see(faces: FaceSet) -> Embeddings:
        return material.embed(recognizer, faces, f"parrot {judge}")

    if hasattr(recognizer, "last_block"):
        with material.stages.clock(f"adapt {judge}"):
            after, before = _batches(hidden), _batches(known)
            recognizer, repaint = adapt(recognizer, after, before, people, steps=steps, seed=material.seed)
    else:
        seen, clear = see(hidden), see(known)
        repaint = separation(seen, seen, people) > separation(seen, clear, people)

    def compare(side: Side) -> Comparison:
        gallery = first(side.gallery, photos) if repaint else side.gallery
        templates = see(material.anonymize(gallery) if repaint else gallery)
        return Comparison(see(material.anonymize(side.probes)), identities(side.probes), templates, identities(gallery))

    return attempt(material, compare, held_back)


def _batches(faces: FaceSet) -> Iterator[Images]:
    return (batch.images for batch in faces.loader(BATCH))
