"""The vocabulary every module shares."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "b 3 h w"]  # RGB in [0, 1]; each model wrapper converts to its own convention, nobody else does
Scores = Float[Tensor, "b i j"]  # any scale, any resolution, over the view; higher is masked first
Masks = Bool[Tensor, "b 1 h w"]  # True is repainted
Embeddings = Float[Tensor, "b d"]  # unit vectors
Identities = Int[Tensor, " b"]  # index of the person

Inpainter = Callable[["Faces", Masks], Images]  # repaints the masks of a batch of faces

CROP = 256  # px, side of the aligned crop that is masked, repainted and judged
FIELD = 3 / 4  # side of the field, the central square that inpainters repaint, as a share of the crop's (192 of 256 px)
VIEW = 5 / 8  # side of the view, the central square that holds the face, as a share of the crop's (160 of 256 px)


class Faces(NamedTuple):
    """A batch of aligned faces.

    Each face's own randomness is its `seed`, a hash of its key and the run's seed, so no draw depends on the batch.
    """

    images: Images
    identities: Identities
    seeds: Int[Tensor, " b"]
    keys: tuple[str, ...]  # unique in the data set


class Seen(NamedTuple):
    """What a recogniser with a face detector of its own makes of pictures."""

    embeddings: Embeddings
    found: Bool[Tensor, " b"]  # where its detector finds a face; elsewhere the face is taken to be where faces are


def pick(faces: Faces, indices: Sequence[int]) -> Faces:
    """Some faces of a batch."""
    index = torch.tensor(indices, dtype=torch.long, device=faces.images.device)
    keys = tuple(faces.keys[i] for i in indices)
    return Faces(faces.images[index], faces.identities[index], faces.seeds[index.to(faces.seeds.device)], keys)


def field_box(crop: int) -> slice:
    """Rows, and columns, of the field in a crop of `crop` px."""
    edge = round(crop * (1 - FIELD) / 2)
    return slice(edge, crop - edge)


def view_box(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the view in a crop of `height` x `width` pixels."""
    rows, columns = round(height * VIEW), round(width * VIEW)
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def view(images: Tensor) -> Tensor:
    """The view of a batch `(..., h, w)`: what recognisers are shown and what masks may cover."""
    rows, columns = view_box(*images.shape[-2:])
    return images[..., rows, columns]
