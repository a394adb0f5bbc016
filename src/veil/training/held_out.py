"""Are two photos of one person? Asked about people who took no part in training."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from veil.data.split import face_seed
from veil.metrics.identification import Comparison
from veil.metrics.intervals import Interval
from veil.metrics.verification import acceptance, pairs
from veil.types import Embeddings, Identities


def held_out_people(people: Sequence[str], share: float, seed: int) -> frozenset[int]:
    """Indices of the `share` of people, seeded by their names, who are kept from training."""
    order = sorted(range(len(people)), key=lambda index: face_seed(f"held out/{people[index]}", seed))
    return frozenset(order[: round(share * len(people))])


def true_accepts(comparison: Comparison) -> Mapping[float, Interval | str]:
    """TAR at each FAR over pairs of a probe and an enrolled photo, or why there is none.

    Photos without a face (zeros) are left out of the templates; as probes they are never accepted.
    """
    probes, probed, templates, enrolled = comparison
    found = templates.any(dim=1)
    known = torch.isin(probed, enrolled[found])
    return acceptance(pairs(Comparison(probes[known], probed[known], templates[found], enrolled[found])))


class HeldOut(Metric):
    """`true_accepts` of batches, on any number of devices."""

    full_state_update = False
    probes: list[Tensor]
    probed: list[Tensor]
    templates: list[Tensor]
    enrolled: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("probes", "probed", "templates", "enrolled"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Embeddings, identities: Identities, enrolled: bool) -> None:
        """Take enrolled photos, or probes."""
        (self.templates if enrolled else self.probes).append(embeddings)
        (self.enrolled if enrolled else self.probed).append(identities)

    def compute(self) -> dict[float, Interval]:
        """TAR at each FAR that can be measured."""
        parts = (self.probes, self.probed, self.templates, self.enrolled)
        accepted = true_accepts(Comparison(*(dim_zero_cat(part).cpu() for part in parts)))
        return {far: interval for far, interval in accepted.items() if isinstance(interval, Interval)}


def positions(identities: Identities, people: frozenset[int]) -> Int[Tensor, " n"]:
    """Rows whose person is one of `people`."""
    return torch.isin(identities, torch.tensor(sorted(people))).nonzero()[:, 0]


def of_people(comparison: Comparison, people: frozenset[int]) -> Comparison:
    """The probes and templates of some people."""
    probes, probed, templates, enrolled = comparison
    here, there = positions(probed, people), positions(enrolled, people)
    return Comparison(probes[here], probed[here], templates[there], enrolled[there])
