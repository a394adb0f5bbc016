"""Videos with their faces covered: every frame of every face, and nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import moving
import numpy as np
import pytest
import torch
from conftest import TinyRecognizer, compose_config
from torch import Tensor
from torch.nn import functional as F

from veil.albums.lead import Lead
from veil.albums.ledger import from_json, to_json
from veil.albums.tracks import Clips
from veil.albums.video import cover_video, look_at_video
from veil.albums.worker import Plan, Row, Rules, Sighting, Worker
from veil.anonymization.anonymizer import Masking
from veil.faces.decode import Unreadable
from veil.faces.detect import Detector
from veil.inpainters.classical import fill, none
from veil.tasks.photos import AlbumSetup, covered_album
from veil.types import Faces, Images, Inpainter, Masks, Scores

NEVER = {"tiny": 2.0}  # no cosine is above


def centre(faces: Faces, recognizer: object) -> Scores:
    """Highest in the middle."""
    line = torch.linspace(-1, 1, 16)
    return -(line[:, None] ** 2 + line**2).expand(len(faces.images), -1, -1)


def worker(detector: Detector, inpainter: Inpainter = fill, **knobs: object) -> Worker:
    """One with a tiny recogniser that knows nobody."""
    rules = {
        "masking": Masking(0.6),
        "until": None,
        "thresholds": NEVER,
        "tries": 1,
        "doubtful": "blur",
        "sure": 0.9,
        "seed": 0,
        "clips": Clips(),
    }
    return Worker(
        detector, {"tiny": TinyRecognizer()}, centre, inpainter, Rules(**(rules | knobs)), torch.device("cpu")
    )


def plans(seen: list[Sighting], spared: tuple[int, ...] = ()) -> list[Plan]:
    return [Plan(face, f"face{index}", {}, index in spared) for index, face in enumerate(seen)]


def cover(source: Path, target: Path, by: Worker, spared: tuple[int, ...] = ()) -> list[Row]:
    return cover_video(source, target, plans(look_at_video(source, by), spared), by)


@pytest.fixture(scope="module")
def film(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[moving.Scene, Path]:
    """Two faces, 40 frames; the first is hidden for six."""
    scene = moving.scene(photos, 40)
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    return scene, moving.write_clip(path, scene.frames, options={"crf": "12"})


@pytest.fixture(scope="module")
def short(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[moving.Scene, Path]:
    """One face, 12 frames, never hidden."""
    scene = moving.scene(photos, 12, people=(1,), size=(160, 240))._replace(hidden=range(0))
    frames = [scene.frames[0]] * 12
    scene = scene._replace(frames=frames, places=[scene.places[0][:1] * 12])
    path = tmp_path_factory.mktemp("short") / "clip.mp4"
    return scene, moving.write_clip(path, frames, options={"crf": "12"})


def changes(scene: moving.Scene, source: Path, target: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean change of the inner face by frame and face, and the largest mean change of 8 px blocks far from all."""
    before, after = moving.play(source).frames, moving.play(target).frames
    faces, far = np.zeros((len(before), len(scene.faces))), np.zeros(len(before))
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        change = abs(one.astype(float) - other).mean(axis=2)
        beyond = np.ones(change.shape, bool)
        for face in range(len(scene.faces)):
            left, top, right, bottom = scene.box(face, number).round().astype(int)
            width, height = right - left, bottom - top
            inner = change[top + height // 4 : bottom - height // 4, left + width // 4 : right - width // 4]
            faces[number, face] = inner.mean()
            beyond[max(top - height // 3, 0) : bottom + height // 3, max(left - width // 3, 0) : right + width // 3] = (
                False
            )
        far[number] = (change * beyond).reshape(30, 8, -1, 8).mean(axis=(1, 3)).max()
    return faces, far, np.arange(len(before))


def test_every_frame_of_every_face_is_changed_and_nothing_else(film: tuple[moving.Scene, Path], tmp_path: Path) -> None:
    """While the first face is hidden too: no frame between two detections shows it."""
    scene, source = film
    rows = cover(source, tmp_path / "clip.mp4", worker(moving.Finder(scene.faces)))
    faces, far, _ = changes(scene, source, tmp_path / "clip.mp4")
    shown = np.ones_like(faces, bool)
    shown[list(scene.hidden), 0] = False
    assert faces[shown].min() > 10
    assert far.max() < 9  # one block of 8 px, after two encodings
    before, after = moving.play(source), moving.play(tmp_path / "clip.mp4")
    assert after.times == before.times
    assert after.others == before.others
    assert [row["frames"] for row in rows] == [40, 40]
    assert all(row["first_s"] == 0 and row["last_s"] == pytest.approx(39 / 30, abs=1e-3) for row in rows)


def test_tracks_are_where_the_faces_are(film: tuple[moving.Scene, Path]) -> None:
    scene, source = film
    seen = look_at_video(source, worker(moving.Finder(scene.faces)))
    assert len(seen) == 2
    for sighting in seen:
        assert sighting.track is not None
        lead = Lead(plans([sighting])[0], sighting.track, worker(moving.Finder(scene.faces)))
        face = 0 if sighting.track.boxes[0, 0] < 160 else 1
        for number in range(40):
            assert abs(lead.course.at(number).box - scene.box(face, number)).max() < 3
    hidden = seen[0].track if seen[0].track.boxes[0, 0] < 160 else seen[1].track
    assert not set(hidden.numbers) & set(scene.hidden)


def test_a_face_keeps_what_it_was_seen_with(film: tuple[moving.Scene, Path]) -> None:
    """Through the ledger and back."""
    scene, source = film
    one = look_at_video(source, worker(moving.Finder(scene.faces)))[0]
    again = from_json(json.loads(json.dumps(to_json(one))))
    assert again.track is not None
    assert one.track is not None
    assert np.array_equal(again.track.boxes, one.track.boxes)
    assert torch.equal(again.vectors["tiny"], one.vectors["tiny"])


class Once:
    """A detector that sees the face in some frames only."""

    def __init__(self, finder: moving.Finder, calls: set[int]) -> None:
        self.finder, self.calls, self.number = finder, calls, -1

    def __call__(self, photo: np.ndarray) -> list:
        self.number += 1
        return self.finder(photo) if self.number in self.calls else []


def test_a_lone_doubtful_face_is_covered_too(photos: Path, tmp_path: Path) -> None:
    scene = moving.scene(photos, 30, people=(1,))
    source = moving.write_clip(tmp_path / "clip.mp4", scene.frames[:1] * 30)
    scene = scene._replace(places=[scene.places[0][:1] * 30])
    detector = Once(moving.Finder(scene.faces, 0.75), {10})
    (row,) = cover(source, tmp_path / "new.mp4", worker(detector))
    assert (row["action"], row["frames"], row["ratio"]) == ("blur", 17, 1.0)
    faces, *_ = changes(scene, source, tmp_path / "new.mp4")
    assert faces[2:19].min() > 5
    assert faces[20:].max() < 3


def test_who_agreed_is_spared(film: tuple[moving.Scene, Path], tmp_path: Path) -> None:
    scene, source = film
    by = worker(moving.Finder(scene.faces))
    seen = look_at_video(source, by)
    left = next(index for index, face in enumerate(seen) if face.track is not None and face.track.boxes[0, 0] < 160)
    rows = cover_video(source, tmp_path / "clip.mp4", plans(seen, (left,)), by)
    faces, *_ = changes(scene, source, tmp_path / "clip.mp4")
    assert faces[:, 0].max() < 3
    assert faces[:, 1].min() > 10
    assert rows[left]["action"] == "spared"
    assert not rows[left]["recognised"]


def test_a_video_without_a_face_is_written_without_what_is_told_about_it(
    short: tuple[moving.Scene, Path], tmp_path: Path
) -> None:
    _, source = short
    assert cover(source, tmp_path / "clip.mp4", worker(Once(moving.Finder([]), set()))) == []
    assert b"SECRET" not in (tmp_path / "clip.mp4").read_bytes()
    assert moving.play(tmp_path / "clip.mp4").others == moving.play(source).others


def test_nothing_is_written_of_what_fails_on_the_way(short: tuple[moving.Scene, Path], tmp_path: Path) -> None:
    """An error after some frames, and before the first."""
    scene, source = short

    def failing(faces: Faces, masks: Masks) -> Images:
        raise RuntimeError("stop")

    (tmp_path / "out").mkdir()
    with pytest.raises(RuntimeError, match="stop"):
        cover(source, tmp_path / "out" / "clip.mp4", worker(moving.Finder(scene.faces), failing, clips=Clips(batch=4)))
    by = worker(moving.Finder(scene.faces))
    seen = plans(look_at_video(source, by))
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(Unreadable):
        cover_video(broken, tmp_path / "out" / "clip.mp4", seen, by)
    assert not list((tmp_path / "out").iterdir())


class Dots(torch.nn.Module):
    """Knows a face by its middle: one direction where it is as bright as faces are, another where it is grey."""

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True) - images.mean(), 8).flatten(1), dim=1)


def test_where_a_face_is_still_known_the_mask_grows_for_the_whole_track(
    short: tuple[moving.Scene, Path], tmp_path: Path
) -> None:
    scene, source = short
    low, high = 0.05, 0.9
    loose = worker(moving.Finder(scene.faces), masking=Masking(low), until=1e-3, tries=1, thresholds={"dots": high})
    loose.recognizers = {"dots": Dots()}
    given_up = cover(source, tmp_path / "one.mp4", loose)
    assert all(row["action"] in ("pixelate", "fill") and row["given_up_frames"] > 0 for row in given_up)
    tried = worker(moving.Finder(scene.faces), masking=Masking(low), until=1e-3, tries=9, thresholds={"dots": high})
    tried.recognizers = {"dots": Dots()}
    rows = cover(source, tmp_path / "two.mp4", tried)
    for row in rows:
        assert row["action"] == "repaint"
        assert row["ratio"] > low
        assert 1 < row["tries"] <= 9
        assert row["cosine/dots"] <= high
        assert (row["recognised"], row["recognised_frames"], row["given_up_frames"]) == (False, 0, 0)


def test_what_no_repaint_hides_is_pixelated_then_filled_and_told(
    short: tuple[moving.Scene, Path], tmp_path: Path
) -> None:
    scene, source = short
    by = worker(moving.Finder(scene.faces), none, until=1e-3, tries=2, thresholds={"tiny": -1.0})
    rows = cover(source, tmp_path / "clip.mp4", by)
    assert [row["action"] for row in rows] == ["fill"]
    assert all(row["given_up_frames"] == 12 and row["tries"] == 2 and row["recognised"] for row in rows)
    faces, *_ = changes(scene, source, tmp_path / "clip.mp4")
    assert faces.min() > 10


def noise(faces: Faces, masks: Masks) -> Images:
    """Another grey for each call: the worst flicker."""
    level = torch.rand(len(faces.images), 1, 1, 1, generator=noise.generator)  # type: ignore[attr-defined]
    return torch.where(masks, level, faces.images)


def test_smoothing_takes_flicker_away_and_batches_change_nothing(
    short: tuple[moving.Scene, Path], tmp_path: Path
) -> None:
    scene, source = short
    flicker = {}
    for smooth, batch in ((0.0, 16), (0.8, 16), (0.8, 3)):
        noise.generator = torch.Generator().manual_seed(0)  # type: ignore[attr-defined]
        by = worker(moving.Finder(scene.faces), noise, clips=Clips(smooth=smooth, batch=batch))
        cover(source, tmp_path / "clip.mp4", by)
        frames = moving.play(tmp_path / "clip.mp4").frames
        middles = []
        for number in range(12):
            left, top, right, bottom = scene.box(0, number).round().astype(int)
            middles.append(
                frames[number][(top + bottom) // 2 - 5 : (top + bottom) // 2 + 5, (left + right) // 2].mean()
            )
        flicker[smooth, batch] = abs(np.diff(middles)).mean()
    assert flicker[0.8, 16] < 0.4 * flicker[0.0, 16]
    assert flicker[0.8, 3] == pytest.approx(flicker[0.8, 16], rel=1e-6)


def test_a_larger_mask_is_not_smoothed_with_what_a_smaller_one_left_clear(short: tuple[moving.Scene, Path]) -> None:
    scene, source = short
    by = worker(moving.Finder(scene.faces), masking=Masking(0.1), tries=5, clips=Clips(smooth=0.9))
    sighting = look_at_video(source, by)[0]
    assert sighting.track is not None
    lead = Lead(plans([sighting])[0], sighting.track, by)
    white, black = torch.ones(3, 256, 256), torch.zeros(3, 256, 256)
    lead.smoothed(white, black, 0)
    lead.grow()
    assert torch.equal(lead.smoothed(black, black, 1), black)
    assert lead.smoothed(white, black, 2).mean() == pytest.approx(0.1)
    assert torch.equal(lead.smoothed(white, black, 9), white)  # frames lie between
    assert torch.equal(lead.smoothed(black, white, 10), black)  # something was before the face, and is gone


@pytest.fixture
def album(photos: Path, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Runs of the command on `tmp_path/in`, with MTCNN, and a threshold that so few people could not give."""
    monkeypatch.setattr(AlbumSetup, "thresholds", {"facenet": {1e-3: 0.5}})

    def run(*overrides: str) -> object:
        return covered_album(
            compose_config(
                "task=photos",
                f"input={tmp_path / 'in'}",
                f"output={tmp_path / 'out'}",
                "data=folder",
                f"data.root={photos}",
                f"cache={cache}",
                "judges=none",
                "inpainter=fill",
                "until=null",
                "trainer=cpu",
                "split.gallery=0.6",
                "split.attackers=0",
                *overrides,
            )
        )

    return run


def test_the_command_covers_videos_among_photos(album: Callable[..., object], photos: Path, tmp_path: Path) -> None:
    scene = moving.scene(photos, 12, people=(3,), size=(160, 160), scale=1.0)
    (tmp_path / "in" / "trip").mkdir(parents=True)
    clip = moving.write_clip(tmp_path / "in" / "trip" / "clip.MP4", scene.frames, options={"crf": "12"})
    (tmp_path / "in" / "bad.mov").write_bytes(b"no video")
    summary = album("consistent=true")
    assert summary.photos == {"done": 1, "unreadable": 1}  # type: ignore[attr-defined]
    assert summary.faces == 1  # type: ignore[attr-defined]
    target = tmp_path / "out" / "trip" / "clip.MP4"
    before, after = moving.play(clip), moving.play(target)
    assert after.times == before.times
    assert after.others == before.others
    assert not (tmp_path / "out" / "bad.mov").exists()
    page = (tmp_path / "out" / "veil-report" / "index.html").read_text()
    assert "trip/clip.MP4, face 0" in page
    assert "bad.mov" in page
    table = (tmp_path / "out" / "veil-report" / "faces.csv").read_text().splitlines()
    assert dict(zip(table[0].split(","), table[1].split(","), strict=False))["name"] == "trip/clip.MP4"
    written = target.stat().st_mtime_ns
    album("consistent=true")
    assert target.stat().st_mtime_ns == written


@pytest.mark.slow
def test_memory_does_not_grow_with_frames(photos: Path, tmp_path: Path) -> None:
    scene = moving.scene(photos, 300)
    peaks = []
    for count in (60, 300, 1200):
        source = moving.write_clip(tmp_path / f"{count}.mp4", scene.frames * (count // 300) or scene.frames[:count])
        most = 0

        def painted(faces: Faces, masks: Masks) -> Images:
            nonlocal most
            with open("/proc/self/statm") as status:
                most = max(most, int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            return fill(faces, masks)

        rows = cover(source, tmp_path / "new.mp4", worker(moving.Finder(scene.faces), painted))
        assert max(row["frames"] for row in rows) >= min(count, 300)
        peaks.append(most / 2**20)
    assert peaks[2] - peaks[1] < 40  # MiB; 900 frames of 320x240 px would be 200
