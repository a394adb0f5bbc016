"""Opinions are averaged by rank, over maskers and over white boxes."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

from veil.errors import InputError
from veil.maskers.ensemble import ensemble, ranks
from veil.maskers.gradient import saliency
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores


def rising(faces: Faces, _: WhiteBox) -> Scores:
    return torch.arange(4.0).view(1, 2, 2).expand(len(faces.keys), -1, -1) ** 3


def falling(faces: Faces, recognizer: WhiteBox) -> Scores:
    return -100 * rising(faces, recognizer)


def test_ranks_by_hand(faces: Faces) -> None:
    scores = torch.tensor([[[5.0, 1.0], [5.0, 9.0]]]).expand(4, -1, -1)
    torch.testing.assert_close(ranks(scores, faces, 2)[0], torch.tensor([[0.5, 0.125], [0.5, 0.875]]))


def test_ranks_do_not_see_the_scale(faces: Faces, recognizer: WhiteBox) -> None:
    equal = ensemble(faces, recognizer, {"up": rising, "down": falling}, {}, 2)
    torch.testing.assert_close(equal, torch.full((4, 2, 2), 0.5))
    weighted = ensemble(faces, recognizer, {"up": rising, "down": falling}, {"up": 3.0}, 2)
    torch.testing.assert_close(weighted[0].flatten(), torch.tensor([0.3125, 0.4375, 0.5625, 0.6875]))


def test_each_white_box_is_asked(faces: Faces, recognizer: WhiteBox) -> None:
    head = nn.Linear(16, 5)
    other = WhiteBox(recognizer.recognizer, head, F.normalize(torch.randn(5, 16), dim=1))
    both = WhiteBox(recognizer.recognizer, recognizer.head, recognizer.centroids, [other])
    found = ensemble(faces, both, {"saliency": saliency}, {}, 10)
    alone = [ranks(saliency(faces, member), faces, 10) for member in (recognizer, other)]
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)
    assert all(spearmanr(found[0].flatten(), part[0].flatten()).statistic > 0.3 for part in alone)


@pytest.mark.parametrize("weights", [{"sideways": 1.0}, {"up": -1.0}, {"up": 0.0}, {"up": float("nan")}])
def test_weights_are_checked(weights: dict, faces: Faces, recognizer: WhiteBox) -> None:
    with pytest.raises(InputError, match=r"masker.weights must .* got \{"):
        ensemble(faces, recognizer, {"up": rising}, weights, 2)


def test_likeness_has_one_scale(faces: Faces, recognizer: WhiteBox) -> None:
    cosines = recognizer.centroids @ recognizer.centroids.T
    strangers = torch.stack([cosines[i, j] for i in range(5) for j in range(i)])
    expected = (recognizer.similarity(faces.images, faces.identities) - strangers.mean()) / strangers.std(correction=0)
    torch.testing.assert_close(recognizer.likeness(faces.images, faces.identities), expected)
