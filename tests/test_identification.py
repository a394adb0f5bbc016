"""Ranks and accepted pairs against scikit-learn, by hand, and in chunks of any size."""

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from torch.nn import functional as F

from veil.metrics import identification as module
from veil.metrics.identification import Comparison, best_matches, recognition


def draw(people: int = 12, photos: int = 3, probes: int = 5, noise: float = 1.0, seed: int = 0) -> Comparison:
    """People round random centres; numbered with gaps, templates in random order, each person with its own count."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(people, 16, generator=generator)

    def faces(owners: torch.Tensor) -> torch.Tensor:
        return F.normalize(centres[owners] + noise * torch.randn(len(owners), 16, generator=generator), dim=1)

    enrolled = torch.arange(people).repeat_interleave(torch.arange(people) % photos + 1)
    enrolled = enrolled[torch.randperm(len(enrolled), generator=generator)]
    probed = (torch.arange(people * probes) * 7) % people
    return Comparison(faces(probed), 3 * probed + 5, faces(enrolled), 3 * enrolled + 5)


def test_best_matches_by_hand() -> None:
    gallery = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    matches = best_matches(torch.tensor([[0.8, 0.6]]), gallery, torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(matches, torch.tensor([[0.8, -2.0, 0.96]]))


def test_best_matches_are_of_each_persons_photos() -> None:
    comparison = draw()
    names = comparison.enrolled.unique()
    scores = comparison.probes @ comparison.templates.T
    expected = torch.stack([scores[:, comparison.enrolled == name].amax(dim=1) for name in names], dim=1)
    owners = torch.searchsorted(names, comparison.enrolled)
    torch.testing.assert_close(best_matches(comparison.probes, comparison.templates, owners, 12), expected)


def test_ranks_equal_scikit_learns() -> None:
    comparison = draw()
    names = comparison.enrolled.unique()
    scores = comparison.probes @ comparison.templates.T
    matches = torch.stack([scores[:, comparison.enrolled == name].amax(dim=1) for name in names], dim=1).numpy()
    ranked = recognition(comparison, {})
    labels = torch.searchsorted(names, comparison.probed).numpy()
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(labels, matches, k=k, labels=np.arange(12))
        assert (ranked.rank <= k).double().mean().item() == pytest.approx(expected)
    expected = label_ranking_average_precision_score(np.eye(12)[labels], matches)  # one true label: the MRR
    assert ranked.reciprocal_rank.mean().item() == pytest.approx(expected)


def test_accepted_is_the_share_of_genuine_pairs_above_each_threshold() -> None:
    comparison = draw()
    thresholds = {1e-2: 0.3, 1e-3: 0.6}
    accepted = recognition(comparison, thresholds).accepted
    for far, threshold in thresholds.items():
        for index, person in enumerate(comparison.probed):
            own = comparison.templates[comparison.enrolled == person] @ comparison.probes[index]
            assert accepted[far][index].item() == pytest.approx((own > threshold).double().mean().item())


@pytest.mark.parametrize("chunk", [1, 70, 2**22])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = draw()
    expected = recognition(comparison, {1e-2: 0.4})
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = recognition(comparison, {1e-2: 0.4})
    assert torch.equal(found.rank, expected.rank)
    assert torch.equal(found.accepted[1e-2], expected.accepted[1e-2])


def test_a_face_that_is_not_found_is_recognised_by_nothing() -> None:
    comparison = draw()
    comparison.probes[4] = 0
    found = recognition(comparison, {1e-2: -0.5})
    assert found.rank[4] == comparison.people == 12
    assert found.accepted[1e-2][4] == 0
    assert found.accepted[1e-2][5] > 0


def test_ties_count_against_the_attacker() -> None:
    twins = Comparison(torch.eye(2)[:1], torch.tensor([7]), torch.eye(2)[[0, 0, 1]], torch.tensor([7, 8, 9]))
    assert recognition(twins, {}).rank.tolist() == [2]


def test_strangers_and_blank_templates_are_errors() -> None:
    eye = torch.eye(3)
    with pytest.raises(ValueError, match="everybody must be enrolled, got person 4"):
        recognition(Comparison(eye, torch.tensor([0, 4, 1]), eye, torch.arange(3)), {})
    with pytest.raises(ValueError, match="got 1 of zeros"):
        recognition(Comparison(eye, torch.arange(3), eye * torch.tensor([[1.0], [0], [1]]), torch.arange(3)), {})
