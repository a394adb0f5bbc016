"""Every form in which CelebA is handed on, and what is refused; photos are a few bytes that nobody decodes."""

import csv
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from veil.data.celeba import celeba
from veil.data.header import stamps
from veil.data.known import digest_of, known_people
from veil.data.photos import Photos
from veil.errors import InputError

Files = dict[str, bytes]

PEOPLE = [7, 7, 3, 12, 3]
PARTS = [0, 0, 2, 1, 2]
MALE, YOUNG = [1, 1, -1, 1, -1], [-1, 1, 1, -1, -1]
NAMES = [f"{number:06d}.jpg" for number in range(1, len(PEOPLE) + 1)]
IDENTITIES, PARTITION, ATTRIBUTES = "identity_CelebA.txt", "list_eval_partition.txt", "list_attr_celeba.txt"
ABSENT = "list_attr_celeba is not there"


def lines(*columns: list) -> bytes:
    return "".join(f"{' '.join(map(str, row))}\n" for row in zip(*columns, strict=True)).encode()


def comma_separated(header: list[str], *columns: list) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *zip(*columns, strict=True)])  # with CRLF
    return text.getvalue().encode()


def photos_in(folder: str) -> Files:
    return {f"{folder}/{name}": name.encode() for name in NAMES}


def official(images: str = "img_align_celeba") -> Files:
    attributes = b"5\nMale Young\n" + lines(NAMES, MALE, YOUNG)
    return photos_in(images) | {
        IDENTITIES: lines(NAMES, PEOPLE),
        PARTITION: lines(NAMES, PARTS),
        ATTRIBUTES: attributes,
    }


def kaggle() -> Files:
    """As jessicali9530/celeba-dataset, which has no identities."""
    return photos_in("img_align_celeba/img_align_celeba") | {
        "list_attr_celeba.csv": comma_separated(["image_id", "Male", "Young"], NAMES, MALE, YOUNG),
        "list_eval_partition.csv": comma_separated(["image_id", "partition"], NAMES, PARTS),
        "list_bbox_celeba.csv": b"image_id,x_1,y_1,width,height\n",
        "list_landmarks_align_celeba.csv": b"image_id,lefteye_x\n",
    }


def without(files: Files, *names: str) -> Files:
    return {path: content for path, content in files.items() if path.rpartition("/")[2] not in names}


def under(folder: str, files: Files) -> Files:
    return {f"{folder}/{path}": content for path, content in files.items()}


def as_folder(root: Path, files: Mapping[str, bytes]) -> str:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return str(root)


def as_zip(path: Path, files: Mapping[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return str(path)


def places(files: Files) -> Files:
    """In the folders of the official download."""
    place = {IDENTITIES: "Anno", ATTRIBUTES: "Anno", PARTITION: "Eval"}
    return {f"{place.get(path, 'Img')}/{path}": content for path, content in files.items()}


def check(photos: Photos, labelled: bool = True) -> None:
    assert photos.keys == [name.removesuffix(".jpg") for name in NAMES]
    assert photos.people == [f"celeba_{person}" for person in PEOPLE]
    assert [photo.read() for photo in photos] == [name.encode() for name in NAMES]
    found = {name: values.tolist() for name, values in photos.labels.items()}
    asked = {"Male": [value == 1 for value in MALE], "Young": [value == 1 for value in YOUNG]}
    assert found == (asked if labelled else {})
    assert labelled or photos.unlabelled == ABSENT


FORMS = {
    "flat": official(),
    "official": places(official()),
    "nested": under("celeba", official()),
    "nested official": under("CelebA", places(official())),
    "kaggle": kaggle() | {IDENTITIES: lines(NAMES, PEOPLE)},
    "kaggle, named once more": under("archive", kaggle() | {IDENTITIES: lines(NAMES, PEOPLE)}),
}


@pytest.mark.parametrize("partition", ["resplit", "official"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_alike_as_a_folder_and_as_a_zip(tmp_path: Path, form: str, partition: str) -> None:
    for root in (as_folder(tmp_path / "folder", FORMS[form]), as_zip(tmp_path / "all.zip", FORMS[form])):
        photos = celeba(root, partition)
        check(photos)
        probes = None if photos.may_probe is None else photos.may_probe.tolist()
        assert probes == (None if partition == "resplit" else [part == 2 for part in PARTS])


def test_photos_may_be_zipped_in_the_official_folders(tmp_path: Path) -> None:
    root = tmp_path / "celeba"
    as_folder(root, without(places(official()), *NAMES))
    (root / "Img").mkdir()
    as_zip(root / "Img" / "img_align_celeba.zip", photos_in("img_align_celeba"))
    check(celeba(str(root)))


def test_tables_lie_at_any_depth_of_a_zip(tmp_path: Path) -> None:
    deep = under("a/b/c/Anno", without(official(), *NAMES)) | photos_in("a/img_align_celeba")
    check(celeba(as_zip(tmp_path / "deep.zip", deep)))


def test_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    check(celeba(as_zip(tmp_path / "all.zip", official())))
    assert os.listdir(tmp_path) == ["all.zip"]


def test_what_a_zip_lacks_may_lie_beside_it(tmp_path: Path) -> None:
    root = as_zip(tmp_path / "archive.zip", kaggle())
    with pytest.raises(InputError, match=r"must hold identity_CelebA.txt .* Kaggle's release lacks it.* beside"):
        celeba(root)
    (tmp_path / IDENTITIES).write_bytes(lines(NAMES, PEOPLE))
    photos = celeba(root)
    check(photos)
    assert {tmp_path / "archive.zip", tmp_path / IDENTITIES} <= set(photos.sources)


def test_kaggles_folder_needs_the_identities_beside_its_tables(tmp_path: Path) -> None:
    root = as_folder(tmp_path, kaggle())
    with pytest.raises(InputError, match=r"must hold identity_CelebA.txt .* Kaggle's release lacks it"):
        celeba(root)
    (tmp_path / IDENTITIES).write_bytes(lines(NAMES, PEOPLE))
    check(celeba(root))


def test_attributes_and_partition_are_optional(tmp_path: Path) -> None:
    bare = without(official(), ATTRIBUTES, PARTITION)
    for root in (as_folder(tmp_path / "bare", bare), as_zip(tmp_path / "bare.zip", bare)):
        check(celeba(root), labelled=False)
        with pytest.raises(InputError, match=r"data.partition=official needs list_eval_partition.txt or .csv in "):
            celeba(root, "official")


@pytest.mark.parametrize("zipped", [False, True])
def test_attributes_that_come_later_change_the_data_set(tmp_path: Path, zipped: bool) -> None:
    bare = without(official(), ATTRIBUTES)
    root = as_zip(tmp_path / "bare.zip", bare) if zipped else as_folder(tmp_path, bare)
    before = celeba(root).sources
    stamped = stamps(before)
    assert stamps(before) == stamped
    (tmp_path / ATTRIBUTES).write_bytes(official()[ATTRIBUTES])
    assert stamps(before) != stamped
    check(celeba(root))


@pytest.mark.parametrize("form", ["flat", "kaggle"])
def test_byte_order_marks_and_line_ends_of_windows_change_nothing(tmp_path: Path, form: str) -> None:
    marked = {
        path: content if path.endswith(".jpg") else b"\xef\xbb\xbf" + b"\r\n".join(content.splitlines()) + b"\r\n"
        for path, content in FORMS[form].items()
    }
    check(celeba(as_zip(tmp_path / "marked.zip", marked)))
    check(celeba(as_folder(tmp_path / "marked", marked)))


def test_identities_may_be_cut_down_to_the_photos_that_are_there(tmp_path: Path) -> None:
    files = without(official(), NAMES[1])
    message = (
        r"lacks 1 of 5 listed photos, 000002.jpg first; identity_CelebA.txt may be cut down to those that are there"
    )
    for root in (as_folder(tmp_path / "all", files), as_zip(tmp_path / "all.zip", files)):
        with pytest.raises(InputError, match=message):
            celeba(root)
    kept = [0, 2, 3, 4]
    files[IDENTITIES] = lines([NAMES[index] for index in kept], [PEOPLE[index] for index in kept])
    photos = celeba(as_zip(tmp_path / "cut.zip", files), "official")
    assert photos.keys == ["000001", "000003", "000004", "000005"]
    assert photos.labels["Male"].tolist() == [True, False, True, False]
    assert photos.may_probe is not None
    assert photos.may_probe.tolist() == [False, True, False, True]


def test_photos_of_another_folder_are_not_taken_for_the_aligned(tmp_path: Path) -> None:
    both = {f"img_celeba/{name}": b"in the wild" for name in NAMES} | official()
    check(celeba(as_zip(tmp_path / "both.zip", both)))


DAMAGES = {
    "a table twice": (
        official() | {f"old/{PARTITION}": lines(NAMES, PARTS)},
        r"holds list_eval_partition twice: list_eval_partition.txt, old/list_eval_partition.txt; keep one",
    ),
    "text and CSV": (
        official() | {"list_eval_partition.csv": b""},
        r"holds list_eval_partition twice: .*csv.*; keep one",
    ),
    "a photo twice": (
        under("a", official()) | photos_in("b/img_align_celeba"),
        r"holds 000001.jpg twice: a/img_align_celeba/000001.jpg, b/img_align_celeba/000001.jpg",
    ),
    "no column for the partition": (
        FORMS["kaggle"] | {"list_eval_partition.csv": comma_separated(["image_id", "part"], NAMES, PARTS)},
        r"list_eval_partition.csv must have the columns image_id and partition, got image_id, part",
    ),
    "no column for the photo": (
        FORMS["kaggle"] | {"list_attr_celeba.csv": comma_separated(["Male", "Young"], MALE, YOUNG)},
        r"list_attr_celeba.csv must have the column image_id first and then the attributes, got Male, Young",
    ),
    "no attributes": (
        FORMS["kaggle"] | {"list_attr_celeba.csv": comma_separated(["image_id"], NAMES)},
        r"list_attr_celeba.csv must have the column image_id first and then the attributes, got image_id",
    ),
    "a short line": (
        FORMS["kaggle"] | {"list_attr_celeba.csv": b"image_id,Male,Young\n000001.jpg,1\n"},
        r"list_attr_celeba.csv must have a photo and 2 times -1 or 1 in each line, see line 2",
    ),
    "an empty table": (official() | {IDENTITIES: b""}, r"identity_CelebA.txt is empty"),
    "a name for a number": (
        official() | {IDENTITIES: lines(NAMES, ["1", "2", "Ada", "3", "4"])},
        r"identity_CelebA.txt must have a photo and a number in each line, see line 3",
    ),
    "no such part": (
        official() | {PARTITION: lines(NAMES, [0, 1, 2, 3, 0])},
        r"list_eval_partition.txt must have a photo and 0, 1 or 2 in each line, see line 4",
    ),
    "a photo listed twice": (
        official() | {IDENTITIES: lines([*NAMES[:4], NAMES[0]], PEOPLE)},
        r"identity_CelebA.txt lists 000001.jpg twice",
    ),
    "another order": (
        official() | {PARTITION: lines(NAMES[::-1], PARTS)},
        r"list_eval_partition.txt and identity_CelebA.txt must list the same photos in the same order",
    ),
    "not text": (official() | {IDENTITIES: b"\xff\xfe\x00"}, r"identity_CelebA.txt must be text in UTF-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    files, message = DAMAGES[damage]
    with pytest.raises(InputError, match=message):
        celeba(as_zip(tmp_path / "damaged.zip", files))


def test_two_releases_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = as_folder(tmp_path, under("one", official()) | under("two", official()))
    with pytest.raises(InputError, match=r"holds identity_CelebA twice: one/identity_CelebA.txt, two/"):
        celeba(root)


def test_a_root_that_is_neither_folder_nor_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("no zip")
    for root in (tmp_path / "list.txt", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=rf"data.root must be a folder or a zip, got '{root}'"):
            celeba(str(root))


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    root = as_folder(tmp_path, without(official(), *NAMES))
    with pytest.raises(InputError, match=r"must hold img_align_celeba/ or img_align_celeba.zip"):
        celeba(root)


def test_a_model_that_knows_people_of_celeba_does_not_know_somebodys_numbered_folder(tmp_path: Path) -> None:
    people = celeba(as_folder(tmp_path, official())).people
    known = frozenset(map(digest_of, people))
    assert known_people(["7", "celeba_7", "s7", "celeba_4"], known) == ["celeba_7"]
