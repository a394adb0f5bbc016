"""Asking a recogniser about a face of which parts are hidden: no gradients, one number a picture."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.types import Faces, Identities, Images, view

CHUNK = 16  # pictures asked about at a time: on a CPU the fastest, as their maps stay in its caches


@runtime_checkable
class Comparer(Protocol):
    """All that is asked of a recogniser here: a `WhiteBox`, or anything that only returns scores."""

    def similarity(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Cosine of each face to its person's centroid, or another score of likeness."""


@torch.no_grad()
def similarity_when_hidden(
    faces: Faces, index: int, hidden: Float[Tensor, "n h w"], recognizer: Comparer, fill: float
) -> Float[Tensor, " n"]:
    """Cosine of one face to its person's centroid when parts of its view are replaced by plain grey.

    One face at a time: what is asked about a face does not depend on the others of its batch.

    Args:
        hidden: of each picture, how much of each pixel of the view is replaced, in [0, 1].
        fill: the grey, in [0, 1].

    """
    if not 0 <= fill <= 1:
        raise InputError(f"masker.fill is a grey in [0, 1], got {fill}")
    pictures = faces.images[index].repeat(len(hidden), 1, 1, 1)
    view(pictures).lerp_(torch.full_like(view(pictures), fill), hidden[:, None].to(pictures))
    return recognizer.similarity(pictures, faces.identities[index].expand(len(hidden)))
