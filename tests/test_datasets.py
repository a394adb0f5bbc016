"""LFW, VGGFace2 and data sets of Hugging Face: their own layouts, read in place."""

import io
import shutil
import urllib.error
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from veil.data.faces import enrol
from veil.data.huggingface import huggingface
from veil.data.lfw import lfw
from veil.data.vggface2 import vggface2
from veil.errors import InputError
from veil.faces.decode import decode
from veil.storage.progress import Stages


@pytest.fixture
def lfw_root(photos: Path, tmp_path: Path) -> Path:
    root = tmp_path / "faces" / "lfw"
    for photo in photos.rglob("*.pgm"):
        name = photo.parent.name
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.open(photo).convert("RGB").save(root / name / f"{name}_{int(photo.stem):04d}.jpg")
    return root


def test_lfw_has_the_same_keys_wherever_it_lies(lfw_root: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "lfw"), "zip", lfw_root.parent)
    places = [str(lfw_root), str(lfw_root.parent), archive]
    keys = [list(lfw(place).keys) for place in places]
    assert keys[0] == keys[1] == keys[2]
    assert keys[0][:2] == ["s1/s1_0001", "s1/s1_0002"]
    assert len({lfw(place)[13].read() for place in places}) == 1


def test_lfw_is_downloaded_once(lfw_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    calls: list[dict[str, Any]] = []

    def fetch(**knobs: Any) -> None:
        calls.append(knobs)
        shutil.copytree(lfw_root, tmp_path / "home" / "lfw_home" / "lfw")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    assert len(lfw()) == len(lfw()) == 30
    assert len(calls) == 1
    assert calls[0]["funneled"] is False


def test_lfw_without_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))

    def fetch(**knobs: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    with pytest.raises(InputError, match=r"data.root is null and LFW cannot .*no network.* set data.root"):
        lfw()


@pytest.fixture
def vgg_root(photos: Path, tmp_path: Path) -> Path:
    root = tmp_path / "vgg"
    for part, people in (("train", (1, 2, 3)), ("test", (4, 5))):
        for person in people:
            folder = root / part / f"n{person:06d}"
            folder.mkdir(parents=True)
            for photo in range(1, 4):
                Image.open(photos / f"s{person}" / f"{photo}.pgm").save(folder / f"{photo:04d}_01.jpg")
    rows = [
        "Class_ID, Name, Sample_Num, Flag, Gender",
        *(f'n{n:06d}, "Doe,_Jo", 3, 1, {"mf"[n % 2]}' for n in range(1, 6)),
    ]
    (root / "identity_meta.csv").write_text("\n".join(rows))
    return root


def test_vggface2_is_both_parts_or_one(vgg_root: Path) -> None:
    photos = vggface2(str(vgg_root))
    assert list(photos.keys[:2]) == ["n000001/0001_01", "n000001/0002_01"]
    assert len(photos) == 15
    assert set(vggface2(str(vgg_root), part="test").people) == {"n000004", "n000005"}
    assert photos[14].read() == (vgg_root / "test" / "n000005" / "0003_01.jpg").read_bytes()
    assert photos.labels["gender"].tolist() == ["f"] * 3 + ["m"] * 3 + ["f"] * 3 + ["m"] * 3 + ["f"] * 3


def test_vggface2_without_its_table_has_no_labels(vgg_root: Path) -> None:
    (vgg_root / "identity_meta.csv").unlink()
    assert vggface2(str(vgg_root)).labels == {}


def test_vggface2_refuses_what_it_is_not(vgg_root: Path, photos: Path) -> None:
    with pytest.raises(InputError, match=r"holds no photo of VGGFace2: expected train or test/n000001"):
        vggface2(str(photos))
    with pytest.raises(InputError, match=r"data.part must be null or one of .* got 'val'"):
        vggface2(str(vgg_root), part="val")
    (vgg_root / "identity_meta.csv").write_text("Class_ID, Gender\nn000001, m\n")
    with pytest.raises(InputError, match=r"identity_meta.csv must give the Class_ID and Gender of everybody"):
        vggface2(str(vgg_root))


@pytest.fixture(scope="module")
def table(photos: Path) -> datasets.Dataset:
    files = [photos / f"s{person}" / f"{photo}.pgm" for person in range(1, 4) for photo in range(1, 5)]
    contents = []
    for file in files:
        buffer = io.BytesIO()
        Image.open(file).save(buffer, "png")
        contents.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["ada", "bob", "cy"]),
            "age": datasets.Value("int64"),
            "city": datasets.Value("string"),
            "score": datasets.Value("float32"),
        }
    )
    owners = [row // 4 for row in range(12)]
    columns = {"age": [20 + row for row in range(12)], "city": ["x", None] * 6, "score": [0.5] * 12}
    return datasets.Dataset.from_dict({"image": contents, "label": owners, **columns}, features=features)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["saved", "dictionary", "parquet"])
def test_a_huggingface_data_set_on_disk(
    table: datasets.Dataset, photos: Path, tmp_path: Path, form: str, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    if form == "saved":
        table.save_to_disk(str(tmp_path / "set"))
    elif form == "dictionary":
        datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "set"))
    else:
        (tmp_path / "set").mkdir()
        table.to_parquet(str(tmp_path / "set" / "train.parquet"))
    found = huggingface(str(tmp_path / "set"), streaming=streaming)
    assert list(found.people) == ["ada"] * 4 + ["bob"] * 4 + ["cy"] * 4
    assert found.labels["age"].tolist() == list(range(20, 32))
    assert found.labels["city"].tolist() == ["x", ""] * 6
    assert set(found.labels) == {"age", "city"}
    for row in (0, 5, 6, 2, 11):  # a stream is begun anew for what lies behind
        original = Image.open(photos / f"s{row // 4 + 1}" / f"{row % 4 + 1}.pgm")
        assert np.array_equal(decode(found[row].read()), np.array(original.convert("RGB")))
    assert found.sources


def test_a_stream_is_enrolled_as_the_table_is(table: datasets.Dataset, tmp_path: Path, cache: str) -> None:
    table.save_to_disk(str(tmp_path / "set"))
    streamed, whole = (huggingface(str(tmp_path / "set"), streaming=streaming) for streaming in (True, False))
    first, second = (enrol(photos, 0.5, 0, cache, Stages()) for photos in (streamed, whole))
    assert first.probes.keys == second.probes.keys
    assert first.probes.crops == second.probes.crops


def test_a_wrong_column_or_split_is_named(table: datasets.Dataset, tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(InputError, match=r"data.identity must be a column of .* one of \['age', .* got 'person'"):
        huggingface(str(tmp_path / "set"), identity="person")
    with pytest.raises(InputError, match=r"data.image must be a column of images, got 'age'"):
        huggingface(str(tmp_path / "set"), image="age")
    with pytest.raises(InputError, match=r"data.split='test' cannot be loaded"):
        huggingface(str(tmp_path / "set"), split="test")
