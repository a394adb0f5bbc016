"""Examples for the UNet: photos jittered, masked and encoded, each time anew."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL
from jaxtyping import Int
from numpy import ndarray
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from veil.storage.atomic import whole
from veil.training.data import Rows
from veil.training.diffusion import Example, encode_examples, field_masks
from veil.training.jitter import jitter
from veil.training.masks import SHAPES, draw_masks
from veil.training.schedule import Counted, Draw, generator_of, mixed_precision, resolved

KEPT = 6  # shards that are trained on; older ones are dropped
BATCH = 64  # fields that are encoded at once
CPU = torch.device("cpu")


class Drawing:
    """Draws examples of fields with room.

    Args:
        fields: `.npy` of `n h w 3`, uint8, memory-mapped.
        autoencoder: encodes; never trained here.
        shapes: how often each shape of mask is drawn.
        seed: every draw comes from it and from what it is the draw for.
        dtype: of the encoder, see `veil.training.schedule.mixed_precision`.

    """

    def __init__(
        self,
        fields: Path,
        autoencoder: AutoencoderKL,
        shapes: Mapping[str, float] = SHAPES,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.fields = np.load(fields, mmap_mode="r")
        self.autoencoder = autoencoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.shapes, self.seed, self.dtype = shapes, seed, dtype
        self.kept_as = resolved(CPU, dtype)  # examples on disk are drawn on the CPU; their files' names say so

    def __call__(self, rows: ndarray, generator: Generator) -> Example:
        """Examples of these rows of the fields, on the generator's device; the autoencoder follows it there."""
        device = generator.device
        self.autoencoder.to(device)
        pictures = jitter(torch.from_numpy(self.fields[rows]).to(device), generator)
        masks = field_masks(draw_masks(len(rows), generator, self.shapes), pictures.shape[-1])
        with mixed_precision(device, self.dtype):
            return encode_examples(self.autoencoder, pictures, masks)

    def write(self, rows: ndarray, path: Path, generator: Generator) -> None:
        """Draw one example of each row into a `.npy`, in float16."""
        if path.exists():
            return
        drawn = [self(rows[at : at + BATCH], generator).half().cpu().numpy() for at in range(0, len(rows), BATCH)]
        with whole(path) as partial:
            np.save(partial, np.concatenate(drawn))


class Fresh:
    """Batches that are drawn on the device when they are asked for, without end.

    Args:
        first: number of the first batch; batch n is always the same.

    """

    def __init__(
        self, drawing: Drawing, rows: ndarray, batch: int, device: torch.device, rank: int, first: int
    ) -> None:
        self.drawing, self.rows, self.batch = drawing, rows, batch
        self.device, self.rank, self.first = device, rank, first

    def __iter__(self) -> Iterator[Example]:
        for number in itertools.count(self.first):
            generator = generator_of(self.device, self.drawing.seed, Draw.FRESH, self.rank, number)
            chosen = torch.randint(len(self.rows), (self.batch,), generator=generator, device=self.device)
            yield self.drawing(self.rows[chosen.cpu().numpy()], generator)


class Shards:
    """Batches for a CPU, where encoding costs more than training: from shards that are encoded once and kept on disk.

    A shard holds one example of each of `shard` photos. Training goes on to the next when it has taken `reuse` times as
    many examples as a shard holds; each batch is drawn from the last `KEPT` shards.

    Args:
        folder: where the shards are kept. Files that a killed run left are used again.
        first: number of the first batch; batch n is always the same.

    """

    def __init__(
        self, drawing: Drawing, rows: ndarray, batch: int, shard: int, reuse: int, folder: Path, rank: int, first: int
    ) -> None:
        self.drawing, self.rows, self.batch = drawing, rows, batch
        self.folder, self.rank, self.first = folder, rank, first
        self.shard = min(shard, len(rows))
        self.batches = max(1, self.shard * reuse // batch)  # from one shard to the next

    def __iter__(self) -> Iterator[Example]:
        shards: dict[int, ndarray] = {}
        for number in itertools.count(self.first):
            last = number // self.batches
            if last not in shards:
                shards = {one: self._open(one) for one in range(max(0, last - KEPT + 1), last + 1)}
                self._drop_before(min(shards))
            yield self._pick(list(shards.values()), number)

    def _pick(self, shards: list[ndarray], number: int) -> Example:
        generator = np.random.default_rng([self.drawing.seed, Draw.PICKED, self.rank, number])
        chosen = generator.integers(len(shards) * self.shard, size=self.batch)
        return torch.from_numpy(np.stack([shards[at // self.shard][at % self.shard] for at in chosen])).float()

    def _open(self, number: int) -> ndarray:
        path = self._path(number)
        generator = np.random.default_rng([self.drawing.seed, Draw.SHARD, self.rank, number])
        rows = generator.choice(self.rows, self.shard, replace=False)
        self.drawing.write(rows, path, generator_of(CPU, self.drawing.seed, Draw.SHARD, self.rank, number))
        return np.load(path, mmap_mode="r")

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.shard}-{self.drawing.kept_as}-{number:06d}.npy"

    def _drop_before(self, number: int) -> None:
        for path in self.folder.glob("*-*.npy"):
            if int(path.stem.rpartition("-")[2]) < number:
                path.unlink()


class Examples(pl.LightningDataModule):
    """Examples without end: on a CPU from `Shards`, elsewhere `Fresh`. Resumed, they go on at the module's `batches`.

    Args:
        train, held_out: rows of the fields.
        folder: where the examples of validation, and the shards, are kept.

    """

    def __init__(
        self,
        drawing: Drawing,
        train: Int[ndarray, " n"],
        held_out: Int[ndarray, " m"],
        batch: int,
        shard: int,
        reuse: int,
        folder: Path,
    ) -> None:
        super().__init__()
        self.drawing, self.train, self.held_out = drawing, train, held_out
        self.batch, self.shard, self.reuse, self.folder = batch, shard, reuse, folder
        self.validation = folder / f"validation-{drawing.kept_as}.npy"

    def prepare_data(self) -> None:
        generator = generator_of(CPU, self.drawing.seed, Draw.HELD_OUT)
        self.drawing.write(self.held_out, self.validation, generator)

    def train_dataloader(self) -> Fresh | Shards:
        trainer = self.trainer
        assert trainer is not None
        assert isinstance(trainer.lightning_module, Counted)
        source = (self.drawing, self.train, self.batch)
        device, rank, first = trainer.strategy.root_device, trainer.global_rank, trainer.lightning_module.batches
        if device.type == "cpu":
            return Shards(*source, self.shard, self.reuse, self.folder / f"shards-{rank}", rank, first)
        return Fresh(*source, device, rank, first)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Rows([self.validation]), 32)
