"""Means over faces with 95 % intervals over people."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, its 95 % interval, and the number of faces it is the mean of."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of `values`, resampling people with replacement (Efron 1979).

    Photos of one person are alike, so people are the independent units (cluster bootstrap; Davison and Hinkley 1997,
    section 3.8). A proportion of exactly 0 or 1 has no spread to resample: its interval is Clopper and Pearson's
    (1934) with one trial a person.
    """
    _, person = np.unique(people, return_inverse=True)
    totals, counts = np.bincount(person, values), np.bincount(person)
    mean = float(values.mean())
    if np.all(values == values[0]) and mean in (0.0, 1.0):
        return Interval(mean, *end_interval(mean, len(counts)), len(values))
    draws = resample(len(counts), resamples, seed)
    return Interval(mean, *percentiles((draws @ totals) / (draws @ counts)), len(values))


def bootstrap_quantile(
    values: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
    share: float,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The value that a `share` of the values do not exceed, with its percentile interval as `bootstrap_mean`'s."""
    _, person = np.unique(people, return_inverse=True)
    order = values.argsort()
    weights = resample(int(person.max()) + 1, resamples, seed)[:, person[order]].cumsum(axis=1)
    at = (weights < share * weights[:, -1:]).sum(axis=1)
    value = np.quantile(values, share, method="inverted_cdf")
    return Interval(float(value), *percentiles(values[order][at]), len(values))


def resample(people: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples people"]:
    """How often each person is drawn in each resample, with replacement."""
    uniform = np.full(people, 1 / people)
    return np.random.default_rng(seed).multinomial(people, uniform, size=resamples).astype(float)


def percentiles(figures: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Between which 95 % of the resampled figures lie."""
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def end_interval(share: float, people: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of exactly 0 or 1, one trial a person."""
    reach = ((1 - LEVEL) / 2) ** (1 / people)
    return (reach, 1.0) if share else (0.0, 1 - reach)


def people_mean(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"], resamples: int = 1000
) -> Interval | None:
    """Mean and interval of the values that are numbers; `None` where none is."""
    concerned = ~np.isnan(values)
    if not concerned.any():
        return None
    return bootstrap_mean(values[concerned], people[concerned], resamples)


class PeopleMean(Metric):
    """Mean of a figure that each face has, with its interval; subclasses `add` the figure in `update`.

    A face that the figure does not concern (a wrong prediction cannot be fooled) counts as NaN and is left out.
    """

    higher_is_better: bool | None = None
    full_state_update = False
    undefined = "no face that it concerns"  # why `compute` may have nothing to give
    values: list[Tensor]
    identities: list[Tensor]

    def __init__(self, resamples: int = 1000) -> None:
        super().__init__()
        self.resamples = resamples
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    def add(self, values: Float[Tensor, " b"], identities: Int[Tensor, " b"]) -> None:
        """Take one value a face."""
        self.values.append(values.detach().double())
        self.identities.append(identities)

    def compute(self) -> Interval | None:
        """The mean and its interval; `None` where no face has the figure."""
        values, identities = dim_zero_cat(self.values), dim_zero_cat(self.identities)
        return people_mean(values.cpu().numpy(), identities.cpu().numpy(), self.resamples)


def where(condition: Tensor, values: Tensor) -> Float[Tensor, " b"]:
    """`values` of the faces that `condition` holds for; NaN for the others."""
    return torch.where(condition, values.double(), torch.nan)
