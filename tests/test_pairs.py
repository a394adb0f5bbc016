"""Pairs of clear photos: LFW's protocol against independent references."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_curve
from torch.nn import functional as F

from veil.config import Config
from veil.errors import InputError
from veil.metrics.intervals import Interval
from veil.metrics.pairs import (
    Folds,
    accuracy,
    all_pairs,
    best_threshold,
    draw_pairs,
    fold_accuracies,
    read_pairs,
)
from veil.metrics.verification import acceptance
from veil.tasks.verify import verify

Configure = Callable[..., Config]

OFFICIAL = """2\t2
Abel_Pacheco\t1\t4
Akhmed_Zakayev\t1\t3
Abdel_Madi_Shabneh\t1\tDean_Barker\t1
Abdel_Madi_Shabneh\t1\tGiancarlo_Fisichella\t1
Woody_Allen\t2\t5
Yossi_Beilin\t1\t2
Candice_Bergen\t3\tJohn_Ashe\t12
Dean_Barker\t1\tJohn_Ashe\t2
"""


def people_with(counts: list[int]) -> tuple[list[str], np.ndarray]:
    people = np.repeat(np.arange(len(counts)), counts)
    return [f"{person}/{number}" for number, person in enumerate(people)], people


def test_pairs_txt_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(OFFICIAL)
    pairs = read_pairs(tmp_path / "pairs.txt")
    assert [pair.same for pair in pairs] == [True, True, False, False] * 2
    assert [pair.fold for pair in pairs] == [0] * 4 + [1] * 4
    assert pairs[0][:2] == ("Abel_Pacheco/Abel_Pacheco_0001", "Abel_Pacheco/Abel_Pacheco_0004")
    assert pairs[6][:2] == ("Candice_Bergen/Candice_Bergen_0003", "John_Ashe/John_Ashe_0012")


def test_the_development_lists_are_one_fold(tmp_path: Path) -> None:
    (tmp_path / "pairsDevTest.txt").write_text("1\nA 1 2\nA 1 B 1\n")
    assert [pair.fold for pair in read_pairs(tmp_path / "pairsDevTest.txt")] == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Abel 1 4\n", "must begin with the number of folds"),
        ("1\t2\nAbel 1 4\n", "announces 1 x 2 x 2 pairs and holds 1"),
        ("1\t1\nAbel 1 4\nAbel one\n", "must have `name m n` or `name m name n`, got 'Abel one'"),
        ("", "must begin with"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "pairs.txt")


def test_drawn_pairs_are_what_they_say_and_share_nobody_between_folds() -> None:
    keys, people = people_with([5, 9, 2, 1] * 15)
    owner = dict(zip(keys, people.tolist(), strict=True))
    pairs = draw_pairs(keys, people, folds=10, each=12, seed=3)
    assert len(pairs) == 240
    for fold in range(10):
        here = [pair for pair in pairs if pair.fold == fold]
        assert sum(pair.same for pair in here) == 12
        assert all(pair.same == (owner[pair.left] == owner[pair.right]) for pair in here)
        assert len({frozenset(pair[:2]) for pair in here}) == 24
        assert all(pair.left != pair.right for pair in here)
    folds = [{owner[key] for pair in pairs if pair.fold == fold for key in pair[:2]} for fold in range(10)]
    assert all(one.isdisjoint(other) for one, other in combinations(folds, 2))
    assert draw_pairs(keys, people, 10, 12, seed=3) == pairs != draw_pairs(keys, people, 10, 12, seed=4)


def test_genuine_pairs_are_drawn_by_person_not_by_photo() -> None:
    """As LFW's: somebody with 40 photos has 780 of 790 pairs, but not most of those drawn."""
    keys, people = people_with([40, 5, 5, 5])
    drawn = [draw_pairs(keys, people, folds=1, each=12, seed=seed) for seed in range(50)]
    share = np.mean([pair.left.startswith("0/") for pairs in drawn for pair in pairs if pair.same])
    assert share == pytest.approx(1 / 4, abs=0.06)


def test_too_few_pairs_are_refused_by_name() -> None:
    keys, people = people_with([3] * 20)
    with pytest.raises(InputError, match=r"task.each=7: fold 0 of 10 has 2 people, 6 genuine pairs and 9 others"):
        draw_pairs(keys, people, folds=10, each=7)
    assert len(draw_pairs(keys, people, folds=10, each=6)) == 120


def test_the_threshold_is_the_best_by_trying_all() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        same = generator.random(40) < 0.5
        cosines = np.round(generator.normal(same * 0.8, 0.5), 1)  # with ties
        tried = np.concatenate([[-9], np.unique(cosines)])
        best = max(((cosines > limit) == same).mean() for limit in tried)
        assert ((cosines > best_threshold(cosines, same)) == same).mean() == best


def test_each_fold_is_judged_by_the_others() -> None:
    generator = np.random.default_rng(1)
    same, fold = generator.random(600) < 0.5, np.repeat(np.arange(6), 100)
    cosines = generator.normal(same * 1.0, 0.6)
    folds = fold_accuracies(cosines, same, fold)
    for held_out in range(6):
        there = fold != held_out
        tried = np.unique(cosines[there])
        accuracies = [((cosines[there] > limit) == same[there]).mean() for limit in tried]
        limit = folds.thresholds[held_out]
        assert ((cosines[there] > limit) == same[there]).mean() == pytest.approx(max(accuracies))
        expected = ((cosines[~there] > limit) == same[~there]).mean()
        assert folds.accuracies[held_out] == pytest.approx(expected)


def test_the_interval_is_students() -> None:
    accuracies = np.array([0.97, 0.98, 0.99, 0.96, 0.98])
    interval = accuracy(Folds(accuracies, np.zeros(5)), pairs=500, people=80)
    low, high = stats.t.interval(0.95, 4, accuracies.mean(), stats.sem(accuracies))
    assert interval[:3] == pytest.approx((accuracies.mean(), low, high))
    perfect = accuracy(Folds(np.ones(5), np.zeros(5)), pairs=500, people=80)
    assert perfect.low == pytest.approx(0.025 ** (1 / 80))
    assert perfect.high == 1


def test_all_pairs_are_every_genuine_pair_and_only_strangers() -> None:
    keys, people = people_with([4, 1, 3, 7])
    embeddings = F.normalize(torch.randn(len(keys), 8, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs = all_pairs(embeddings, people, impostors=500)
    cosines = (embeddings @ embeddings.T).double().numpy()
    expected = sorted(cosines[i, j] for i, j in combinations(range(len(keys)), 2) if people[i] == people[j])
    assert sorted(pairs.genuine) == pytest.approx(expected, abs=1e-6)
    assert len(expected) == 6 + 0 + 3 + 21
    others = cosines[people[:, None] != people]
    assert all(np.abs(others - cosine).min() < 1e-6 for cosine in pairs.impostors)


def test_acceptance_agrees_with_scikit_learn() -> None:
    keys, people = people_with([8] * 60)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 32, generator=generator)
    noise = torch.randn(len(keys), 32, generator=generator)
    pairs = all_pairs(F.normalize(centres[people] + 0.9 * noise, dim=1), people, impostors=200_000)
    false, true, _ = roc_curve(pairs.probed == pairs.enrolled, pairs.cosines, drop_intermediate=False)
    supported = {far: found for far, found in acceptance(pairs).items() if isinstance(found, Interval)}
    assert {1e-2, 1e-3} <= set(supported)
    for far, interval in supported.items():
        assert interval.value == pytest.approx(true[false <= far].max(), abs=1e-3)
        assert interval.low < interval.value < interval.high
        assert interval.n == 60 * 28


def test_a_run_of_drawn_pairs(small_run: Configure) -> None:
    config = small_run("task=verify", "task.folds=3", "task.each=4")
    folder = verify(config)
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["figures"]["verification/facenet/pair_accuracy"]["n"] == 24
    assert figures["figures"]["verification/facenet/auc"]["value"] > 0.95
    assert len(figures["details"]["folds"]["facenet"]["accuracies"]) == 3
    assert len((folder / "pairs.csv").read_text().splitlines()) == 25
    assert figures["faces"]["pairs_left_out"] == 0
    assert figures["flags"] == []
    assert verify(config) == folder


def test_official_pairs_that_are_not_there_are_counted(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "lfw"
    for photo in photos.rglob("*.pgm"):
        person = photo.parent.name
        (root / person).mkdir(parents=True, exist_ok=True)
        (root / person / f"{person}_{int(photo.stem):04d}.pgm").write_bytes(photo.read_bytes())
    lines = ["2 2", "s1 1 2", "s2 1 5", "s1 1 s2 1", "s1 3 s2 2", "s3 1 2", "s4 1 9", "s3 1 s4 1", "s3 3 s4 2"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    data = ("data=lfw", f"data.root={root}", "data.min_photos=1")
    folder = verify(small_run("task=verify", *data, f"task.pairs={tmp_path / 'pairs.txt'}"))
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["faces"]["pairs"] == 7
    (flag,) = figures["flags"]
    assert flag["text"] == "1 of 8 pairs have a photo without a face or not in the data"
    first = (folder / "pairs.csv").read_text().splitlines()[1].split(",")
    assert first[:4] == ["s1/s1_0001", "s1/s1_0002", "True", "0"]
