"""Attackers learn a planted distortion on some people and undo it on others."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio

from veil.attacks.mask import train_detector
from veil.attacks.parrot import adapt, between, see, separation
from veil.attacks.published import CHANGES
from veil.attacks.reversal import Rebuilder, moved, repair_loss, train_rebuilder
from veil.data.faces import enrol
from veil.data.folder import folder
from veil.errors import InputError
from veil.metrics.identification import best_matches
from veil.recognizers.dlib import Dlib
from veil.recognizers.facenet import FaceNet
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.types import Images, view

CHANNELS = [1, 2, 0]  # a distortion that puts each colour where another was


class LinearRecognizer(nn.Module):
    """Mean colours of a 4 x 4 grid, and a last block that reads them; a black picture holds no face."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.last = nn.AdaptiveAvgPool2d(4), nn.Conv2d(3, 3, 1)
        self.dropout = nn.Dropout(0.5)
        self.last.weight.data = torch.eye(3)[..., None, None]
        self.last.bias.data.zero_()
        self.requires_grad_(False).eval()

    @property
    def last_block(self) -> nn.Sequential:
        return nn.Sequential(self.last, nn.Flatten(), self.dropout)

    def forward(self, images: Tensor) -> Tensor:
        found = images.amax(dim=(1, 2, 3)) > 0
        embeddings = images.new_zeros(len(images), 48)
        if found.any():
            embeddings[found] = F.normalize(self.last_block(self.pool(images[found]) - 0.5), dim=1)
        return embeddings


def noised(images: Images, seed: int) -> Images:
    """The planted distortion: only red is left of the face, green and blue are each photo's own noise."""
    noise = torch.rand(len(images), 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.cat([images[:, :1], F.interpolate(noise, images.shape[-2:])], dim=1)


def people(count: int, seed: int, photos: int = 6, spread: float = 0.15) -> tuple[Tensor, Tensor]:
    """Photos that spread round each person's own pattern."""
    generator = torch.Generator().manual_seed(seed)
    identities = torch.arange(count).repeat_interleave(photos)
    patterns = torch.rand(count, 3, 4, 4, generator=generator)[identities]
    patterns = patterns + spread * torch.randn(patterns.shape, generator=generator)
    return F.interpolate(patterns.clamp(0.01, 1), 32), identities


def rank1(recognizer: nn.Module, probes: Tensor, gallery: Tensor, identities: Tensor) -> float:
    """Every second photo is a probe, the others are enrolled."""
    with torch.no_grad():
        matches = best_matches(
            recognizer(probes[::2]), recognizer(gallery[1::2]), identities[1::2], int(identities.max()) + 1
        )
    return (matches.argmax(dim=1) == identities[::2]).double().mean().item()


@pytest.fixture(scope="module")
def adapted() -> tuple[nn.Module, nn.Module]:
    clear, identities = people(12, seed=0)
    original = LinearRecognizer()
    copy = adapt(original, [noised(clear, seed=10)], [clear], identities, steps=100, learning_rate=0.02, seed=0)
    return original, copy.recognizer


def test_the_parrot_knows_people_it_never_saw(adapted: tuple[nn.Module, nn.Module]) -> None:
    clear, identities = people(40, seed=1)
    before, after = (rank1(part, noised(clear, seed=11), clear, identities) for part in adapted)
    assert before < 0.5
    assert after > before + 0.25


def test_the_original_does_not_change_and_the_copy_is_like_it(adapted: tuple[nn.Module, nn.Module]) -> None:
    original, copy = adapted
    assert weights_of(original) == weights_of(LinearRecognizer()) != weights_of(copy)
    for part in adapted:
        assert not any(module.training for module in part.modules())
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not any(module._forward_pre_hooks for module in part.modules())
    images = people(2, seed=2)[0]
    images[0] = 0
    norms = copy(images).norm(dim=1)
    assert norms[0] == 0
    torch.testing.assert_close(norms[1:], torch.ones(len(images) - 1))


def test_adapting_is_deterministic_and_leaves_the_global_generator(adapted: tuple[nn.Module, nn.Module]) -> None:
    clear, identities = people(12, seed=0)
    state = torch.get_rng_state()
    first = adapt(adapted[0], [noised(clear, seed=10)], [clear], identities, steps=20, learning_rate=0.02, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    again = adapt(adapted[0], [noised(clear, seed=10)], [clear], identities, steps=20, learning_rate=0.02, seed=3)
    assert weights_of(first.recognizer) == weights_of(again.recognizer)


def test_training_that_does_harm_is_not_taken() -> None:
    clear, identities = people(12, seed=0, spread=0.01)
    original = LinearRecognizer()  # makes no mistake here, so nothing can be better
    taken = adapt(original, [clear], [clear], identities, steps=20, learning_rate=10.0, seed=0)
    assert weights_of(taken.recognizer) == weights_of(original)
    assert not taken.anonymized_gallery  # of equals, the clear one


def test_a_gallery_is_anonymised_where_held_out_people_are_told_apart_better_by_it() -> None:
    """Colours turned round are as telling as before, but only among themselves."""
    clear, identities = people(12, seed=0)
    turned = adapt(LinearRecognizer(), [clear.roll(1, dims=1) ** 3], [clear], identities, steps=2, seed=0)
    assert turned.anonymized_gallery


def test_faces_that_are_not_found_teach_nothing() -> None:
    clear, identities = people(12, seed=0)
    hidden = noised(clear, seed=10)
    hidden[::6] = 0
    original = LinearRecognizer()
    known = torch.arange(len(clear)) % 6 != 0
    knobs = {"steps": 20, "learning_rate": 0.02, "seed": 0}
    with_hidden = adapt(original, [hidden], [clear], identities, **knobs)
    without = adapt(original, [hidden[known]], [clear[known]], identities[known], **knobs)
    assert weights_of(with_hidden.recognizer) == weights_of(without.recognizer)
    blind = adapt(original, [torch.zeros_like(clear)], [clear], identities, **knobs)
    assert weights_of(blind.recognizer) == weights_of(original)
    with pytest.raises(InputError, match="folds must be at least 2, got 1"):
        adapt(original, [clear], [clear], identities, folds=1, seed=0)


def test_separation_is_scikit_learns_without_a_photos_own_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    identities = torch.arange(8) % 3
    probes, gallery = (F.normalize(torch.randn(8, 5, generator=generator), dim=1) for _ in range(2))
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    cosines = [(probes[i] @ gallery[j]).item() for i, j in pairs]
    same = [bool(identities[i] == identities[j]) for i, j in pairs]
    assert separation(probes, gallery, identities) == pytest.approx(roc_auc_score(same, cosines), abs=1e-6)


def test_between_by_hand() -> None:
    original, moved_to = (
        {"w": torch.tensor([0.1, 0.7]), "n": torch.tensor(3)},
        {"w": torch.ones(2), "n": torch.tensor(3)},
    )
    assert torch.equal(between(original, moved_to, 0.0)["w"], original["w"])
    torch.testing.assert_close(between(original, moved_to, 0.5)["w"], torch.tensor([0.55, 0.85]))


class Elsewhere(Tensor):
    """A tensor of another device."""


class Picky(LinearRecognizer):
    """Refuses pictures that are not where it is."""

    def forward(self, images: Images) -> Tensor:
        assert isinstance(images, Elsewhere), "pictures of another device"
        return super().forward(images)


def test_attacks_bring_pictures_to_the_recognisers_device(monkeypatch: pytest.MonkeyPatch) -> None:
    away, here = torch.device("meta"), Tensor.to

    def to(tensor: Tensor, *where: Any, **how: Any) -> Tensor:
        return tensor.as_subclass(Elsewhere) if away in where else here(tensor, *where, **how)

    for module in ("evaluation.material", "attacks.parrot", "attacks.reversal", "attacks.mask"):
        monkeypatch.setattr(f"veil.{module}.device_of", lambda _: away)
    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)
    clear, identities = people(12, seed=0)
    adapt(Picky(), [noised(clear, seed=10)], [clear], identities, steps=1, seed=0)
    shown = shapes(4, seed=0)
    taught(faded(shown), shown, 2, recognizer=Picky(), seed=0, steps=2, feature_share=1.0, batch_size=2, width=8)


@pytest.mark.parametrize("name", ["facenet", "dlib"])
def test_the_last_block_is_the_end_of_the_real_recognisers(name: str, photos: Path, cache: str) -> None:
    recognizer = FaceNet("packaged", cache) if name == "facenet" else Dlib()
    faces = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes
    images = torch.cat([faces[index].images for index in range(2)] + [torch.zeros(1, 3, 256, 256)])
    seen = see(recognizer, [images])
    expected = F.normalize(recognizer.last_block(seen.features), dim=1)
    torch.testing.assert_close(seen.embeddings[seen.found], expected, atol=1e-5, rtol=1e-4)
    assert seen.found.all()  # dlib finds no face in a black picture, and looks where faces are


def faded(images: Images) -> Images:
    """A known distortion: the mean of each 5 x 5 pixels, with less contrast."""
    return 0.3 + 0.4 * F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)


def shapes(count: int, seed: int) -> Images:
    """128 px pictures of a few sharp bars, each where the generator says."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(count, 3, 16, 16, generator=generator) > 0.5).float()
    return 0.2 + 0.6 * coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


def taught(anonymized: Images, clear: Images, held_back: int = 0, **knobs: Any) -> Rebuilder:
    def draw(numbers: Sequence[int]) -> tuple[Images, Images]:
        return anonymized[list(numbers)], clear[list(numbers)]

    return train_rebuilder(draw, len(clear) - held_back, held_back, **knobs)


def rebuild(rebuilder: Rebuilder, images: Images) -> Images:
    return rebuilder(images).clamp(0, 1)


@pytest.fixture(scope="module")
def rebuilder() -> Rebuilder:
    clear = shapes(24, seed=0)
    knobs = {"steps": 100, "batch_size": 4, "shift": 4, "width": 16, "learning_rate": 3e-3}
    return taught(faded(clear), clear, recognizer=LinearRecognizer(), seed=0, **knobs)


def test_the_rebuilder_undoes_a_known_distortion(rebuilder: Rebuilder) -> None:
    clear = shapes(8, seed=1)
    anonymized = faded(clear)
    rebuilt = rebuild(rebuilder, anonymized)
    before, after = (
        peak_signal_noise_ratio(view(part), view(clear), data_range=1.0).item() for part in (anonymized, rebuilt)
    )
    assert after > before + 1
    outside = torch.ones_like(clear, dtype=torch.bool)
    view(outside).fill_(False)
    assert torch.equal(rebuilt[outside], anonymized[outside])
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1


def test_a_small_part_that_was_changed_is_undone_too() -> None:
    def patched(clear: Images) -> Images:
        anonymized = clear.clone()
        anonymized[..., 48:80, 48:80] = faded(clear)[..., 48:80, 48:80]  # 16 % of the view
        return anonymized

    clear, unseen = shapes(24, seed=0), shapes(8, seed=1)
    knobs = {"steps": 200, "batch_size": 4, "shift": 4, "width": 16, "learning_rate": 3e-3, "feature_share": 0.0}
    repaired = rebuild(taught(patched(clear), clear, recognizer=LinearRecognizer(), seed=0, **knobs), patched(unseen))
    before, after = (
        peak_signal_noise_ratio(part[..., 48:80, 48:80], unseen[..., 48:80, 48:80], data_range=1.0).item()
        for part in (patched(unseen), repaired)
    )
    assert after > before + 1


def test_the_repair_loss_by_hand() -> None:
    wanted = torch.zeros(1, 3, 2, 2)
    seen, rebuilt = wanted.clone(), wanted.clone()
    seen[0, 1, 0, 0] = 0.4  # one pixel of four was changed, in one channel
    rebuilt[0, :, 0, 0], rebuilt[0, :, 1, 1] = 0.3, 0.6
    assert repair_loss(seen, rebuilt, wanted).item() == pytest.approx(0.3 + 0.1 * 0.6 / 3)
    assert repair_loss(wanted, rebuilt, wanted).item() == pytest.approx((0.3 + 0.6) / 4)
    assert repair_loss(wanted + 1, rebuilt, wanted).item() == pytest.approx((0.3 + 0.6) / 4)


def test_an_untrained_rebuilder_gives_back_what_it_gets() -> None:
    images = shapes(1, seed=2)
    assert torch.equal(Rebuilder(8)(images), images)


def test_rebuilding_is_deterministic_and_leaves_everything_else_alone() -> None:
    clear, recognizer = shapes(6, seed=0), LinearRecognizer()
    knobs = {"steps": 4, "batch_size": 2, "feature_share": 0.5, "width": 8}
    state, before = torch.get_rng_state(), weights_of(recognizer)
    first = taught(faded(clear), clear, recognizer=recognizer, seed=5, **knobs)
    assert torch.equal(torch.get_rng_state(), state)
    assert weights_of(recognizer) == before
    torch.rand(3)
    again = taught(faded(clear), clear, recognizer=recognizer, seed=5, **knobs)
    other = taught(faded(clear), clear, recognizer=recognizer, seed=6, **knobs)
    assert weights_of(first) == weights_of(again) != weights_of(other)


def test_training_ends_with_the_weights_that_are_best_for_who_is_held_back_and_in_time() -> None:
    clear = shapes(12, seed=0)
    opposite = torch.cat([faded(clear[:8]), clear[8:]])  # of those who are held back nothing is to be repaired
    knobs = {"recognizer": LinearRecognizer(), "seed": 0, "steps": 40, "batch_size": 4, "width": 8, "shift": 0}
    errors = []
    for held_back in (0, 4):
        rebuilder = taught(opposite, clear[: 8 + held_back], held_back, **knobs)
        errors.append((rebuilder(clear[8:]) - clear[8:]).abs().mean().item())
    assert errors[1] < errors[0]
    start = time.monotonic()
    taught(opposite, clear, 4, **knobs | {"steps": 100_000, "seconds": 1.0})
    assert time.monotonic() - start < 10


def test_the_feature_loss_is_of_the_embedding() -> None:
    """With it the rebuilt face is nearer to the clear one for the recogniser than without."""
    clear = shapes(12, seed=0)
    recognizer, knobs = LinearRecognizer(), {"steps": 15, "batch_size": 4, "width": 8, "feature_share": 1.0}

    def cosine(weight: float) -> float:
        net = taught(clear[:, CHANNELS], clear, recognizer=recognizer, feature_weight=weight, seed=0, **knobs)
        return (recognizer(rebuild(net, clear[:, CHANNELS])) * recognizer(clear)).sum(dim=1).mean().item()

    assert cosine(3.0) > cosine(0.0)


def test_pairs_move_alike() -> None:
    images = shapes(3, seed=4)
    seen, wanted = moved(torch.stack([images, 1 - images]), 8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen, 1 - wanted)
    assert not torch.equal(seen, images)
    inside = images[..., 8:-8, 8:-8]
    kept = [
        any(
            torch.equal(turned[..., top : top + 112, left : left + 112], face)
            for turned in (picture, picture.flip(-1))
            for top in range(17)
            for left in range(17)
        )
        for picture, face in zip(seen, inside, strict=True)
    ]
    assert all(kept)


def marked(count: int, seed: int) -> tuple[Images, Tensor]:
    """Noise with a smooth square somewhere in the view, as repainting leaves it; and where."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 256, 256, generator=generator)
    changed = torch.zeros(count, 1, 40, 40)
    for index, (row, column) in enumerate(torch.randint(24, (count, 2), generator=generator).tolist()):
        changed[index, :, row : row + 16, column : column + 16] = 1
        view(images)[index, :, 4 * row : 4 * row + 64, 4 * column : 4 * column + 64] = 0.5
    return images, changed


def test_the_detector_of_repainting_finds_what_was_repainted_in_faces_it_never_saw() -> None:
    detector = train_detector(*marked(24, seed=0), steps=60, seed=0)
    images, changed = marked(8, seed=1)
    with torch.no_grad():
        found = detector(images)
    assert roc_auc_score(changed.flatten().numpy(), found.flatten().numpy()) > 0.95
    again = train_detector(*marked(24, seed=0), steps=60, seed=0)
    assert weights_of(again) == weights_of(detector)


def test_changes_of_a_published_picture() -> None:
    images = shapes(2, seed=0)
    for name, change in CHANGES.items():
        changed = change(images)
        assert changed.shape == images.shape
        assert 0 <= changed.min() <= changed.max() <= 1
        assert not torch.equal(changed, images), name
    assert torch.equal(CHANGES["shifted"](images)[..., 2:, :-3], images[..., :-2, 3:])
    errors = [(CHANGES[f"jpeg {quality}"](images) - images).abs().mean() for quality in (50, 75, 95)]
    assert errors[0] > errors[1] > errors[2]
