"""dlib's recogniser as a differentiable torch module, with dlib's own alignment."""

import struct
from collections.abc import Iterator
from pathlib import Path

import dlib
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.faces.landmarks import mean_points
from veil.faces.pictures import to_pixels
from veil.recognizers.warp import similarity, warp
from veil.storage.packages import dlib_model
from veil.types import Embeddings, Images, Seen

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


CHIP, PADDING = 150, 0.25  # px; context round the face, as a share of it
# Where dlib puts the eyes' corners (right eye first) and the nose's base in a chip without padding:
# dlib/image_transforms/interpolation.h, get_face_chip_details
REFERENCE = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
OF_68 = (45, 42, 36, 39, 33)  # the same points among the 68 landmarks of iBUG 300-W


class Dlib(nn.Module):
    """Unit embeddings of aligned crops; frozen, always in eval mode, differentiable in the pixels.

    The face is found and aligned on the image that it is shown (HOG detector, 5 landmarks). A face that dlib does not
    find is aligned by the mean face's landmarks: a detector that fails is no protection against an attacker who knows
    where the face is. `see` says which those are.
    """

    input_size = CHIP
    people_listed = False  # nobody lists whose three million photos it was trained on
    reference: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network = DlibNetwork(dlib_model("dlib_face_recognition_resnet_model_v1"))
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(dlib_model("shape_predictor_5_face_landmarks")))
        reference = (torch.tensor(REFERENCE) + PADDING) / (1 + 2 * PADDING) * CHIP
        self.register_buffer("reference", reference, persistent=False)

    @property
    def last_block(self) -> nn.Sequential:
        """What an attacker adapts: its input, run through it and normalised, is the embedding. Parts are shared."""
        return nn.Sequential(self.network.blocks[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.network.last)

    def train(self, mode: bool = True) -> "Dlib":
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Find, align, embed."""
        return self.see(images).embeddings

    def see(self, images: Images) -> Seen:
        """Embeddings, and in which images dlib's own detector finds a face."""
        points, found = self.find(images)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 is half a pixel off
            chips = self.chips(images, points)
        return Seen(F.normalize(self.network(chips), dim=1).to(images), found)

    @torch.no_grad()
    def find(self, images: Images) -> tuple[Float[Tensor, "b 5 2"], Bool[Tensor, " b"]]:
        """Landmarks `(x, y)` in pixels of the largest face of each image; the mean face's where there is none."""
        points = mean_points(*images.shape[-2:])[list(OF_68)].float().repeat(len(images), 1, 1)
        found = torch.zeros(len(images), dtype=torch.bool)
        for index, pixels in enumerate(to_pixels(images)):
            boxes = self.detector(pixels, 0)
            if boxes:
                shape = self.landmarks(pixels, max(boxes, key=lambda box: box.area()))
                points[index] = torch.tensor([[point.x, point.y] for point in shape.parts()])
                found[index] = True
        return points.to(images.device), found.to(images.device)

    def chips(self, images: Images, points: Float[Tensor, "b 5 2"]) -> Float[Tensor, "b 3 150 150"]:
        """The face turned upright and scaled to dlib's chip, by bilinear interpolation; black outside the image."""
        matrices = similarity(self.reference.expand_as(points), points)
        edge = CHIP / (CHIP - 1)  # dlib counts a chip from 0 to CHIP between centres of pixels
        return warp(images, matrices @ torch.diag(matrices.new_tensor([edge, edge, 1])), CHIP)
