"""What is left of the picture. Arguments are taken by name: `images` clear, `anonymized`, `masks`, `found`.

All of the view: the context round it is never repainted and would flatter every method alike.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from veil.metrics.measure import ANONYMISED, Measure
from veil.metrics.per_face import measured, where
from veil.metrics.shape import raggedness_of
from veil.types import Images, Masks, view

# The paper's exponents of its first four scales, to sum to 1. Its fifth needs more than 160 px, the view's side: in
# 160 / 16 = 10 px the 11 px window would see mirrored borders only. Not comparable with figures of five scales
EXPONENTS = tuple(exponent / 0.8668 for exponent in (0.0448, 0.2856, 0.3001, 0.2363))

COVERAGE = Measure("coverage", "masked share of the face's square", "check", "share", (0, 1), prominence=1)
RAGGEDNESS = Measure(
    "raggedness",
    "border of the mask over a square's of the same area; of scattered cells an inpainter sees more",
    "check",
    bounds=(0, None),
    prominence=1,
    undefined="nothing is masked",
)
SSIM = Measure(
    "ssim",
    "structural similarity to the clear face, 1 the same",
    "utility",
    bounds=(-1, 1),
    better="higher",
    prominence=3,
)
PSNR = Measure(
    "psnr",
    "pixel likeness to the clear face",
    "utility",
    "dB",
    better="higher",
    prominence=1,
    undefined="every output equals its input: the ratio is infinite",
)
DETECTED = Measure(
    "detected",
    "a detector (MTCNN) still finds a face",
    "utility",
    "share",
    (0, 1),
    better="higher",
    prominence=3,
    event=True,
)


@measured(COVERAGE)
def coverage(masks: Masks) -> Float[Tensor, " b"]:
    """Masked share of the view, as achieved, in [0, 1]."""
    return view(masks).double().mean(dim=(1, 2, 3))


@measured(RAGGEDNESS)
def raggedness(masks: Masks) -> Float[Tensor, " b"]:
    """`shape.raggedness_of`: 1 a square, larger the more ragged. NaN where nothing is masked."""
    return raggedness_of(masks)


@measured(SSIM)
def ssim(images: Images, anonymized: Images) -> Float[Tensor, " b"]:
    """Structural similarity of the view before and after, in [-1, 1] (Wang et al. 2004); torchmetrics', per face."""
    similarity = structural_similarity_index_measure(view(anonymized), view(images), data_range=1.0, reduction="none")
    assert isinstance(similarity, Tensor)  # a tuple only where the full map is asked for
    return similarity


@measured(PSNR)
def psnr(images: Images, anonymized: Images) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of the view in dB; torchmetrics', per face. NaN for equal pictures."""
    ratio = peak_signal_noise_ratio(view(anonymized), view(images), data_range=1.0, reduction="none", dim=(1, 2, 3))
    return where(ratio.isfinite(), ratio)


@measured(DETECTED)
def detected(found: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 where MTCNN still finds a face."""
    return found.double()


@measured(
    Measure(
        "ms_ssim",
        "structural similarity to the clear face over four scales, 1 the same",
        "utility",
        bounds=(0, 1),
        better="higher",
    )
)
def ms_ssim(images: Images, anonymized: Images) -> Float[Tensor, " b"]:
    """`multiscale_ssim` of the view before and after."""
    return multiscale_ssim(view(images), view(anonymized))


def multiscale_ssim(images: Images, others: Images) -> Float[Tensor, " b"]:
    """MS-SSIM over four scales, in [0, 1]; torchmetrics' (Wang et al. 2003, Multi-scale structural similarity for image
    quality assessment). Negative contrast terms count as 0. Sides of 99 px or more.
    """
    return multiscale_structural_similarity_index_measure(
        others, images, data_range=1.0, betas=EXPONENTS, reduction="none"
    )


@measured(
    Measure(
        "psnr_masked",
        "pixel likeness to the clear face where it was repainted",
        "utility",
        "dB",
        undefined="every output equals its input where it is masked: the ratio is infinite",
    )
)
def psnr_masked(images: Images, anonymized: Images, masks: Masks) -> Float[Tensor, " b"]:
    """PSNR in dB of what was repainted. NaN where it is infinite or nothing was."""
    return psnr_where(view(images), view(anonymized), view(masks))


@measured(
    Measure(
        "psnr_unmasked",
        "pixel likeness to the clear face where it was not repainted",
        "utility",
        "dB",
        better="higher",
        undefined="outside the mask every output is bit-identical to its input (or no pixel is left): no finite ratio",
    )
)
def psnr_unmasked(images: Images, anonymized: Images, masks: Masks) -> Float[Tensor, " b"]:
    """PSNR in dB of what was not repainted: the price of a lossy format, or of not pasting back. NaN as above."""
    return psnr_where(view(images), view(anonymized), ~view(masks))


def psnr_where(images: Images, others: Images, chosen: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """PSNR in dB over the chosen pixels, 10 log10(1 / MSE); NaN where they are equal or none is chosen."""
    squares = (images.double() - others.double()).square() * chosen
    error = squares.sum(dim=(1, 2, 3)) / (images.shape[1] * chosen.sum(dim=(1, 2, 3)))
    ratio = -10 * error.log10()
    return where(ratio.isfinite(), ratio)


class LPIPS:
    """How different two views look to a network trained on ImageNet, 0 for equal pictures; torchmetrics', per face
    (Zhang et al. 2018, arXiv:1801.03924). The linear layers install with torchmetrics; the backbone is torchvision's
    download.

    Args:
        network: `alex`, `vgg` or `squeeze`; figures of different ones are not comparable.

    Raises ConnectionError where the backbone cannot be downloaded.

    """

    measure = Measure(
        "lpips",
        "distance to the clear face as a network trained on ImageNet sees it, 0 the same",
        "utility",
        bounds=(0, None),
        better="lower",
    )
    asked, condition = "picture", ANONYMISED

    def __init__(self, network: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        try:
            self.network = LearnedPerceptualImagePatchSimilarity(network).net
        except OSError as error:
            raise ConnectionError(
                f"metrics=lpips needs torchvision's weights of {network}, which could not be downloaded ({error}); "
                "put them into torch's hub folder, or choose metrics=default"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Images, anonymized: Images) -> Float[Tensor, " b"]:
        """One distance a face."""
        network = self.network.to(images.device)
        return network(view(anonymized), view(images), normalize=True).flatten()
