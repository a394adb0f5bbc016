"""The pictures of the documentation: an astronaut under five maskers, AT&T faces in their photos.

    python benchmarks/pictures.py docs

Faces are repainted as in a run and pasted back into their photos. The masks of `gradcam`, `saliency` and `search` ask
what tells this person from others: the white box knows the AT&T people and the astronaut, by views of this one photo.
The astronaut is Eileen Collins (NASA, public domain), as scikit-image ships her; faces: AT&T Laboratories Cambridge.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from hydra.utils import instantiate
from numpy import ndarray
from PIL import Image, ImageDraw
from skimage.data import astronaut

from veil.config import compose
from veil.data.folder import att
from veil.data.split import face_seed
from veil.faces.align import Found, crop_face, face_detector, find_faces, paste_face
from veil.faces.decode import decode
from veil.faces.pictures import mask_pixels, to_images, to_pixels
from veil.maskers.budget import budget
from veil.recognizers.whitebox import WhiteBox, centroid_classifier, centroids
from veil.types import CROP, Faces, Images

MASKERS, RATIOS = ("random", "gradcam", "saliency", "t_zone", "search"), (0.25, 0.5)
RED = np.array([220, 40, 40])


class Painter:
    """Masks and repaints one face of a photo, as a run would, and pastes it back."""

    def __init__(self, whitebox: WhiteBox, masker: str, ratio: float) -> None:
        self.config = compose(f"masker={masker}", f"ratio={ratio}")
        self.inpainter = instantiate(self.config.inpainter)
        self.masker: Callable = instantiate(self.config.masker)
        if masker == "search":
            starts = {name: instantiate(start) for name, start in self.config.masker["starts"].items()}
            self.masker = instantiate(self.config.masker, repaint=self.inpainter, starts=starts)
        self.whitebox, self.ratio = whitebox, ratio

    def __call__(self, photo: ndarray, found: Found, person: int, key: str) -> tuple[ndarray, ndarray]:
        """The photo with the mask in red, and with the face repainted."""
        crop = crop_face(photo, found)
        seed = torch.tensor([face_seed(key, 0)])
        faces = Faces(to_images(crop[None]), torch.tensor([person]), seed, (key,))
        masks = budget(self.masker(faces, self.whitebox), self.ratio, self.config.cells, (CROP, CROP))
        (painted,) = to_pixels(self.inpainter(faces, masks))
        mask = mask_pixels(masks)[0] > 0
        red = np.where(mask[..., None], 0.35 * crop + 0.65 * RED, crop).astype(np.uint8)
        return paste_face(photo, found, red, mask), paste_face(photo, found, painted, mask)


def white_box(views: Images) -> WhiteBox:
    """FaceNet that knows the first half of each AT&T person's photos and, as person 40, who is on `views`."""
    recognizer = instantiate(compose().recognizer)
    photos = [photo for number, photo in enumerate(att()) if number % 10 < 5]
    pixels = [decode(photo.read()) for photo in photos]
    found = find_faces(pixels, face_detector())
    crops = to_images(np.stack([crop_face(*pair) for pair in zip(pixels, found, strict=True) if pair[1] is not None]))
    known = [int(photo.person[1:]) - 1 for photo, face in zip(photos, found, strict=True) if face is not None]
    with torch.no_grad():
        embeddings = torch.cat([recognizer(part) for part in torch.cat([crops, views]).split(32)])
    means = centroids(embeddings, torch.tensor([*known, *[40] * len(views)]), 41)
    return WhiteBox(recognizer, centroid_classifier(means), means)


def views_of(photo: ndarray, found: Found) -> Images:
    """One photo as several: mirrored, darker, softer, so that its own likeness is not simply 1."""
    crop = crop_face(photo, found)
    dark = (255 * (crop / 255) ** 1.4).astype(np.uint8)
    return to_images(np.stack([crop[:, ::-1], dark[:, ::-1], cv2.GaussianBlur(crop, (0, 0), 3), dark]))


def sheet(columns: list[tuple[str, list[ndarray]]], rows: list[str]) -> Image.Image:
    """Pictures of one size under the titles of their columns; what `rows` say stands at the left."""
    height, width, _ = columns[0][1][0].shape
    left, top = (70 if any(rows) else 0), 22
    page = Image.new("RGB", (left + len(columns) * (width + 4), top + len(rows) * (height + 4)), "white")
    draw = ImageDraw.Draw(page)
    for x, (title, pictures) in enumerate(columns):
        draw.text((left + x * (width + 4) + 2, 2), title, fill="black", font_size=15)
        for y, picture in enumerate(pictures):
            page.paste(Image.fromarray(picture), (left + x * (width + 4), top + y * (height + 4)))
    for y, title in enumerate(rows):
        draw.text((2, top + y * (height + 4) + height / 2 - 8), title, fill="black", font_size=13)
    return page


def astronaut_sheet() -> Image.Image:
    """One colour photo: original, then mask and result of each masker at each ratio."""
    photo = np.ascontiguousarray(astronaut()[:256, 96:352])
    (found,) = find_faces([photo], face_detector())
    if found is None:
        raise RuntimeError("MTCNN finds no face in scikit-image's astronaut")
    whitebox = white_box(views_of(photo, found))
    window = (slice(20, 212), slice(32, 224))
    columns = [("original", [photo[window]])]
    for masker in MASKERS:
        pictures = [
            part for ratio in RATIOS for part in Painter(whitebox, masker, ratio)(photo, found, 40, "astronaut")
        ]
        columns.append((masker, [part[window] for part in pictures]))
    return sheet(columns, [f"{word} {ratio}" for ratio in RATIOS for word in ("mask", "result")])


def att_sheet() -> Image.Image:
    """Eight AT&T people at a quarter of the view, under saliency: photo, mask, result, in their photos."""
    photos = [photo for number, photo in enumerate(att()) if number % 50 == 6]
    pixels = [decode(photo.read()) for photo in photos]
    found = find_faces(pixels, face_detector())
    painter = Painter(white_box(views_of(pixels[0], found[0])), "saliency", 0.25)  # type: ignore[arg-type]
    columns = []
    for photo, picture, face in zip(photos, pixels, found, strict=True):
        if face is not None:
            shown = [picture, *painter(picture, face, int(photo.person[1:]) - 1, photo.key)]
            columns.append(
                (
                    photo.person,
                    [cv2.resize(part, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC) for part in shown],
                )
            )
    return sheet(columns, ["original", "mask", "repainted"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, picture in (("astronaut", astronaut_sheet), ("samples", att_sheet)):
        picture().save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
