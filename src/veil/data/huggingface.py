"""Any data set of the Hugging Face `datasets` library with a column of images and one of identities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from veil.data.photos import Photos, with_min_photos
from veil.errors import InputError
from veil.faces.decode import MAX_BYTES


def huggingface(
    path: str,
    split: str = "train",
    image: str = "image",
    identity: str = "label",
    name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    min_photos: int = 1,
) -> Photos:
    """The rows of one split, in order; keys are row numbers. Other columns of text, integers, booleans or class labels
    become labels.

    Args:
        path: on the hub, or a folder: of `save_to_disk`, or of files that `datasets` knows.
        split: of the data set; not Veil's.
        image, identity: the columns.
        name: of the data set's configuration.
        revision: of the data set on the hub. Without it, a newer one is not noticed once the split file is made.
        streaming: read the rows one after the other without downloading the whole first.
        min_photos: leave out people with fewer.

    Raises InputError where `datasets` is not installed, or a column is not there.

    """
    dataset = _load(path, name, split, revision, streaming)
    columns = dict(dataset.features or {})
    for knob, column in (("image", image), ("identity", identity)):
        if column not in columns:
            raise InputError(f"data.{knob} must be a column of {path}, one of {sorted(columns)}, got {column!r}")
    from datasets import Image

    if not isinstance(columns[image], Image):
        raise InputError(f"data.image must be a column of images, got {image!r}: {columns[image]}")
    kept = [column for column, kind in columns.items() if column == identity or _is_label(kind)]
    values = {column: _values(dataset.select_columns([column]), column, columns[column]) for column in kept}
    people = [str(person) for person in values.pop(identity)]
    undecoded = dataset.select_columns([image]).cast_column(image, Image(decode=False))
    read = _Stream(undecoded, image) if streaming else lambda number: content(undecoded[number][image])
    folder = Path(path).expanduser()
    sources = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    keys = [f"{row:07d}" for row in range(len(people))]
    return with_min_photos(Photos(keys, people, read, values, sources=sources), min_photos)


def _load(path: str, name: str | None, split: str, revision: str | None, streaming: bool) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise InputError("data=huggingface needs `pip install 'veil[huggingface]'`") from error
    folder = Path(path).expanduser()
    try:
        if (folder / "dataset_dict.json").exists():
            dataset = datasets.load_from_disk(str(folder))[split]
        elif (folder / "state.json").exists():
            dataset = datasets.load_from_disk(str(folder))
        else:
            return datasets.load_dataset(path, name, split=split, revision=revision, streaming=streaming)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"data.path={path!r} with data.split={split!r} cannot be loaded ({error})") from error
    return dataset.to_iterable_dataset() if streaming else dataset


def _is_label(kind: Any) -> bool:
    from datasets import ClassLabel, Value

    return isinstance(kind, ClassLabel) or (
        isinstance(kind, Value) and kind.dtype.startswith(("bool", "int", "uint", "string", "large_string"))
    )


def _values(rows: Any, column: str, kind: Any) -> ndarray:
    """A whole column; class labels by their names, nothing as an empty text."""
    from datasets import ClassLabel

    values = [row[column] for row in rows]
    if isinstance(kind, ClassLabel):
        return np.array([kind.int2str(value) if value is not None and value >= 0 else "" for value in values])
    return np.array(values if None not in values else ["" if value is None else str(value) for value in values])


class _Stream:
    """Reads rows that only come in order; going back begins anew."""

    def __init__(self, rows: Any, image: str) -> None:
        self.rows, self.image = rows, image
        self.coming: Iterator[Any] = iter(())
        self.next = 0

    def __call__(self, number: int) -> bytes:
        """The bytes of row `number`."""
        if number < self.next or self.next == 0:
            self.coming, self.next = iter(self.rows), 0
        for row in self.coming:
            self.next += 1
            if self.next == number + 1:
                return content(row[self.image])
        raise OSError(f"the stream ended before row {number}")


def content(value: dict[str, Any] | None) -> bytes:
    """The file of an undecoded image, `MAX_BYTES` and one byte at most."""
    import fsspec

    if value is None:
        raise OSError("the row has no image")
    if value["bytes"] is not None:
        return value["bytes"]
    with fsspec.open(value["path"], "rb") as file:
        return file.read(MAX_BYTES + 1)
