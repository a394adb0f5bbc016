"""What people really have: folders in folders, hidden ones, links, names and tables of every kind."""

import os
import shutil
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from veil.data.folder import folder
from veil.data.lfw import lfw
from veil.data.listing import BROKEN, EMPTY, HIDDEN, LOOSE, READ_ALREADY, listing
from veil.data.photos import Photos
from veil.data.split import face_seed
from veil.data.vggface2 import vggface2
from veil.errors import InputError
from veil.metrics.pairs import read_pairs
from veil.storage.fingerprint import digest
from veil.storage.text import text_of

ACCENT = ("Jos\u00e9", "Jose\u0301")  # composed and not


def files(root: Path, names: Sequence[str]) -> str:
    """Files of a byte each; nothing here decodes them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return str(root)


def zipped(root: Path) -> str:
    return shutil.make_archive(str(root), "zip", root)


def owner(photos: Photos) -> dict[str, str]:
    return dict(zip(photos.keys, photos.people, strict=True))


SESSIONS = ["ada/2023/1.jpg", "ada/2024/1.jpg", "bob/2023/1.jpg", "bob/2024/1.jpg"]
MIXED = ["ada/1.jpg", "bob/2023/1.jpg", "bob/2024/1.jpg"]


@pytest.mark.parametrize("pack", [str, zipped])
@pytest.mark.parametrize("names", [SESSIONS, MIXED])
def test_a_person_s_folders_are_refused_until_somebody_says_whose_they_are(
    tmp_path: Path, names: list[str], pack: type[str]
) -> None:
    root = pack(Path(files(tmp_path / "faces", names)))
    with pytest.raises(
        InputError, match=r"data\.person must be top or parent, got null.* top makes 2 people \(ada, bo"
    ):
        folder(root)
    assert owner(folder(root, person="top")) == {name[:-4]: name[:3] for name in names}
    assert owner(folder(root, person="parent")) == {name[:-4]: name.split("/")[-2] for name in names}
    with pytest.raises(InputError, match=r"data\.person must be null or one of .* got 'middle'"):
        folder(root, person="middle")


def test_folders_round_the_whole_data_set_are_no_people(tmp_path: Path) -> None:
    plain = folder(files(tmp_path / "a", ["lfw/ada/1.jpg", "lfw/bob/1.jpg"]))
    assert set(plain.people) == {"ada", "bob"}
    deep = files(tmp_path / "b", [f"faces/raw/{name}" for name in SESSIONS])
    assert set(folder(deep, person="top").people) == {"ada", "bob"}
    one = files(tmp_path / "c", [name for name in SESSIONS if name.startswith("ada")])
    assert set(folder(one, person="top").people) == {"ada"}


def test_hidden_and_system_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    names = ["ada/1.jpg", "bob/1.jpg"]
    odd = [".ipynb_checkpoints/1.jpg", "ada/.ipynb_checkpoints/1.jpg", ".Trash-1000/files/ada/1.jpg", "ada/._1.jpg"]
    odd += ["ada/@eaDir/1.jpg/SYNOPHOTO.jpg", "__MACOSX/ada/1.jpg", "$RECYCLE.BIN/S-1/1.jpg", "bob/Thumbs.db"]
    root = Path(files(tmp_path / "faces", [*names, *odd]))
    skipped = [".Trash-1000", ".ipynb_checkpoints", "__MACOSX", "$RECYCLE.BIN", "ada/@eaDir", "ada/.ipynb_checkpoints"]
    for place in (str(root), zipped(root)):
        photos = folder(place)
        assert photos.keys == ["ada/1", "bob/1"]
        assert sorted(photos.ignored[HIDDEN]) == sorted([*skipped, "ada/._1.jpg", "bob/Thumbs.db"])
    part = files(tmp_path / "vgg" / "train", ["n000001/0001_01.jpg", ".cache/0001_01.jpg", "n000001/.0002_01.jpg"])
    found = vggface2(str(Path(part).parent), min_photos=1)
    assert (found.keys, found.ignored) == (
        ["n000001/0001_01"],
        {HIDDEN: ["train/.cache", "train/n000001/.0002_01.jpg"]},
    )


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    files(tmp_path / "store", ["one/1.jpg", "one/2.jpg"])
    root = Path(files(tmp_path / "faces", ["bob/1.jpg"]))
    (root / "ada").symlink_to(tmp_path / "store" / "one", target_is_directory=True)
    (root / "bob" / "up").symlink_to(root, target_is_directory=True)
    (root / "alias").symlink_to(root / "bob", target_is_directory=True)
    (root / "bob" / "2.jpg").symlink_to(tmp_path / "store" / "one" / "1.jpg")
    (root / "bob" / "3.jpg").symlink_to(tmp_path / "gone.jpg")
    photos = folder(str(root))
    assert photos.keys == ["ada/1", "ada/2", "bob/1", "bob/2"]
    assert photos.ignored == {BROKEN: ["bob/3.jpg"], READ_ALREADY: ["alias", "bob/up"]}
    assert root / "ada" in photos.sources  # a photo that comes into it is noticed


def test_what_is_no_photo_by_its_name_is_counted(tmp_path: Path) -> None:
    root = Path(files(tmp_path / "faces", ["ada/1.jpg", "ada/2.CR2", "ada/README", "bob/1.cr2", "loose.jpg"]))
    (root / "empty").mkdir()
    assert folder(str(root)).ignored == {
        "suffix .cr2": ["ada/2.CR2", "bob/1.cr2"],
        "no suffix": ["ada/README"],
        LOOSE: ["loose.jpg"],
        EMPTY: ["bob", "empty"],
    }
    files(root, ["cy/1.jpg", "cy/2.jpg"])
    assert folder(str(root), min_photos=2).ignored["person with fewer than 2 photos"] == ["ada"]
    joined = folder([str(root), files(tmp_path / "more", ["ada/9.jpg", "ada/9.xmp"])])
    assert joined.ignored["suffix .xmp"] == ["more/ada/9.xmp"]
    assert joined.ignored["suffix .cr2"] == ["faces/ada/2.CR2", "faces/bob/1.cr2"]
    with pytest.raises(
        InputError, match=r"holds no person.*ignored: 1 x suffix \.raw \(ada/1\.raw\), 1 x folder without"
    ):
        folder(files(tmp_path / "raw", ["ada/1.raw"]))


def test_photos_of_phones_are_photos_by_their_name(tmp_path: Path) -> None:
    photos = folder(files(tmp_path / "faces", ["ada/1.HEIC", "ada/2.avif", "ada/3.heif", "ada/4.JPE", "ada/5.MPO"]))
    assert len(photos) == 5
    assert not photos.ignored


def test_scikit_learns_folder_of_lfw_is_refused_by_name(tmp_path: Path) -> None:
    names = [
        f"{part}/{name}/{name}_000{n}.jpg" for part in ("lfw", "lfw_funneled") for name in ("A", "B") for n in (1, 2)
    ]
    home = Path(files(tmp_path / "lfw_home", [*names, "pairs.txt"]))
    with pytest.raises(InputError, match=r"data\.root=.* several times, in lfw, lfw_funneled: name one"):
        lfw(str(home))
    with pytest.raises(InputError, match=r"top makes 2 people \(lfw, lfw_funneled\), parent makes 2 people \(A, B\)"):
        folder(str(home))
    assert lfw(str(home / "lfw")).keys == ["A/A_0001", "A/A_0002", "B/B_0001", "B/B_0002"]


def test_a_name_in_two_unicode_forms_is_one_person(tmp_path: Path) -> None:
    root = files(tmp_path / "faces", [f"{name}/1.jpg" for name in ACCENT])
    photos = folder(root)
    assert photos.people == [ACCENT[0]] * 2
    assert len(set(photos.keys)) == 2
    (tmp_path / "faces.csv").write_text(f"path,person\nfaces/{ACCENT[0]}/1.jpg,{ACCENT[1]}\nfaces/Ada/2.jpg,Ada\n")
    shutil.rmtree(tmp_path / "faces" / ACCENT[0])
    listed = folder(str(tmp_path / "faces.csv"))
    assert listed.people == [ACCENT[0], "Ada"]
    assert listed[0].read() == b"x"  # the table spells it in one form, the disk in the other


def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/faces/Jos\xe9"
    os.makedirs(raw)
    for name in (b"/1.jpg", b"/2.cr2"):
        Path(os.fsdecode(raw + name)).write_bytes(b"x")
    photos = folder(str(tmp_path / "faces"))
    assert (photos.people, photos.keys) == ([r"Jos\xe9"], [r"Jos\xe9/1"])
    assert photos.ignored == {"suffix .cr2": [r"Jos\xe9/2.cr2"]}
    assert photos[0].read() == b"x"
    assert face_seed(photos.keys[0], 0) >= 0
    assert len(digest(os.fsdecode(raw))) == 32  # as data.root


def test_a_digit_that_is_no_number_sorts_as_a_letter(tmp_path: Path) -> None:
    photos = folder(files(tmp_path / "faces", ["²/10.jpg", "²/9.jpg", "5²/1.jpg"]))
    assert photos.keys == ["5²/1", "²/9", "²/10"]
    (tmp_path / "pairs.txt").write_text("1 1\nAda ² 3\nAda 1 Bob 2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"must have `name m n`"):
        read_pairs(tmp_path / "pairs.txt")


TABLE = "path,person,age\nJosé/1.jpg,José,3\nada/1.jpg,Ada,4\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path: Path, encoding: str, separator: str) -> None:
    marks = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    content = TABLE.replace(",", separator).replace("\n", "\r\n").encode(encoding)
    (tmp_path / "faces.csv").write_bytes(marks.get(encoding, b"") + content)
    photos = folder(str(tmp_path / "faces.csv"))
    assert photos.people == ["José", "Ada"]
    assert photos.labels["age"].tolist() == [3, 4]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_a_table_of_unknown_bytes_is_refused_by_line(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "faces.csv").write_bytes(TABLE.replace("path", "path ").encode(encoding))
    with pytest.raises(InputError, match=r"data\.root: .*faces\.csv must be text in UTF-8, got .*(line 2|bytes of 0)"):
        folder(str(tmp_path / "faces.csv"))
    (tmp_path / "pairs.txt").write_bytes("1 1\nJosé 1 2".encode("cp1252"))
    with pytest.raises(InputError, match=r"task\.pairs: .*pairs\.txt must be text in UTF-8"):
        read_pairs(tmp_path / "pairs.txt")
    assert text_of("é".encode(), "x") == "é"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.jpg,"], r"has no person in line 2"),
        (["1.jpg,Ada", " ,Bob"], r"has no path in line 3"),
        (["1.jpg,Ada", "2.jpg,Bob", "1.jpg,Bob"], r"lists 1\.jpg as of 'Ada' and of 'Bob', in lines 2 and 4"),
        (["1.jpg,Ada", "1.jpg,Ada"], r"lists 1\.jpg as of 'Ada' twice, in lines 2 and 3"),
        (["1.jpg,Ada,3"], r"longer or shorter than its header, line 2"),
        ([], r"needs rows with the columns path and person, got \['path', 'person'\]"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    (tmp_path / "faces.csv").write_text("\n".join(["path,person", *rows]))
    with pytest.raises(InputError, match=message):
        folder(str(tmp_path / "faces.csv"))


def test_thirty_thousand_photos_are_listed_in_seconds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for number in range(30_000):
            archive.writestr(f"p{number // 10}/{number}.jpg", b"")
    start = time.perf_counter()
    assert len(folder(str(tmp_path / "faces.zip"))) == 30_000
    assert time.perf_counter() - start < 10


def test_a_link_to_itself_is_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    found = listing(tmp_path, frozenset({".png"}))
    assert sorted(found.names) == ["a/1.png", "b/1.png"]
    assert found.ignored == {BROKEN: ["a/self"]}
