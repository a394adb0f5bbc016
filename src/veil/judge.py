"""A recogniser that measures: what it sees in faces before and after, against the clear gallery."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veil.data.faces import Side
from veil.metrics.comparison import best_matches
from veil.metrics.verification import thresholds
from veil.types import Faces, Images


class Judge(nn.Module):
    """A recogniser, the clear gallery, and thresholds set on clear photos.

    Args:
        recognizer: images -> unit embeddings; the zero vector for a face that it does not find.
        gallery: clear embeddings of the enrolled photos.
        enrolled: whose they are.
        probes: clear embeddings of the probes.
        probed: whose they are.
        keys: the probes' keys.
        people: how many are enrolled.

    """

    gallery: Tensor
    enrolled: Tensor

    def __init__(
        self,
        recognizer: nn.Module,
        gallery: Float[Tensor, "g d"],
        enrolled: Int[Tensor, " g"],
        probes: Float[Tensor, "p d"],
        probed: Int[Tensor, " p"],
        keys: Sequence[str],
        people: int,
    ) -> None:
        super().__init__()
        self.recognizer, self.people = recognizer, people
        self.register_buffer("gallery", gallery)
        self.register_buffer("enrolled", enrolled)
        self.clear = dict(zip(keys, probes, strict=True))
        self.thresholds = thresholds((probes @ gallery.T)[probed[:, None] != enrolled].numpy())

    @classmethod
    def of(cls, recognizer: nn.Module, clear: Mapping[str, Tensor], side: Side, people: int) -> "Judge":
        """A judge of the people of `side`; `clear` has the embedding of each of their photos, by key."""
        gallery, probes = (torch.stack([clear[key] for key in faces.keys]) for faces in (side.gallery, side.probes))
        enrolled, probed = (torch.tensor(faces.identities) for faces in (side.gallery, side.probes))
        return cls(recognizer, gallery, enrolled, probes, probed, side.probes.keys, people)

    def evidence(self, faces: Faces, anonymized: Images) -> dict[str, Any]:
        """What the privacy metrics take by name."""
        before = torch.stack([self.clear[key] for key in faces.keys]).to(anonymized)
        after = self.recognizer(anonymized)
        return {
            "embeddings": before,
            "anonymized_embeddings": after,
            "matches": best_matches(before, self.gallery, self.enrolled, self.people),
            "anonymized_matches": best_matches(after, self.gallery, self.enrolled, self.people),
            "scores": before @ self.gallery.T,
            "anonymized_scores": after @ self.gallery.T,
            "enrolled": self.enrolled,
            "thresholds": self.thresholds,
            "aligned": after.norm(dim=1) > 0,
        }
