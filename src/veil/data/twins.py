"""Photos that show one picture: the same file under two names, or a copy that was scaled, compressed or brightened."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt64
from numpy import ndarray

from veil.errors import InputError

SIDE = 8  # cells of the hash's grid
BITS = 10  # of 64 in which hashes of copies may differ; two photos of one AT&T session differ in 4 to 11
ALIKE = 0.985  # correlation of copies' middles at 20 px; of two photos of one AT&T session it is 0.976 at most
BLOCK = 256  # rows that are compared with all others at once


def twins(crops: Sequence[Path], advance: Callable[[int], None] = lambda count: None) -> list[tuple[int, int, bool]]:
    """Pairs of crops that show one picture, and whether their files are the same to the byte.

    Crops are called by their files' digests: the same path is the same file, and a group of copies of one file gives
    each but the first with the first. Others are compared by difference hashes (of a grid of 8 x 8, whether each cell
    is lighter than the one left of it), and where these are near by the correlation of the face's middle, which a
    change of brightness leaves as it is.

    Args:
        crops: of all photos.
        advance: told of each crop that is read.

    """
    first: dict[Path, int] = {}
    pairs = []
    for number, crop in enumerate(crops):
        before = first.setdefault(crop, number)
        if before != number:
            pairs.append((before, number, True))
    own = list(first.values())
    hashes = np.zeros(len(own), np.uint64)
    for row, number in enumerate(own):
        hashes[row] = difference_hash(_grey(crops[number]))
        advance(1)
    for one, other in near(hashes, BITS):
        if _alike(crops[own[one]], crops[own[other]]):
            pairs.append((own[one], own[other], False))
    return sorted(pairs)


def difference_hash(grey: Float[ndarray, "h w"]) -> int:
    """64 bits: of 8 rows of 9 cells, whether each cell is lighter than the one left of it (Krawetz 2013)."""
    cells = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes())


def near(hashes: UInt64[ndarray, " n"], bits: int) -> Iterator[tuple[int, int]]:
    """Pairs of hashes that differ in at most `bits`, the first before the second. n * n / 2 comparisons, blockwise:
    seconds for 30,000.
    """
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK]
        differ = np.bitwise_count(rows[:, None] ^ hashes[None, start:])
        for row, column in zip(*np.nonzero(differ <= bits), strict=True):
            if column > row:
                yield start + int(row), start + int(column)


def _grey(crop: Path) -> Float[ndarray, "h w"]:
    pixels = cv2.imread(str(crop), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise InputError(f"cache: the crop {crop} is damaged or gone; remove it, and `task=prepare` makes it again")
    return pixels.astype(np.float32)


def _alike(one: Path, other: Path) -> bool:
    middles = [cv2.resize(_grey(crop), (32, 32), interpolation=cv2.INTER_AREA)[6:26, 6:26] for crop in (one, other)]
    centred = [middle - middle.mean() for middle in middles]
    norms = [float(np.linalg.norm(middle)) for middle in centred]
    return min(norms) > 0 and float((centred[0] * centred[1]).sum()) >= ALIKE * norms[0] * norms[1]
