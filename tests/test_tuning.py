"""The pieces of fine-tuning: losses, order, variants, accumulation, verification, figures; networks of ten lines."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import TinyRecognizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from veil.config import FARS
from veil.data.faces import enrol
from veil.data.folder import folder
from veil.metrics.identification import Comparison
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.tasks.fit import quiet_lightning
from veil.training.clear import confusions, nearest_centroid
from veil.training.features import Pictures, features, varied
from veil.training.held_out import HeldOut, held_out_people, true_accepts
from veil.training.losses import linear, new_loss
from veil.training.people import Labelled, People, epoch_order
from veil.training.recipe import Augmentation
from veil.training.tuning import Tuning, Unit
from veil.types import view

AUGMENTATION = Augmentation(flip=0.5, crop=0.08, jitter=0.2, grey=0.3, blur=0.3)


def clusters(seed: int, people: int = 5, photos: int = 200) -> tuple[Tensor, Tensor]:
    """Unit vectors round five centres, overlapping."""
    centres = torch.randn(people, 16, generator=torch.Generator().manual_seed(9))
    identities = torch.arange(photos) % people
    noise = torch.randn(photos, 16, generator=torch.Generator().manual_seed(seed))
    return F.normalize(centres[identities] + 1.2 * noise, dim=1), identities


def unit(people: int = 5, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(people, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


def trainer(epochs: int, **options: object) -> pl.Trainer:
    quiet_lightning()
    return pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1, **options,
    )  # fmt: skip


def fitted(module: Tuning, inputs: Tensor, identities: Tensor, epochs: int, batch: int = 64, **options: object) -> None:
    rows = Labelled(inputs, identities)
    trainer(epochs, **options).fit(module, People(rows, [rows], batch, seed=0))


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_a_margin_of_zero_is_the_scaled_softmax(name: str) -> None:
    embeddings, identities = clusters(0)
    loss = new_loss(name, unit(), scale=16.0, margin=0.0)
    weights = loss.classifier().weight / 16
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(5))
    expected = F.cross_entropy(16 * embeddings @ weights.T, identities)
    torch.testing.assert_close(loss(embeddings, identities), expected)
    torch.testing.assert_close(loss.logits(embeddings), loss.classifier()(embeddings))


@pytest.mark.parametrize(
    ("name", "worse"),
    [("arcface", lambda cosine: torch.cos(torch.acos(cosine) + 0.5)), ("cosface", lambda cosine: cosine - 0.35)],
)
def test_a_margin_makes_the_true_person_worse_as_in_its_paper(name: str, worse: Callable[[Tensor], Tensor]) -> None:
    embeddings, identities = clusters(0)
    loss = new_loss(name, unit(), scale=16.0, margin=None)
    cosines = embeddings @ loss.classifier().weight.T / 16
    own = F.one_hot(identities, 5).bool()
    expected = F.cross_entropy(16 * torch.where(own, worse(cosines), cosines), identities)
    torch.testing.assert_close(loss(embeddings, identities), expected)


def test_classes_start_at_the_centroids_and_have_a_gradient_there() -> None:
    embeddings = unit().requires_grad_()
    for name in ("softmax", "arcface", "cosface", "triplet"):
        loss = new_loss(name, unit(), scale=16.0, margin=None)
        assert loss.logits(embeddings).argmax(dim=1).tolist() == list(range(5))
        loss(torch.cat([embeddings, embeddings.flip(1)]), torch.arange(10) % 5).backward()
        assert embeddings.grad is not None
        assert embeddings.grad.isfinite().all()
        assert all(weight.grad.isfinite().all() for weight in loss.parameters())


def test_making_a_loss_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for name in ("softmax", "arcface", "cosface", "triplet"):
        new_loss(name, unit(), 16.0, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_triplets_are_of_squared_distances() -> None:
    angle = torch.tensor([0.0, 0.5, 0.6])  # anchor and positive 0.5 rad apart, the negative a little farther
    embeddings = torch.stack([angle.cos(), angle.sin()], dim=1)
    loss = new_loss("triplet", embeddings[:2], scale=1.0, margin=0.2).eval()
    near, far = (2 - 2 * math.cos(x) for x in (0.5, 0.6))
    # the other anchor's negative (0.1 rad) is nearer than its positive: hard, so not semi-hard
    assert loss(embeddings, torch.tensor([0, 0, 1])).item() == pytest.approx(near - far + 0.2, abs=1e-6)


def test_the_softmax_is_as_good_as_logistic_regression() -> None:
    module = Tuning(nn.Identity(), new_loss("softmax", unit(), 0.0, None), 5, learning_rate=0.1, weight_decay=0.0)
    fitted(module, *clusters(0), epochs=30)
    reference = LogisticRegression(C=1e4, max_iter=1000).fit(*(part.numpy() for part in clusters(0)))
    embeddings, identities = clusters(2)
    expected = reference.score(embeddings.numpy(), identities.numpy())
    assert 0.6 < expected < 1
    mine = (module.loss.classifier()(embeddings).argmax(dim=1) == identities).double().mean().item()
    assert mine == pytest.approx(expected, abs=0.05)


class TinyTrunk(TinyRecognizer):
    """A tiny recogniser that names its last block."""

    @property
    def last_block(self) -> nn.Sequential:
        return nn.Sequential(*list(self.network)[1:])


def images(count: int = 20) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(4)), torch.arange(count) % 5


def test_a_frozen_trunk_does_not_change_by_a_bit_whatever_is_trained_on_it() -> None:
    trunk = TinyTrunk()
    before = weights_of(trunk)
    below = trunk.network.repeat_2.weight.clone()
    inputs, identities = images()
    head = Tuning(trunk, new_loss("softmax", unit(), 0.0, None), 5, learning_rate=0.1, weight_decay=0.1)
    fitted(head, inputs, identities, epochs=2)
    assert weights_of(trunk) == before
    head.train()
    assert not any(part.training for part in trunk.modules())
    assert head.loss.training
    with torch.no_grad():
        kept = trunk.network.repeat_2(view(inputs))
    block = Unit(trunk.last_block.requires_grad_(True))
    fitted(Tuning(block, new_loss("arcface", unit(), 16.0, None), 5, 1e-2, 0.1), kept, identities, epochs=2)
    assert weights_of(trunk) != before  # the last block is the trunk's own
    assert torch.equal(trunk.network.repeat_2.weight, below)
    assert torch.equal(trunk.network.norm.running_mean, torch.zeros(8))
    torch.testing.assert_close(block(kept), trunk(inputs))


@pytest.mark.parametrize("freeze_norm", [True, False])
def test_batchnorm_statistics_move_only_where_asked(freeze_norm: bool) -> None:
    trunk = TinyTrunk().requires_grad_(True)
    module = Tuning(trunk, new_loss("softmax", unit(), 16.0, None), 5, 1e-3, 0.0, freeze_norm)
    fitted(module, *images(), epochs=1)
    assert torch.equal(trunk.network.norm.running_mean, torch.zeros(8)) == freeze_norm
    module.train()
    assert trunk.network.norm.training != freeze_norm
    assert not any(part.training for part in trunk.modules() if isinstance(part, nn.Dropout))


def test_two_accumulated_batches_are_one_of_twice_the_size() -> None:
    ends = []
    for batch, accumulate in ((10, 1), (5, 2)):
        module = Tuning(TinyTrunk().requires_grad_(True), new_loss("cosface", unit(), 16.0, None), 5, 1e-3, 0.0)
        fitted(module, *images(), epochs=2, batch=batch, accumulate_grad_batches=accumulate)
        ends.append(module.embedder.network.last.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)


def test_half_precision_leaves_the_weights_and_the_loss_in_single() -> None:
    module = Tuning(TinyTrunk().requires_grad_(True), new_loss("arcface", unit(), 16.0, None), 5, 1e-3, 0.0)
    fitted(module, *images(), epochs=1, precision="bf16-mixed")
    assert {value.dtype for value in module.parameters()} == {torch.float32}


def test_an_epoch_is_every_photo_once() -> None:
    order = epoch_order(torch.arange(30) % 7, 0.0, 1, 0, torch.Generator().manual_seed(0))
    assert sorted(order) == list(range(30))
    assert order != list(range(30))


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_balanced_people_are_drawn_as_often_as_asked(balance: float) -> None:
    photos = torch.tensor([1, 9, 90])
    identities = torch.arange(3).repeat_interleave(photos)
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([epoch_order(identities, balance, 1, 0, generator) for _ in range(100)]).flatten()
    drawn = identities[rows].bincount().double() / len(rows)
    expected = photos.double() ** (1 - balance)
    torch.testing.assert_close(drawn, expected / expected.sum(), atol=0.02, rtol=0.0)
    ninety = rows[rows >= 10].bincount()[10:].double()
    assert ninety.std() / ninety.mean() < 0.5  # and each of a person's photos alike


def test_photos_of_a_person_are_drawn_together() -> None:
    identities = torch.arange(60) % 6
    rows = torch.tensor(epoch_order(identities, 0.0, 4, 0, torch.Generator().manual_seed(0)))
    groups = identities[rows].view(-1, 4)
    assert (groups == groups[:, :1]).all()
    assert all(len(set(group)) == 4 for group in rows.view(-1, 4).tolist())


def test_variants_are_drawn_as_often_as_the_photo() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([epoch_order(torch.arange(50) % 5, 0.0, 1, 3, generator) for _ in range(100)]).flatten()
    share = (rows // 50).bincount().double() / len(rows)
    torch.testing.assert_close(share, torch.full((4,), 0.25).double(), atol=0.02, rtol=0.0)
    assert (rows % 50).bincount().tolist() == [100] * 50


def test_an_epoch_does_not_depend_on_what_was_drawn_before() -> None:
    before = torch.get_rng_state()
    one, two = (People(Labelled(*images()), [], 8, seed=3) for _ in range(2))
    assert list(one.train_dataloader().sampler) == list(two.train_dataloader().sampler)
    other = People(Labelled(*images()), [], 8, seed=4)
    assert list(one.train_dataloader().sampler) != list(other.train_dataloader().sampler)
    assert torch.equal(torch.get_rng_state(), before)


def test_chosen_people_are_numbered_anew_and_keep_their_rows() -> None:
    rows, identities = torch.arange(20), torch.tensor([4, 2, 7, 2, 4, 4, 9, 7, 2, 9])
    photos = torch.tensor([0, 2, 4, 5, 7])  # of people 4 and 7
    chosen = Labelled(rows, identities, photos, torch.tensor([4, 7]))
    assert [int(chosen[place][1]) for place in range(5)] == [0, 1, 0, 0, 1]
    assert [int(chosen[place][0]) for place in range(10)] == [0, 2, 4, 5, 7, 10, 12, 14, 15, 17]  # the 2nd variant
    assert int(chosen[6][1]) == 1


def test_a_variant_is_the_same_whenever_it_is_asked_for() -> None:
    image = images(1)[0]
    assert torch.equal(varied(image, 5, 0, AUGMENTATION), image)
    before = torch.get_rng_state()
    variants = [varied(image, 5, number, AUGMENTATION) for number in range(1, 20)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(varied(image, 5, n, AUGMENTATION), made) for n, made in enumerate(variants, 1))
    assert all(made.min() >= 0 and made.max() <= 1 for made in variants)
    assert not any(torch.equal(made, variants[0]) for made in [*variants[1:], varied(image, 6, 1, AUGMENTATION)])
    grey = sum(bool(torch.allclose(made[:, 0], made[:, 1], atol=1e-6)) for made in variants)
    assert 1 <= grey <= 12  # of 19, a share of 0.3


def test_no_augmentation_changes_nothing_and_a_flip_alone_flips() -> None:
    image = images(1)[0]
    nothing = Augmentation(flip=0.0, crop=0.0, jitter=0.0, grey=0.0, blur=0.0)
    flip = Augmentation(flip=1.0, crop=0.0, jitter=0.0, grey=0.0, blur=0.0)
    torch.testing.assert_close(varied(image, 5, 1, nothing), image)
    torch.testing.assert_close(varied(image, 5, 1, flip), image.flip(-1))


def test_features_are_what_enters_the_last_block_photo_by_photo(photos: Path, cache: str, tmp_path: Path) -> None:
    faces = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).gallery
    trunk, stages = TinyTrunk(), Stages()
    rows = features(trunk, faces, 2, AUGMENTATION, str(tmp_path), stages, "features")
    assert len(rows) == 3 * len(faces)
    pictures = Pictures(faces, AUGMENTATION)
    for row in (0, 7, len(faces), 2 * len(faces) + 3):
        expected = trunk.network.repeat_2(view(pictures[row][None]))[0]
        torch.testing.assert_close(rows[row], expected)
    files = {path: path.stat().st_ino for path in tmp_path.glob("features/*.npy")}
    assert len(files) == 3
    features(trunk, faces, 2, AUGMENTATION, str(tmp_path), stages, "features")
    assert {path: path.stat().st_ino for path in tmp_path.glob("features/*")} == files
    features(trunk, faces, 0, Augmentation(**vars(AUGMENTATION) | {"flip": 1.0}), str(tmp_path), stages, "features")
    assert len(list(tmp_path.glob("features/*"))) == 3  # the photos themselves do not depend on it


def test_true_accepts_of_a_known_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    identities = torch.arange(200) % 20
    probes, templates = F.normalize(torch.randn(2, 200, 32, generator=generator), dim=2)
    chance = true_accepts(Comparison(probes, identities, templates, identities))
    assert chance[1e-2].value < 0.05
    assert chance[1e-3].value < 0.02
    many = torch.arange(400) % 200
    centres = F.normalize(torch.randn(200, 32, generator=generator), dim=1)[many]
    sure = true_accepts(Comparison(centres, many, centres, many))
    assert sure[1e-3].value == 1
    assert sure[1e-3].n == 800
    few = true_accepts(Comparison(centres[:10], many[:10], centres[:10], many[:10]))
    assert few.keys() == set(FARS)
    assert all("0 pairs of people, probes of 0 people, of 90 impostor pairs; 10" in reason for reason in few.values())


def test_faces_that_are_not_found_are_no_templates_and_are_never_accepted() -> None:
    identities = torch.arange(400) % 100
    centres = F.normalize(torch.randn(100, 32, generator=torch.Generator().manual_seed(0)), dim=1)[identities]
    templates, probes = centres.clone(), centres.clone()
    templates[:100] = 0
    probes[:200] = 0
    figures = true_accepts(Comparison(probes, identities, templates, identities))
    assert figures[1e-2].n == 400 * 3
    assert figures[1e-2].value == 0.5


def test_batches_add_up_to_the_whole() -> None:
    embeddings, identities = clusters(0, people=20, photos=400)
    metric = HeldOut()
    for part in range(0, 400, 50):
        metric.update(embeddings[part : part + 50], identities[part : part + 50], enrolled=part < 200)
    whole = true_accepts(Comparison(embeddings[200:], identities[200:], embeddings[:200], identities[:200]))
    assert metric.compute() == {far: share for far, share in whole.items() if not isinstance(share, str)}


def test_held_out_people_are_seeded_by_their_names() -> None:
    people = [f"p{number}" for number in range(200)]
    chosen = {people[index] for index in held_out_people(people, 0.1, 0)}
    assert len(chosen) == 20
    assert {people[::-1][index] for index in held_out_people(people[::-1], 0.1, 0)} == chosen
    assert {people[index] for index in held_out_people(people, 0.1, 1)} != chosen
    assert not held_out_people(people, 0.0, 0)


def test_confusions_name_the_worst_people_first() -> None:
    classifier = linear(torch.eye(4))
    probes = torch.eye(4)[[0, 0, 0, 1, 2, 2, 3]]
    clear = Comparison(probes, torch.tensor([0, 1, 1, 1, 2, 3, 3]), torch.eye(4), torch.arange(4))
    rows = confusions(classifier, clear, ["a", "b", "c", "d"])
    assert [(row["person"], row["probes"], row["accuracy"], row["taken_for"], row["times"]) for row in rows] == [
        ("b", 3, 0.3333, "a", 2), ("d", 2, 0.5, "c", 1)
    ]  # fmt: skip
    assert len(confusions(classifier, clear, ["a", "b", "c", "d"], worst=1)) == 1
    assert nearest_centroid(clear).value == pytest.approx(4 / 7)
