"""Eigenfaces: a recogniser without a network, fitted on the attacker's own photos."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from veil.errors import InputError
from veil.types import Embeddings, Images, view

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Eigenfaces(nn.Module):
    """Whitened principal components of the grey, small view, as unit vectors (Turk and Pentland 1991); their cosine is
    the Mahalanobis cosine of Bolme et al. 2003 (The CSU Face Identification Evaluation System).

    It knows nothing but the photos that `fit` shows it. Frozen, differentiable in the pixels.

    Args:
        variance: share of the photos' variance that the components keep, in (0, 1); it sets their number.
        size: px, side of the view as it is compared.

    """

    people_listed = True  # those who are enrolled, and nobody else

    def __init__(self, variance: float = 0.95, size: int = 48) -> None:
        super().__init__()
        if not 0 < variance < 1:
            raise InputError(f"variance is the share that the eigenfaces keep, in (0, 1), got {variance}")
        if size < 2:
            raise InputError(f"size is the side of the compared view in px, at least 2, got {size}")
        self.variance, self.input_size = variance, size
        self.preprocessing: dict[str, object] = {"input_size": size}
        # frozen parameters, as a network's weights are: they move with the module and name its state
        self.mean = nn.Parameter(torch.empty(0), requires_grad=False)
        self.directions = nn.Parameter(torch.empty(0, 0), requires_grad=False)
        self.eval()

    def fit(self, images: Images) -> "Eigenfaces":
        """Find the components of these photos, in double precision; the same photos give the same ones.

        Raises InputError for fewer than three photos.
        """
        if len(images) < 3:
            raise InputError(f"eigenfaces are fitted on at least 3 photos, got {len(images)}")
        pixels = self.pixels(images).double().cpu().numpy()
        pca = PCA(self.variance, svd_solver="full", whiten=True).fit(pixels)
        directions = pca.components_ / np.sqrt(pca.explained_variance_)[:, None]
        for parameter, values in ((self.mean, pca.mean_), (self.directions, directions)):
            parameter.data = torch.from_numpy(values).float().to(parameter.device)
        return self

    def train(self, mode: bool = True) -> "Eigenfaces":
        """Stay in eval mode."""
        return super().train(False)

    def pixels(self, images: Images) -> Float[Tensor, "b p"]:
        """The grey view, `size` px wide, as a vector."""
        weights = torch.tensor(GREY, dtype=images.dtype, device=images.device)[:, None, None]
        grey = (view(images) * weights).sum(dim=1, keepdim=True)
        return F.interpolate(grey, (self.input_size, self.input_size), mode="bilinear", antialias=True).flatten(1)

    def forward(self, images: Images) -> Embeddings:
        """Project and normalise. Raises RuntimeError before `fit`."""
        if not len(self.directions):
            raise RuntimeError("eigenfaces know nobody yet: show them the gallery with fit(images) first")
        return F.normalize((self.pixels(images) - self.mean) @ self.directions.T, dim=1)
