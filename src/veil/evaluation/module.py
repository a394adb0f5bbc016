"""Measure anonymised faces beside their clear ones, batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from veil.data.faces import FaceSet, join
from veil.evaluation.panel import Panel
from veil.faces.pictures import read_pixels
from veil.storage.folders import Row
from veil.types import Faces, Images, Masks


class Anonymized(NamedTuple):
    """A batch of clear faces, and what was made of them."""

    faces: Faces
    anonymized: Images
    masks: Masks | None  # None where the set has no masks


class AnonymizedFaces(Dataset):
    """Clear faces with their anonymised pictures.

    Args:
        results, masks: files by key; `masks` is empty where the set has none.

    """

    def __init__(self, faces: FaceSet, results: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
        self.faces, self.results, self.masks = faces, results, masks

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> Anonymized:
        key = self.faces.keys[index]
        mask = _pixels(self.masks[key])[:, :1] > 0 if self.masks else None
        return Anonymized(self.faces[index], _pixels(self.results[key]).float() / 255, mask)

    def loader(self, batch_size: int, workers: int = 0) -> DataLoader:
        """Batches in order."""
        return DataLoader(self, batch_size, num_workers=workers, collate_fn=_join)


def _pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_pixels(path)).permute(2, 0, 1)[None]


def _join(pairs: Sequence[Anonymized]) -> Anonymized:
    faces, anonymized, masks = zip(*pairs, strict=True)
    return Anonymized(join(faces), torch.cat(anonymized), None if masks[0] is None else torch.cat(masks))


class Evaluation(pl.LightningModule):
    """`test_step` has the panel look at each face and hands its rows to `keep`.

    Args:
        keep: takes one row a face, its key and figures.

    """

    def __init__(self, panel: Panel, keep: Callable[[list[Row]], None]) -> None:
        super().__init__()
        self.panel, self.keep = panel, keep

    @torch.no_grad()
    def test_step(self, batch: Anonymized, _: int) -> None:
        """Measure; the run's means are taken at its end, over the rows."""
        rows = self.panel.rows(batch.faces, batch.masks, batch.anonymized)
        self.keep([{"key": key} | row for key, row in zip(batch.faces.keys, rows, strict=True)])
