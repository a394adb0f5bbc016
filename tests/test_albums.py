"""Albums: who is found, what is done to whom, and that nothing is twice, lost or unprotected."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from album_photos import ROOM, found, party, save, stub
from conftest import TinyRecognizer
from numpy import ndarray
from PIL import Image
from torch.nn import functional as F

from veil.albums.album import Agreed, Album, Local, Tell
from veil.albums.files import Source, Sources
from veil.albums.ledger import Ledger, from_json, to_json
from veil.albums.people import People
from veil.albums.targets import Targets, views_mean
from veil.albums.worker import Plan, Rules, Sighting, Worker
from veil.anonymization.anonymizer import Masking
from veil.errors import InputError
from veil.faces.decode import decode
from veil.faces.detect import Detection, TiledMTCNN, merged
from veil.storage.progress import Stages
from veil.types import Faces, Images, Masks, Scores, view


def centre(faces: Faces, recognizer: object) -> Scores:
    """The centre first."""
    axis = torch.linspace(-1, 1, 16)
    return -(axis[:, None] ** 2 + axis**2).expand(len(faces.keys), -1, -1)


def seeded(faces: Faces, masks: Masks) -> Images:
    """A colour of each face's seed."""
    colours = torch.stack([torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(int(s))) for s in faces.seeds])
    return torch.where(masks, colours, faces.images)


class Reads(torch.nn.Module):
    """Knows a face by the share of its view that is as it was: cosine 1 where nothing changed."""

    def forward(self, images: Images) -> torch.Tensor:
        return F.normalize(F.adaptive_avg_pool2d(view(images), 16).flatten(1) - 0.5, dim=1)


def rules(**changes: object) -> Rules:
    asked = {"until": None, "thresholds": {"reads": 0.5}, "tries": 6, "doubtful": "blur", "sure": 0.95, "seed": 0}
    return Rules(Masking(0.25), **{**asked, **changes})


def worker(**changes: object) -> Worker:
    return Worker(stub, {"reads": Reads()}, centre, seeded, rules(**changes), torch.device("cpu"))


def plans(photo: ndarray, some: Worker, spared: tuple[int, ...] = ()) -> list[Plan]:
    return [Plan(face, f"key{i}", {}, i in spared) for i, face in enumerate(some.sightings(photo))]


def within(photo: ndarray, *places: tuple[int, int, int], room: float = 0.6) -> ndarray:
    """Pixels that are in or near one of the faces."""
    rows, columns = np.indices(photo.shape[:2])
    near = np.zeros(photo.shape[:2], bool)
    for left, top, side in places:
        reach = side * (0.5 + room)
        near |= (abs(columns - left - side / 2) < reach) & (abs(rows - top - side / 2) < reach)
    return near


# --- files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in ("b.jpg", "a.PNG", "deep/er/c.jpeg", ".hidden/d.jpg", "@eaDir/e.jpg", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "deep/loop").symlink_to(root)
    return root


def test_a_folder_keeps_its_structure_and_what_is_left_out_is_counted(tree: Path, tmp_path: Path) -> None:
    sources = Sources([str(tree)], tmp_path / "out")
    for _ in range(2):
        assert [source.name for source in sources] == ["a.PNG", "b.jpg", "deep/er/c.jpeg"]
        assert sources.ignored == {
            "hidden or of the system": 2,
            "suffix .txt": 1,
            "link to a folder that is read already": 1,
        }


def test_files_and_patterns(tree: Path, tmp_path: Path) -> None:
    asked = [str(tree / "b.jpg"), str(tree / "deep" / "**" / "*.jpeg")]
    assert [source.name for source in Sources(asked, tmp_path / "out")] == ["b.jpg", "er/c.jpeg"]


@pytest.mark.parametrize(
    ("asked", "output", "told"),
    [
        ([], "out", "input must name photos"),
        (["{in}/none"], "out", "there is no file or folder"),
        (["{in}/*.gif"], "out", "no file matches"),
        (["{in}/b.jpg", "{in}/b.jpg"], "out", "called differently"),
        (["{in}", "{in}/b.jpg"], "out", "called differently"),
        (["{in}"], "in/out", "outside of input"),
        (["{in}"], "in", "outside of input"),
        (["{in}/deep"], ".", "outside of input"),
    ],
)
def test_refusals_name_the_knob(tree: Path, tmp_path: Path, asked: list[str], output: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Sources([name.replace("{in}", str(tree)) for name in asked], tmp_path / output)


# --- faces


PLACES = ((30, 40, 150), (250, 60, 60), (480, 100, 110), (330, 250, 40))


def test_every_face_of_a_composed_photo_is_found() -> None:
    """Faces of 40 to 150 px on a photo of 1200 x 800 px, on two tiles and where they meet."""
    large = np.array(Image.fromarray(party(*PLACES)).resize((1200, 800)))
    detector = TiledMTCNN(smallest=40, tile=640)
    boxes = [detection.found.box / 2 for detection in detector(large)]
    for left, top, side in PLACES:
        middle = np.array([left + side / 2, top + side / 2])
        near = [box for box in boxes if np.abs((box[:2] + box[2:]) / 2 - middle).max() < side / 4]
        assert len(near) == 1, (left, top, side, boxes)


def test_one_face_seen_on_two_tiles_is_one() -> None:
    twice = [Detection(found(10, 10, 50), 0.9), Detection(found(13, 9, 52), 0.99), Detection(found(200, 10, 50), 0.8)]
    assert [detection.confidence for detection in merged(twice)] == [0.99, 0.8]
    behind = [Detection(found(0, 0, 200), 0.9), Detection(found(50, 50, 40), 0.99)]
    assert len(merged(behind)) == 2


@pytest.mark.parametrize("knobs", [{"smallest": 10}, {"tile": 100}, {"least": 1.5}])
def test_the_detector_names_its_knobs(knobs: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"detector.{next(iter(knobs))} is"):
        TiledMTCNN(**knobs)


def test_who_is_who_and_the_mean_of_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    three = F.normalize(torch.randn(3, 64, generator=generator), dim=1)
    noisy = F.normalize(three.repeat(400, 1) + 0.05 * torch.randn(1200, 64, generator=generator), dim=1)
    people = People(0.6)
    assert [people.add({"a": vector, "b": -vector}) for vector in noisy] == [0, 1, 2] * 400
    expected = F.normalize(noisy[3::3].sum(dim=0), dim=0)
    torch.testing.assert_close(people.others(0, {"a": noisy[0], "b": -noisy[0]}), {"a": expected, "b": -expected})
    alone = People(0.6)
    assert alone.others(alone.add({"a": three[0]}), {"a": three[0]}) == {}


def test_a_face_has_a_gradient_against_its_other_views_and_none_against_itself() -> None:
    images = torch.from_numpy(party((40, 60, 250))[40:296, 40:296]).permute(2, 0, 1)[None] / 255
    network = TinyRecognizer()
    steep = {}
    for name, target in (("itself", network(images)), ("views", views_mean(images, network))):
        asked = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            Targets(network, target).similarity(asked, torch.zeros(1).long()).sum(), asked
        )
        steep[name] = gradient.abs().max()
    assert steep["views"] > 1000 * steep["itself"]


def test_a_sighting_survives_json_to_the_bit() -> None:
    face = Sighting(found(3, 4, 50), 0.987654321, {"a": torch.randn(7)})
    again = from_json(json.loads(json.dumps(to_json(face))))
    assert again.confidence == face.confidence
    assert all((one == other).all() for one, other in zip(again.found, face.found, strict=True))
    assert torch.equal(again.vectors["a"], face.vectors["a"])


# --- one photo


def test_faces_change_and_all_other_pixels_stay() -> None:
    photo, some = party(*PLACES), worker()
    shown, rows = some.covered(photo, plans(photo, some))
    near = within(photo, *PLACES)
    assert (shown[~near] == photo[~near]).all()
    for left, top, side in PLACES:
        inner = (slice(top + side // 4, top + 3 * side // 4), slice(left + side // 4, left + 3 * side // 4))
        assert (shown[inner] != photo[inner]).any(axis=2).mean() > 0.5
    assert {row["action"] for row in rows} == {"repaint"}
    assert [row["ratio"] for row in rows] == [0.25] * 4


def test_faces_at_the_edge_and_over_each_other_are_covered() -> None:
    photo, some = party((0, 1, 120), (80, 30, 120), (470, 270, 130)), worker(until=1e-3, thresholds={"reads": 0.9})
    shown, rows = some.covered(photo, plans(photo, some))
    assert not any(row["recognised"] for row in rows)
    near = within(photo, (0, 1, 120), (80, 30, 120), (470, 270, 130))
    assert (shown[~near] == photo[~near]).all()


def test_the_ratio_grows_until_nobody_knows_the_face_then_the_seed_changes() -> None:
    photo = party((100, 100, 150))
    asked: list[tuple[float, int]] = []

    def painter(faces: Faces, masks: Masks) -> Images:
        asked.append((float(view(masks).float().mean()), int(faces.seeds[0])))
        return faces.images  # hides nothing

    some = worker(until=1e-3, tries=6)
    some.inpainter = painter
    _, (row,) = some.covered(photo, plans(photo, some))
    shares = [share for share, _ in asked]
    assert shares == pytest.approx([0.25, 0.375, 0.5625, 0.84375, 1, 1], abs=1 / 256)
    assert len({seed for _, seed in asked[:5]}) == 1
    assert asked[5][1] != asked[4][1]
    assert row["action"] in ("pixelate", "fill")
    assert not row["recognised"]


def test_a_face_that_is_hidden_at_once_is_painted_once() -> None:
    photo, calls = party((100, 100, 150)), []
    some = worker(until=1e-3, thresholds={"reads": 0.999})
    painter = some.inpainter
    some.inpainter = lambda faces, masks: (calls.append(1), painter(faces, masks))[1]
    _, (row,) = some.covered(photo, plans(photo, some))
    assert (len(calls), row["tries"], row["action"]) == (1, 1, "repaint")


def test_doubtful_faces_are_blurred_and_those_who_agreed_stay() -> None:
    photo, some = party((30, 40, 50), (250, 60, 120)), worker()
    shown, rows = some.covered(photo, plans(photo, some, spared=(1,)))
    assert [row["action"] for row in rows] == ["blur", "spared"]
    assert (shown[60:180, 250:370] == photo[60:180, 250:370]).all()
    assert (shown[45:85, 35:75] != photo[45:85, 35:75]).any(axis=2).mean() > 0.8


def test_nothing_depends_on_the_faces_around() -> None:
    photo, some = party((30, 40, 100), (350, 200, 120)), worker()
    both, _ = some.covered(photo, plans(photo, some))
    first, _ = some.covered(photo, plans(photo, some)[:1])
    assert (both[:190, :200] == first[:190, :200]).all()


# --- an album


@pytest.fixture
def album(tmp_path: Path) -> Callable[..., tuple[Album, Local, list[str]]]:
    """An album of files below `in`; what is looked at and covered is noted."""
    (tmp_path / "in").mkdir()
    calls: list[str] = []

    def begun(on_no_face: str = "skip", consistent: bool = True, **changes: object) -> tuple[Album, Local, list[str]]:
        some = worker(**changes)
        look, cover = some.look, some.cover
        some.look = lambda content: (calls.append("look"), look(content))[1]
        some.cover = lambda content, plans: (calls.append("cover"), cover(content, plans))[1]
        output = tmp_path / "out"
        ledgers = [Ledger(tmp_path / f"{name}.sqlite", "cache") for name in ("looked", "people", "done")]
        album = Album(Sources([str(tmp_path / "in")], output), output, *ledgers, Stages())
        return album, Local(lambda: some, output, on_no_face), calls

    return begun


def run(album: Album, engine: Local, consistent: bool = True, agreed: Agreed | None = None) -> dict[str, dict]:
    album.look(engine, engine.on_no_face)
    album.cover(engine, Tell(0.75, 0.95, consistent), lambda: agreed or Agreed([], {}))
    return {line["name"]: line for line in album.done}


def test_done_photos_are_not_done_again_and_changed_or_lost_ones_are(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"in/{name}.png", party((100, 100, 150)))
    run(*album()[:2])
    done, engine, calls = album()
    calls.clear()
    run(done, engine)
    assert calls == []
    save(tmp_path / "in/b.png", party((200, 100, 160)))
    (tmp_path / "out/c.png").unlink()
    save(tmp_path / "in/d.png", party((100, 100, 150)))
    done, engine, calls = album()
    lines = run(done, engine)
    assert calls.count("look") == 2
    assert calls.count("cover") == 3
    assert len(lines) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png", "c.png", "d.png"}


def test_a_killed_album_goes_on_where_it_stopped(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    for number in range(6):
        save(tmp_path / f"in/{number}.png", party((100, 100, 150), person=number + 1))
    whole, engine, _ = album()
    expected = run(whole, engine)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for path in [*tmp_path.glob("*.sqlite"), *(tmp_path / "out").iterdir()]:
        path.unlink()
    for stop in (2, 4):  # of what is left: in the look, then among the covered
        begun, engine, calls = album()
        name = "look" if stop == 2 else "cover"
        step = getattr(engine.worker(), name)

        def killed(*args: object, step: Callable = step, left: list[int] = [stop]) -> object:  # noqa: B006
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return step(*args)

        setattr(engine.worker(), name, killed)
        with pytest.raises(Killed):
            run(begun, engine)
    begun, engine, calls = album()
    calls.clear()
    assert run(begun, engine) == expected
    assert calls == ["cover"] * 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_one_person_has_one_seed_also_in_photos_that_come_later(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path
) -> None:
    save(tmp_path / "in/m.png", party((100, 100, 150), person=3))
    run(*album()[:2])
    save(tmp_path / "in/a.png", party((200, 90, 150), person=3))
    save(tmp_path / "in/z.png", party((100, 100, 150), person=5))
    lines = run(*album()[:2])
    keys = {name: line["faces"][0]["seed_key"] for name, line in lines.items()}
    assert keys == {"m.png": "m.png#0", "a.png": "m.png#0", "z.png": "z.png#0"}
    unlinked, engine, _ = album()
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    keys = {line["faces"][0]["seed_key"] for line in run(unlinked, engine, consistent=False).values()}
    assert len(keys) == 3


def test_who_agreed_is_spared_and_a_stranger_is_not(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path
) -> None:
    save(tmp_path / "in/a.png", party((100, 100, 150), (330, 100, 150), person=3))
    begun, engine, _ = album()
    (theirs,) = engine.worker().sightings(party((200, 90, 150), person=3))
    agreed = Agreed([theirs.vectors], {"reads": 0.75})
    (line,) = run(begun, engine, agreed=agreed).values()
    assert [face["action"] for face in line["faces"]] == ["spared", "repaint"]


@pytest.mark.parametrize("event", ["changed", "gone"])
def test_a_file_that_changes_after_it_was_looked_at_is_not_written(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path, event: str
) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"in/{name}.png", party((100, 100, 150)))
    begun, engine, _ = album()
    worker, changed = engine.worker(), []
    cover = worker.cover

    def meanwhile(content: bytes, plans: list[Plan]) -> object:
        if not changed:  # while the first is covered, the second changes
            changed.append(event)
            (tmp_path / "in/b.png").unlink() if event == "gone" else save(tmp_path / "in/b.png", party((300, 50, 90)))
        return cover(content, plans)

    worker.cover = meanwhile
    lines = run(begun, engine)
    assert not (tmp_path / "out/b.png").exists()
    assert "b.png" not in lines or lines["b.png"]["status"] == "unreadable"
    if event == "changed":
        assert run(*album()[:2])["b.png"]["status"] == "done"


def test_what_was_seen_is_of_the_file_that_is_covered(tmp_path: Path) -> None:
    save(tmp_path / "a.png", party((100, 100, 150)))
    source = Source(tmp_path / "a.png", "a.png")
    line = cover(Job(source, "of another", [], []), worker(), tmp_path / "out", "copy")
    assert line["status"] == "unreadable"
    assert "changed after it was looked at" in line["reason"]
    assert not (tmp_path / "out").exists()


def test_no_face(album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", ROOM)
    begun, engine, _ = album()
    assert run(begun, engine)["a.png"]["status"] == "skipped"
    assert not (tmp_path / "out/a.png").exists()
    (tmp_path / "done.sqlite").unlink()
    begun, engine, _ = album(on_no_face="copy")
    assert run(begun, engine)["a.png"]["status"] == "copied"
    assert (np.array(Image.open(tmp_path / "out/a.png")) == ROOM).all()
    (tmp_path / "looked.sqlite").unlink()
    begun, engine, _ = album(on_no_face="error")
    with pytest.raises(InputError, match=r"on_no_face=error: no face found in a\.png"):
        run(begun, engine)


def broken() -> Iterator[tuple[str, bytes]]:
    """A hundred files that are damaged, or odd, by name."""
    good = {}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        buffer = io.BytesIO()
        Image.fromarray(party((100, 100, 150))).save(buffer, kind)
        good[kind] = buffer.getvalue()
    generator = np.random.default_rng(0)
    for kind, content in good.items():
        for cut in (0, 1, 10, 100, len(content) // 2):
            yield f"cut{cut}.{kind}.{kind.lower()}", content[:cut]
        for number in range(10):
            bytes_ = bytearray(content)
            for at in generator.integers(0, len(bytes_), 20):
                bytes_[at] = generator.integers(0, 256)
            yield f"noise{number}.{kind.lower()}", bytes(bytes_)
    frames = [Image.fromarray(party((100, 100, 150))), Image.fromarray(party((200, 100, 150)))]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        yield f"moving.{kind.lower()}", buffer.getvalue()
    for size in ((1, 1), (1, 5000), (5000, 1), (19, 19)):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        yield f"{size}.png", buffer.getvalue()
    yield "text.jpg", b"no photo at all" * 100
    yield "zip.png", b"PK\x03\x04" + bytes(100)


def test_a_hundred_damaged_or_odd_files_stop_nothing_and_none_is_shown_uncovered(
    album: Callable[..., tuple[Album, Local, list[str]]], tmp_path: Path
) -> None:
    files = dict(broken())
    assert len(files) >= 100
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    lines = run(*album()[:2])
    assert set(lines) == set(files)
    for name, line in lines.items():
        written = tmp_path / "out" / name
        assert written.exists() == (line["status"] == "done")
        assert line["status"] == "done" or line["reason"]
        if written.exists():
            before, after = decode(files[name]), decode(written.read_bytes())
            for place in stub(before):
                left, top, right, bottom = place.found.box.astype(int)
                inner = (slice(top + 40, bottom - 40), slice(left + 40, right - 40))
                assert (before[inner] != after[inner]).any(axis=2).mean() > 0.5
    assert lines["moving.png"]["status"] == "unreadable"
    assert lines["cut0.PNG.png"]["status"] == "unreadable"
