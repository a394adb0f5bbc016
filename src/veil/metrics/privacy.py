"""How much of the identity is left, by a recogniser. Arguments are taken by name:

`identities`, `embeddings` and `logits` of the clear face; the same `anonymized_...` of the repainted face. What needs
the gallery (rank-k, TAR@FAR, bits ...) is an attack's figure: `veil.evaluation.outcome`.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from veil.metrics.measure import CLEAR, Measure
from veil.metrics.per_face import measured, where
from veil.types import Embeddings, Identities

PerPerson = Float[Tensor, "b people"]
ACCURACY = Measure(
    "accuracy",
    "the white box's classifier names the true person",
    "privacy",
    "share",
    (0, 1),
    better="lower",
    prominence=2,
    event=True,
)

FOOLED = Measure(
    "fooled",
    "rightly named when clear, no longer so",
    "privacy",
    "share",
    (0, 1),
    better="higher",
    prominence=3,
    undefined="no clear probe is recognised, so none can be fooled",
    event=True,
)

FTA = Measure(
    "fta",
    "failure to acquire: the judge's own detector, where it has one, finds no face",
    "check",
    "share",
    (0, 1),
    prominence=1,
    event=True,
)
COSINE = Measure(
    "cosine", "likeness to the clear face, 1 the same", "privacy", bounds=(-1, 1), better="lower", prominence=1
)


def correct(logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 where the classifier names the true person."""
    return (logits.argmax(dim=1) == identities).double()


@measured(ACCURACY, "whitebox", CLEAR)
def clear_accuracy(logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 for a clear probe that the fine-tuned recogniser names rightly: the mean is the ceiling."""
    return correct(logits, identities)


@measured(ACCURACY, "whitebox")
def accuracy(anonymized_logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 for an anonymised probe that the fine-tuned recogniser still names rightly."""
    return correct(anonymized_logits, identities)


@measured(FOOLED, "whitebox")
def fooled(logits: PerPerson, anonymized_logits: PerPerson, identities: Identities) -> Float[Tensor, " b"]:
    """1 for a rightly named clear probe that is no longer rightly named (the 2022 study's figure); NaN for one that was
    not.
    """
    return where(correct(logits, identities) == 1, 1 - correct(anonymized_logits, identities))


@measured(COSINE, "judge")
def cosine(embeddings: Embeddings, anonymized_embeddings: Embeddings) -> Float[Tensor, " b"]:
    """Cosine between a face's embedding before and after, in [-1, 1]."""
    return (embeddings * anonymized_embeddings).sum(dim=1)


@measured(FTA, "judge")
def fta(anonymized_found: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 where a recogniser's own detector finds no face (failure to acquire, ISO/IEC 19795-1). Whoever knows where the
    face is recognises it all the same: it is no privacy.
    """
    return (~anonymized_found).double()
