"""What makes embeddings of one person alike. Each loss can name people too: `logits`, and `classifier` to keep."""

import math

import torch
from jaxtyping import Float
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, TripletMarginLoss
from pytorch_metric_learning.losses.large_margin_softmax_loss import LargeMarginSoftmaxLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor, nn
from torch.nn import functional as F

from veil.types import Embeddings, Identities

MARGINS = {"arcface": 0.5, "cosface": 0.35, "triplet": 0.2}  # the papers': radians, cosine, squared distance
APART = 0.05  # how far a class starts from its centroid
MEMORY = 0.9  # of a running centroid, a batch

Logits = Float[Tensor, "b people"]


def new_loss(name: str, centroids: Float[Tensor, "people d"], scale: float, margin: float | None) -> nn.Module:
    """A loss whose classes start at the people's centroids (unit vectors)."""
    margin = MARGINS.get(name, 0.0) if margin is None else margin
    people, size = centroids.shape
    with torch.random.fork_rng([]):  # the package draws weights, which are replaced
        match name:
            case "arcface":
                return Margin(ArcFaceLoss(people, size, margin=math.degrees(margin), scale=scale), centroids)
            case "cosface":
                return Margin(CosFaceLoss(people, size, margin=margin, scale=scale), centroids)
            case "triplet":
                return Triplet(centroids, scale, margin)
            case _:
                return Softmax(centroids, scale)


class Softmax(nn.Module):
    """Cross-entropy of a linear classifier that starts at `scale` x centroids."""

    def __init__(self, centroids: Float[Tensor, "people d"], scale: float) -> None:
        super().__init__()
        self.linear = linear(scale * centroids)

    def forward(self, embeddings: Embeddings, identities: Identities) -> Tensor:
        """Mean over the batch."""
        return F.cross_entropy(self.logits(embeddings), identities)

    def logits(self, embeddings: Embeddings) -> Logits:
        """The classifier's."""
        return self.linear(embeddings)

    def classifier(self) -> nn.Linear:
        """A copy."""
        return linear(self.linear.weight, self.linear.bias)


class Margin(nn.Module):
    """Softmax over scaled cosines in which the true person's is made worse by a margin while training.

    ArcFace adds it to the angle (Deng et al. 2018, arXiv:1801.07698), CosFace takes it from the cosine (Wang et al.
    2018, arXiv:1801.09414).
    """

    def __init__(self, loss: LargeMarginSoftmaxLoss, centroids: Float[Tensor, "people d"]) -> None:
        super().__init__()
        self.loss = loss
        # not at the centroid itself: there the only photo of a person has cosine 1, where an angle has no gradient
        self.loss.W.data = F.normalize(centroids - APART * centroids.mean(dim=0), dim=1).T.clone()

    def forward(self, embeddings: Embeddings, identities: Identities) -> Tensor:
        """Mean over the batch."""
        return self.loss(embeddings, identities)

    def logits(self, embeddings: Embeddings) -> Logits:
        """Scaled cosines, without the margin."""
        return self.loss.get_logits(embeddings)

    def classifier(self) -> nn.Linear:
        """The same logits, for unit embeddings."""
        return linear(self.loss.scale * F.normalize(self.loss.W.T, dim=1))


class Triplet(nn.Module):
    """Nearer to the same person than to others by a margin, in squared distance; semi-hard triplets of each batch.

    Schroff et al. 2015, arXiv:1503.03832. It has no classes: `logits` are scaled cosines to running centroids.
    """

    centroids: Tensor

    def __init__(self, centroids: Float[Tensor, "people d"], scale: float, margin: float) -> None:
        super().__init__()
        self.scale = scale
        self.loss = TripletMarginLoss(margin, distance=LpDistance(power=2))
        self.miner = TripletMarginMiner(margin, type_of_triplets="semihard", distance=LpDistance(power=2))
        self.register_buffer("centroids", centroids.clone())

    def forward(self, embeddings: Embeddings, identities: Identities) -> Tensor:
        """Mean over the triplets that are not yet apart; 0 where none is left."""
        if self.training:
            self._follow(embeddings.detach(), identities)
        return self.loss(embeddings, identities, self.miner(embeddings, identities))

    def logits(self, embeddings: Embeddings) -> Logits:
        """Scaled cosines to the centroids."""
        return self.scale * embeddings @ self.centroids.T

    def classifier(self) -> nn.Linear:
        """The same logits."""
        return linear(self.scale * self.centroids)

    def _follow(self, embeddings: Embeddings, identities: Identities) -> None:
        seen = identities.unique()
        now = torch.stack([embeddings[identities == person].mean(dim=0) for person in seen])
        self.centroids[seen] = F.normalize(torch.lerp(F.normalize(now, dim=1), self.centroids[seen], MEMORY), dim=1)


def linear(weight: Float[Tensor, "people d"], bias: Float[Tensor, " people"] | None = None) -> nn.Linear:
    """A linear layer with these weights (copied)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta").to_empty(device=weight.device)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return layer
