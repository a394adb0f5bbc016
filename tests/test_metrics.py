"""Metrics against scikit-learn, scikit-image, scipy and cases by hand; intervals against simulated truth."""

import numpy as np
import pytest
import torch
from conftest import compose_config
from hydra.utils import instantiate
from scipy.stats import binomtest, bootstrap
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import accuracy_score, top_k_accuracy_score
from torch.nn import functional as F

from veil.evaluation.flags import Training, raise_flags
from veil.evaluation.panel import PICTURE, assign, figure_of, values
from veil.metrics.identification import rank
from veil.metrics.image import COVERAGE, coverage, detected, psnr, ssim
from veil.metrics.intervals import Interval, bootstrap_mean, bootstrap_quantile, people_mean, share_interval, widened
from veil.metrics.measure import CLEAR, Figure
from veil.metrics.per_face import PerFace
from veil.metrics.privacy import ACCURACY, FOOLED, FTA, accuracy, clear_accuracy, cosine, fooled
from veil.types import Faces, view


@pytest.fixture
def scores() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    identities = torch.arange(60) % 12
    return torch.randn(60, 12, generator=generator) + 2 * torch.eye(12)[identities], identities


@pytest.mark.parametrize("k", [1, 5])
def test_rank_equals_scikit_learn(scores: tuple[torch.Tensor, torch.Tensor], k: int) -> None:
    matches, identities = scores
    expected = top_k_accuracy_score(identities, matches, k=k)
    assert (rank(matches, identities) <= k).double().mean().item() == pytest.approx(expected)


def test_rank_counts_ties_against_the_attacker() -> None:
    assert rank(torch.tensor([[0.5, 0.5, 0.1]]), torch.tensor([0])).item() == 2


def test_accuracy_equals_scikit_learn(scores: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, identities = scores
    expected = accuracy_score(identities, logits.argmax(dim=1))
    for metric, name in ((PerFace(accuracy), "anonymized_logits"), (PerFace(clear_accuracy), "logits")):
        for part in (slice(0, 7), slice(7, 60)):
            metric.update(**{name: logits[part]}, identities=identities[part])
        assert metric.compute().value == pytest.approx(expected)
        assert metric.compute().n == 60


def test_fooled_is_of_those_recognised_before() -> None:
    right, wrong = [9.0, 0.0], [0.0, 9.0]
    metric = PerFace(fooled)
    metric.update(
        logits=torch.tensor([right, right, right, wrong]),
        anonymized_logits=torch.tensor([right, wrong, wrong, wrong]),
        identities=torch.tensor([0, 0, 0, 0]),
    )
    result = metric.compute()
    assert (result.value, result.n) == (pytest.approx(2 / 3), 3)


def test_a_figure_that_concerns_no_face_is_absent() -> None:
    metric = PerFace(fooled)
    metric.update(
        logits=torch.tensor([[0.0, 1.0]]), anonymized_logits=torch.tensor([[1.0, 0.0]]), identities=torch.tensor([0])
    )
    assert metric.compute() is None
    assert metric.measure.undefined


def test_identity_cosine_by_hand() -> None:
    metric = PerFace(cosine)
    metric.update(
        embeddings=torch.tensor([[1.0, 0.0], [0.6, 0.8]]),
        anonymized_embeddings=torch.tensor([[0.0, 1.0], [0.6, 0.8]]),
        identities=torch.tensor([0, 1]),
    )
    assert metric.compute().value == pytest.approx(0.5)


def test_ssim_and_psnr_of_the_view_equal_scikit_image(faces: Faces) -> None:
    clear = F.interpolate(faces.images, 256, mode="bilinear")
    noisy = (clear + 0.1 * torch.randn(clear.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    similarity, ratio = PerFace(ssim), PerFace(psnr)
    for metric in (similarity, ratio):
        metric.update(images=clear, anonymized=noisy, identities=faces.identities)
    pairs = list(zip(view(clear).double().numpy(), view(noisy).double().numpy(), strict=True))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    maps = [structural_similarity(a, b, channel_axis=0, data_range=1, **options)[1] for a, b in pairs]
    assert similarity.compute().value == pytest.approx(np.mean(maps), abs=1e-3)  # they mirror the border differently
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    assert ratio.compute().value == pytest.approx(np.mean(expected), abs=1e-4)


def test_psnr_of_equal_images_is_absent(faces: Faces) -> None:
    metric = PerFace(psnr)
    metric.update(images=faces.images, anonymized=faces.images, identities=faces.identities)
    assert metric.compute() is None


def test_detected_and_coverage_by_hand() -> None:
    assert detected(torch.tensor([True, False, True, True])).tolist() == [1, 0, 1, 1]
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    view(masks)[0, 0, :5] = True
    assert coverage(masks).tolist() == [0.5, 0]


def test_interval_resamples_people_like_scipy() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 4)
    values = generator.normal(size=30)[people] + 0.1 * generator.normal(size=120)
    ours = bootstrap_mean(values, people, resamples=20_000)
    theirs = bootstrap(
        (values.reshape(30, 4).mean(axis=1),), np.mean, n_resamples=20_000, method="percentile", rng=generator
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


@pytest.mark.parametrize("likeness", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("people", [20, 60, 500])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.95, 0.99])
def test_the_interval_of_a_share_covers_the_truth(share: float, people: int, likeness: float) -> None:
    """In 93-97 % of simulated data sets, give or take the spread of 1000 trials; where people differ much and hardly
    anybody has it, there is little to go by: 90 to 99 %.
    """
    generator = np.random.default_rng([round(100 * share), people, round(100 * likeness)])
    person = np.repeat(np.arange(people), 8)
    scale = 1 / likeness - 1
    chance = generator.beta(share * scale, (1 - share) * scale, size=(1000, people))
    values = (generator.random((1000, people * 8)) < chance[:, person]).astype(float)
    intervals = [share_interval(row, person) for row in values]
    covered = np.mean([found.low <= share <= found.high for found in intervals])
    rare = min(share, 1 - share) * people < 5
    assert (0.89 if rare else 0.915) <= covered <= (1 if rare else 0.985)


def test_the_bootstrap_of_a_rare_share_misses_more_often_than_its_interval() -> None:
    generator = np.random.default_rng(1)
    person = np.repeat(np.arange(30), 8)
    missed = np.zeros(2)
    for trial in range(300):
        chance = generator.beta(0.05, 0.95, size=30)
        values = (generator.random(240) < chance[person]).astype(float)
        for column, found in enumerate((share_interval(values, person), bootstrap_mean(values, person, 400, trial))):
            missed[column] += not found.low <= 0.05 <= found.high
    assert missed[0] / 300 <= 0.09 < missed[1] / 300


@pytest.mark.parametrize("count", [0, 1, 7, 20, 39, 40])
def test_a_photo_a_person_gives_wilsons_interval(count: int) -> None:
    values = np.r_[np.ones(count), np.zeros(40 - count)]
    interval = share_interval(values, np.arange(40))
    expected = binomtest(count, 40).proportion_ci(0.95, "wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    twice = share_interval(np.repeat(values, 2), np.repeat(np.arange(40), 2))
    assert twice[:3] == pytest.approx(interval[:3], abs=0.004)  # a second photo just like the first adds nothing


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("likeness", [0.1, 0.33, 0.67])
def test_the_interval_of_a_share_covers_the_truth_where_some_have_many_photos(share: float, likeness: float) -> None:
    """Half of LFW's photos: most people have one, a few have a hundred, who are worth little more than one."""
    generator = np.random.default_rng([round(10 * share), round(100 * likeness)])
    counts = np.repeat([1, 2, 3, 5, 10, 20, 60, 118], [900, 250, 120, 80, 50, 20, 3, 2])
    person = np.repeat(np.arange(len(counts)), counts)
    scale = 1 / likeness - 1
    chance = generator.beta(share * scale, (1 - share) * scale, size=(400, len(counts)))
    intervals = [share_interval((generator.random(len(person)) < row[person]).astype(float), person) for row in chance]
    assert 0.86 <= np.mean([found.low <= share <= found.high for found in intervals]) <= 0.99


def test_doubt_about_a_threshold_widens_a_share_to_either_side_as_far_as_it_goes() -> None:
    sure = share_interval(np.repeat([0.0, 1.0], 200), np.arange(400))
    moved = np.random.default_rng(0).normal(0.5, 0.1, 20_000)
    reach = 1.96 * np.hypot(0.1, 0.025)
    assert widened(sure, moved)[1:3] == pytest.approx((0.5 - reach, 0.5 + reach), abs=0.005)
    never = share_interval(np.zeros(40), np.arange(40))
    upward = widened(never, np.linspace(0, 0.2, 1001))
    assert (upward.value, upward.low) == (0, 0)
    assert upward.high == pytest.approx(np.hypot(never.high, 0.195), abs=1e-6)


def test_quantiles_resample_people_like_scipy() -> None:
    generator = np.random.default_rng(0)
    values = generator.random(2000)
    ours = bootstrap_quantile(values, np.arange(2000), 0.9, resamples=2000)
    theirs = bootstrap(
        (values,),
        lambda x, axis: np.quantile(x, 0.9, axis=axis, method="inverted_cdf"),
        n_resamples=2000,
        method="percentile",
        rng=generator,
    ).confidence_interval
    assert ours.value == np.quantile(values, 0.9, method="inverted_cdf")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    twice = bootstrap_quantile(np.repeat(values, 2), np.repeat(np.arange(2000), 2), 0.9, resamples=2000)
    assert twice[:3] == ours[:3]  # a second photo just like the first adds nothing


def test_interval_ignores_order_and_needs_a_number() -> None:
    values, people = np.array([0.1, 0.7, 0.3, 0.9]), np.array([5, 5, 2, 9])
    order = np.array([2, 0, 3, 1])
    for interval in (bootstrap_mean, share_interval):
        assert interval(values, people) == pytest.approx(interval(values[order], people[order]))
    assert people_mean(np.full(3, np.nan), np.arange(3)) is None
    assert people_mean(np.array([np.nan, 2.0]), np.arange(2)) == Interval(2.0, 2.0, 2.0, 1)


def test_flags_say_what_failed() -> None:
    def clear(*interval: float) -> Figure:
        return Figure(ACCURACY, Interval(*interval), "facenet", condition=CLEAR)

    covered = Figure(COVERAGE, Interval(0.25, 0.25, 0.25, 80))
    good = [covered, clear(1, 0.9, 1, 80), Figure(FOOLED, "no clear probe is recognised", "facenet")]
    quiet = {"unchanged": 0, "faces": 80, "ratio": 0.25, "cells": 256, "not_found": [], "single_photo": 0}
    assert raise_flags(good, **quiet) == []
    assert "80 of 80" in raise_flags(good, **quiet | {"unchanged": 80})[0].text
    assert "coverage 0.2500 is not the ratio 0.5" in raise_flags(good, **quiet | {"ratio": 0.5})[0].text
    assert raise_flags(good, **quiet | {"ratio": 0.5}, smallest=True) == []
    assert "coverage" in raise_flags(good, **quiet | {"ratio": 0.1}, smallest=True)[0].text
    assert "s2/3" in raise_flags(good, **quiet | {"not_found": ["s2/3"]})[0].text
    assert "3 people have one photo" in raise_flags(good, **quiet | {"single_photo": 3})[0].text
    weak = [covered, clear(0.5, 0.4, 0.6, 80)]
    assert "weak recogniser: clear/facenet/accuracy is 0.500" in raise_flags(weak, **quiet)[0].text
    assert "same face for every seed" in raise_flags(good, **quiet, same_for_every_seed=True)[0].text
    training = Training({"inpainter x": 3, "dlib": 0}, ["dlib", "facenet"])
    assert [flag.text for flag in raise_flags(good, **quiet, training=training, people=30)] == [
        "inpainter x was trained on 3 of the 30 evaluated people: its figures flatter it",
        "nobody lists the people that dlib, facenet were trained on: some of the 30 evaluated people may be among them",
    ]
    assert raise_flags(good, **quiet, training=Training({"inpainter x": 0}, [])) == []
    blind = Figure(FTA, Interval(0.3, 0.2, 0.4, 80), "dlib")
    assert (
        "dlib's own detector finds no face in 30\N{NO-BREAK SPACE}% of the results"
        in raise_flags([blind], **quiet)[0].text
    )
    assert raise_flags([Figure(FTA, Interval(0.1, 0.05, 0.2, 80), "dlib")], **quiet) == []
    assert raise_flags(good, **quiet, formats=["jpeg"]) == []
    assert "mixed image formats (jpeg, png)" in raise_flags(good, **quiet, formats=["jpeg", "png"])[0].text
    (wide,) = raise_flags([*good[:2], Figure(FOOLED, Interval(0.5, 0.3, 0.7, 80), "facenet")], **quiet)
    assert "+-20 points" in wide.text
    assert wide.figures == ("privacy/facenet/fooled",)


def test_metrics_are_named_after_their_recogniser_and_not_merged() -> None:
    asked = assign(instantiate(compose_config().metrics), "facenet", ["dlib"])
    names = {subject: {figure_of(metric, subject, None).name for metric in asked[subject]} for subject in asked}
    assert {"clear/facenet/accuracy", "privacy/facenet/cosine", "privacy/facenet/fooled"} <= names["facenet"]
    assert "privacy/dlib/cosine" in names["dlib"]
    assert "privacy/dlib/fooled" not in names["dlib"]  # it has no classifier
    assert "utility/ssim" in names[PICTURE]
    evidence = {
        "images": torch.zeros(2, 3, 256, 256),
        "anonymized": torch.ones(2, 3, 256, 256),
        "masks": torch.zeros(2, 1, 256, 256, dtype=torch.bool),
        "landmarks": torch.full((2, 68, 2), torch.nan),
        "anonymized_landmarks": torch.full((2, 68, 2), torch.nan),
        "identities": torch.tensor([0, 1]),
        "found": torch.tensor([True, True]),
    }
    columns = values(PICTURE, asked[PICTURE], **evidence)
    assert columns["check/coverage"] == [0, 0]
    assert columns["utility/detected"] == [1, 1]
    assert columns["utility/landmarks_found"] == [0, 0]


def test_a_judge_that_is_the_white_box_is_flagged() -> None:
    quiet = {"unchanged": 0, "faces": 80, "ratio": 0.25, "cells": 256, "not_found": [], "single_photo": 0}
    assert [flag.text for flag in raise_flags([], **quiet, not_held_out=["dlib"])] == [
        "judge dlib is a white box: it is not held out"
    ]
