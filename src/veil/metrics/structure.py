"""What is left of the picture, at several scales and on either side of the mask's edge. Arguments are taken by name:
`images` clear, `anonymized`, `masks`. All of the view, as in `utility.py`.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from veil.metrics.intervals import PeopleMean, where
from veil.types import Identities, Images, Masks, view

# The paper's exponents of its first four scales, to sum to 1. Its fifth needs more than 160 px, the view's side: in
# 160 / 16 = 10 px the 11 px window would see mirrored borders only. Not comparable with figures of five scales
EXPONENTS = tuple(exponent / 0.8668 for exponent in (0.0448, 0.2856, 0.3001, 0.2363))


def multiscale_ssim(images: Images, others: Images) -> Float[Tensor, " b"]:
    """MS-SSIM over four scales, in [0, 1]; torchmetrics' (Wang et al. 2003, Multi-scale structural similarity for image
    quality assessment). Negative contrast terms count as 0. Sides of 99 px or more.
    """
    return multiscale_structural_similarity_index_measure(
        others, images, data_range=1.0, betas=EXPONENTS, reduction="none"
    )


def psnr_where(
    images: Images, others: Images, chosen: Bool[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """PSNR in dB over the chosen pixels, 10 log10(1 / MSE), and whether it is a number: infinite where they are equal,
    undefined where none is chosen.
    """
    squares = (images.double() - others.double()).square() * chosen
    error = squares.sum(dim=(1, 2, 3)) / (images.shape[1] * chosen.sum(dim=(1, 2, 3)))
    ratio = -10 * error.log10()
    return ratio, ratio.isfinite()


class MultiscaleSSIM(PeopleMean):
    """Structural similarity of the view over four scales, in [0, 1]."""

    def update(self, images: Images, anonymized: Images, identities: Identities) -> None:
        """See the module."""
        self.add(multiscale_ssim(view(images), view(anonymized)), identities)


class MaskedPSNR(PeopleMean):
    """PSNR in dB of what was repainted."""

    undefined = "every output equals its input where it is masked: the ratio is infinite"

    def update(self, images: Images, anonymized: Images, masks: Masks, identities: Identities) -> None:
        """See the module."""
        ratio, known = psnr_where(view(images), view(anonymized), view(masks))
        self.add(where(known, ratio), identities)


class UnmaskedPSNR(PeopleMean):
    """PSNR in dB of what was not: the price of a lossy format, or of not pasting back."""

    undefined = "outside the mask every output is bit-identical to its input (or no pixel is left): no finite ratio"

    def update(self, images: Images, anonymized: Images, masks: Masks, identities: Identities) -> None:
        """See the module."""
        ratio, known = psnr_where(view(images), view(anonymized), ~view(masks))
        self.add(where(known, ratio), identities)
