"""LPIPS: how different two pictures look to a network trained on ImageNet."""

from typing import Literal

from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from veil.metrics.intervals import PeopleMean
from veil.types import Identities, Images, view


class LPIPS(PeopleMean):
    """LPIPS of the view before and after, 0 for equal pictures; torchmetrics', per face (Zhang et al. 2018,
    arXiv:1801.03924). The linear layers install with torchmetrics; the backbone is torchvision's download.

    Args:
        network: `alex`, `vgg` or `squeeze`; figures of different ones are not comparable.

    Raises ConnectionError where the backbone cannot be downloaded.

    """

    def __init__(self, network: Literal["alex", "vgg", "squeeze"] = "alex", resamples: int = 1000) -> None:
        super().__init__(resamples)
        try:
            self.network = LearnedPerceptualImagePatchSimilarity(network).net
        except OSError as error:
            raise ConnectionError(
                f"metrics=lpips needs torchvision's weights of {network}, which could not be downloaded ({error}); "
                "put them into torch's hub folder, or choose metrics=default"
            ) from error

    def update(self, images: Images, anonymized: Images, identities: Identities) -> None:
        """See the module."""
        self.network.to(images.device)
        self.add(self.network(view(anonymized), view(images), normalize=True).flatten(), identities)
