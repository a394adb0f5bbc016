"""MS-SSIM against its formula in scipy, PSNR on either side of the mask against scikit-image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from veil.metrics.image import EXPONENTS, ms_ssim, multiscale_ssim, psnr_masked, psnr_unmasked
from veil.metrics.per_face import PerFace
from veil.types import view


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clear = torch.nn.functional.interpolate(torch.rand(3, 3, 32, 32, generator=generator), 256, mode="bilinear")
    strength = torch.tensor([0.02, 0.1, 0.3])[:, None, None, None]
    return clear, (clear + strength * torch.randn(clear.shape, generator=generator)).clamp(0, 1)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2003: contrast and structure at each scale, luminance at the last; 11 px Gaussian window.

    torchmetrics takes the last scale's mean with the mirrored border, the others' without.
    """

    def blur(image: np.ndarray) -> np.ndarray:
        return np.stack([gaussian_filter(channel, 1.5, radius=5, mode="mirror") for channel in image])

    total = 1.0
    for scale, exponent in enumerate(EXPONENTS):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        value = (2 * vxy + 0.03**2) / (vx + vy + 0.03**2)
        if scale == len(EXPONENTS) - 1:
            value = value * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        else:
            value = value[:, 5:-5, 5:-5]
        total *= max(value.mean(), 0) ** exponent
        x, y = (part.reshape(3, part.shape[1] // 2, 2, -1, 2).mean(axis=(2, 4)) for part in (x, y))
    return total


def test_multiscale_ssim_is_its_formula_of_the_view(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    clear, noisy = pair
    views = zip(view(clear).double().numpy(), view(noisy).double().numpy(), strict=True)
    expected = [by_hand(x, y) for x, y in views]
    assert 1 > expected[0] > expected[1] > expected[2] > 0
    assert ms_ssim(clear, noisy).numpy() == pytest.approx(expected, abs=1e-5)
    assert multiscale_ssim(clear, clear).numpy() == pytest.approx(1)
    assert sum(EXPONENTS) == pytest.approx(1)


def test_psnr_on_either_side_of_the_mask_equals_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    clear, noisy = pair
    masks = torch.zeros(3, 1, 256, 256, dtype=torch.bool)
    view(masks)[:, :, 20:90, :100] = True
    for metric, chosen in ((psnr_masked, masks), (psnr_unmasked, ~masks)):
        inside = view(chosen)[:, 0]
        for index, value in enumerate(metric(clear, noisy, masks).tolist()):
            pixels = [view(part)[index][:, inside[index]].double().numpy() for part in pair]
            assert value == pytest.approx(peak_signal_noise_ratio(*pixels, data_range=1))


def test_psnr_is_absent_where_nothing_changed_or_nothing_is_left(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    clear, noisy = pair
    masks = torch.zeros(3, 1, 256, 256, dtype=torch.bool)
    view(masks)[:, :, :80] = True
    pasted = torch.where(masks, noisy, clear)
    inside, outside, everywhere = map(PerFace, (psnr_masked, psnr_unmasked, psnr_unmasked))
    for metric in (inside, outside):
        metric.update(images=clear, anonymized=pasted, masks=masks, identities=torch.arange(3))
    everywhere.update(images=clear, anonymized=noisy, masks=torch.ones_like(masks), identities=torch.arange(3))
    assert inside.compute().n == 3
    assert outside.compute() is None
    assert everywhere.compute() is None
    assert "bit-identical" in outside.measure.undefined
    pasted[0] = clear[0]
    some = PerFace(psnr_masked)
    some.update(images=clear, anonymized=pasted, masks=masks, identities=torch.arange(3))
    assert some.compute().n == 2
