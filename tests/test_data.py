"""Reading, aligning, splitting."""

import io
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.transform import AffineTransform, warp

from veil.data.faces import enrol
from veil.data.folder import att, folder
from veil.data.split import face_seed, per_person
from veil.data.splitfile import counts
from veil.errors import InputError
from veil.faces.align import (
    EYES,
    MARGIN,
    REACH,
    WIDE,
    Found,
    crop_face,
    crop_square,
    face_detector,
    find_faces,
    paste_face,
    plausible,
    to_photo,
)
from veil.faces.crops import alignment, crop_path
from veil.faces.decode import decode
from veil.storage import fingerprint
from veil.storage.progress import Stages
from veil.types import CROP, FIELD, VIEW, view


def test_att_is_forty_people_with_ten_photos_in_natural_order() -> None:
    photos = att()
    assert len(photos) == 400
    assert [photo.key for photo in photos[:11]] == [*(f"s1/{number}" for number in range(1, 11)), "s2/1"]
    assert photos[-1].person == "s40"


def test_a_zip_is_read_in_place(photos: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", photos))
    assert [photo.key for photo in folder(str(archive))] == [photo.key for photo in folder(str(photos))]
    assert folder(str(archive))[7].read() == folder(str(photos))[7].read()


def test_min_photos_leaves_out_people(photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "some")
    (root / "s1" / "1.pgm").unlink()
    assert {photo.person for photo in folder(str(root), min_photos=5)} == {"s2", "s3", "s4", "s5", "s6"}
    with pytest.raises(InputError, match=r"data.min_photos=6"):
        folder(str(root), min_photos=6)
    with pytest.raises(InputError, match=r"data.min_photos is the fewest photos of a person, at least 1, got 0"):
        folder(str(root), min_photos=0)


def test_several_roots_are_one_data_set_with_keys_of_their_own(photos: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    for person in ("s1", "new"):
        shutil.copytree(photos / "s1", tmp_path / "other" / person)
    (tmp_path / "more.csv").write_text("path,person,Male\nother/new/1.pgm,new,true\n")
    found = folder([str(tmp_path / "packed.zip"), str(tmp_path / "other"), str(tmp_path / "more.csv")], min_photos=6)
    assert len(found) == 10 + 6  # s1 is one person in two roots; nobody else has six photos, but new
    assert len(set(found.keys)) == 16
    assert found.keys[0] == "packed/s1/1"
    assert {"other/s1/1", "other/new/1", "more/other/new/1"} <= set(found.keys)
    assert not found.labels  # not every root has them
    read = {photo.key: photo.read() for photo in found}
    assert read["packed/s1/3"] == read["other/s1/3"] == (photos / "s1" / "3.pgm").read_bytes()
    alone = folder([str(photos)])
    assert alone.keys == folder(str(photos)).keys


def test_roots_of_one_name_are_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / photos.name)
    with pytest.raises(InputError, match=rf"data\.root lists several .* called '{photos.name}'"):
        folder([str(photos), str(tmp_path / photos.name)])
    with pytest.raises(InputError, match=r"data\.root must be one or several .* got \[\]"):
        folder([])


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.root must be .* got '.*nowhere'"):
        folder(str(tmp_path / "nowhere"))


def test_photos_that_share_a_key_are_refused(photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "twice")
    Image.open(root / "s1" / "1.pgm").save(root / "s1" / "1.png")
    with pytest.raises(InputError, match="s1/1"):
        folder(str(root))


def face_at(eyes: float, mouth: float, angle: float = 0.0, apart: float = 40.0) -> Found:
    """A face of a photo of 300 px: eyes and mouth this far below its middle, turned by `angle` degrees round it."""
    half = apart / 2
    points = np.array([[-half, eyes], [half, eyes], [0, (eyes + mouth) / 2], [-half / 2, mouth], [half / 2, mouth]])
    turn = np.array([[np.cos(a := np.radians(angle)), -np.sin(a)], [np.sin(a), np.cos(a)]])
    points = points @ turn.T + 150
    return Found(np.array([100.0, 90.0, 200.0, 220.0]), points)


def test_crops_made_another_way_are_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = crop_path(Path(), b"photo")
    assert crop_path(Path(), b"another") != before
    assert len(alignment()) == 16  # what a digest takes
    alignment.cache_clear()
    fingerprint._veils.cache_clear()
    syntax = fingerprint._syntax

    def edited(path: Path, changed: int) -> str:
        return "eyes lower" if path.name == "align.py" else syntax(path, changed)

    monkeypatch.setattr(fingerprint, "_syntax", edited)
    assert crop_path(Path(), b"photo") != before
    alignment.cache_clear()
    fingerprint._veils.cache_clear()


@pytest.mark.parametrize("angle", [0.0, 20.0, -35.0])
def test_eyes_and_mouth_come_where_the_geometry_says(angle: float) -> None:
    photo = np.zeros((300, 300, 3), np.uint8)
    face = face_at(-10, 40, angle)
    for x, y in face.points[[0, 1, 3, 4]]:
        cv2.circle(photo, (round(x - 0.5), round(y - 0.5)), 3, (255, 255, 255), -1)
    rows, columns = np.where(crop_face(photo, face)[..., 0] > 127)
    upper = rows < CROP / 2
    field, edge = CROP * FIELD, CROP * (1 - FIELD) / 2
    assert rows[upper].mean() + 0.5 == pytest.approx(edge + EYES * field, abs=1)
    assert rows[~upper].mean() + 0.5 == pytest.approx(edge + (EYES + REACH) * field, abs=1)
    assert columns[upper].mean() == pytest.approx((CROP - 1) / 2, abs=1)
    assert np.ptp(columns[upper]) > 0.75 * np.ptp(rows)  # the eyes lie level: 40 to 50 px, whatever the roll


def test_a_profile_is_scaled_by_eyes_and_mouth_and_a_long_face_by_its_eyes() -> None:
    profile, frontal, wide = (crop_square(face_at(-10, 40, apart=apart)) for apart in (5.0, 40.0, 60.0))
    assert profile.side == pytest.approx(50 / REACH / FIELD)
    assert frontal.side == profile.side
    assert wide.side == pytest.approx(WIDE * 60 / REACH / FIELD)


@pytest.mark.parametrize("wrong", ["mirrored", "upside down", "outside", "one place"])
def test_landmarks_that_cannot_be_right_give_way_to_the_box(wrong: str) -> None:
    face = face_at(-10, 40)
    points = face.points.copy()
    if wrong == "mirrored":
        points = points[[1, 0, 2, 4, 3]]
    if wrong == "upside down":
        points = points[[3, 4, 2, 0, 1]]
    if wrong == "outside":
        points[4] += 100
    if wrong == "one place":
        points[:] = 150
    assert plausible(face)
    assert not plausible(face._replace(points=points))
    square = crop_square(face._replace(points=points))
    assert square.centre == pytest.approx([150, 155])
    assert square.side == pytest.approx(130 * MARGIN / VIEW)
    assert square.down.tolist() == [0, 1]


def test_crops_by_box_are_counted(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.faces.crops.plausible", lambda face: False)
    stages = Stages()
    enrolment = enrol(folder(str(photos)), 0.6, 0, str(tmp_path), stages)
    assert len(enrolment.by_box) == counts(enrolment)["aligned_by_box"] == 30
    assert enrol(folder(str(photos)), 0.6, 0, str(tmp_path), stages).by_box == enrolment.by_box  # remembered


def test_a_crop_pasted_back_changes_what_is_masked_alone_and_puts_it_in_place() -> None:
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8), (0, 0), 4)
    face = face_at(-10, 40, angle=15)
    mask = np.zeros((CROP, CROP), bool)
    mask[100:160, 90:170] = True
    crop = crop_face(photo, face)
    same = paste_face(photo, face, crop, mask).astype(int)
    assert np.abs(same - photo).max() <= 3  # its own pixels come back where they were
    changed = (paste_face(photo, face, 255 - crop, mask) != photo).any(axis=2)
    corners = np.array([[90, 100, 1], [170, 100, 1], [170, 160, 1], [90, 160, 1]]) - [0.5, 0.5, 0]
    quad = corners @ to_photo(crop_square(face)).T
    area = cv2.contourArea(quad.astype(np.float32))
    assert area <= changed.sum() <= 1.08 * area
    outline = cv2.fillConvexPoly(np.zeros((300, 300), np.uint8), quad.round().astype(np.int32), 1)
    assert not (changed & (cv2.dilate(outline, np.ones((5, 5), np.uint8)) == 0)).any()


def test_crop_equals_scikit_image() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    face = face_at(-10, 20, angle=15)
    inverse = np.vstack([to_photo(crop_square(face)), [0, 0, 1]])
    expected = warp(photo, AffineTransform(matrix=inverse), output_shape=(CROP, CROP), order=1, preserve_range=True)
    inside = slice(60, 196)
    difference = np.abs(crop_face(photo, face).astype(float) - expected)[inside, inside]
    assert difference.mean() < 1.5
    assert difference.max() < 16  # OpenCV interpolates in 32nds of a pixel


def test_a_face_does_not_depend_on_the_photos_beside() -> None:
    # In single precision sums differ with the batch and the threads; about half of these faces then differ.
    photos, detector = [decode(photo.read()) for photo in att()[::20]], face_detector()
    together = find_faces(photos, detector)
    for photo, box in zip(photos, together, strict=True):
        (alone,) = find_faces([photo], detector)
        assert alone is not None
        assert box is not None
        assert (alone.box == box.box).all()
        assert (alone.points == box.points).all()


def test_decode_is_upright_rgb_without_metadata() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", exif=exif)
    upright = decode(buffer.getvalue())
    assert upright.shape == (6, 4, 3)
    assert (upright[:, -1] == 255).all()


def test_a_truncated_photo_is_named(photos: Path, tmp_path: Path, cache: str) -> None:
    root = shutil.copytree(photos, tmp_path / "cut")
    whole = (root / "s2" / "3.pgm").read_bytes()
    (root / "s2" / "3.pgm").write_bytes(whole[:2000])
    with pytest.raises(InputError, match=r"photo 's2/3' cannot be read"):
        enrol(folder(str(root)), 0.8, 0, cache, Stages())


def test_a_photo_without_a_face_is_listed(photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "blank")
    Image.new("RGB", (92, 112), "grey").save(root / "s2" / "3.pgm")
    enrolment = enrol(folder(str(root)), 0.6, 0, str(tmp_path / "cache"), Stages())
    assert enrolment.not_found == ["s2/3"]
    assert len(enrolment.gallery) + len(enrolment.probes) == 29
    again = enrol(folder(str(root)), 0.6, 0, str(tmp_path / "cache"), Stages())
    assert again.not_found == ["s2/3"]


def test_crops_are_made_once_and_do_not_depend_on_the_others(photos: Path, tmp_path: Path) -> None:
    stages = Stages()
    everyone = enrol(folder(str(photos)), 0.6, 0, str(tmp_path / "a"), stages)
    assert "align" in stages.seconds
    stages = Stages()
    enrol(folder(str(photos)), 0.6, 0, str(tmp_path / "a"), stages)
    assert "align" not in stages.seconds
    shutil.copytree(photos / "s3", tmp_path / "alone" / "s3")
    alone = enrol(folder(str(tmp_path / "alone")), 0.6, 0, str(tmp_path / "b"), Stages())
    keys = everyone.probes.keys
    for key, crop in zip(alone.probes.keys, alone.probes.crops, strict=True):
        assert crop.read_bytes() == everyone.probes.crops[keys.index(key)].read_bytes()


def test_faces_are_images_in_range_with_their_own_seeds(photos: Path, cache: str) -> None:
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    (batch,) = enrolment.probes.loader(64)
    assert batch.images.shape == (12, 3, CROP, CROP)
    assert view(batch.images).shape[-2:] == (160, 160)
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert batch.seeds.tolist() == [face_seed(key, 0) for key in batch.keys]
    assert [enrolment.people[identity] for identity in batch.identities] == [key.split("/")[0] for key in batch.keys]


def test_split_gives_each_person_the_share_and_shares_no_photo() -> None:
    people = [f"p{number // 10}" for number in range(200)]
    keys = [f"{person}/{number}" for number, person in enumerate(people)]
    gallery, probes = per_person(people, keys, 0.8, seed=0)
    assert sorted(gallery + probes) == list(range(200))
    for person in range(20):
        assert sum(people[index] == f"p{person}" for index in gallery) == 8


def test_split_of_a_person_depends_on_nobody_else() -> None:
    keys = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    both = per_person([key[0] for key in keys], keys, 0.5, seed=3)
    alone = per_person(["b"] * 3, keys[3:], 0.5, seed=3)
    assert [keys[i] for i in both.probes if keys[i][0] == "b"] == [keys[3:][i] for i in alone.probes]


def test_split_changes_with_the_seed_and_keeps_a_probe() -> None:
    keys = [f"a/{number}" for number in range(10)]
    assert len({tuple(per_person(["a"] * 10, keys, 0.8, seed).probes) for seed in range(20)}) > 5
    assert per_person(["a", "a", "b"], ["a/1", "a/2", "b/1"], 0.99, 0).probes[0] in (0, 1)
    assert per_person(["b"], ["b/1"], 0.1, 0) == ([0], [])


def test_a_zip_without_faces_folders_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(InputError, match="holds no person"):
        folder(str(tmp_path / "empty.zip"))
