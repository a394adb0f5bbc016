"""Do the results look like photos? KID and FID between sets of features; name the feature network beside them."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.image.kid import poly_kernel

from veil.metrics.intervals import LEVEL, Interval
from veil.metrics.measure import Measure

KID = Measure(
    "kid",
    "distance of the results from clear photos of other people, by the subject's features; 0 is none",
    "utility",
    better="lower",
    prominence=1,
)
Features = Float[Tensor, "n d"]
Reference = Float[Tensor, "m d"]
People = Int[Tensor, " n"]
ReferencePeople = Int[Tensor, " m"]


class _Photos(NamedTuple):
    """A set of features, and whose they are."""

    features: Features
    person: Int[Tensor, " n"]  # column among `names`
    names: Int[Tensor, " people"]


class _Sums(NamedTuple):
    """Sums of the kernel, and numbers of pairs, over the photos of two people; 0 where the two are one."""

    kernel: Float[Tensor, "a b"]
    pairs: Float[Tensor, "a b"]


def kernel_distance(
    features: Features,
    reference: Reference,
    people: People | None = None,
    reference_people: ReferencePeople | None = None,
) -> float:
    """KID: unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, torchmetrics' (Binkowski et al.
    2018, arXiv:1801.01401).

    0 in expectation where both sets are drawn alike, so it may be slightly negative. Unlike FID it needs no thousands
    of images to be unbiased. That holds for independent draws; photos of one person are not, and pairs of them lift
    the means within the sets. So only pairs of different people count, wherever they are.

    Args:
        people: whose photos `features` are; every photo is of somebody else where it is not given.
        reference_people: the same of `reference`, in one numbering with `people`; give both or neither.

    """
    sums = _sums(features, reference, people, reference_people)
    everybody = [torch.ones(1, len(part.kernel), dtype=torch.float64) for part in sums[:2]]
    return _distance(sums, *everybody).item()


def kernel_distance_interval(
    features: Features,
    reference: Reference,
    people: People | None = None,
    reference_people: ReferencePeople | None = None,
    subsets: int = 1000,
    seed: int = 0,
) -> Interval:
    """KID with a 95 % interval: percentiles over random halves of the people of both sets, without replacement.

    Halves drawn from a sample spread round it as it does round the truth (delete-half jackknife; Shao and Wu 1989);
    where both sets are drawn alike they spread by more, and the interval is too wide rather than too narrow.
    """
    sums = _sums(features, reference, people, reference_people)
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(part.kernel) for part in sums[:2]]
    if min(sizes) < 4:
        raise ValueError(f"people: halves need 4 people in each set, got {sizes[0]} and {sizes[1]}")
    halves = [_halves(size, subsets, generator) for size in sizes]
    low, high = (_distance(sums, *halves).quantile(q).item() for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(kernel_distance(features, reference, people, reference_people), low, high, len(features))


def _sums(
    features: Features, reference: Reference, people: People | None, reference_people: ReferencePeople | None
) -> tuple[_Sums, _Sums, _Sums]:
    """Within the features, within the reference, across."""
    if people is None and reference_people is None:
        people, reference_people = torch.arange(len(features) + len(reference)).split([len(features), len(reference)])
    if people is None or reference_people is None:
        raise ValueError("people, reference_people: give both or neither, got one")
    left, right = (
        _Photos(part.double(), *reversed(owners.unique(return_inverse=True)))
        for part, owners in ((features, people), (reference, reference_people))
    )
    sums = _pair_sums(left, left), _pair_sums(right, right), _pair_sums(left, right)
    if not all(part.pairs.any() for part in sums):
        raise ValueError(f"people: each set needs photos of two, got {len(left.names)} and {len(right.names)} people")
    return sums


def _pair_sums(a: _Photos, b: _Photos) -> _Sums:
    kernel = poly_kernel(a.features, b.features)
    rows = kernel.new_zeros(len(a.names), len(b.features)).index_add(0, a.person, kernel)
    sums = kernel.new_zeros(len(a.names), len(b.names)).index_add(1, b.person, rows)
    strangers = a.names[:, None] != b.names
    return _Sums(sums * strangers, a.person.bincount()[:, None] * b.person.bincount() * strangers.double())


def _halves(people: int, subsets: int, generator: torch.Generator) -> Float[Tensor, "subsets people"]:
    """1 for each person of a random half."""
    order = torch.rand(subsets, people, generator=generator).argsort(dim=1)
    return (order < people // 2).double()


def _distance(
    sums: tuple[_Sums, _Sums, _Sums], people: Float[Tensor, "subsets a"], reference_people: Float[Tensor, "subsets b"]
) -> Float[Tensor, " subsets"]:
    """KID of the photos of the people marked 1."""

    def mean(part: _Sums, left: Tensor, right: Tensor) -> Tensor:
        kernel, pairs = (((left @ table) * right).sum(dim=1) for table in part)
        return kernel / pairs

    within, reference_within, across = sums
    return (
        mean(within, people, people)
        + mean(reference_within, reference_people, reference_people)
        - 2 * mean(across, people, reference_people)
    )


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
    arXiv:1911.07023); below that report KID (`kernel_distance`), which has no bias. FID proper is
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
