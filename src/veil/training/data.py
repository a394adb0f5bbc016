"""Fields that the face inpainter is trained on, kept on disk."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from veil.errors import InputError
from veil.inpainters.composite import resize
from veil.storage.atomic import whole
from veil.training.jitter import ROOM, middle_box

Pixels = UInt8[ndarray, "h h 3"]


class Rows(Dataset):
    """Rows of `.npy` files, memory-mapped: bytes as pictures in [0, 1] with channels first, the rest as it is."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.arrays = [np.load(path, mmap_mode="r") for path in paths]
        self.ends = np.cumsum([len(array) for array in self.arrays])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Tensor:
        file = int(np.searchsorted(self.ends, index, side="right"))
        row = np.array(self.arrays[file][index - self.ends[file]])
        return torch.from_numpy(row).permute(2, 0, 1) / 255 if row.dtype == np.uint8 else torch.from_numpy(row).float()


def write_fields(squares: Iterable[Pixels], most: int, path: Path, size: int) -> None:
    """Keep squares, fields of `size` px with room round them, at `ROOM * size` px: a `.npy` of `n h w 3`, uint8.

    Args:
        most: how many there are at most.

    """
    partial, side, count = path.with_suffix(".partial"), round(size * ROOM), 0
    out = np.lib.format.open_memmap(partial, "w+", np.uint8, (most, side, side, 3))
    for square in squares:
        image = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
        out[count] = resize(image, side)[0].mul(255).round().byte().permute(1, 2, 0).numpy()
        count += 1
    out.flush()
    if count < most:  # some could not be read
        with path.with_suffix(".shorter").open("wb") as file:
            np.save(file, out[:count])
        path.with_suffix(".shorter").replace(partial)
    partial.replace(path)


def write_middles(fields: Path, rows: ndarray, path: Path) -> None:
    """Keep these rows of the fields with room, without their room, in another `.npy`, unless it is there."""
    if path.exists():
        return
    pictures = np.load(fields, mmap_mode="r")
    inner = middle_box(pictures.shape[1])
    side = inner.stop - inner.start
    with whole(path) as partial:
        out = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(rows), side, side, 3))
        for place, row in enumerate(rows):
            out[place] = pictures[row, inner, inner]
        out.flush()


class TrainingData(pl.LightningDataModule):
    """Batches of rows of files.

    Args:
        prepare: writes what is missing; called by one process only.
        train, validation: the files, known once `prepare` is done.

    """

    def __init__(
        self, prepare: Callable[[], None], train: list[Path], validation: list[Path], batch_size: int, workers: int = 0
    ) -> None:
        super().__init__()
        self.prepare, self.paths, self.batch_size, self.workers = prepare, (train, validation), batch_size, workers

    def prepare_data(self) -> None:
        self.prepare()

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Rows(self.paths[0]), self.batch_size, shuffle=True, drop_last=True, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Rows(self.paths[1]), 32)


def split_fields(path: Path, held_out: int, seed: int) -> tuple[ndarray, ndarray]:
    """Indices of the training and of the validation rows of `path`. Raises InputError where none trains."""
    count = len(np.load(path, mmap_mode="r"))
    if held_out >= count:
        raise InputError(f"task.held_out must leave faces to train on, below {count}, got {held_out}")
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
