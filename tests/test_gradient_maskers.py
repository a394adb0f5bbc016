"""Maskers that differentiate, against values by hand, ten-line references and captum."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from conftest import one
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from veil.config import InputError
from veil.maskers.gradcam import gradcam
from veil.maskers.integrated_gradients import integrated_gradients
from veil.maskers.saliency import saliency
from veil.maskers.smooth import blurred
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, view


class Means(nn.Module):
    """Embeds a face as the mean of each colour channel over its view: linear."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return view(images).mean(dim=(2, 3))


@pytest.fixture
def linear() -> WhiteBox:
    """Cosine: the mean of red. Loss: of two people's logits."""
    head = nn.Linear(3, 2)
    head.weight.data = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]])
    head.bias.data = torch.zeros(2)
    return WhiteBox(Means(), head, torch.eye(2, 3))


@pytest.fixture
def face() -> Faces:
    """One face of 16 px, its view of 10."""
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Faces(images, torch.tensor([0]), torch.tensor([7]), ("a",))


def slopes(face: Faces, linear: WhiteBox) -> torch.Tensor:
    """d loss / d channel = sum_k (p_k - [k = true]) w_k, spread over 100 pixels."""
    logits = view(face.images).mean(dim=(2, 3)) @ linear.head.weight.T
    return (logits.softmax(1) - torch.tensor([[1.0, 0.0]])) @ linear.head.weight[:, :, None, None].flatten(1) / 100


def test_saliency_of_a_linear_network_by_hand(face: Faces, linear: WhiteBox) -> None:
    slope = slopes(face, linear)
    torch.testing.assert_close(saliency(face, linear), slope.abs().max().expand(1, 10, 10))
    torch.testing.assert_close(saliency(face, linear, reduction="l2"), slope.norm().expand(1, 10, 10))
    torch.testing.assert_close(saliency(face, linear, objective="cosine"), torch.full((1, 10, 10), 0.01))
    product = (slope[:, :, None, None] * view(face.images)).abs().amax(dim=1)
    torch.testing.assert_close(saliency(face, linear, times_input=True), product)
    torch.testing.assert_close(
        saliency(face, linear, objective="cosine", draws=3, noise=0.5), 0.01 * torch.ones(1, 10, 10)
    )


def test_saliency_without_a_knob_turned_is_the_plain_gradient_to_the_bit(faces: Faces, recognizer: WhiteBox) -> None:
    images = faces.images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(recognizer.loss(images, faces.identities).sum(), images)
    assert torch.equal(saliency(faces, recognizer), view(gradient).abs().amax(dim=1))


def test_smoothgrad_is_the_mean_over_noisy_faces(faces: Faces, recognizer: WhiteBox) -> None:
    alone = one(faces, 2)
    generator, gradients = torch.Generator().manual_seed(33), []
    for _ in range(5):
        noisy = (alone.images + 0.2 * torch.randn(1, 3, 64, 64, generator=generator)).requires_grad_()
        recognizer.similarity(noisy, alone.identities).sum().backward()
        assert noisy.grad is not None
        gradients.append(noisy.grad)
    expected = view(torch.stack(gradients).mean(dim=0)).norm(dim=1)
    knobs: dict[str, Any] = {"objective": "cosine", "reduction": "l2", "draws": 5, "noise": 0.2}
    torch.testing.assert_close(saliency(alone, recognizer, **knobs), expected)
    torch.testing.assert_close(saliency(faces, recognizer, **knobs)[2:3], expected)  # its noise is its own


def test_integrated_gradients_of_a_linear_network_by_hand(face: Faces, linear: WhiteBox) -> None:
    expected = (view(face.images)[:, 0] - 0.25).abs() / 100
    torch.testing.assert_close(integrated_gradients(face, linear, baseline=0.25, blur=0.0), expected)
    torch.testing.assert_close(integrated_gradients(face, linear, baseline=0.25, blur=0.0, reduction="l2"), expected)


def test_integrated_gradients_are_the_mean_gradient_on_the_way(faces: Faces, recognizer: WhiteBox) -> None:
    gradients = []
    for share in (torch.arange(200) + 0.5) / 200:
        there = (0.5 + share * (faces.images - 0.5)).requires_grad_()
        gradients.append(torch.autograd.grad(recognizer.similarity(there, faces.identities).sum(), there)[0])
    expected = view((faces.images - 0.5) * torch.stack(gradients).mean(dim=0)).abs().amax(dim=1)
    found = integrated_gradients(faces, recognizer, steps=64, blur=0.0)
    assert (found - expected).abs().max() < 0.05 * expected.max()  # the network has kinks


@pytest.fixture
def maps(faces: Faces, recognizer: WhiteBox) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations of the layer and their gradient."""
    network = recognizer.recognizer.network
    maps = network.repeat_2(view(faces.images)).detach().requires_grad_()
    embeddings = F.normalize(network.last(network.pool(network.norm(maps))), dim=1)
    (embeddings * recognizer.centroids[faces.identities]).sum().backward()
    assert maps.grad is not None
    return maps.detach(), maps.grad


def test_gradcam_equals_a_reference_and_captum(
    faces: Faces, recognizer: WhiteBox, maps: tuple[torch.Tensor, torch.Tensor]
) -> None:
    found = gradcam(faces, recognizer, layer="repeat_2")
    torch.testing.assert_close(found, torch.einsum("bcij,bc->bij", maps[0], maps[1].mean(dim=(2, 3))))
    images = faces.images.clone().requires_grad_()  # the trunk is frozen
    explain = LayerGradCam(recognizer.similarity, recognizer.recognizer.network.repeat_2)
    expected = explain.attribute(images, additional_forward_args=(faces.identities,))
    torch.testing.assert_close(found, expected.detach()[:, 0])


def test_gradcam_plus_plus_equals_a_reference(
    faces: Faces, recognizer: WhiteBox, maps: tuple[torch.Tensor, torch.Tensor]
) -> None:
    a, g = (part.double() for part in maps)
    alpha = g**2 / (2 * g**2 + a.sum(dim=(2, 3), keepdim=True) * g**3)
    expected = torch.einsum("bcij,bc->bij", a, (alpha.nan_to_num() * g.relu()).sum(dim=(2, 3)))
    found = gradcam(faces, recognizer, layer="repeat_2", weighting="gradcam++")
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-5)


def test_layercam_equals_a_reference(
    faces: Faces, recognizer: WhiteBox, maps: tuple[torch.Tensor, torch.Tensor]
) -> None:
    found = gradcam(faces, recognizer, layer="repeat_2", weighting="layercam")
    torch.testing.assert_close(found, torch.einsum("bcij,bcij->bij", maps[0], maps[1].relu()))


def test_gradcam_names_the_layers_it_knows(faces: Faces, recognizer: WhiteBox) -> None:
    with pytest.raises(InputError, match=r"masker.layer must name a layer .*repeat_2, norm.* got 'block9'"):
        gradcam(faces, recognizer, layer="block9")


def test_blur_is_gaussian_and_keeps_what_is_flat() -> None:
    scores = torch.rand(2, 60, 40, generator=torch.Generator().manual_seed(0))
    inside = (slice(None), slice(20, 40), slice(15, 25))
    expected = torch.stack([torch.from_numpy(gaussian_filter(face, 3.0, truncate=8)) for face in scores.numpy()])
    torch.testing.assert_close(blurred(scores, 3.0)[inside], expected[inside], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(blurred(torch.ones(1, 30, 50), 4.0), torch.ones(1, 30, 50))
    assert blurred(scores, 0.0) is scores


@pytest.mark.parametrize(
    ("masker", "knobs", "message"),
    [
        (saliency, {"objective": "logit"}, r"masker.objective must be one of \('loss', 'cosine'\), got 'logit'"),
        (saliency, {"reduction": "mean"}, r"masker.reduction must be one of \('max', 'l2'\), got 'mean'"),
        (saliency, {"draws": 0}, r"masker.draws must be at least 1.* got draws=0"),
        (saliency, {"draws": 9}, r"masker.noise .* above 0 .* got draws=9 noise=0.0"),
        (saliency, {"noise": -0.1}, r"masker.noise .* got draws=1 noise=-0.1"),
        (saliency, {"blur": -1.0}, r"masker.blur .* at least 0, got -1"),
        (integrated_gradients, {"steps": 0}, r"masker.steps must be at least 1, got 0"),
        (integrated_gradients, {"baseline": 128.0}, r"masker.baseline is a grey in \[0, 1\], got 128"),
        (
            gradcam,
            {"layer": "repeat_2", "weighting": "cam"},
            r"masker.weighting must be one of .*'layercam'\), got 'cam'",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    masker: Callable[..., Any], knobs: dict[str, Any], message: str, faces: Faces, recognizer: WhiteBox
) -> None:
    with pytest.raises(InputError, match=message):
        masker(faces, recognizer, **knobs)
