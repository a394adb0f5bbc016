"""Functions that give one value a face, and the one torchmetrics class that takes their means."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from veil.metrics.intervals import Interval, people_mean
from veil.metrics.measure import ANONYMISED, Measure
from veil.types import Identities

PerFaceFunction = Callable[..., Float[Tensor, " b"]]
Function = TypeVar("Function", bound=PerFaceFunction)
Asked = Literal["picture", "judge", "whitebox"]


def measured(measure: Measure, asked: Asked = "picture", condition: str = ANONYMISED) -> Callable[[Function], Function]:
    """Mark a function that gives one value a face (NaN where the face has none) with what the value is.

    Args:
        asked: of whom: of the pictures, of each recogniser, or of the white box and its classifier.

    """

    def mark(function: Function) -> Function:
        function.measure, function.asked, function.condition = measure, asked, condition  # type: ignore[attr-defined]
        return function

    return mark


class PerFace(Metric):
    """The mean over faces of a function marked by `measured`, with its interval over people, for torchmetrics.

    A face whose value is NaN (a wrong prediction cannot be fooled) is left out.

    Args:
        function: named inputs -> one value a face.

    """

    full_state_update = False
    values: list[Tensor]
    identities: list[Tensor]

    def __init__(self, function: PerFaceFunction, resamples: int = 1000) -> None:
        super().__init__()
        marked: Any = function.func if isinstance(function, partial) else function
        self.function, self.resamples = function, resamples
        self.measure: Measure = marked.measure
        self.asked: Asked = marked.asked
        self.condition: str = marked.condition
        self.takes = tuple(inspect.signature(function).parameters)
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    def update(self, identities: Identities, **evidence: Any) -> None:
        """Take a batch: whose faces they are, and what the function takes by name; the rest is ignored."""
        known = {"identities": identities, **evidence}
        self.values.append(self.function(**{name: known[name] for name in self.takes}).detach().double())
        self.identities.append(identities)

    def compute(self) -> Interval | None:
        """The mean and its interval; `None` where no face has the figure."""
        values, identities = dim_zero_cat(self.values), dim_zero_cat(self.identities)
        return people_mean(values.cpu().numpy(), identities.cpu().numpy(), self.resamples, event=self.measure.event)


def where(condition: Tensor, values: Tensor) -> Float[Tensor, " b"]:
    """`values` of the faces that `condition` holds for; NaN for the others."""
    return torch.where(condition, values.double(), torch.nan)
