"""How much of the identity is left, by a recogniser. Arguments are taken by name:

`identities`, `embeddings` and `logits` of the clear face; the same `anonymized_...` of the repainted face. What needs
the gallery (rank-k, TAR@FAR, bits ...) is an attack's figure: `veil.attacks.figures`.
"""

from jaxtyping import Float
from torch import Tensor

from veil.metrics.intervals import PeopleMean, where
from veil.types import Embeddings, Identities

PerPerson = Float[Tensor, "b people"]


def correct(logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 where the classifier names the true person."""
    return (logits.argmax(dim=1) == identities).double()


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


class IdentityCosine(PeopleMean):
    """Mean cosine between a face's embedding before and after, in [-1, 1]. Lower is more private."""

    def update(self, embeddings: Embeddings, anonymized_embeddings: Embeddings, identities: Identities) -> None:
        """See the module."""
        self.add((embeddings * anonymized_embeddings).sum(dim=1), identities)
