"""dlib's face recognition ResNet as a torch module, its weights read from dlib's own file.

Architecture: dlib's `dnn_face_recognition_ex.cpp` (King 2017), a ResNet-34 with fewer layers and half the filters
(He et al. 2015, arXiv:1512.03385), trained with a metric loss on about 3 million faces.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # filters, residual blocks
MEAN = (122.782, 117.001, 104.298)  # RGB, of 255


class Affine(nn.Module):
    """BatchNorm after training: a scale and a shift of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scale and shift."""
        return maps * self.gamma[:, None, None] + self.beta[:, None, None]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; a stride of 2 halves the shortcut by average pooling."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv2d(inputs, filters, 3, stride, padding=1 if stride == 1 else 0)
        self.first_affine = Affine(filters)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.second_affine = Affine(filters)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Where the two branches differ in size, the smaller is padded with zeros at its end, as dlib adds."""
        residual = self.second_affine(self.second(F.relu(self.first_affine(self.first(maps)))))
        shortcut = F.avg_pool2d(maps, 2, 2) if self.stride == 2 else maps
        size = [max(pair) for pair in zip(residual.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_pad(residual, size) + _pad(shortcut, size))


def _pad(maps: Tensor, size: list[int]) -> Tensor:
    channels, rows, columns = (wanted - got for wanted, got in zip(size, maps.shape[1:], strict=True))
    return F.pad(maps, (0, columns, 0, rows, 0, channels))


class DlibNetwork(nn.Module):
    """Aligned 150 px chips to dlib's 128 numbers, which are not unit vectors; dlib compares them by distance."""

    mean: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.stem, self.stem_affine = nn.Conv2d(3, 32, 7, stride=2), Affine(32)
        widths = [32, *(filters for filters, count in STAGES for _ in range(count))]
        # every stage but the first begins by halving the map
        strides = [2 if stage and not block else 1 for stage, (_, count) in enumerate(STAGES) for block in range(count)]
        steps = zip(widths, widths[1:], strides, strict=False)
        self.blocks = nn.Sequential(*(Block(inputs, filters, stride) for inputs, filters, stride in steps))
        self.last = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self._load(weights)
        self.requires_grad_(False).eval()

    def forward(self, chips: Float[Tensor, "b 3 150 150"]) -> Float[Tensor, "b 128"]:
        """RGB in [0, 1]."""
        maps = self.stem_affine(self.stem((chips * 255 - self.mean) / 256))
        maps = self.blocks(F.max_pool2d(F.relu(maps), 3, 2))
        return self.last(maps.mean(dim=(2, 3)))

    def _load(self, weights: Path) -> None:
        """Fill convolutions and affines in the order in which dlib stores them: from the input on."""
        layers = [part for part in self.modules() if isinstance(part, nn.Conv2d | Affine)]
        content = weights.read_bytes()
        position = 0
        for layer in layers:
            first, second = (layer.gamma, layer.beta) if isinstance(layer, Affine) else (layer.weight, layer.bias)
            assert second is not None
            values, position = _next_tensor(content, (first.numel() + second.numel(),), position)
            first.data = values[: first.numel()].view_as(first).clone()
            second.data = values[first.numel() :].clone()
        values, _ = _next_tensor(content, (256, 128), position)
        self.last.weight.data = values.view(256, 128).T.contiguous()


def _next_tensor(content: bytes, shape: tuple[int, ...], position: int) -> tuple[Tensor, int]:
    """The next tensor of `shape` in a file that `dlib::serialize` wrote, and where it ends.

    Raises ValueError when there is none: the file is not dlib's recognition model.
    """
    sizes = (*shape, 1, 1, 1)[:4]
    header = b"".join(_integers((2, *sizes)))  # the format's version, then samples, channels, rows, columns
    start = content.find(header, position)
    if start < 0:
        raise ValueError(f"no tensor of shape {shape} after byte {position}: not dlib's face recognition model")
    end = start + len(header) + 4 * torch.Size(sizes).numel()
    return torch.frombuffer(bytearray(content[start + len(header) : end]), dtype=torch.float32), end


def _integers(values: tuple[int, ...]) -> Iterator[bytes]:
    """Dlib's variable-length integers: a count of bytes, then the bytes, lowest first."""
    for value in values:
        length = max((value.bit_length() + 7) // 8, 1)
        yield struct.pack("B", length) + value.to_bytes(length, "little")
