"""Attacks on runs: what they must find on oracles, by hand, and against the per-face figures."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from veil.config import Config
from veil.data.split import attacker_people
from veil.errors import InputError
from veil.evaluation.outcome import RANK1, Accepted, bits_interval, figures, headline, outcome
from veil.faces.pictures import as_saved
from veil.metrics.identification import Comparison
from veil.metrics.intervals import Interval
from veil.metrics.measure import Figure, by_name
from veil.metrics.open_set import misses
from veil.tasks.evaluate import evaluate

SAME = "the masks of all photos are the same: they tell nobody apart"


def measured(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def vectors(*numbers: int) -> torch.Tensor:
    """One-hot rows; a negative number is the zero row of a face that is not found."""
    return torch.stack([torch.eye(8)[number] if number >= 0 else torch.zeros(8) for number in numbers])


def test_outcome_by_hand() -> None:
    """Person 0 is matched, person 1 is taken for 2, person 2 has no face, person 3 no template with a face."""
    target = Comparison(vectors(0, 2, -1, 3), torch.arange(4), vectors(0, 1, 2, -1), torch.arange(4))
    result = outcome(target, "no attacker people")
    assert result.ranks.tolist() == [1, 3, 3, 4]  # of three with templates; a tie with the other stranger counts
    assert result.bits == "no attacker people"
    found = by_name(figures(result, subject="judge"))
    assert found["privacy/judge/rank1"].value == 0.25
    assert found["privacy/judge/mrr"].value == pytest.approx((1 + 1 / 3 + 1 / 3 + 1 / 4) / 4)
    absent = {name for name, figure in found.items() if figure.absent}
    calibrated = ("bits", "tar@far=1e-2", "tar@far=1e-3", "tar@far=1e-4", "fnir@fpir=1e-1", "fnir@fpir=1e-2")
    assert absent == {f"privacy/judge/{name}" for name in calibrated}
    assert all("attacker people" in found[name].absent for name in absent)
    assert "rank5" not in str(list(found))  # four people: everybody is among the best five


def test_who_has_no_template_keeps_no_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    templates = F.normalize(torch.randn(6, 8, generator=generator), dim=1)
    probes = F.normalize(templates + 0.2 * torch.randn(6, 8, generator=generator), dim=1)
    people = torch.arange(6)
    attackers = Comparison(probes, people, templates, people)
    hidden = templates.clone()
    hidden[5] = 0
    result = outcome(Comparison(probes, people, hidden, people), attackers)
    assert not isinstance(result.bits, str)
    assert result.bits[5] == 0
    assert (result.bits[:5] > 1).all()


def crowd(people: range, alike: float, seed: int, photos: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of which a part is common to everybody, a part the person's own, and a part chance."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(max(people) + 1, 64, generator=torch.Generator().manual_seed(99))
    identities = torch.tensor(people).repeat_interleave(photos)
    noise = torch.randn(len(identities), 64, generator=generator)
    return F.normalize(torch.full((64,), alike) + 0.7 * own[identities] + noise, dim=1), identities


def test_thresholds_are_those_of_the_same_kind_of_pairs() -> None:
    """Where repainting makes all faces alike, clear thresholds accept everybody, and TAR would be 1 at a FAR of 1."""
    evaluated, others = range(60), range(60, 100)

    def compared(people: range, alike: float) -> Comparison:
        return Comparison(*crowd(people, alike, 1), *crowd(people, alike, 2))

    clear, alike = (outcome(compared(evaluated, part), compared(others, part)) for part in (0.0, 10.0))
    for found, low, high in ((clear, 0.2, 0.95), (alike, 0.2, 0.95)):
        accepted = found.accepted[1e-2]
        assert isinstance(accepted, Accepted)
        assert low < accepted.shares.mean() < high
        impostors = found.pairs.impostors
        assert (impostors > accepted.threshold).mean() == pytest.approx(1e-2, rel=0.5)
    strangers = alike.pairs.impostors
    assert isinstance(clear.accepted[1e-2], Accepted)
    assert (strangers > clear.accepted[1e-2].threshold).all()  # a clear threshold would let everybody through
    mixed_up = (
        part._replace(probes=part.probes.roll(4, 0)) for part in (compared(evaluated, 10.0), compared(others, 10.0))
    )
    weighed = alike.accepted[1e-2]
    assert isinstance(weighed, Accepted)
    assert 0 < weighed.moved.std() < 0.2
    nobody = outcome(*mixed_up).accepted[1e-2]
    assert isinstance(nobody, Accepted)
    assert nobody.shares.mean() < 0.05  # next to the FAR


def test_open_set_identification_by_hand() -> None:
    """200 strangers reach 0, 0.0025, ...: 20 of them lie above 0.4475."""
    mated, mates = np.array([0.9, 0.44, 0.2, 0.46]), np.arange(4)
    others = np.arange(200) * 0.0025
    missed = misses(mated, mates, others, np.arange(200))[0.1]
    assert isinstance(missed, Interval)
    assert missed.value == 0.5
    assert missed.low < 0.5 < missed.high
    assert "10 are needed" in misses(mated, mates, others, np.arange(200))[0.01]  # two people would be
    assert "of 4; 10 are needed" in misses(mated, mates, others, np.arange(200) % 4)[0.1]


def test_no_template_with_a_face_is_absent_with_a_reason() -> None:
    result = outcome(Comparison(vectors(0, 1), torch.arange(2), vectors(-1, -1), torch.arange(2)), "none")
    found = by_name(figures(result, subject="judge"))
    assert found["privacy/judge/rank1"].value == 0
    assert "fewer than two people" in found["privacy/judge/eer"].absent


def test_one_person_with_a_template_gives_no_curve() -> None:
    """Person 2 has a template and no probe, so impostor pairs there are, and genuine ones of person 0 alone."""
    target = Comparison(vectors(0, 1), torch.arange(2), vectors(0, -1, 2), torch.arange(3))
    found = by_name(figures(outcome(target, "no attacker people"), subject="judge"))
    assert found["privacy/judge/rank1"].value == 0.5
    assert "fewer than two people" in found["privacy/judge/auc"].absent


def test_bits_weigh_people_alike_and_end_at_zero() -> None:
    bits = np.array([3.0, 3.0, 3.0, -1.0])
    assert bits_interval(bits, np.array([0, 0, 0, 1])).value == pytest.approx(1.0)
    assert bits_interval(-bits, np.array([0, 0, 0, 1])).value == 0.0


def test_the_headline_is_the_worst_of_the_held_out_and_leaves_variants_out() -> None:
    def share(judge: str, attack: str, value: float) -> Figure:
        return Figure(RANK1, Interval(value, value, value, 4), judge, attack)

    people = torch.arange(4)
    cell = outcome(Comparison(vectors(0, 2, 1, 3), people, vectors(0, 1, 2, 3), people), "none")
    whitebox = outcome(Comparison(vectors(0, 1, 2, 3), people, vectors(0, 1, 2, 3), people), "none")
    cells = {("naive", "a"): whitebox, ("naive", "b"): cell, ("linkage", "b"): cell, ("source_enrolled", "b"): cell}
    shares = [
        share("a", "naive", 1.0),
        share("b", "naive", 0.5),
        share("b", "linkage", 0.6),
        share("b", "source_enrolled", 0.9),
    ]
    keys, variants = ["k0", "k1", "k2", "k3"], {"source_enrolled"}
    found = by_name(headline(shares, cells, variants, "a", {"b"}, keys))
    assert found["privacy/worst/rank1"].value == 0.6
    assert found["privacy/transfer_gap"].value == pytest.approx(-0.5)
    assert found["privacy/worst/rank1"].source == "privacy/b/linkage/rank1"
    assert found["privacy/worst/bits"].absent
    for some, held_out in (({("naive", "a"): cell}, {"b"}), (cells, set())):  # no other judge; b is a surrogate
        found = by_name(headline(shares, some, variants, "a", held_out, keys))
        assert all("no held-out judge" in figure.absent for figure in found.values())
    alone = by_name(headline([share("", "mask", 0.1)], {("mask", ""): cell}, set(), "a", set(), keys))
    assert "no held-out judge" in alone["privacy/worst/rank1"].absent  # what needs no judge is no worst case alone


def test_attacker_people_do_not_depend_on_the_order_and_never_overlap() -> None:
    people = [f"p{number}" for number in range(40)]
    known = {people[index] for index in attacker_people(people, 0.25, seed=3)}
    assert len(known) == 10
    assert known == {people[::-1][index] for index in attacker_people(people[::-1], 0.25, seed=3)}
    assert known != {people[index] for index in attacker_people(people, 0.25, seed=4)}


def test_attackers_are_not_evaluated_and_figures_are_means_over_the_manifest(
    small_run: Callable[..., Config],
) -> None:
    folder = evaluate(small_run("split.attackers=0.34", "ratio=0.5", "judges=default"))
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["person"] for row in rows}) == 4
    figures = measured(folder)["figures"]
    plain = measured(evaluate(small_run("split.attackers=0.34", "ratio=0.5", "judges=default", "attacks=none")))[
        "figures"
    ]
    assert figures["clear/dlib/rank1"] == plain["clear/dlib/rank1"]
    for name in ("privacy/facenet/rank1", "privacy/dlib/rank1", "privacy/dlib/linkage/rank1"):
        assert figures[name]["value"] == pytest.approx(np.mean([float(row[name]) for row in rows]))
    for name in ("privacy/facenet/bits", "privacy/dlib/linkage/rank1", "privacy/worst/rank1", "privacy/transfer_gap"):
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
    assert not any(name.startswith("privacy/") and ("/worst/" in name or name.endswith("/rank1")) for name in plain)
    assert (folder / "report.html").stat().st_size > 1e6


def test_what_is_not_repainted_is_attacked_as_clear_photos_are(small_run: Callable[..., Config]) -> None:
    folder = evaluate(small_run("split.attackers=0.34", "inpainter=none"))
    figures = measured(folder)["figures"]
    for name in ("rank1", "mrr", "bits", "eer", "auc"):
        assert figures[f"privacy/facenet/{name}"]["value"] == pytest.approx(
            figures[f"clear/facenet/{name}"]["value"], abs=1e-5
        )
    assert figures["privacy/facenet/source_enrolled/rank1"]["value"] == 1


def test_adversaries_that_learn_find_at_least_what_is_there(small_run: Callable[..., Config]) -> None:
    steps = ("attacks=all", "attacks.parrot.steps=2", "attacks.reversal.steps=2", "attacks.mask.steps=2")
    folder = evaluate(small_run("split.attackers=0.5", "inpainter=blur", "ratio=0.25", "masker=random", *steps))
    figures = measured(folder)["figures"]
    for attack in ("parrot", "reversal", "published"):
        assert 0 <= figures[f"privacy/facenet/{attack}/rank1"]["value"] <= 1
    assert 0 <= figures["privacy/mask_known/rank1"]["value"] <= 1  # of no judge, so once
    made_out = figures["privacy/mask/rank1"]  # a detector that is not taught may see the same everywhere
    assert made_out.get("absent") == SAME or 0 <= made_out["value"] <= 1
    assert figures["privacy/facenet/reversal/mrr"]["value"] > 0.4  # untrained, it shows the blurred face as it is
    with pytest.raises(InputError, match=r"split\.attackers"):
        evaluate(small_run("split.attackers=0", "inpainter=blur", "ratio=0.25", *steps))


def test_kid_is_also_measured_on_the_features_that_are_asked_for(small_run: Callable[..., Config]) -> None:
    contents = measured(evaluate(small_run("+features.tiny._target_=conftest.TinyRecognizer", "masker=random")))
    distance = contents["figures"]["utility/tiny/kid"]
    assert distance["low"] <= distance["value"] <= distance["high"]
    assert (
        "needs 2000 faces on either side, has 12 results and 12 clear"
        in contents["figures"]["utility/tiny/fid"]["absent"]
    )


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_results_are_compared_with_photos_of_their_own_format(
    image_format: str, small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def recorded(images: torch.Tensor, image_format: str) -> torch.Tensor:
        asked.append(image_format)
        return as_saved(images, image_format)

    monkeypatch.setattr("veil.evaluation.realism.as_saved", recorded)
    evaluate(small_run("masker=random", "attacks=none", f"image_format={image_format}"))
    assert set(asked) == ({"jpg"} if image_format == "jpg" else set())


def test_masks_that_follow_a_person_link_their_photos_and_random_ones_do_not(small_run: Callable[..., Config]) -> None:
    """Whoever has the masks; one ellipse for all tells nobody from anybody."""
    known = ("attacks=none", "+attacks.mask._target_=veil.attacks.mask.mask", "+attacks.mask.known=true")
    partial = ("+attacks.mask._partial_=true", "+attacks.mask.photos=1", "split.attackers=0.5")
    shares = {}
    for masker in ("landmarks", "random"):
        found = measured(evaluate(small_run(*known, *partial, f"masker={masker}", "inpainter=fill", "cells=null")))
        shares[masker] = found["figures"]["privacy/mask/rank1"]["value"]
    assert shares["landmarks"] > shares["random"]
    # an ellipse, of which squares of the grid are covered in part
    fixed = ("masker=whole_face", "ratio=0.3", "cells=null")
    found = measured(evaluate(small_run(*known, *partial, *fixed, "inpainter=fill")))
    assert found["figures"]["privacy/mask/rank1"]["absent"] == SAME
