"""What the two stages are trained on: fields cut from crops, then their latents, both kept on disk."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from veil.inpainters.sizes import resize
from veil.training.diffusion import field_box, write_latents
from veil.types import Images


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


def write_fields(batches: Iterable[Images], count: int, path: Path, size: int) -> None:
    """Cut the field out of each crop of `batches` and keep it at `size` px: `count` rows of `h w 3`, uint8."""
    partial = path.with_suffix(".partial")
    out = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, size, size, 3))
    start = 0
    for crops in batches:
        inner = field_box(crops.shape[-1])
        fields = resize(crops[..., inner, inner], size).mul(255).round().byte().permute(0, 2, 3, 1)
        out[start : start + len(fields)] = fields.numpy()
        start += len(fields)
    out.flush()
    partial.replace(path)


class TrainingData(pl.LightningDataModule):
    """Batches of rows; `held_out` rows, chosen by `seed`, are for validation alone.

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
    """Indices of the training and of the validation rows of `path`."""
    order = np.random.default_rng(seed).permutation(len(np.load(path, mmap_mode="r")))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def write_shards(autoencoder: AutoencoderKL, fields: Path, rows: ndarray, shards: list[Path], seed: int) -> None:
    """Every row once per shard, each time with another flip, colour and mask."""
    pictures = np.load(fields, mmap_mode="r")[rows]
    for number, path in enumerate(shards):
        if not path.exists():
            write_latents(autoencoder, pictures, path, seed + number)
