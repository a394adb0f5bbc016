"""Inception v3, the feature network of FID and KID as they are usually quoted."""

from pathlib import Path
from urllib.error import URLError

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3

from veil.errors import InputError
from veil.types import Images, view


class Inception(nn.Module):
    """Images to the 2048 pool features of the view, of the network and weights of the FID paper's TensorFlow code
    (Heusel et al. 2017, arXiv:1706.08500), ported by torch-fidelity.

    Args:
        weights: torch-fidelity's `.pth` file; `None` downloads it.

    Raises InputError where the file is not there, or cannot be downloaded, or torch-fidelity is not installed.

    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        if weights is not None and not Path(weights).is_file():
            raise InputError(f"features.inception.weights must be a .pth file or null, got {weights!r}")
        try:
            self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights)
        except ModuleNotFoundError as error:
            raise InputError("features=inception needs torch-fidelity: pip install veil[inception]") from error
        except URLError as error:
            raise InputError(
                f"features=inception: its weights could not be downloaded ({error.reason}); give a file with "
                "features.inception.weights=<.pth>, or take features=none: KID is then on the judges' embeddings only"
            ) from error
        self.requires_grad_(False).eval()

    def forward(self, images: Images) -> Float[Tensor, "b 2048"]:
        """Features of the view in 8 bits, enlarged to 299 px by the network itself."""
        return self.network((view(images) * 255).round().byte())
