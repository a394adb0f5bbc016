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

from veil.errors import InputError
from veil.maskers.budget import budget
from veil.maskers.cam import arrangement, gradcam
from veil.maskers.gradient import blurred, integrated_gradients, saliency
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


class Arranged(nn.Module):
    """`first` gives (b, 2, 4, 4); `last`, `tokens` and `classed` the same in another order; then a weighted mean."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.use, self.first = use, nn.Conv2d(3, 2, 10, stride=10)
        for name in ("last", "tokens", "classed", "attention", "pair", "unused"):
            self.add_module(name, nn.Identity())
        self.first.weight.data = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(3))
        self.first.bias.data = torch.zeros(2)
        self.weights = torch.arange(32.0).view(2, 4, 4).sin()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(view(images))
        if self.use == "last":
            maps = self.last(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.use in ("tokens", "classed"):
            tokens = maps.flatten(2).mT
            front = torch.full_like(tokens[:, :1], 9.0)
            classed = getattr(self, self.use)(torch.cat([front, tokens], dim=1) if self.use == "classed" else tokens)
            maps = classed[:, -16:].mT.unflatten(2, (4, 4))
        return torch.stack([(maps * self.weights).sum(dim=(1, 2, 3)), maps.new_ones(len(maps))], dim=1)


@pytest.mark.parametrize("use", ["first", "last", "tokens", "classed"])
@pytest.mark.parametrize("weighting", ["gradcam", "gradcam++", "layercam"])
def test_every_order_of_dimensions_gives_the_map_by_hand(use: str, weighting: str) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    faces = Faces(images, torch.zeros(3, dtype=torch.long), torch.arange(3), ("a", "b", "c"))
    network = Arranged(use)
    whitebox = WhiteBox(network, nn.Linear(2, 1), torch.tensor([[1.0, 0.0]]))
    maps, slopes = network.first(view(images)).detach(), network.weights.expand(3, 2, 4, 4)
    weights = {
        "gradcam": slopes.mean(dim=(2, 3), keepdim=True),
        "gradcam++": (slopes.relu() / (2 + maps.sum(dim=(2, 3), keepdim=True) * slopes)).sum(dim=(2, 3), keepdim=True),
        "layercam": slopes.relu(),
    }[weighting]
    expected = torch.einsum("bcij,bcij->bij", maps, weights.expand_as(maps))
    torch.testing.assert_close(gradcam(faces, whitebox, layer=use, weighting=weighting), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "module", "places"),
    [
        ((2, 8, 8, 8), nn.Conv2d(1, 8, 1), "first"),
        ((2, 8, 8, 8), nn.LayerNorm(8), "last"),
        ((2, 5, 7, 6), nn.Conv2d(1, 5, 1), "first"),
        ((2, 768, 1, 1), nn.Identity(), "first"),
        ((2, 7, 7, 768), nn.Identity(), "last"),
        ((2, 196, 768), nn.Identity(), "tokens"),
        ((2, 197, 1024), nn.LayerNorm(1024), "tokens"),
        ((2, 8, 8, 8), nn.Identity(), None),  # which are the channels?
        ((2, 12, 64, 64), nn.LayerNorm(64), None),  # heads, tokens, channels
        ((2, 5, 7, 6), nn.Identity(), None),
        ((2, 12, 197, 197), nn.Softmax(), None),  # attention
        ((2, 12, 197, 197), nn.Dropout(), None),
        ((2, 197, 1024), nn.Identity(), None),  # 1024 channels, or places
        ((2, 261, 768), nn.Identity(), None),  # registers
        ((2, 2, 768), nn.Identity(), None),
        ((197, 2, 768), nn.Identity(), None),  # the batch second
        ((2, 768), nn.Identity(), None),
    ],
)
def test_dimensions_are_places_only_where_that_is_sure(
    shape: tuple[int, ...], module: nn.Module, places: str | None
) -> None:
    output = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if places is None:
        with pytest.raises(InputError, match=rf"each of 2 faces a square map .* got \({shape[0]}, .*\) of 'block'"):
            arrangement("block", module, output, 2)
        return
    maps = arrangement("block", module, output, 2)(output)
    grid = output if places == "first" else output.permute(0, 3, 1, 2) if places == "last" else None
    if grid is None:
        for token in range(196):
            assert torch.equal(maps[:, :, token // 14, token % 14], output[:, token - 196])
    else:
        assert torch.equal(maps, grid)


class Odd(Arranged):
    """Embeds by the first token alone, and has layers that say nothing of places."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.first(view(images)).flatten(2).mT
        front = self.classed(torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1))[:, 0]
        self.pair((front, front))
        self.last(self.first(view(images)))
        return self.attention(front[:, :, None, None]).flatten(1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("classed", "must have several places that the embedding depends on, got 0 in 'classed'"),
        ("last", "must have several places that the embedding depends on, got 0 in 'last'"),
        ("attention", "must have several places that the embedding depends on, got 1 in 'attention'"),
        ("pair", "got tuple of 'pair'"),
        ("unused", "must be run for an embedding, and 'unused' is not"),
    ],
)
def test_a_layer_without_a_map_is_refused(layer: str, message: str, face: Faces) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whitebox = WhiteBox(Odd("first"), nn.Linear(2, 1), torch.tensor([[1.0, 0.0]]))
    with pytest.raises(InputError, match=message):
        gradcam(face._replace(images=images), whitebox, layer=layer)


def test_gradcam_needs_layers(face: Faces, linear: WhiteBox) -> None:
    with pytest.raises(InputError, match=r"needs a recogniser with layers, and Means has none. .* occlusion and rise"):
        gradcam(face, linear, layer="block8")


class Finds(nn.Module):
    """Shows its network the bright faces only, as dlib does those that it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Arranged("first")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = images.mean(dim=(1, 2, 3)) > 0.1
        return images.new_zeros(len(images), 2).index_put((found,), self.network(images[found]))


def test_a_face_that_is_not_found_has_a_flat_map_and_the_others_their_own() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images[1] = 0
    faces = Faces(images, torch.zeros(3, dtype=torch.long), torch.arange(3), ("a", "b", "c"))
    whitebox = WhiteBox(Finds(), nn.Linear(2, 1), torch.tensor([[1.0, 0.0]]))
    scores = gradcam(faces, whitebox, layer="first")
    assert not scores[1].any()
    for index in (0, 2):
        torch.testing.assert_close(scores[index], gradcam(one(faces, index), whitebox, layer="first")[0])
    nobody = gradcam(one(faces, 1), whitebox, layer="first")  # alone in its batch
    assert torch.equal(budget(nobody, 0.25, 8, (64, 64)), budget(scores[1:2], 0.25, 8, (64, 64)))


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
