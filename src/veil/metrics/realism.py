"""Do the results look like photos? Distances between sets of features; name the feature network beside them."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from veil.metrics.intervals import LEVEL, Interval

Features = Float[Tensor, "n d"]


def kernel_distance(features: Features, reference: Float[Tensor, "m d"]) -> float:
    """KID: unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, torchmetrics' (Binkowski et al.
    2018, arXiv:1801.01401).

    0 in expectation where both sets are drawn alike, so it may be slightly negative. Unlike FID it needs no thousands
    of images to be unbiased.
    """
    size = min(len(features), len(reference))
    return poly_mmd(features[:size].double(), reference[:size].double()).item()


def kernel_distance_interval(
    features: Features, reference: Float[Tensor, "m d"], subsets: int = 100, seed: int = 0
) -> Interval:
    """KID with a 95 % interval: mean and percentiles over random halves of both sets, without replacement.

    Halves spread as sqrt(2) times the whole does; the interval is narrowed by that much round the mean.
    """
    size = min(len(features), len(reference))
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for _ in range(subsets):
        left, right = (torch.randperm(len(part), generator=generator)[: size // 2] for part in (features, reference))
        halves.append(kernel_distance(features[left], reference[right]))
    values = torch.tensor(halves, dtype=torch.float64)
    value = values.mean()
    low, high = (value + (values.quantile(q) - value) / 2**0.5 for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(value.item(), low.item(), high.item(), size)
