"""FID: the distance between two sets of features as Gaussians. Name the feature network beside it."""

import torch
from jaxtyping import Float
from torch import Tensor

from veil.metrics.measure import Measure

FID = Measure(
    "fid",
    "distance of the results from clear photos of other people, as Gaussians of the subject's features",
    "utility",
    bounds=(0, None),
    better="lower",
)


def frechet_distance(features: Float[Tensor, "n d"], reference: Float[Tensor, "m d"]) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0 (Heusel et al. 2017, arXiv:1706.08500).

    Biased upwards by the sample, the more the fewer images and the wider the features: two halves of one data set do
    not have distance 0. Compare only at equal n, from thousands of images on (Chong and Forsyth 2020,
    arXiv:1911.07023); below that report KID (`veil.metrics.realism.kernel_distance`), which has no bias. FID proper is
    of Inception v3's 2048 features; of another network it is another number.

    With C = X'X of centred features X the last trace is the sum of the singular values of X1 X2': no matrix root, and
    no covariance that n <= d images leave singular. Raises ValueError for a set of fewer than two.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"a covariance needs two features or more, got {len(features)} and {len(reference)}")
    first, second = features.double(), reference.double()
    shift = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    roots = [_root(part) for part in (first, second)]
    spread = sum(root.square().sum() for root in roots)
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max((shift + spread - 2 * overlap).item(), 0.0)


def _root(features: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """An R with R'R the covariance and at most d rows."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R
