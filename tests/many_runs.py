"""Finished runs in the schema, made in milliseconds: `python tests/many_runs.py <folder> <maskers> <seeds>`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from veil.config import compose
from veil.evaluation.results import Flag, Results, write_results
from veil.metrics.distribution import KID
from veil.metrics.identification import RANKS
from veil.metrics.image import COVERAGE, DETECTED, PSNR, SSIM
from veil.metrics.information import BITS
from veil.metrics.intervals import Interval, share_interval
from veil.metrics.measure import CLEAR, WORST, Figure, by_name
from veil.metrics.privacy import ACCURACY, COSINE, FOOLED
from veil.metrics.verification import TAR
from veil.storage.folders import Row, write_manifest

RATIOS = (0.1, 0.25, 0.5, 0.75, 1.0)
JUDGES = ("facenet", "dlib")  # the second is held out
ATTACKS = ("naive", "source_enrolled", "linkage")
PEOPLE, PHOTOS = 30, 2
KINDS = ("original", "mask", "result")
NAME = "Alice_Smith"  # that no page may tell
CHOICES = ("data=folder", "data.root=/home/alice", "masker=random", "inpainter=telea", "ratio=0.25")


def make_runs(
    folder: Path,
    maskers: Sequence[str],
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = (0,),
    people: int = PEOPLE,
) -> list[Path]:
    """Masker x ratio x seed; the more is repainted the less is named, and the later maskers are the better ones."""
    pictures = _pictures(folder / "pictures", people)
    text = OmegaConf.to_yaml(asdict(compose(*CHOICES)))
    folders = []
    for place, masker in enumerate(maskers):
        for ratio in ratios:
            for seed in seeds:
                name = f"{masker}/telea/ratio={ratio:g}/seed={seed}-{place:04x}/evaluation-{seed:04x}"
                run = folder / "att" / name
                run.mkdir(parents=True)
                own = text.replace("\nratio: 0.25\n", f"\nratio: {ratio}\n").replace("\nseed: 0\n", f"\nseed: {seed}\n")
                (run / "config.yaml").write_text(own.replace("masker: random", f"masker: {masker}"))
                left = (1 - ratio) ** (1 + place / len(maskers))
                generator = np.random.default_rng([place, seed, round(100 * ratio)])
                rows = _rows(left, generator, people, [os.path.relpath(picture, run) for picture in pictures])
                write_manifest(run, rows)
                write_results(run, _results(rows, left, people))
                folders.append(run)
    return folders


def _pictures(folder: Path, people: int) -> list[Path]:
    """For each probe an original, a mask and a result of 256 px, as heavy as a photo's."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    files = []
    for probe in range(people * PHOTOS):
        for kind in KINDS:
            coarse = Image.fromarray(generator.integers(0, 256, (16, 16), np.uint8))  # grey and soft, as AT&T's are
            image = coarse.resize((256, 256), Image.Resampling.BICUBIC).convert("RGB")
            if kind == "mask":
                image = image.convert("L").point(lambda level: 255 * (level > 128))
            files.append(folder / f"{probe}-{kind}.png")
            image.save(files[-1])
    return files


def _rows(left: float, generator: np.random.Generator, people: int, pictures: Sequence[str]) -> list[Row]:
    rows = []
    for probe in range(people * PHOTOS):
        person = probe // PHOTOS
        row: Row = {"key": f"{NAME}{person}/{probe}", "person": f"{NAME}{person}", "label": person}
        row |= dict(zip(KINDS, pictures[3 * probe :], strict=False)) | {"found": True, "unchanged": False}
        row |= {"utility/ssim": 0.5 + left / 2, "utility/psnr": 20.0, "utility/psnr_masked": 15.0}
        for judge in JUDGES:
            row[f"privacy/{judge}/cosine"] = float(left + generator.normal(0, 0.1))
            for attack in ATTACKS:
                name = f"privacy/{judge}/rank1" if attack == "naive" else f"privacy/{judge}/{attack}/rank1"
                row[name] = float(generator.random() < left)
        rows.append(row | {f"check/{number}": float(generator.random()) for number in range(15)})
    return rows


def _results(rows: Sequence[Row], left: float, people: int) -> Results:
    labels = np.array([row["label"] for row in rows])

    def near(value: float, reach: float = 0.05) -> Interval:
        return Interval(value, value - reach, value + reach, len(rows))

    figures = [
        Figure(RANKS[1], share_interval(np.array([row[name] for row in rows]), labels), judge, attack)
        for judge in JUDGES
        for attack in ATTACKS
        for name in [Figure(RANKS[1], "", judge, attack).name]
    ]
    worst = max(figures[len(ATTACKS) :], key=lambda figure: figure.value)
    figures.append(Figure(RANKS[1], worst.interval, WORST, source=worst.name))
    for judge in JUDGES:
        others = (RANKS[5], RANKS[10], TAR[1e-2], ACCURACY, FOOLED, COSINE)
        figures += [Figure(measure, near(left / 2 + 0.1), judge) for measure in others]
        figures += [Figure(measure, near(0.9), judge, condition=CLEAR) for measure in (RANKS[1], RANKS[5], TAR[1e-2])]
        figures += [Figure(BITS, near(5 * left, 0.5), judge), Figure(KID, near(1 - left), judge)]
    figures += [Figure(SSIM, near(0.5 + left / 2)), Figure(DETECTED, near(0.9)), Figure(COVERAGE, near(1 - left, 0.0))]
    figures += [Figure(PSNR, near(20 + 10 * left, 1)), Figure(BITS, "too few people", WORST)]
    flags = [Flag("no face found", f"no face found in {NAME}/7.png")] if left > 0.5 else []
    faces = {"people": people, "gallery": 8 * people, "probes": len(rows), "not_found": []}
    details = {"held_out": ["dlib"], "threats": {}}
    return Results(by_name(figures), flags, faces, "python run.py data.root=/home/alice", {"mask": 1.0}, details)


if __name__ == "__main__":
    make_runs(Path(sys.argv[1]), [f"m{i}" for i in range(int(sys.argv[2]))], seeds=range(int(sys.argv[3])))
