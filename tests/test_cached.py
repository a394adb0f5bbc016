"""Scores are computed once for a photo, a masker and a white box, and again for anything else."""

from pathlib import Path

import pytest
import torch
from conftest import one

from veil.maskers.cached import CachedScores
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores


class Asked:
    """Notes whose scores it was asked for."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, faces: Faces, recognizer: WhiteBox) -> Scores:
        self.keys += faces.keys
        return faces.images.mean(dim=1) * recognizer.centroids.sum()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    return Asked()


def test_the_same_scores_and_no_second_pass(asked: Asked, tmp_path: Path, faces: Faces, recognizer: WhiteBox) -> None:
    masker = CachedScores(asked, {"masker": "mean"}, tmp_path)
    first = masker(one(faces, 1), recognizer)
    scores = masker(faces, recognizer)
    assert asked.keys == ["b", "a", "c", "d"]
    assert torch.equal(first, scores[1:2])
    assert torch.equal(scores, CachedScores(asked, {"masker": "mean"}, tmp_path)(faces, recognizer))
    assert len(asked.keys) == 4
    assert torch.equal(scores, Asked()(faces, recognizer))


def test_whatever_the_scores_depend_on_makes_them_anew(
    asked: Asked, tmp_path: Path, faces: Faces, recognizer: WhiteBox
) -> None:
    masker = CachedScores(asked, {"masker": "mean"}, tmp_path)
    masker(faces, recognizer)
    other = WhiteBox(recognizer.recognizer, recognizer.head, recognizer.centroids.flip(0))
    for change in (
        lambda: masker(faces._replace(images=1 - faces.images), recognizer),
        lambda: masker(faces._replace(seeds=faces.seeds + 1), recognizer),
        lambda: masker(faces._replace(identities=(faces.identities + 1) % 5), recognizer),
        lambda: masker(faces, other),
        lambda: CachedScores(asked, {"masker": "mean", "blur": 1.0}, tmp_path)(faces, recognizer),
    ):
        asked.keys.clear()
        change()
        assert asked.keys == ["a", "b", "c", "d"]


def test_scores_of_several_sizes_fit_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faces: Faces, recognizer: WhiteBox
) -> None:
    """A face that is not found has one number where it was alone in its batch."""

    def masker(faces: Faces, _recognizer: WhiteBox) -> Scores:
        return torch.zeros(1, 1, 1) if faces.keys == ("b",) else faces.images.mean(dim=1)

    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    cached = CachedScores(masker, {}, tmp_path)
    assert cached(one(faces, 1), recognizer).shape == (1, 1, 1)
    scores = cached(faces, recognizer)
    assert not scores[1].any()
    assert torch.equal(scores[2], faces.images[2].mean(dim=0))


def test_a_killed_write_leaves_nothing_half_known(
    asked: Asked, tmp_path: Path, faces: Faces, recognizer: WhiteBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    masker = CachedScores(asked, {"masker": "mean"}, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            masker(faces, recognizer)
    asked.keys.clear()
    assert torch.equal(masker(faces, recognizer), Asked()(faces, recognizer))
    assert asked.keys == ["a", "b", "c", "d"]


def test_what_is_scored_faster_than_it_is_read_is_not_kept(
    asked: Asked, tmp_path: Path, faces: Faces, recognizer: WhiteBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veil.maskers.cached.WORTH", 60)
    masker = CachedScores(asked, {"masker": "mean"}, tmp_path)
    assert torch.equal(masker(faces, recognizer), masker(faces, recognizer))
    assert asked.keys == ["a", "b", "c", "d"] * 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("worth", [0, 60])
def test_known_and_new_faces_come_back_in_their_order(
    worth: float, asked: Asked, tmp_path: Path, faces: Faces, recognizer: WhiteBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    masker = CachedScores(asked, {"masker": "mean"}, tmp_path)
    masker(one(faces, 2), recognizer)
    asked.keys.clear()
    monkeypatch.setattr("veil.maskers.cached.WORTH", worth)
    assert torch.equal(masker(faces, recognizer), Asked()(faces, recognizer))
    assert asked.keys == ["a", "b", "d"]
