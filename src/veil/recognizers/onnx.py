"""A recogniser of anybody's making: an ONNX file, run by ONNX Runtime."""

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from veil.errors import InputError
from veil.faces.align import face_detector, find_faces, plausible
from veil.faces.landmarks import mean_points
from veil.faces.pictures import to_pixels
from veil.recognizers.normalize import Normalize
from veil.recognizers.warp import similarity, warp
from veil.recognizers.whitebox import WITHOUT_GRADIENTS
from veil.types import Embeddings, Images, Seen, view

# Left eye, right eye, nose, left and right corner of the mouth: `(x, y)` between centres of pixels of a 112 px face, as
# ArcFace's networks are trained. insightface, python-package/insightface/utils/face_align.py, `arcface_dst`
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
TEMPLATE_SIZE = 112  # px
OF_68 = (range(36, 42), range(42, 48), (30,), (48,), (54,))  # the same points as means of the 68 of iBUG 300-W
FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
# How a graph names a file beside it that holds weights: a protobuf message {key: "location", value: <name>}
SIDE_FILE = re.compile(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])", re.DOTALL)

Located = tuple[Float[Tensor, "b 3 size size"], Bool[Tensor, " b"]]  # aligned faces, and which were found


class Onnx(nn.Module):
    """Unit embeddings of aligned crops by the network of an ONNX file; frozen, and on the CPU wherever it is moved.

    It gives embeddings alone, no gradients and no layers: it judges, and it is the white box of maskers that ask for no
    more, such as `occlusion` and `rise`. The attack `reversal` learns from the white box's gradients, so not with it.

    Where `alignment` is `five_points`, MTCNN finds the face on the image that it is shown, as `veil.faces.align`
    does, and its landmarks are brought to where ArcFace's networks expect them (insightface's template), whose sides
    grow with `input_size`. A face that is not found, or whose landmarks cannot be a face's, is aligned by the mean
    face's, as with `dlib`: `see` says which those are.

    Args:
        file: path of the ONNX file, with one input `(b, 3, h, w)` or `(b, h, w, 3)` and one output `(b, d)`. Weights in
            files beside it are found where the graph says.
        input_size: px, side of the face as the network sees it; `None`: what the graph says.
        mean: of red, green and blue in [0, 1], in this order whatever `channels` is; subtracted first.
        std: of red, green and blue, above 0; divides what is left. 1 / 255 for a network that takes 0 to 255.
        channels: the order in which the network takes them, `rgb` or `bgr`.
        alignment: `view`, the view of the crop, or `five_points`.

    Raises ModuleNotFoundError without ONNX Runtime, InputError for a file that is no such network and for other values;
    called for gradients, InputError.

    """

    people_listed = False  # a file of anybody's making

    def __init__(
        self,
        file: str,
        input_size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        channels: str,
        alignment: str,
    ) -> None:
        super().__init__()
        if alignment not in ALIGNMENTS:
            raise InputError(f"alignment must be one of {tuple(ALIGNMENTS)}, got {alignment!r}")
        self.normalize = Normalize(mean, std, channels)
        self.network = Graph(file, input_size)
        self.alignment, self.input_size = alignment, self.network.input_size
        own = {"file": self.network.digest, "input_size": self.input_size, "alignment": alignment}
        self.preprocessing: dict[str, object] = {**own, **self.normalize.preprocessing}
        self.eval()

    def train(self, mode: bool = True) -> "Onnx":
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Align, embed."""
        return self.see(images).embeddings

    def see(self, images: Images) -> Seen:
        """Embeddings, and in which images the face was found (everywhere, where alignment is `view`)."""
        if torch.is_grad_enabled() and images.requires_grad:
            raise InputError(
                f"recognizer=onnx gives embeddings alone, no gradients. {WITHOUT_GRADIENTS}; of the attacks, reversal "
                "asks the white box for gradients"
            )
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):  # bfloat16 is half a pixel off
            faces, found = ALIGNMENTS[self.alignment](images.float(), self.input_size)
            return Seen(F.normalize(self.network(self.normalize(faces)), dim=1).to(images), found)


class Graph(nn.Module):
    """Faces `(b, 3, size, size)`, as the network of an ONNX file wants its numbers, to its `(b, width)`."""

    def __init__(self, file: str, input_size: int | None) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says which device it is moved to
        self.file = file
        self.session, self.digest = _session(file), _digest(Path(file).expanduser())
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            names = f"{[value.name for value in inputs]} -> {[value.name for value in outputs]}"
            raise InputError(f"file must be a network with one input and one output, got {names} in {file}")
        (self.input,) = inputs
        shape = self.input.shape
        if self.input.type not in FLOATS or len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise InputError(
                f"file must be a network of floats (b, 3, h, w) or (b, h, w, 3), got {self.input.type} {shape} in "
                f"{file}"
            )
        self.channels_last = shape[1] != 3
        self.batch = shape[0] if _fixed(shape[0]) else None
        self.input_size = _input_size(input_size, shape[1:3] if self.channels_last else shape[2:], file)
        self.width = self._width(file)

    def forward(self, faces: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b width"]:
        """Run it, in as many calls as its batch asks for."""
        numbers = torch.from_numpy(self._run(faces.cpu().numpy())).to(faces)
        if not numbers.isfinite().all():
            raise ValueError(f"the network of {self.file} gives NaN or infinity for a face: no embedding")
        return numbers

    def _run(self, faces: ndarray) -> ndarray:
        values = faces.transpose(0, 2, 3, 1) if self.channels_last else faces
        array = np.ascontiguousarray(values, FLOATS[self.input.type])
        size = self.batch or len(array)
        numbers = []
        for start in range(0, len(array), size):
            chunk = array[start : start + size]
            padded = np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), axis=0)])
            numbers.append(self.session.run(None, {self.input.name: padded})[0][: len(chunk)])
        return np.concatenate(numbers)

    def _width(self, file: str) -> int:
        """Length of the output, by black faces. Raises InputError where it is no `(b, d)`."""
        faces = np.zeros((self.batch or 2, 3, self.input_size, self.input_size))
        try:
            numbers = self._run(faces)
        except _runtime_errors() as error:
            raise InputError(
                f"file must be a network that runs on {len(faces)} faces of input_size={self.input_size} px, got "
                f"{file}: {error}"
            ) from error
        if numbers.ndim != 2 or len(numbers) != len(faces):
            raise InputError(
                f"file must be a network with an output (b, d), got {numbers.shape} for {len(faces)} faces from {file}"
            )
        return numbers.shape[1]


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its errors have no common class below Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _session(file: str) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"recognizer=onnx needs the package onnxruntime for {file}: `pip install 'veil[onnx]'`", name=error.name
        ) from error
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"file must be the path of an ONNX file, got {file!r}, which does not exist")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.use_deterministic_compute = torch.get_num_threads(), True
    options.log_severity_level = 3  # errors: graphs that declare an output of 1 face and give more warn at each call
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        raise InputError(f"file must be an ONNX file that ONNX Runtime can read, got {file!r}: {error}") from error


def _digest(path: Path) -> str:
    """Of the file's bytes, and of those of the files beside it that hold its weights."""
    content = path.read_bytes()
    names = set()
    for match in SIDE_FILE.finditer(content):
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(match[1]))  # a protobuf varint
        names.add(content[match.end() : match.end() + length])
    digest = hashlib.blake2b(content, digest_size=16)
    for name in sorted(names):
        beside = path.parent / name.decode(errors="replace")
        if beside.is_file():  # the bytes of a weight may look like a name
            digest.update(beside.read_bytes())
    return digest.hexdigest()


def _fixed(side: object) -> bool:
    return isinstance(side, int) and side > 0


def _input_size(wanted: int | None, sides: Sequence[Any], file: str) -> int:
    fixed = {side for side in sides if _fixed(side)}
    if len(fixed) > 1:
        raise InputError(f"file must be a network of square faces, got {list(sides)} px in {file}")
    if wanted is None:
        if not fixed:
            raise InputError(f"input_size must be a number of px where the graph leaves it open, got None for {file}")
        return fixed.pop()
    if not isinstance(wanted, int) or wanted < 1 or (fixed and wanted not in fixed):
        allowed = f"null or {fixed.pop()}, as the graph says" if fixed else "in px, at least 1"
        raise InputError(f"input_size is {allowed}, got {wanted} for {file}")
    return wanted


def resized_view(images: Images, size: int) -> Located:
    """The view of each crop."""
    faces = F.interpolate(view(images), (size, size), mode="bilinear", antialias=True)
    return faces, torch.ones(len(images), dtype=torch.bool, device=images.device)


def aligned(images: Images, size: int) -> Located:
    """The five landmarks that MTCNN finds, or the mean face's, brought to the template's; black outside the image."""
    faces = find_faces(list(to_pixels(images)), _detector())
    found = torch.tensor([face is not None and plausible(face) for face in faces], dtype=torch.bool)
    mean = mean_points(*images.shape[-2:])
    landmarks = torch.stack([mean[list(points)].mean(dim=0) for points in OF_68]).repeat(len(images), 1, 1).to(images)
    for index in found.nonzero()[:, 0].tolist():
        landmarks[index] = torch.from_numpy(faces[index].points)
    template = landmarks.new_tensor(TEMPLATE).expand_as(landmarks) * (
        size / TEMPLATE_SIZE
    )  # as insightface enlarges it
    return warp(images, torch.linalg.inv(similarity(landmarks, template)), size), found.to(images.device)


@cache
def _detector() -> MTCNN:
    return face_detector()


ALIGNMENTS = {"view": resized_view, "five_points": aligned}
