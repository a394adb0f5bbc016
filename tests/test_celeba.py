"""CelebA's release, from its files to probes with attributes."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from celeba_shaped import ATTRIBUTES, write_celeba
from conftest import compose_config

from veil.config import Config
from veil.data.celeba import celeba
from veil.data.faces import enrol
from veil.data.photos import Photos
from veil.data.splitfile import counts
from veil.errors import InputError
from veil.storage.progress import Stages
from veil.tasks.evaluate import evaluate
from veil.tasks.prepare import prepared

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def table(root: Path, name: str) -> dict[str, list[str]]:
    """An independent reading of a list."""
    lines = (root / name).read_text().splitlines()
    return {
        line.split()[0].removesuffix(".jpg"): line.split()[1:] for line in lines if line.endswith("1") or ".jpg" in line
    }


def test_photos_are_what_the_lists_say(root: Path) -> None:
    photos = celeba(str(root))
    identities = {key: value for key, (value,) in table(root, "identity_CelebA.txt").items()}
    assert dict(zip(photos.keys, photos.people, strict=True)) == {
        key: f"celeba_{identity}" for key, identity in identities.items()
    }
    assert len(set(photos.people)) == 50
    attributes = table(root, "list_attr_celeba.txt")
    for index, key in enumerate(photos.keys):
        assert [bool(photos.labels[name][index]) for name in ATTRIBUTES] == [v == "1" for v in attributes[key]]
    assert photos[7].read() == (root / "img_align_celeba" / f"{photos[7].key}.jpg").read_bytes()


def test_a_zip_is_read_in_place_and_splits_alike(root: Path, cache: str, tmp_path: Path) -> None:
    zipped = celeba(str(write_celeba(tmp_path / "zipped", zipped=True)))
    plain = celeba(str(root))
    assert zipped.keys == plain.keys
    assert zipped[11].read() == plain[11].read()
    first, second = (enrol(photos, 0.8, 0, cache, Stages()) for photos in (plain, zipped))
    assert first.probes.keys == second.probes.keys


def test_people_with_one_photo_are_enrolled_and_counted(root: Path, cache: str) -> None:
    photos = celeba(str(root))
    enrolment = enrol(photos, 0.8, 0, cache, Stages())
    assert len(enrolment.gallery) + len(enrolment.probes) + len(enrolment.not_found) == len(photos)
    found = [*enrolment.gallery.identities, *enrolment.probes.identities]
    single = {person for person, count in Counter(found).items() if count == 1}
    assert single.isdisjoint(enrolment.probes.identities)
    assert counts(enrolment)["single_photo"] == len(single) >= 10


def test_resplit_gives_each_person_the_share(root: Path, cache: str) -> None:
    enrolment = enrol(celeba(str(root)), 0.8, 0, cache, Stages())
    gallery, probes = Counter(enrolment.gallery.identities), Counter(enrolment.probes.identities)
    for person in range(len(enrolment.people)):
        have = gallery[person] + probes[person]
        assert probes[person] == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1}[have]


def test_official_probes_test_people_only_and_enrols_everybody(root: Path, cache: str) -> None:
    test = {key for key, (part,) in table(root, "list_eval_partition.txt").items() if part == "2"}
    official = enrol(celeba(str(root), partition="official"), 0.8, 0, cache, Stages())
    resplit = enrol(celeba(str(root)), 0.8, 0, cache, Stages())
    assert official.probes.keys == [key for key in resplit.probes.keys if key in test]
    assert official.people == resplit.people
    assert len(official.gallery) + len(official.probes) == len(resplit.gallery) + len(resplit.probes)
    people = {official.people[person] for person in official.probes.identities}
    enrolled = {official.people[person] for person in official.gallery.identities}
    assert people < enrolled


def test_attributes_reach_the_evaluation_through_the_split_file(root: Path, cache: str, tmp_path: Path) -> None:
    config = compose_config("data=celeba", f"data.root={root}", f"cache={cache}", f"outputs={tmp_path}", "logger=csv")
    prepared(config, Stages())
    probes = prepared(config, Stages()).probes.select([5, 2, 9])
    attributes = table(root, "list_attr_celeba.txt")
    for row, key in enumerate(probes.keys):
        assert [bool(probes.labels[name][row]) for name in ATTRIBUTES] == [v == "1" for v in attributes[key]]
    assert probes.labels["Male"].dtype == bool


def test_why_there_are_no_attributes_reaches_the_evaluation(root: Path, cache: str, tmp_path: Path) -> None:
    bare = shutil.copytree(root, tmp_path / "bare")
    (bare / "list_attr_celeba.txt").unlink()
    config = compose_config(
        "data=celeba", f"data.root={bare}", f"cache={cache}", f"outputs={tmp_path}", "subgroups=[Male]"
    )
    enrolment = prepared(config, Stages())
    assert enrolment.probes.labels == {}
    assert enrolment.unlabelled == "list_attr_celeba is not there"
    with pytest.raises(InputError, match=r"groups must be null .* got \['Male'\]: list_attr_celeba is not there"):
        evaluate(config)
    shutil.copy(root / "list_attr_celeba.txt", bare)
    assert set(prepared(config, Stages()).probes.labels) == set(ATTRIBUTES)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing photo", r"img_align_celeba lacks 1 of 150 listed photos, 000003.jpg first"),
        ("missing list", r"must hold identity_CelebA.txt \(who is on each photo\), as CelebA's"),
        ("other order", r"list_eval_partition.txt and identity_CelebA.txt must list the same photos"),
        ("short attributes", r"list_attr_celeba.txt and identity_CelebA.txt must list the same photos"),
        ("torn line", r"identity_CelebA.txt must have a photo and a number in each line, see line 4"),
        ("odd attribute", r"list_attr_celeba.txt must have a photo and 4 times -1 or 1 in each line, see line 3"),
    ],
)
def test_a_release_that_is_not_whole_is_refused(root: Path, tmp_path: Path, damage: str, message: str) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")

    def edit(name: str, change: Callable[[list[str]], list[str]]) -> None:
        (copy / name).write_text("\n".join(change((copy / name).read_text().splitlines())) + "\n")

    if damage == "missing photo":
        (copy / "img_align_celeba" / "000003.jpg").unlink()
    elif damage == "missing list":
        (copy / "identity_CelebA.txt").unlink()
    elif damage == "other order":
        edit("list_eval_partition.txt", lambda lines: [lines[1], lines[0], *lines[2:]])
    elif damage == "short attributes":
        edit("list_attr_celeba.txt", lambda lines: lines[:-1])
    elif damage == "torn line":
        edit("identity_CelebA.txt", lambda lines: [*lines[:3], "000004.jpg", *lines[4:]])
    else:
        edit("list_attr_celeba.txt", lambda lines: [*lines[:2], lines[2].replace(" 1", " 0"), *lines[3:]])
    with pytest.raises(InputError, match=message):
        celeba(str(copy))


def test_an_unknown_partition_is_named(root: Path) -> None:
    with pytest.raises(InputError, match=r"data.partition must be one of .* got 'train'"):
        celeba(str(root), partition="train")


def test_columns_are_selected_together() -> None:
    photos = Photos(["a", "b", "c"], ["x", "y", "x"], lambda number: bytes([number]), {"old": np.array([1, 2, 3])})
    part = photos.select(np.array([2, 0]))
    assert (part.keys, part.people, part.labels["old"].tolist()) == (["c", "a"], ["x", "x"], [3, 1])
    assert [photo.read() for photo in part] == [b"\x02", b"\x00"]
    assert [photo.key for photo in photos[1:]] == ["b", "c"]
    assert photos[-1].key == "c"
    with pytest.raises(IndexError):
        photos[3]
