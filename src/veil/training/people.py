"""Batches of photos with whose they are, epoch by epoch."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from veil.types import Identities


class Labelled(Dataset):
    """Some photos with whose they are; row `variant x len + i` is that variant of the i-th of them.

    Args:
        rows: of all photos and their variants, as in `Pictures`.
        identities: of all photos.
        photos: the ones taken; all by default.
        classes: people, in order; theirs are then numbered by their place here.

    """

    def __init__(
        self,
        rows: Dataset | Tensor,
        identities: Identities,
        photos: Int[Tensor, " n"] | None = None,
        classes: Int[Tensor, " people"] | None = None,
    ) -> None:
        self.rows, self.size = rows, len(identities)
        self.photos = torch.arange(self.size) if photos is None else photos
        taken = identities[self.photos]
        self.identities = taken if classes is None else torch.searchsorted(classes, taken)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        variant, place = divmod(row, len(self))
        return self.rows[variant * self.size + int(self.photos[place])], self.identities[place]


def epoch_order(
    identities: Identities, balance: float, per_person: int, variants: int, generator: torch.Generator
) -> list[int]:
    """Rows of one epoch, about as many as there are photos.

    With `balance` 0 and one photo at a time: every photo once. Else people are drawn with a chance in proportion to
    their number of photos to the power of 1 - `balance`, and `per_person` of their photos each time. Each photo drawn
    is replaced by one of its `variants` or stays, each as likely.
    """
    count = len(identities)
    order = torch.randperm(count, generator=generator)
    if balance or per_person > 1:
        members = order[identities[order].argsort(stable=True)].split(identities.bincount().tolist())
        weights = torch.tensor([len(photos) ** (1 - balance) if len(photos) else 0.0 for photos in members])
        drawn = torch.multinomial(weights, -(-count // per_person), replacement=True, generator=generator)
        order = torch.cat([_some(members[person], per_person, generator) for person in drawn])
    variant = torch.randint(variants + 1, (len(order),), generator=generator)
    return (variant * count + order).tolist()


def _some(photos: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """`number` of the photos; each once before any again."""
    rounds = -(-number // len(photos))
    return torch.cat([photos[torch.randperm(len(photos), generator=generator)] for _ in range(rounds)])[:number]


class People(pl.LightningDataModule):
    """Batches of photos and whose they are. An epoch's order depends on `seed` and its number alone.

    Args:
        train: photos and variants.
        validation: see `veil.training.tuning.Tuning`.
        batch_size: photos a batch, on each device.

    """

    def __init__(
        self,
        train: Labelled,
        validation: Sequence[Labelled],
        batch_size: int,
        seed: int,
        balance: float = 0.0,
        per_person: int = 1,
        variants: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.batch_size, self.seed = train, validation, batch_size, seed
        self.balance, self.per_person, self.variants, self.workers = balance, per_person, variants, workers

    def train_dataloader(self) -> DataLoader:
        """The coming epoch's; the trainer reloads it each time."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        order = epoch_order(self.train.identities, self.balance, self.per_person, self.variants, generator)
        return DataLoader(self.train, self.batch_size, sampler=order, num_workers=self.workers)

    def val_dataloader(self) -> list[DataLoader]:
        """In order."""
        return [DataLoader(part, 256, num_workers=self.workers) for part in self.validation]
