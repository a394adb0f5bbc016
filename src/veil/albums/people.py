"""Who is the same person in an album, in memory that grows with people, not with photos."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from veil.albums.worker import Vectors


class Groups:
    """Faces grouped one after the other: each joins the person whose mean it is most like, or is a new one.

    Leader clustering (Hartigan 1975, Clustering Algorithms): one look at each face, so that the order counts; files
    come in the order of their names.

    Args:
        threshold: cosine, by the first recogniser, to a person's mean above which a face is that person's.

    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts: list[int] = []
        self._sums: dict[str, Float[Tensor, "people d"]] = {}  # by recogniser; rows beyond the people are zeros

    def add(self, vectors: Vectors) -> int:
        """The person of a face."""
        person = self._nearest(next(iter(vectors.items())))
        if person == len(self.counts):
            self.counts.append(0)
        self.counts[person] += 1
        for name, vector in vectors.items():
            self._sums[name] = _with_room(self._sums.get(name, vector.new_zeros(1, len(vector))), person)
            self._sums[name][person] += vector
        return person

    def _nearest(self, first: tuple[str, Float[Tensor, " d"]]) -> int:
        name, vector = first
        if not self.counts:
            return 0
        cosines = F.normalize(self._sums[name][: len(self.counts)], dim=1) @ vector
        best = int(cosines.argmax())
        return best if cosines[best] > self.threshold else len(self.counts)

    def others(self, person: int, vectors: Vectors) -> Vectors:
        """Unit mean of a person's other faces, by recogniser; empty where there is no other."""
        if self.counts[person] < 2:
            return {}
        return {
            name: F.normalize(self._sums[name][person] - vector, dim=0, eps=1e-6) for name, vector in vectors.items()
        }


def _with_room(sums: Float[Tensor, "rows d"], person: int) -> Float[Tensor, "more d"]:
    """Twice as many rows where there is none for this person."""
    return sums if person < len(sums) else torch.cat([sums, torch.zeros_like(sums)])
