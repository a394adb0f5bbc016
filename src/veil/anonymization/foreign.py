"""Pictures that another tool made of the data set's photos, as an anonymised set without masks."""

from collections.abc import Mapping
from pathlib import Path

import cv2
from facenet_pytorch import MTCNN
from jaxtyping import UInt8
from numpy import ndarray

from veil.anonymization.anonymized_set import AnonymizedSet, file_names
from veil.data.faces import FaceSet
from veil.data.photos import Photos, read_file
from veil.faces.align import OTHERS, crop_face, every_face, face_detector
from veil.faces.crops import crop_path
from veil.faces.decode import Unreadable, decode, read_photo
from veil.faces.pictures import save, to_pixels
from veil.storage.folders import Row
from veil.storage.progress import Stages
from veil.types import CROP

Pixels = UInt8[ndarray, "_ _ 3"]  # of any size
SAME_SHAPE = 0.02  # by how much a picture's proportions may differ from its photo's


def adopt(
    made: AnonymizedSet,
    pictures: Mapping[str, Path],
    kind: str,
    roles: Mapping[str, FaceSet],
    photos: Photos,
    people: list[str],
    stages: Stages,
) -> dict[str, str]:
    """Cut the face out of each picture and keep it; give, by key, why others cannot be used.

    Whole photos (`kind` is `photos`) are cut where the *original's* face is, so that a tool that moves or removes faces
    is seen as it is; `crops` are taken as they are.
    """
    detector, refused = face_detector(), dict[str, str]()
    for name, faces in roles.items():
        role = made.role(name)
        missing = role.missing(faces, made.rows())
        todo = missing.select(index for index, key in enumerate(missing.keys) if key in pictures)
        for place in ("results", "original") if len(todo) else ():
            (role.run.partial / place).mkdir(parents=True, exist_ok=True)
        with stages.bar(f"adopt {name}", len(todo)) as advance:
            for index, key in enumerate(todo.keys):
                advance(1)
                try:
                    content = read_photo(photos[todo.numbers[index]].read)
                    picture = decode(read_file(pictures[key]))
                    if kind == "crops":
                        crop = whole_crop(picture)
                    else:
                        crop = cut(decode(content), picture, detector, which_face(content, todo.crops[index]))
                except Unreadable as error:
                    refused[key] = str(error)
                    continue
                role.run.add([_kept(role.run.partial, todo, index, crop, people)])
        role.finish()
    return refused


def whole_crop(picture: Pixels) -> Pixels:
    """A picture that is a crop already. Raises Unreadable where it has not a crop's size."""
    if picture.shape[:2] != (CROP, CROP):
        raise Unreadable(f"{picture.shape[1]} x {picture.shape[0]} px, where crops have {CROP} x {CROP}")
    return picture


def which_face(content: bytes, crop: Path) -> int:
    """Of which face of its photo a crop is (`veil.faces.align.every_face`)."""
    return next(face for face in range(OTHERS + 1) if crop_path(Path(), content, face).name == crop.name)


def cut(original: Pixels, picture: Pixels, detector: MTCNN, face: int = 0) -> Pixels:
    """The crop of a picture, where the original's face is, or the one of this number in `every_face`.

    Raises Unreadable where its proportions are not the original's.
    """
    (height, width), (own_height, own_width) = original.shape[:2], picture.shape[:2]
    if abs(own_width * height / (own_height * width) - 1) > SAME_SHAPE:
        raise Unreadable(f"{own_width} x {own_height} px, where the photo has {width} x {height}: other proportions")
    if picture.shape != original.shape:
        smaller = own_height > height
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    (faces,) = every_face([original], detector)
    return crop_face(picture, faces[face])  # it is there: the data set has its crop


def _kept(folder: Path, faces: FaceSet, index: int, crop: Pixels, people: list[str]) -> Row:
    face, number, label = faces[index], faces.numbers[index], faces.identities[index]
    files = file_names(number, label, "png")
    save(to_pixels(face.images)[0], folder / files["original"])
    save(crop, folder / files["result"])
    who = {"key": faces.keys[index], "person": people[label], "label": label, "seed": int(face.seeds[0])}
    return who | files | {"mask": None}
