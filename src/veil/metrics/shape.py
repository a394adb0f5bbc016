"""The shape of a mask."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from veil.types import Masks, view


def raggedness_of(masks: Masks) -> Float[Tensor, " b"]:
    """`border_ratio` of what is masked in the view: of a ragged mask an inpainter sees more of what lies round it."""
    return border_ratio(view(masks)[:, 0])


def border_ratio(shapes: Bool[Tensor, "b rows columns"]) -> Float[Tensor, " b"]:
    """Length of a shape's border over that of a square of the same area: 1 a square, 1.13 a disc, larger the more
    ragged. The edge of the grid counts as border; NaN for a shape without a cell.
    """
    inside = F.pad(shapes.double(), (1, 1, 1, 1))
    rows, columns = (inside.diff(dim=side).abs().sum(dim=(1, 2)) for side in (1, 2))
    return (rows + columns) / (4 * inside.sum(dim=(1, 2)).sqrt())
