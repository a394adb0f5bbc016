"""Landmarks of a face, and the regions that they make."""

import dlib
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from veil.config import REGIONS as NAMES
from veil.faces.pictures import to_pixels
from veil.storage.packages import dlib_model
from veil.types import Images, view_box

REGIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "eyes": (tuple(range(36, 42)), tuple(range(42, 48))),
    "brows": (tuple(range(17, 22)), tuple(range(22, 27))),
    "nose": (tuple(range(27, 36)),),
    "mouth": (tuple(range(48, 60)),),  # the outer lips
    "jaw": (tuple(range(17)),),  # a line from ear to ear along the chin, not what it encloses
}
assert tuple(REGIONS) == NAMES
OPEN = ("jaw",)

# Mean of the landmarks in the 398 of the 400 AT&T faces that dlib finds, made symmetric: (x, y) as shares of the view.
# Over faces each coordinate has a standard deviation of 0.03 on average, of 0.07 at most (the jaw's x).
MEAN_FACE = (
    *((0.151, 0.402), (0.157, 0.490), (0.167, 0.576), (0.183, 0.661), (0.213, 0.742), (0.263, 0.812), (0.331, 0.870)),
    *((0.409, 0.915), (0.500, 0.928), (0.591, 0.915), (0.669, 0.870), (0.737, 0.812), (0.787, 0.742), (0.817, 0.661)),
    *((0.833, 0.576), (0.843, 0.490), (0.849, 0.402)),
    *((0.210, 0.347), (0.252, 0.303), (0.316, 0.288), (0.382, 0.294), (0.445, 0.317)),
    *((0.555, 0.317), (0.618, 0.294), (0.684, 0.288), (0.748, 0.303), (0.790, 0.347)),
    *((0.500, 0.376), (0.500, 0.431), (0.500, 0.485), (0.500, 0.542)),
    *((0.429, 0.587), (0.463, 0.598), (0.500, 0.608), (0.537, 0.598), (0.571, 0.587)),
    *((0.284, 0.394), (0.322, 0.373), (0.366, 0.372), (0.407, 0.398), (0.365, 0.406), (0.320, 0.407)),
    *((0.593, 0.398), (0.634, 0.372), (0.678, 0.373), (0.716, 0.394), (0.680, 0.407), (0.635, 0.406)),
    *((0.361, 0.697), (0.414, 0.678), (0.464, 0.668), (0.500, 0.676), (0.536, 0.668), (0.586, 0.678), (0.639, 0.697)),
    *((0.587, 0.737), (0.539, 0.754), (0.500, 0.758), (0.461, 0.754), (0.413, 0.737)),
    *((0.383, 0.699), (0.463, 0.695), (0.500, 0.699), (0.537, 0.695)),
    *((0.617, 0.699), (0.537, 0.712), (0.500, 0.716), (0.463, 0.712)),
)


POINTS = 68
Shapes = Float[Tensor, "b 68 2"]  # (x, y) in pixels, in the order of iBUG 300-W (Sagonas et al. 2013); NaN: not found


class Landmarks:
    """Finds the 68 landmarks of the largest face of each image; NaN for a face that is not found.

    HOG detector (Dalal and Triggs 2005) without upsampling, as `veil.recognizers.dlib`, then a cascade of regression
    trees (Kazemi and Sullivan 2014), trained on iBUG 300-W. On the CPU, 11 ms a crop of 256 px.
    """

    def __init__(self) -> None:
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(dlib_model("shape_predictor_68_face_landmarks")))

    @torch.no_grad()
    def __call__(self, images: Images) -> Shapes:
        """Find them, as 8-bit pixels; each face alone."""
        points = torch.full((len(images), POINTS, 2), torch.nan, dtype=torch.float64)
        for index, pixels in enumerate(to_pixels(images)):
            boxes = self.detector(pixels, 0)
            if boxes:
                shape = self.predictor(pixels, max(boxes, key=lambda box: box.area()))
                points[index] = torch.tensor([[point.x, point.y] for point in shape.parts()])
        return points.to(images.device)


class LandmarkVectors(nn.Module):
    """Landmarks as vectors `"b 136"`, such as an `Embedder` keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.landmarks = Landmarks()

    def forward(self, images: Images) -> Float[Tensor, "b 136"]:
        """X and y of one landmark after the other, in pixels; NaN for a face that is not found."""
        return self.landmarks(images).flatten(1)


def mean_points(height: int, width: int) -> Float[Tensor, "68 2"]:
    """The mean face's landmarks `(x, y)` in pixels of a crop; crops are aligned, so no face's are far from there."""
    rows, columns = view_box(height, width)
    origin = torch.tensor([columns.start, rows.start])
    side = torch.tensor([columns.stop - columns.start, rows.stop - rows.start])
    return torch.tensor(MEAN_FACE, dtype=torch.float64) * side - 0.5 + origin  # shares are between edges of pixels


def found(points: Shapes) -> Bool[Tensor, " b"]:
    """Of each face, whether its landmarks are known."""
    return points.isfinite().flatten(1).all(dim=1)
