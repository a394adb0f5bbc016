"""What a masker follows where nobody says who is who: a face's likeness to itself seen otherwise, or to its person's
other photos.
"""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from veil.recognizers.whitebox import SHARPNESS, WhiteBox
from veil.types import Embeddings, Identities, Images

SHIFT = 6  # px of a crop of 256 by which views are moved
BLUR = 2.0  # px


class Targets(WhiteBox):
    """A white box for which each face of a batch is a person of its own: face i is to be unlike `targets[i]`.

    A face's cosine to itself is 1 and has no gradient; to a mean of other views it has one. In place of a classifier's
    loss, as nobody is enrolled, stands that cosine, falling.

    Args:
        recognizer: images -> unit embeddings.
        targets: gives `(faces, d)` unit vectors when a masker first asks.

    """

    def __init__(self, recognizer: nn.Module, targets: Callable[[], Embeddings]) -> None:
        super().__init__(recognizer, nn.Identity(), torch.zeros(0, 0))
        self._targets = functools.cache(targets)
        self.asked = False

    def similarity(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Cosine of each face to its target."""
        self.asked = True
        return (self(images) * self._targets()[identities]).sum(dim=1)

    def loss(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Falls as the cosine to the target rises."""
        return -SHARPNESS * self.similarity(images, identities)

    def likeness(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """The cosine itself: there are no strangers whose spread would be a scale."""
        return self.similarity(images, identities)


@torch.no_grad()
def views_mean(images: Images, recognizer: nn.Module) -> Embeddings:
    """Mean embedding of each face mirrored, moved four ways and blurred: always the same views."""
    moves = ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT))
    reach = 2 * round(3 * BLUR) + 1
    views = [images.flip(-1), gaussian_blur(images, [reach, reach], [BLUR, BLUR])]
    views += [F.pad(images, _edges(move), mode="replicate")[..., *_inner(move, images)] for move in moves]
    return F.normalize(sum((recognizer(view) for view in views), torch.zeros(())), dim=1)


def _edges(move: tuple[int, int]) -> list[int]:
    return [max(move[1], 0), max(-move[1], 0), max(move[0], 0), max(-move[0], 0)]


def _inner(move: tuple[int, int], images: Images) -> tuple[slice, slice]:
    top, left = max(-move[0], 0), max(-move[1], 0)
    return slice(top, top + images.shape[-2]), slice(left, left + images.shape[-1])
