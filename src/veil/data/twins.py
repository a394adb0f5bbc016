"""Photos that show one picture: the same file under two names, or a copy that was scaled, compressed or brightened."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt64
from numpy import ndarray

from veil.errors import InputError

SIDE = 8  # cells of the hash's grid
# Of 64 bits, in how many the hashes of two photos may differ that are looked at more closely: of one person, of two.
# Of 50 copies of AT&T photos (smaller, twice as large, JPEG at 50, lighter, cut) 49 differ in at most 14.
OF_ONE, OF_TWO = 14, 6
ROUGHLY = 0.85  # correlation as they lie, below which crops are not laid on each other
# Correlations of copies laid on each other, at 64 px: of the pictures, and of their details finer than FINE px. Of 40
# AT&T photos' copies 93 to 100 % have both (twice as large, JPEG at 50 and 30, lighter, other gamma), 88 % of those at
# 0.7 of the size, 55 % at half; of the 1,800 pairs of different photos of one person one has, of one pose and face.
ALIKE, DETAIL = 0.991, 0.957
FINE = 2.0  # standard deviation of the blur that details are what is lost by
SMALL, EDGE = 64, 12  # px: side of the crops that are laid on each other, and what is left out at each edge
BLOCK = 256  # rows that are compared with all others at once


def twins(
    crops: Sequence[Path], people: Sequence[int], advance: Callable[[int], None] = lambda count: None
) -> list[tuple[int, int, bool]]:
    """Pairs of crops that show one picture, and whether their files are the same to the byte.

    Crops are called by their files' digests: the same path is the same file, and a group of copies of one file gives
    each but the first with the first. Others are compared by difference hashes (of a grid of 8 x 8, whether each cell
    is lighter than the one left of it), and where these are near by laying one on the other (`_alike`). An embedding
    does not tell: FaceNet's cosine of copies of AT&T photos is 0.91 to 0.99, of two shots of one session up to 0.98.

    Args:
        crops: of all photos.
        people: whose they are.
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
    for one, other in near(hashes, np.array(people)[own]):
        if _alike(crops[own[one]], crops[own[other]]):
            pairs.append((own[one], own[other], False))
    return sorted(pairs)


def difference_hash(grey: Float[ndarray, "h w"]) -> int:
    """64 bits: of 8 rows of 9 cells, whether each cell is lighter than the one left of it (Krawetz 2013)."""
    cells = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes())


def near(
    hashes: UInt64[ndarray, " n"], people: Int[ndarray, " n"], of_one: int = OF_ONE, of_two: int = OF_TWO
) -> Iterator[tuple[int, int]]:
    """Pairs of hashes, the first before the second, that differ in at most `of_one` bits where they are of one person,
    in `of_two` where they are not. n * n / 2 comparisons, blockwise: seconds for 30,000.
    """
    for start in range(0, len(hashes), BLOCK):
        rows = slice(start, start + BLOCK)
        most = np.where(people[rows, None] == people[None, start:], np.uint8(of_one), np.uint8(of_two))
        differ = np.bitwise_count(hashes[rows, None] ^ hashes[None, start:])
        for row, column in zip(*np.nonzero(differ <= most), strict=True):
            if column > row:
                yield start + int(row), start + int(column)


def _grey(crop: Path) -> Float[ndarray, "h w"]:
    pixels = cv2.imread(str(crop), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise InputError(f"cache: the crop {crop} is damaged or gone; remove it, and `task=prepare` makes it again")
    return pixels.astype(np.float32)


def _alike(one: Path, other: Path) -> bool:
    """Whether two crops correlate once the affine map is found that lays one on the other: of a scaled photo the
    detector's landmarks, and so the crop, are moved a little (Evangelidis and Psarakis 2008: ECC).
    """
    first, second = _small(one), _small(other)
    inner = (slice(EDGE, -EDGE),) * 2
    if np.ptp(first[inner]) == 0 or np.ptp(second[inner]) == 0:
        return False  # one grey
    if _correlation(first[inner], second[inner]) < ROUGHLY:
        return False
    mask, laid = np.zeros((SMALL, SMALL), np.uint8), np.eye(2, 3, dtype=np.float32)
    mask[inner] = 1
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    try:
        for blur in (5, 1):  # px: roughly, then to a small part of a pixel
            cv2.findTransformECC(first, second, laid, cv2.MOTION_AFFINE, until, mask, blur)  # into `laid`
    except cv2.error:  # no map is found: they are not the same picture
        return False
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, laid, (SMALL, SMALL), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    details = [(picture - cv2.GaussianBlur(picture, (0, 0), FINE))[inner] for picture in (first, moved)]
    return _correlation(first[inner], moved[inner]) >= ALIKE and _correlation(*details) >= DETAIL


def _correlation(one: Float[ndarray, "h w"], other: Float[ndarray, "h w"]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@functools.lru_cache(maxsize=4096)
def _small(crop: Path) -> Float[ndarray, "h w"]:
    return cv2.resize(_grey(crop), (SMALL, SMALL), interpolation=cv2.INTER_AREA)
