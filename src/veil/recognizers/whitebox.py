"""The recogniser whose gradients the masker sees, and the people it knows."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.config import FARS
from veil.data.faces import Enrolment
from veil.errors import InputError
from veil.metrics.identification import Comparison
from veil.metrics.verification import pairs, strangers_of
from veil.recognizers.embed import Clear
from veil.types import Embeddings, Identities, Images

WITHOUT_GRADIENTS = (
    "The maskers random, landmarks, t_zone and whole_face ask no recogniser, occlusion and rise ask embeddings alone"
)
SHARPNESS = 32.0  # of the softmax over cosines that classifies by centroids
STRANGERS = 1000  # people whose centroids are compared for the scale of `likeness`


class WhiteBox(nn.Module):
    """A recogniser with a classifier of the enrolled people and their gallery centroids.

    Args:
        recognizer: images -> unit embeddings, frozen.
        head: embeddings -> logits over the enrolled people.
        centroids: `(people, d)` unit vectors, the mean gallery embedding of each person.
        surrogates: further white boxes, for maskers that ask several (`ensemble`, `search`).
        threshold: cosine to a centroid above which a face is taken for that person, for the knob `hide_at_far`.
        mixed: whether the recogniser is run in mixed precision, by bfloat16 (`torch.autocast`).

    """

    centroids: Tensor

    def __init__(
        self,
        recognizer: nn.Module,
        head: nn.Module,
        centroids: Float[Tensor, "people d"],
        surrogates: Sequence["WhiteBox"] = (),
        threshold: float | None = None,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        self.recognizer, self.head, self.threshold, self.mixed = recognizer, head, threshold, mixed
        self.register_buffer("centroids", centroids)
        self.surrogates = nn.ModuleList(surrogates)
        self.requires_grad_(False).eval()

    @property
    def members(self) -> "tuple[WhiteBox, ...]":
        """Itself and its surrogates."""
        return (self, *self.surrogates)

    def train(self, mode: bool = True) -> "WhiteBox":
        """Stay in eval mode whatever is done around it."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Embed; in single precision, or mixed, whatever is around."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed):
            return self.recognizer(images).to(images.dtype)

    def logits(self, embeddings: Embeddings) -> Float[Tensor, "b people"]:
        """The classifier's evidence for each enrolled person."""
        return self.head(embeddings)

    def loss(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Cross-entropy of each face's true person."""
        return F.cross_entropy(self.logits(self(images)), identities, reduction="none")

    def similarity(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Cosine of each face to its person's centroid."""
        return (self(images) * self.centroids[identities]).sum(dim=1)

    def likeness(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """`similarity` in standard deviations above the mean cosine of two people's centroids: one scale for all
        recognisers. A standard deviation under 0.01 counts as that.
        """
        cosines = self.centroids[:STRANGERS] @ self.centroids[:STRANGERS].T
        strangers = cosines[torch.ones_like(cosines).triu(diagonal=1) > 0]
        return (self.similarity(images, identities) - strangers.mean()) / strangers.std(correction=0).clamp_min(0.01)


def centroids(embeddings: Embeddings, identities: Identities, people: int) -> Float[Tensor, "people d"]:
    """Unit mean embedding of each person."""
    total = torch.zeros(people, embeddings.shape[1]).index_add_(0, identities, embeddings)
    return F.normalize(total, dim=1)


def centroid_classifier(means: Float[Tensor, "people d"]) -> nn.Linear:
    """A classifier without training: the softmax over the cosines to the people's centroids."""
    head = nn.Linear(means.shape[1], len(means), bias=False)
    head.weight.data = SHARPNESS * means
    return head


def person_means(clear: Clear, enrolment: Enrolment) -> Float[Tensor, "people d"]:
    """Centroid of each enrolled person."""
    return centroids(clear.gallery, torch.tensor(enrolment.gallery.identities), len(enrolment.people))


def threshold(far: float | None, clear: Clear, means: Float[Tensor, "people d"], enrolment: Enrolment) -> float | None:
    """The cosine to a centroid that clear probes of other people exceed with this FAR; None for none.

    Raises InputError where the data has too few pairs for it.
    """
    if far is None:
        return None
    probed = torch.tensor(enrolment.probes.identities)
    strangers = strangers_of(pairs(Comparison(clear.probes, probed, means, torch.arange(len(means)))))
    reason = strangers.unsupported(far)
    if reason:
        allowed = [other for other in FARS if not strangers.unsupported(other)]
        raise InputError(
            f"hide_at_far must be null or one of {allowed} on this data, for its pairs of a clear probe and another "
            f"person's centroid, got {far}: {reason}"
        )
    return strangers.threshold(far)
