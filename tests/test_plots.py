"""The numbers behind the figures."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import det_curve

from veil.report.plots import cmc, det, histogram, read_scores


def test_histogram_by_hand() -> None:
    centres, shares = histogram(np.array([-0.3, 0.1, 0.2, 0.7]), bins=4)
    assert centres == pytest.approx([-0.25, 0.25, 0.75])
    assert shares == pytest.approx([0.25, 0.5, 0.25])


def test_histogram_loses_no_score_and_keeps_empty_bins_between() -> None:
    scores = np.random.default_rng(0).normal(0.2, 0.2, 10_000)
    assert histogram(scores)[1].sum() == pytest.approx(1)
    assert histogram(np.array([1 + 1e-7, -1 - 1e-7], np.float32), bins=4)[1] == pytest.approx([0.5, 0, 0, 0.5])


def test_cmc_by_hand() -> None:
    ks, shares = cmc(np.array([1, 3, 1, 2, 5]), people=5)
    assert ks.tolist() == [1, 2, 3, 4, 5]
    assert shares == pytest.approx([0.4, 0.6, 0.8, 0.8, 1])


def test_cmc_of_many_people_is_thinned_not_changed() -> None:
    ranks = np.random.default_rng(1).integers(1, 5001, 3000)
    ks, shares = cmc(ranks, people=5000, points=50)
    assert len(ks) <= 50
    assert (ks[0], ks[-1]) == (1, 5000)
    assert shares == pytest.approx([(ranks <= k).mean() for k in ks])


@pytest.mark.parametrize("decimals", [12, 1])  # without and with ties
@pytest.mark.parametrize("points", [20, 100_000])
def test_det_is_scikit_learns(decimals: int, points: int) -> None:
    generator = np.random.default_rng(2)
    genuine = generator.normal(0.5, 0.3, 400).round(decimals)
    impostor = generator.normal(0.1, 0.2, 3000).round(decimals)
    labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    false, missed, thresholds = det_curve(labels, np.r_[genuine, impostor])
    expected = {threshold: errors for threshold, *errors in zip(thresholds, false, missed, strict=True)}
    found = list(zip(*det(genuine, impostor, points), strict=True))
    if points > len(impostor):
        assert len(found) == len(np.unique(impostor))
    # scikit-learn drops thresholds where neither error changes and those above the last false accept
    compared = [(far, frr, expected[threshold]) for far, frr, threshold in found if threshold in expected]
    assert len(compared) > len(found) / 2
    for far, frr, errors in compared:
        assert (far, frr) == pytest.approx(tuple(errors))


def test_det_by_hand() -> None:
    far, frr, thresholds = det(np.array([0.9, 0.4, 0.2]), np.array([0.1, 0.2, 0.3, 0.5]))
    assert thresholds == pytest.approx([0.5, 0.3, 0.2, 0.1])
    assert far == pytest.approx([0.25, 0.5, 0.75, 1])
    assert frr == pytest.approx([2 / 3, 1 / 3, 0, 0])


def test_scores_are_read_by_judge_and_what_is_missing_stays_missing(tmp_path: Path) -> None:
    parts = {
        "clear/dlib/ranks": np.array([1, 2]),
        "naive/dlib/genuine": np.array([0.5]),
        "clear/facenet/ranks": np.ones(1),
    }
    np.savez(tmp_path / "scores.npz", **parts, **{"naive/dlib/thresholds": np.array([[1e-3, 0.4]])})
    judges = read_scores(tmp_path / "scores.npz", ["dlib", "facenet", "nobody"], ["naive", "linkage"])
    assert list(judges) == ["dlib", "facenet"]
    evidence, thresholds = judges["dlib"]
    assert {faces: set(pairs) for faces, pairs in evidence.items()} == {"clear": {"ranks"}, "naive": {"genuine"}}
    assert evidence["clear"]["ranks"].tolist() == [1, 2]
    assert thresholds is not None
    assert thresholds.tolist() == [[1e-3, 0.4]]
    assert judges["facenet"][1] is None
