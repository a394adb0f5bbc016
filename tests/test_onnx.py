"""Recognisers in ONNX files against the torch modules that they were made from."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform, warp
from torch import Tensor, nn
from torch.nn import functional as F

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.errors import InputError
from veil.faces.align import face_detector, find_faces
from veil.faces.pictures import to_images, to_pixels
from veil.maskers.anatomy import t_zone
from veil.maskers.cam import gradcam
from veil.maskers.gradient import integrated_gradients, saliency
from veil.maskers.perturbation import occlusion, rise
from veil.maskers.random import random_patches
from veil.recognizers.dlib import DlibNetwork, dlib_model
from veil.recognizers.facenet import FaceNet
from veil.recognizers.whitebox import WhiteBox
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.types import Faces, view

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
from tiny_onnx import WEIGHT, reference, write_graph  # noqa: E402

from veil.recognizers.onnx import TEMPLATE, Onnx, aligned  # noqa: E402

HALF = [0.5, 0.5, 0.5]
KNOBS: dict[str, Any] = {"input_size": None, "mean": HALF, "std": HALF, "channels": "rgb", "alignment": "view"}


def exported(network: nn.Module, size: int, path: Path) -> str:
    """torch's own export, for any number of faces."""
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs the package onnxscript, which is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.rand(2, 3, size, size),),
            path,
            dynamic_shapes=({0: torch.export.Dim("b")},),
            external_data=False,
            verbose=False,
        )
    return str(path)


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Faces:
    """Six photos, coloured."""
    (batch,) = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(64)
    tint = torch.tensor([1.0, 0.9, 0.8])[:, None, None]
    return Faces(batch.images[::2] * tint, batch.identities[::2], batch.seeds[::2], batch.keys[::2])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_graph(tmp_path_factory.mktemp("graphs") / "tiny.onnx")


def small_view(images: Tensor, size: int) -> Tensor:
    return F.interpolate(view(images), (size, size), mode="bilinear", antialias=True)


def test_facenet_as_onnx_equals_facenet(crops: Faces, cache: str, tmp_path: Path) -> None:
    facenet = FaceNet("packaged", cache)
    path = exported(facenet.network, 160, tmp_path / "facenet.onnx")
    mine = Onnx(path, **KNOBS | {"std": [128 / 255] * 3})
    assert mine.input_size == 160
    torch.testing.assert_close(mine(crops.images), facenet(crops.images), atol=1e-5, rtol=0)


def test_dlibs_network_as_onnx_equals_it(crops: Faces, tmp_path: Path) -> None:
    network = DlibNetwork(dlib_model("dlib_face_recognition_resnet_model_v1"))
    mine = Onnx(exported(network, 150, tmp_path / "dlib.onnx"), **KNOBS | {"mean": [0, 0, 0], "std": [1, 1, 1]})
    expected = F.normalize(network(small_view(crops.images, 150)), dim=1)
    torch.testing.assert_close(mine(crops.images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "shape",
    [
        ("b", 3, 112, 112),
        (None, 3, 112, 112),
        (1, 3, 112, 112),
        (4, 3, 112, 112),
        ("b", 112, 112, 3),
        (1, 112, 112, 3),
        ("b", 3, "h", "w"),
    ],
)
def test_any_layout_and_batch_by_hand(shape: tuple[Any, ...], crops: Faces, tmp_path: Path) -> None:
    given = {"input_size": 112, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.5]}
    mine = Onnx(write_graph(tmp_path / "tiny.onnx", shape), **KNOBS | given)
    mean, std = (torch.tensor(given[name])[:, None, None] for name in ("mean", "std"))
    expected = F.normalize(reference((small_view(crops.images, 112) - mean) / std), dim=1)
    for images, wanted in ((crops.images, expected), (crops.images[2:3], expected[2:3])):
        torch.testing.assert_close(mine(images), wanted, atol=1e-5, rtol=1e-5)


def test_half_floats(crops: Faces, file: str, tmp_path: Path) -> None:
    mine = Onnx(write_graph(tmp_path / "half.onnx", dtype="FLOAT16"), **KNOBS)(crops.images)
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, Onnx(file, **KNOBS)(crops.images), atol=1e-2, rtol=0)


def test_bgr_equals_rgb_with_flipped_weights(crops: Faces, file: str, tmp_path: Path) -> None:
    knobs = KNOBS | {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.5]}
    flipped = write_graph(tmp_path / "bgr.onnx", weight=WEIGHT.flip(1).contiguous())
    bgr, rgb = Onnx(flipped, **knobs | {"channels": "bgr"}), Onnx(file, **knobs)
    torch.testing.assert_close(bgr(crops.images), rgb(crops.images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [112, 224])
def test_five_points_equal_skimages_similarity(size: int, crops: Faces) -> None:
    turn = SimilarityTransform(scale=0.8, rotation=0.2, translation=(40, -10))
    tilted = [warp(pixels / 255, turn, order=1).astype(np.float32) for pixels in to_pixels(crops.images)]
    images = to_images((np.stack(tilted) * 255).round().astype(np.uint8))
    faces, found = aligned(images, size)
    assert found.all()
    for image, face, here in zip(images, faces, find_faces(list(to_pixels(images)), face_detector()), strict=True):
        assert here is not None
        where = SimilarityTransform.from_estimate(here.points, np.array(TEMPLATE) * size / 112)
        expected = warp(image.permute(1, 2, 0).numpy(), where.inverse, output_shape=(size, size), order=1)
        away = np.abs(face.permute(1, 2, 0).numpy() - expected)
        inside = expected.min(axis=2) > 0  # at the photo's border skimage blends otherwise
        assert away[inside].mean() < 1e-4
        assert np.quantile(away[inside], 0.99) < 1e-3


def test_aligned_faces_have_their_landmarks_at_the_template(crops: Faces) -> None:
    faces, _ = aligned(crops.images, 112)
    again = [here.points for here in find_faces(list(to_pixels(faces)), face_detector()) if here is not None]
    middle = np.median(again, axis=0)  # such narrow faces are hard to find: some are a few pixels off
    assert np.abs(middle - [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]).max() < 4  # px


def test_five_points_are_what_the_network_sees_and_the_mean_face_s_where_none_is_found(
    crops: Faces, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Onnx(file, **KNOBS | {"alignment": "five_points"})
    noise = torch.rand(crops.images[:1].shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([crops.images[:1], noise, crops.images[1:]])
    embeddings, found = mine.see(images)
    assert found.tolist() == [True, False, *[True] * (len(images) - 2)]
    expected = F.normalize(reference(aligned(crops.images, 112)[0] * 2 - 1), dim=1)
    torch.testing.assert_close(embeddings[[0, *range(2, len(images))]], expected, atol=1e-5, rtol=1e-5)
    assert embeddings[1].norm() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(mine(images[1:2]), embeddings[1:2])
    with torch.autocast("cpu", torch.bfloat16):  # alignment and network in single precision
        torch.testing.assert_close(mine(images), embeddings)
    faces, _ = aligned(crops.images, 112)
    monkeypatch.setattr("veil.recognizers.onnx.find_faces", lambda pixels, _: [None] * len(pixels))
    blind, found = aligned(crops.images, 112)
    assert not found.any()
    assert (blind - faces).abs().mean() < 0.1  # crops are aligned, so the mean face is about where the face is


def test_it_is_frozen_and_says_where_it_is(file: str, crops: Faces) -> None:
    mine = Onnx(file, **KNOBS)
    before = weights_of(mine)
    assert next(mine.parameters()).device.type == "cpu"
    assert not any(parameter.requires_grad for parameter in mine.parameters())
    embeddings = mine(crops.images)
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1] * len(crops.keys))
    mine.train()
    assert not any(module.training for module in mine.modules())
    assert torch.equal(mine.to("cpu")(crops.images), embeddings)
    assert weights_of(mine) == before == weights_of(Onnx(file, **KNOBS))


def test_weights_in_a_file_beside_it_are_part_of_its_digest(crops: Faces, tmp_path: Path) -> None:
    beside: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 0, "convert_attribute": False}
    made = []
    for weight in (WEIGHT, -WEIGHT):
        for name in ("tiny.data", "tiny.data" * 20):  # a length of one byte, and of two
            for old in tmp_path.iterdir():
                old.unlink()
            path = write_graph(tmp_path / "tiny.onnx", weight=weight, location=name, **beside)
            mine = Onnx(path, **KNOBS)
            expected = F.normalize(reference(small_view(crops.images, 112) * 2 - 1, weight), dim=1)
            torch.testing.assert_close(mine(crops.images), expected, atol=1e-5, rtol=1e-5)
            made.append((Path(path).read_bytes(), mine.preprocessing["file"]))
    assert made[0][0] == made[2][0]  # the graphs are the same: their weights are elsewhere
    assert made[1][0] == made[3][0]
    assert len({digest for _, digest in made}) == 4


@pytest.fixture
def whitebox(file: str, crops: Faces) -> WhiteBox:
    mine = Onnx(file, **KNOBS)
    means = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    return WhiteBox(mine, nn.Linear(8, 6), means)


def test_maskers_that_need_no_gradients_take_it_as_a_white_box(whitebox: WhiteBox, crops: Faces) -> None:
    faces = Faces(crops.images[:1], crops.identities[:1], crops.seeds[:1], crops.keys[:1])
    asked: dict[Callable[..., Any], dict[str, Any]] = {
        occlusion: {"grid": 4},
        rise: {"masks": 16},
        random_patches: {"cells": 16},
        t_zone: {},
    }
    for masker, knobs in asked.items():
        scores = masker(faces, whitebox, **knobs)
        assert scores.isfinite().all()
        assert scores.std() > 0


@pytest.mark.parametrize(
    ("masker", "knobs"), [(saliency, {}), (integrated_gradients, {"steps": 1}), (gradcam, {"layer": "repeat_2"})]
)
def test_maskers_that_need_gradients_refuse_it(
    masker: Callable[..., Any], knobs: dict[str, Any], whitebox: WhiteBox, crops: Faces
) -> None:
    with pytest.raises(InputError, match="occlusion and rise ask embeddings alone"):
        masker(crops, whitebox, **knobs)


def changed(path: Path, change: Callable[[Any], None]) -> str:
    """A graph, changed."""
    model = onnx.load(write_graph(path))
    change(model.graph)
    onnx.save(model, str(path))
    return str(path)


def with_two_inputs(graph: Any) -> None:
    graph.input.append(onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, ("b",)))


def with_two_outputs(graph: Any) -> None:
    graph.output.append(onnx.helper.make_tensor_value_info("maps", onnx.TensorProto.FLOAT, None))


def with_maps_for_an_output(graph: Any) -> None:
    graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_two_inputs, r"file must be a network with one input and one output, got \['faces', 'age'\] -> "),
        (with_two_outputs, r"one input and one output, got \['faces'\] -> \['embedding', 'maps'\] in .*tiny.onnx"),
        (with_maps_for_an_output, r"an output \(b, d\), got \(2, 8, 1, 1\) for 2 faces from .*tiny.onnx"),
    ],
)
def test_a_graph_of_another_kind_is_refused(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Onnx(changed(tmp_path / "tiny.onnx", change), **KNOBS)


@pytest.mark.parametrize(
    ("shape", "knobs", "message"),
    [
        (("b", 4, 112, 112), {}, r"\(b, 3, h, w\) or \(b, h, w, 3\), got tensor\(float\) \['b', 4, 112, 112\]"),
        (("b", 3, 112, 96), {}, r"square faces, got \[112, 96\] px"),
        (("b", 3, "h", "w"), {}, r"input_size must be a number of px where the graph leaves it open, got None"),
        (("b", 3, "h", "w"), {"input_size": 0}, r"input_size is in px, at least 1, got 0"),
        (("b", 3, "h", "w"), {"input_size": 9}, r"runs on 2 faces of input_size=9 px"),
        (("b", 3, 112, 112), {"input_size": 160}, r"input_size is null or 112, as the graph says, got 160"),
        (("b", 3, 112, 112), {"std": [0.5, 0.5, 0]}, r"std above 0, got .* \[0.5, 0.5, 0\]"),
        (("b", 3, 112, 112), {"mean": [0.5]}, r"three numbers"),
        (("b", 3, 112, 112), {"channels": "grey"}, r"channels must be one of \('rgb', 'bgr'\), got 'grey'"),
        (("b", 3, 112, 112), {"alignment": "eyes"}, r"alignment must be one of .*'five_points'.*, got 'eyes'"),
    ],
)
def test_errors_name_the_knob(shape: tuple[Any, ...], knobs: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_graph(tmp_path / "tiny.onnx", shape)
    with pytest.raises(InputError, match=message):
        Onnx(path, **KNOBS | knobs)


def test_numbers_that_are_not_finite_are_no_embedding(crops: Faces, tmp_path: Path) -> None:
    mine = Onnx(write_graph(tmp_path / "tiny.onnx", weight=WEIGHT * 1e38), **KNOBS | {"std": [1e-9] * 3})
    with pytest.raises(ValueError, match=r"tiny.onnx gives NaN or infinity"):
        mine(crops.images)


@pytest.mark.parametrize("content", [None, b"", b"not a network", b"\x08\x07"])
def test_a_file_that_is_none_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    if content is None:
        with pytest.raises(
            InputError, match=r"file must be the path of an ONNX file, got '.*none.onnx', which does not"
        ):
            Onnx(str(path), **KNOBS)
        return
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file must be an ONNX file that ONNX Runtime can read, got '.*none.onnx'"):
        Onnx(str(path), **KNOBS)
