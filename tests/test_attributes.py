"""Balanced accuracy against scikit-learn's; what cannot be learnt is absent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.nn import functional as F

from veil.data.faces import FaceSet, Side
from veil.evaluation.attributes import accuracies, attributes
from veil.evaluation.material import Material
from veil.recognizers.embed import Embedder
from veil.storage.progress import Stages


def photos(count: int, seed: int) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Embeddings of which one axis tells of glasses, and nothing of the coin."""
    generator = np.random.default_rng(seed)
    glasses, coin = generator.random(count) < 0.2, generator.random(count) < 0.5
    points = generator.normal(size=(count, 6))
    points[:, 0] += 2 * glasses
    return F.normalize(torch.tensor(points), dim=1), {"glasses": glasses, "coin": coin, "age": np.arange(count)}


def test_mean_balanced_accuracy_equals_scikit_learn() -> None:
    (learnt, labels), (tested, truth) = photos(400, 0), photos(300, 1)
    expected = []
    for name in ("glasses", "coin"):
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(learnt.numpy(), labels[name])
        expected.append(balanced_accuracy_score(truth[name], model.predict(tested.numpy())))
    shares = accuracies(learnt, labels, tested.numpy(), truth)
    assert shares.mean() == pytest.approx(np.mean(expected))
    assert expected[0] > 0.75
    assert expected[1] == pytest.approx(0.5, abs=0.1)


def test_faces_that_are_not_found_teach_nothing() -> None:
    (learnt, labels), (tested, truth) = photos(200, 0), photos(100, 1)
    some = accuracies(learnt[:150], {name: part[:150] for name, part in labels.items()}, tested.numpy(), truth)
    learnt[150:] = 0
    assert np.array_equal(accuracies(learnt, labels, tested.numpy(), truth), some)


def test_a_rare_attribute_is_left_out() -> None:
    (learnt, labels), (tested, truth) = photos(200, 0), photos(100, 1)
    rare = {"glasses": np.arange(200) < 9}
    assert accuracies(learnt, rare, tested.numpy(), truth) is None
    assert accuracies(learnt, {"age": labels["age"]}, tested.numpy(), truth) is None


def test_figures_of_data_without_labels_are_absent_with_the_reason(tmp_path: Path) -> None:
    reason = "the list is not there"
    nobody = Side(FaceSet([], [], [], [], 0), FaceSet([], [], [], [], 0))
    judges = {name: Embedder(name, nn.Identity(), str(tmp_path), Stages()) for name in ("facenet", "dlib")}
    material = Material(nobody, nobody, judges, {}, {}, {}, "facenet", 0, Stages())
    names = [f"{head}/{judge}/attributes" for judge in judges for head in ("utility", "clear")]
    assert {figure.name: figure.absent for figure in attributes(material, reason)} == dict.fromkeys(names, reason)
