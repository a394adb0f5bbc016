"""How much of the identity is left, by a recogniser. Arguments are taken by name:

`identities`, `embeddings` and `logits` of the clear face; `scores` `(b, g)` its cosine to each photo of the gallery,
whose people are `enrolled`; `matches` `(b, people)` its best cosine to each enrolled person; the same `anonymized_...`
of the repainted face. `thresholds` by FAR are set on clear impostor pairs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veil.metrics.comparison import accepted_pairs, rank
from veil.metrics.intervals import PeopleMean, where
from veil.types import Embeddings, Identities

PerPerson = Float[Tensor, "b people"]
PerPhoto = Float[Tensor, "b g"]
Enrolled = Int[Tensor, " g"]


def correct(logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 where the classifier names the true person."""
    return (logits.argmax(dim=1) == identities).double()


def accepted(
    scores: PerPhoto, enrolled: Enrolled, identities: Identities, threshold: float | None
) -> Float[Tensor, " b"]:
    """Share of each face's genuine pairs above the threshold; no figure where no threshold has enough impostors."""
    if threshold is None:
        return torch.full((len(scores),), torch.nan, dtype=torch.float64, device=scores.device)
    return accepted_pairs(scores, enrolled, identities, threshold)


class ClearAccuracy(PeopleMean):
    """Share of clear probes that the fine-tuned recogniser names rightly: the ceiling."""

    def update(self, logits: PerPerson, identities: Identities) -> None:
        """See the module."""
        self.add(correct(logits, identities), identities)


class Accuracy(PeopleMean):
    """Share of anonymised probes that the fine-tuned recogniser still names rightly. Lower is more private."""

    def update(self, anonymized_logits: PerPerson, identities: Identities) -> None:
        """See the module."""
        self.add(correct(anonymized_logits, identities), identities)


class Fooled(PeopleMean):
    """Share of rightly named clear probes that are no longer rightly named (the 2022 study's figure)."""

    undefined = "no clear probe is recognised, so none can be fooled"

    def update(self, logits: PerPerson, anonymized_logits: PerPerson, identities: Identities) -> None:
        """See the module."""
        fooled = 1 - correct(anonymized_logits, identities)
        self.add(where(correct(logits, identities) == 1, fooled), identities)


class ClearRank(PeopleMean):
    """Share of clear probes whose person is among the k best matches in the clear gallery: the ceiling."""

    def __init__(self, k: int, resamples: int = 1000) -> None:
        super().__init__(resamples)
        self.k = k

    def update(self, matches: PerPerson, identities: Identities) -> None:
        """See the module."""
        self.add((rank(matches, identities) <= self.k).double(), identities)


class Rank(PeopleMean):
    """Rank-k: share of anonymised probes whose person is among the k best matches in the clear gallery."""

    def __init__(self, k: int, resamples: int = 1000) -> None:
        super().__init__(resamples)
        self.k = k

    def update(self, anonymized_matches: PerPerson, identities: Identities) -> None:
        """See the module."""
        self.add((rank(anonymized_matches, identities) <= self.k).double(), identities)


class IdentityCosine(PeopleMean):
    """Mean cosine between a face's embedding before and after, in [-1, 1]. Lower is more private."""

    def update(self, embeddings: Embeddings, anonymized_embeddings: Embeddings, identities: Identities) -> None:
        """See the module."""
        self.add((embeddings * anonymized_embeddings).sum(dim=1), identities)


class ClearTAR(PeopleMean):
    """TAR@FAR of clear probes: the ceiling."""

    undefined = "too few impostor pairs for this FAR: fewer than 10 would lie above its threshold"

    def __init__(self, far: float, resamples: int = 1000) -> None:
        super().__init__(resamples)
        self.far = far

    def update(
        self, scores: PerPhoto, enrolled: Enrolled, identities: Identities, thresholds: Mapping[float, float]
    ) -> None:
        """See the module."""
        self.add(accepted(scores, enrolled, identities, thresholds.get(self.far)), identities)


class TAR(PeopleMean):
    """TAR@FAR: share of genuine pairs (anonymised probe, clear gallery photo) above a threshold that a share of FAR of
    the clear impostor pairs exceeds. Lower is more private.
    """

    undefined = ClearTAR.undefined

    def __init__(self, far: float, resamples: int = 1000) -> None:
        super().__init__(resamples)
        self.far = far

    def update(
        self, anonymized_scores: PerPhoto, enrolled: Enrolled, identities: Identities, thresholds: Mapping[float, float]
    ) -> None:
        """See the module."""
        self.add(accepted(anonymized_scores, enrolled, identities, thresholds.get(self.far)), identities)
