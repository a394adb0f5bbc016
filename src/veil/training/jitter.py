"""Variants of the photos that the face inpainter is trained on, drawn for a whole batch at once."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.training.masks import uniform
from veil.types import Images

ROOM = 1.25  # side of a field with the room round it that jitter needs, over the field's
TURN, SCALE, SHIFT = 10.0, (0.93, 1.08), 0.05  # degrees; factors; share of half the side with room
CUT, CUT_AT = 0.2, (0.55, 0.8)  # share of photos that are cut; where, from the centre, as a share of half that side
GREY, BLUR, GAIN, GAMMA = 0.25, 0.1, (0.8, 1.2), 0.25
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue

Pictures = UInt8[Tensor, "b room room 3"]  # fields with room


def middle_box(room: int) -> slice:
    """Rows, and columns, of the field in a field with room of `room` px."""
    edge = (room - round(room / ROOM)) // 2
    return slice(edge, room - edge)


def middle(pictures: Pictures) -> Images:
    """The fields in the middle of fields with room."""
    inner = middle_box(pictures.shape[1])
    return pictures[:, inner, inner].permute(0, 3, 1, 2).float() / 255


def luma(images: Images) -> Float[Tensor, "b 1 h w"]:
    """How bright each pixel is to the eye."""
    return (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def jitter(pictures: Pictures, generator: Generator) -> Images:
    """A variant of each field, cut from the field with room; on the generator's device.

    Half of the faces are rolled by up to 10 degrees; all are scaled by 0.93 to 1.08, shifted by up to 3 % of the
    field's side, and brightened or darkened; half are flipped, a quarter grey, a tenth blurred, and a fifth come from a
    photo that ends close to the face.
    """
    images = pictures.permute(0, 3, 1, 2).float() / 255
    side = round(images.shape[-1] / ROOM)
    places = _cut(_places(len(images), side, generator), generator)
    images = F.grid_sample(images, places, "bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
    return _lit(images, generator)


def _places(count: int, side: int, generator: Generator) -> Tensor:
    """Where each pixel of the variants is in the field with room (count side side 2), in [-1, 1] across and down."""
    turned = _happens(0.5, count, generator)
    angle = torch.where(turned, uniform(-TURN, TURN, generator, count), 0) * math.pi / 180
    scale = uniform(*SCALE, generator, count) / ROOM
    flip = torch.where(_happens(0.5, count, generator), -1.0, 1.0)
    across, down = uniform(-SHIFT, SHIFT, generator, 2, count)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack([cos * flip, -sin, across], dim=1), torch.stack([sin * flip, cos, down], dim=1)
    return F.affine_grid(torch.stack(rows, dim=1), [count, 3, side, side], align_corners=False)


def _cut(places: Tensor, generator: Generator) -> Tensor:
    """End some photos close to the face, at about two of four sides; the last pixels are repeated, as in a crop."""
    count = len(places)
    ends = torch.where(_happens(0.5, (count, 4), generator), uniform(*CUT_AT, generator, count, 4), torch.inf)
    ends = torch.where(_happens(CUT, (count, 1), generator), ends, torch.inf).view(count, 1, 1, 4)
    return places.minimum(ends[..., :2]).maximum(-ends[..., 2:])


def _lit(images: Images, generator: Generator) -> Images:
    """Grey, brightness, gamma and a blur of three pixels."""
    count = len(images)
    images = torch.where(_happens(GREY, (count, 1, 1, 1), generator), luma(images), images)
    gain = uniform(*GAIN, generator, count, 1, 1, 1)
    gamma = uniform(-GAMMA, GAMMA, generator, count, 1, 1, 1).exp()
    images = (images.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)
    soft = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return torch.where(_happens(BLUR, (count, 1, 1, 1), generator), soft, images)


def _happens(share: float, shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    shape = (shape,) if isinstance(shape, int) else shape
    return uniform(0, 1, generator, *shape) < share
