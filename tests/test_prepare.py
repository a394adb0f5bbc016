"""Preparation: once for all runs, by one process at a time, resumed after a kill, verified at the start."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyRecognizer
from PIL import Image

from veil.config import Config
from veil.data.faces import FaceSet, divide, enrol
from veil.data.folder import folder
from veil.data.splitfile import checksum
from veil.data.splitfile import counts as count_all
from veil.errors import InputError
from veil.faces.crops import align
from veil.recognizers.embed import Embedder
from veil.storage.addresses import split_folder
from veil.storage.progress import Stages
from veil.tasks.prepare import prepare, prepared

Configure = Callable[..., Config]
SPAWN = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


def same(first: FaceSet, second: FaceSet) -> bool:
    alike = first.labels.keys() == second.labels.keys() and all(
        np.array_equal(first.labels[name], second.labels[name]) for name in first.labels
    )
    columns = ("crops", "keys", "identities", "numbers", "seed")
    return alike and all(getattr(first, column) == getattr(second, column) for column in columns)


def test_a_split_read_back_is_the_split_that_was_made(small_run: Configure, photos: Path, cache: str) -> None:
    config = small_run("task=prepare")
    made = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    path = prepare(config)
    read = prepared(config, Stages())
    assert read.people == made.people
    assert same(read.gallery, made.gallery)
    assert same(read.probes, made.probes)
    header = json.loads((path / "split.json").read_text())
    assert header["checksum"] == checksum(made) == checksum(read)
    expected = {"people": 6, "gallery": 18, "probes": 12}
    nothing = dict.fromkeys(("single_photo", "not_found", "aligned_by_box", "quarantined"), 0)
    assert header["counts"] == count_all(read) == expected | nothing


def test_the_checksum_tells_every_change(photos: Path, cache: str) -> None:
    made = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    other_role = made._replace(gallery=made.probes, probes=made.gallery)
    labelled = FaceSet(
        made.probes.crops,
        made.probes.keys,
        made.probes.identities,
        made.probes.numbers,
        0,
        {"glasses": np.zeros(len(made.probes), bool)},
    )
    renamed = made._replace(people=[*made.people[:-1], "somebody"])
    sums = {checksum(split) for split in (made, other_role, made._replace(probes=labelled), renamed)}
    assert len(sums) == 4


def test_a_later_run_opens_no_photo(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    config = small_run("task=prepare", f"cache={tmp_path / 'cache'}", f"data.root={_copy(photos, tmp_path)}")
    prepare(config)
    stages = Stages()
    prepared(config, stages)
    assert not stages.seconds


def test_a_changed_data_set_is_prepared_again(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    root = _copy(photos, tmp_path)
    config = small_run("task=prepare", f"data.root={root}")
    first = prepared(config, Stages())
    shutil.copy(root / "s1" / "1.pgm", root / "s2" / "6.pgm")
    assert len(prepared(config, Stages()).gallery) == len(first.gallery) + 1
    Image.new("L", (92, 112)).save(root / "s1" / "2.pgm")  # in place: the folder's own time does not change
    assert prepared(config, Stages()).not_found == ["s1/2"]


def test_a_damaged_split_file_is_refused(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    config = small_run("task=prepare", f"cache={tmp_path / 'cache'}")
    path = prepare(config)
    header = json.loads((path / "split.json").read_text())
    (path / "split.json").write_text(json.dumps(header | {"checksum": "0" * 32}))
    with pytest.raises(InputError, match=r"cache: .*split.npz does not have the checksum"):
        prepared(config, Stages())
    whole = (path / "split.npz").read_bytes()
    (path / "split.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cache: .*split.npz is damaged"):
        prepared(config, Stages())


def test_a_lost_crop_is_named_and_made_again(small_run: Configure, tmp_path: Path) -> None:
    config = small_run("task=prepare", f"cache={tmp_path / 'cache'}")
    prepare(config)
    probes = prepared(config, Stages()).probes
    whole = probes.crops[3].read_bytes()
    probes.crops[3].unlink()
    with pytest.raises(InputError, match=rf"crop of '{probes.keys[3]}' is gone .*task=prepare"):
        probes[3]
    prepare(config)
    assert probes.crops[3].read_bytes() == whole


def test_what_cannot_be_read_goes_to_quarantine(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    root = _copy(photos, tmp_path)
    (root / "s1" / "2.pgm").write_bytes((root / "s1" / "2.pgm").read_bytes()[:100])
    (root / "s1" / "notes.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"photo 's1/2' cannot be read .* on_error=skip"):
        prepare(small_run("task=prepare", f"data.root={root}"))
    path = prepare(small_run("task=prepare", f"data.root={root}", "on_error=skip"))
    rows = list(csv.DictReader((path / "quarantine.csv").read_text().splitlines()))
    assert [row["key"] for row in rows] == ["s1/2", "s1/notes"]
    assert "truncated" in rows[0]["reason"]
    assert "not one of BMP" in rows[1]["reason"]
    assert json.loads((path / "split.json").read_text())["counts"]["quarantined"] == 2


def test_labels_of_a_csv_reach_the_probes(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    root = _copy(photos, tmp_path)
    lines = ["path,person,glasses,age,group"]
    for person in range(1, 7):
        for photo in range(1, 6):
            glasses = "true" if photo == 2 else "false"
            lines.append(f"s{person}/{photo}.pgm,person {person},{glasses},{20 + person},{'ab'[person % 2]}")
    (root / "faces.csv").write_text("\n".join(lines))
    config = small_run("task=prepare", f"data.root={root / 'faces.csv'}")
    prepare(config)
    enrolment = prepared(config, Stages())
    evaluation, _ = divide(enrolment, 0, 0)
    probes = evaluation.probes.select(range(3, 9))
    assert probes.labels["glasses"].tolist() == [key.endswith("/2") for key in probes.keys]
    people = [int(enrolment.people[person].split()[1]) for person in probes.identities]
    assert probes.labels["age"].tolist() == [20 + person for person in people]
    assert probes.labels["group"].tolist() == ["ab"[person % 2] for person in people]


def test_split_probes_limits_either_side(small_run: Configure, photos: Path, cache: str) -> None:
    enrolment = enrol(folder(str(photos)), 0.4, 0, cache, Stages())
    whole = divide(enrolment, 0.34, seed=0)
    few = divide(enrolment, 0.34, seed=0, probes=6)
    assert [len(side.probes) for side in whole] == [12, 6]
    assert [len(side.probes) for side in few] == [6, 6]
    assert set(Counter(few[0].probes.identities).values()) <= {1, 2}  # of the three that each of the four has
    assert set(few[0].probes.identities) == set(whole[0].probes.identities)
    assert set(divide(enrolment, 0.34, seed=0, probes=4)[0].probes.keys) < set(few[0].probes.keys)
    assert same(few[0].gallery, whole[0].gallery)


def _prepare_in_process(photos: Path, cache: str, result: Path) -> None:
    made = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    result.write_text(checksum(made))


def test_two_processes_make_one_result(photos: Path, tmp_path: Path, cache: str) -> None:
    results = [tmp_path / "first", tmp_path / "second"]
    shared = str(tmp_path / "shared")
    processes = [SPAWN.Process(target=_prepare_in_process, args=(photos, shared, result)) for result in results]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    alone = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    assert [result.read_text() for result in results] == [checksum(alone)] * 2
    files = [path for path in Path(shared, "crops").rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 30  # nothing partial is left
    names = {path.name: path.read_bytes() for path in files}
    for crop in alone.probes.crops:
        assert names[crop.name] == crop.read_bytes()


def _align_and_die(photos: Path, cache: Path) -> None:
    """Kill this process hard before its twelfth crop is kept."""
    from veil.faces import crops as module

    real = module.crop_face

    def crop_face(*arguments):  # type: ignore[no-untyped-def]
        if len(list(cache.rglob("*.png"))) == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    module.crop_face = crop_face
    align(folder(str(photos)), cache, Stages())


def test_a_killed_preparation_goes_on(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = SPAWN.Process(target=_align_and_die, args=(photos, cache))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    made = {path: path.stat().st_ino for path in cache.rglob("*.png")}
    assert len(made) == 11
    crops = align(folder(str(photos)), cache, Stages()).paths
    assert None not in crops
    assert len(set(crops)) == 30
    assert all(path.stat().st_ino == before for path, before in made.items())


def test_embeddings_go_on_where_a_kill_left_them(photos: Path, cache: str, tmp_path: Path) -> None:
    faces = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).gallery
    tiny = TinyRecognizer()
    whole = Embedder("tiny", tiny, str(tmp_path / "whole"), Stages()).clear(faces)
    Embedder("tiny", tiny, str(tmp_path / "cut"), Stages()).clear(faces.select(range(5)))
    (vectors,) = (tmp_path / "cut").rglob("vectors-16")
    with vectors.open("ab") as file:  # killed after a vector and a half, before their names
        file.write(b"x" * 96)
    resumed = Embedder("tiny", tiny, str(tmp_path / "cut"), Stages()).clear(faces.select([*range(17, 2, -1), 4, 4]))
    np.testing.assert_allclose(resumed.numpy(), whole[[*range(17, 2, -1), 4, 4]].numpy(), atol=1e-6)
    assert vectors.stat().st_size == 18 * 64


def _embed(faces: FaceSet, cache: Path) -> None:
    Embedder("tiny", TinyRecognizer(), str(cache), Stages()).clear(faces)


def test_two_processes_embed_together(photos: Path, cache: str, tmp_path: Path) -> None:
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    faces = FaceSet.union(enrolment.gallery, enrolment.probes)
    processes = [SPAWN.Process(target=_embed, args=(part, tmp_path)) for part in (faces, enrolment.probes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    (names,) = tmp_path.rglob("names")
    assert names.stat().st_size == 30 * 16  # nobody twice
    (batch,) = faces.loader(64)
    shared = Embedder("tiny", TinyRecognizer(), str(tmp_path), Stages()).clear(faces)
    np.testing.assert_allclose(shared.numpy(), TinyRecognizer()(batch.images).numpy(), atol=1e-6)


def test_photos_pass_through_memory_one_by_one(photos: Path, tmp_path: Path) -> None:
    """What is read is let go: the peak does not grow with the number of photos."""
    import tracemalloc

    from veil.data.photos import Photos

    content = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8).tobytes()

    def peak(count: int) -> int:
        made = Photos([str(n) for n in range(count)], ["p"] * count, lambda number: content + bytes([number]))
        tracemalloc.start()
        align(made, tmp_path, Stages(), "skip")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(64) < peak(8) + 2**21


def _hold(config: Config, folder: Path) -> None:
    with split_folder(config).claimed():
        (folder / "held").touch()
        time.sleep(1)
        (folder / "released").touch()


def test_waits_for_another_process_with_the_same_split(small_run: Configure, tmp_path: Path) -> None:
    config = small_run("task=prepare", f"cache={tmp_path / 'cache'}")
    process = SPAWN.Process(target=_hold, args=(config, tmp_path))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    prepared(config, Stages())
    assert (tmp_path / "released").exists()
    process.join()


def _copy(photos: Path, tmp_path: Path) -> Path:
    return shutil.copytree(photos, tmp_path / "copy")
