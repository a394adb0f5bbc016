"""dlib's recogniser, with dlib's own alignment."""

import dlib
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.faces.pictures import to_pixels
from veil.recognizers.dlib_network import DlibNetwork
from veil.recognizers.warp import similarity, warp
from veil.storage.packages import dlib_model
from veil.types import Embeddings, Images

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


class Dlib(nn.Module):
    """Unit embeddings of aligned crops; frozen, always in eval mode, differentiable in the pixels.

    The face is found and aligned on the image that it is shown (HOG detector, 5 landmarks). A face that dlib does not
    find has the zero vector: its cosine to everybody is 0, so it is recognised as nobody.
    """

    input_size = CHIP
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
        points, found = self.find(images)
        embeddings = images.new_zeros(len(images), 128)
        if found.any():
            with torch.autocast(images.device.type, enabled=False):  # bfloat16 is half a pixel off
                chips = self.chips(images[found], points[found])
            embeddings = embeddings.index_put((found,), F.normalize(self.network(chips), dim=1).to(embeddings))
        return embeddings

    @torch.no_grad()
    def find(self, images: Images) -> tuple[Float[Tensor, "b 5 2"], Bool[Tensor, " b"]]:
        """Landmarks `(x, y)` in pixels of the largest face of each image, and where there is one."""
        points = torch.zeros(len(images), 5, 2)
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
