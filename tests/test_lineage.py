"""A judge is held out by its weights and by what it sees, not by its name or config."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from veil.config import Config
from veil.evaluation.results import read_results
from veil.recognizers.dlib import Dlib
from veil.recognizers.eigenfaces import Eigenfaces
from veil.recognizers.facenet import FaceNet
from veil.recognizers.lineage import lineage, see_the_same
from veil.tasks.evaluate import evaluate
from veil.tasks.judges import Judging

QUICK = ("masker=random", "inpainter=fill", "ratio=0.5")


def kin(one: nn.Module, other: nn.Module) -> bool:
    return bool(lineage(one) & lineage(other))


def test_the_same_weights_are_kin_whatever_they_are_called(cache: str) -> None:
    facenet, dlib = FaceNet("packaged", cache), Dlib()
    assert kin(facenet, nn.Sequential(facenet.network))
    assert not kin(facenet, dlib)
    tuned = FaceNet("packaged", cache)
    tuned.network.last_linear.weight.data.mul_(2)  # the rest is shared
    assert kin(facenet, tuned)


def test_who_was_tuned_throughout_knows_its_ancestors() -> None:
    base, tuned = (nn.Linear(40, 50) for _ in range(2))
    assert not kin(base, tuned)
    tuned.ancestors = lineage(base)  # type: ignore[assignment]
    assert kin(base, tuned)
    assert kin(tuned, base)


def test_what_is_small_or_constant_is_no_kinship() -> None:
    one, other = nn.BatchNorm1d(2000), nn.BatchNorm1d(2000)
    assert not lineage(one)
    assert not kin(one, other)
    assert not lineage(nn.Linear(4, 4))


def test_one_network_in_two_formats_sees_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    one = nn.functional.normalize(torch.randn(20, 16, generator=generator), dim=1)
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    assert see_the_same(one, one @ turn + 1e-4)
    other = nn.functional.normalize(one + 0.2 * torch.randn(20, 16, generator=generator), dim=1)
    assert not see_the_same(one, other)


@pytest.mark.parametrize("judge", ["file", "tuned"])
def test_the_white_box_under_another_name_is_not_held_out(
    judge: str, small_run: Callable[..., Config], cache: str, tmp_path: Path
) -> None:
    """A file of its weights with another config; a copy whose last layer was tuned."""
    facenet = FaceNet("packaged", cache).network
    if judge == "tuned":
        facenet.last_linear.weight.data += 0.01 * torch.randn(512, 1792, generator=torch.Generator().manual_seed(0))
    torch.save(facenet.state_dict(), tmp_path / "mine.pt")
    own = ("+judges.mine._target_=veil.recognizers.facenet.FaceNet", f"+judges.mine.weights={tmp_path / 'mine.pt'}")
    done = evaluate(small_run(*QUICK, *own, f"+judges.mine.cache={cache}"))
    results = read_results(done)
    assert results.held_out == set()
    assert "judge mine is a white box: it is not held out" in map(str, results.flags)
    assert "no held-out judge" in results.figures["privacy/worst/rank1"].absent


def test_others_are_held_out_and_surrogates_are_not(small_run: Callable[..., Config]) -> None:
    judges = ("+judges.eigen._target_=veil.recognizers.eigenfaces.Eigenfaces",)
    assert Judging(small_run(*QUICK, *judges)).held_out == ["eigen"]
    asked = Judging(small_run(*QUICK, *judges, "surrogates=eigenfaces"))
    assert asked.held_out == []
    assert isinstance(asked.whitebox.members[1].recognizer, Eigenfaces)
