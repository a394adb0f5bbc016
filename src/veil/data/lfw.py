"""Labeled Faces in the Wild: 13,233 photos of 5,749 people (Huang et al. 2007)."""

import urllib.error
from pathlib import Path

from veil.data.folder import folder
from veil.data.photos import Photos
from veil.errors import InputError

MOST_PHOTOS = 530  # of one person: asking scikit-learn for people with as many loads the fewest pixels


def lfw(root: str | None = None, min_photos: int = 2) -> Photos:
    """The photos of a folder or a zip that holds `<Name>/<Name>_NNNN.jpg`; downloaded by scikit-learn where `root` is
    null. Keys are `<Name>/<Name>_NNNN` wherever the photos lie.

    Raises InputError where nothing is there, or there is no network to download from.
    """
    photos = folder(str(downloaded()) if root is None else root, min_photos, person="parent")
    keys = ["/".join(key.split("/")[-2:]) for key in photos.keys]
    if len(set(keys)) < len(keys):  # scikit-learn's lfw_home, say
        places = sorted({key.rpartition("/")[0].rpartition("/")[0] for key in photos.keys})
        raise InputError(
            f"data.root={root!r} holds the same photos several times, in {', '.join(places[:4])}: "
            "name one of these folders"
        )
    return Photos(keys, photos.people, photos.read, sources=photos.sources, ignored=photos.ignored)


def downloaded() -> Path:
    """The folder where scikit-learn keeps the original (not funnelled) photos; filled when it is first asked for."""
    from sklearn.datasets import fetch_lfw_people, get_data_home  # takes a second

    place = Path(get_data_home(), "lfw_home", "lfw")
    if not place.is_dir():
        try:
            fetch_lfw_people(funneled=False, color=True, resize=None, min_faces_per_person=MOST_PHOTOS)
        except (urllib.error.URLError, OSError) as error:
            raise InputError(
                f"data.root is null and LFW cannot be downloaded ({error}): set data.root to a folder or zip with "
                "<Name>/<Name>_NNNN.jpg"
            ) from error
    return place
