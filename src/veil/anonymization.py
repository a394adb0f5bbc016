"""Mask, repaint and measure a batch of faces."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from facenet_pytorch import MTCNN
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import MetricCollection

from veil.data.align import find_faces
from veil.maskers.budget import budget
from veil.metrics.intervals import PeopleMean
from veil.metrics.utility import coverage
from veil.pictures import as_saved, to_pixels
from veil.progress import Stages
from veil.recognizers.whitebox import WhiteBox, best_matches
from veil.store import Row
from veil.types import Embeddings, Faces, Identities, Images, Masks, Scores

Masker = Callable[[Faces, WhiteBox], Scores]
Inpainter = Callable[[Faces, Masks], Images]
Keep = Callable[[Faces, Masks, Images, list[Row]], None]


class Anonymization(pl.LightningModule):
    """Masker, budget and inpainter in a row; `test_step` measures each face and hands it to `keep`.

    Args:
        clear: clear embedding of each probe by its key.
        gallery: clear embeddings of the enrolled photos and their identities.
        keep: takes the batch's faces, masks, results and one row of figures a face.

    """

    def __init__(
        self,
        whitebox: WhiteBox,
        masker: Masker,
        inpainter: Inpainter,
        metrics: MetricCollection,
        *,
        ratio: float,
        cells: int | None,
        image_format: str,
        clear: dict[str, Float[Tensor, " d"]],
        gallery: tuple[Embeddings, Identities],
        people: list[str],
        keep: Keep,
        stages: Stages,
    ) -> None:
        super().__init__()
        self.whitebox, self.masker, self.inpainter, self.metrics = whitebox, masker, inpainter, metrics
        self.ratio, self.cells, self.image_format = ratio, cells, image_format
        self.clear, self.gallery, self.people, self.keep, self.stages = clear, gallery, people, keep, stages
        self.detector = MTCNN(device="cpu")

    def forward(self, faces: Faces) -> tuple[Images, Masks]:
        """Repainted crops, and where they were repainted."""
        with self.stages.clock("mask"):
            scores = self.masker(faces, self.whitebox)
            height, width = faces.images.shape[-2:]
            masks = budget(scores, self.ratio, self.cells, (height, width))
        with self.stages.clock("inpaint"):
            return self.inpainter(faces, masks), masks

    @torch.no_grad()
    def test_step(self, faces: Faces, _: int) -> None:
        """Anonymise and measure: judges see what the file holds, 8 bits a channel, compression included."""
        painted, masks = self(faces)
        with self.stages.clock("encode"):
            anonymized = as_saved(painted, self.image_format)
        rows = self._rows(faces, masks, anonymized)
        with self.stages.clock("write"):
            self.keep(faces, masks, anonymized, rows)

    def _rows(self, faces: Faces, masks: Masks, anonymized: Images) -> list[Row]:
        """One row of figures a face."""
        with self.stages.clock("judge"):
            before = torch.stack([self.clear[key] for key in faces.keys]).to(anonymized)
            after = self.whitebox(anonymized)
            logits, anonymized_logits = self.whitebox.logits(before), self.whitebox.logits(after)
        with self.stages.clock("detect"):
            found = self._detect(anonymized)
        with self.stages.clock("measure"):
            values = self._measure(
                images=faces.images,
                anonymized=anonymized,
                masks=masks,
                identities=faces.identities,
                embeddings=before,
                anonymized_embeddings=after,
                logits=logits,
                anonymized_logits=anonymized_logits,
                matches=self._matches(before),
                anonymized_matches=self._matches(after),
                found=found,
            )
        unchanged = (anonymized == faces.images).flatten(1).all(dim=1)
        facts = zip(
            faces.keys, faces.identities.tolist(), faces.seeds.tolist(), coverage(masks).tolist(),
            logits.argmax(dim=1).tolist(), anonymized_logits.argmax(dim=1).tolist(),
            found.tolist(), unchanged.tolist(),
            strict=True,
        )  # fmt: skip
        return [
            {
                "key": key,
                "person": self.people[identity],
                "label": identity,
                "seed": seed,
                "requested": self.ratio,
                "achieved": achieved,
                "predicted_clear": self.people[clear],
                "predicted": self.people[predicted],
                "found": face_found,
                "unchanged": same,
                **{name: None if math.isnan(column[index]) else column[index] for name, column in values.items()},
            }
            for index, (key, identity, seed, achieved, clear, predicted, face_found, same) in enumerate(facts)
        ]

    def _measure(self, **evidence: Any) -> dict[str, list[float]]:
        """Each metric's value for each face; the means are taken over the whole run, at its end."""
        self.metrics.reset()
        self.metrics.update(**evidence)
        batch: dict[str, list[float]] = {}
        for name, metric in self.metrics.items():
            assert isinstance(metric, PeopleMean)
            batch[name] = metric.values[0].tolist()
        return batch

    def _matches(self, embeddings: Embeddings) -> Float[Tensor, "b people"]:
        photos, identities = (part.to(embeddings.device) for part in self.gallery)
        return best_matches(embeddings, photos, identities, len(self.people))

    def _detect(self, images: Images) -> Bool[Tensor, " b"]:
        boxes = find_faces(list(to_pixels(images)), self.detector)
        return torch.tensor([box is not None for box in boxes], device=images.device)
