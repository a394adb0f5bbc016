"""What is left of the picture. Arguments are taken by name: `images` clear, `anonymized`, `masks`, `found`.

SSIM and PSNR are of the view: the context round it is never repainted and would flatter every method alike.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from veil.metrics.intervals import PeopleMean, where
from veil.types import Identities, Images, Masks, view


def coverage(masks: Masks) -> Float[Tensor, " b"]:
    """Masked share of the view."""
    return view(masks).double().mean(dim=(1, 2, 3))


class SSIM(PeopleMean):
    """Structural similarity of the view before and after, in [-1, 1] (Wang et al. 2004); torchmetrics', per face."""

    def update(self, images: Images, anonymized: Images, identities: Identities) -> None:
        """See the module."""
        similarity = structural_similarity_index_measure(
            view(anonymized), view(images), data_range=1.0, reduction="none"
        )
        assert isinstance(similarity, Tensor)  # a tuple only where the full map is asked for
        self.add(similarity, identities)


class PSNR(PeopleMean):
    """Peak signal-to-noise ratio of the view in dB; torchmetrics', per face."""

    undefined = "every output equals its input: the ratio is infinite"

    def update(self, images: Images, anonymized: Images, identities: Identities) -> None:
        """See the module."""
        ratio = peak_signal_noise_ratio(view(anonymized), view(images), data_range=1.0, reduction="none", dim=(1, 2, 3))
        self.add(where(ratio.isfinite(), ratio), identities)


class Detected(PeopleMean):
    """Share of outputs in which MTCNN still finds a face."""

    def update(self, found: Bool[Tensor, " b"], identities: Identities) -> None:
        """See the module."""
        self.add(found.double(), identities)


class Aligned(PeopleMean):
    """Share of outputs in which a recogniser's own detector finds the face; elsewhere it recognises nobody."""

    def update(self, aligned: Bool[Tensor, " b"], identities: Identities) -> None:
        """See the module."""
        self.add(aligned.double(), identities)


class Coverage(PeopleMean):
    """Masked share of the view, as achieved."""

    def update(self, masks: Masks, identities: Identities) -> None:
        """See the module."""
        self.add(coverage(masks), identities)
