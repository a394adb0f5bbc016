"""Which part of a recogniser is trained, and what it is shown."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

from veil.attacks.adapt import last_block
from veil.data.faces import Enrolment
from veil.errors import InputError
from veil.metrics.comparison import Comparison
from veil.recognizers.facenet import FaceNet
from veil.storage.progress import Stages
from veil.training.clear import compared
from veil.training.features import Pictures, embedded, features
from veil.training.recipe import TrunkFitting
from veil.training.tuning import Unit


class Part(NamedTuple):
    """What is trained, and the rows that it takes of gallery and probes."""

    embedder: nn.Module
    gallery: Dataset
    probes: Dataset

    def embed(self, enrolment: Enrolment, device: torch.device) -> Comparison:
        """Clear embeddings as the part now is."""
        gallery = embedded(self.embedder, self.gallery, len(enrolment.gallery), device)
        return compared(gallery, embedded(self.embedder, self.probes, len(enrolment.probes), device), enrolment)


def trained_part(recognizer: nn.Module, recipe: TrunkFitting, enrolment: Enrolment, cache: str, stages: Stages) -> Part:
    """The last block on cached features, or the whole recogniser on photos; only what is trained takes gradients."""
    if not isinstance(recognizer, FaceNet):
        raise InputError(
            f"task.mode={recipe.mode} needs recognizer=facenet, which can load the result, got "
            f"{type(recognizer).__name__}; task.mode=classifier takes every recogniser"
        )
    gallery, probes = enrolment.gallery, enrolment.probes
    if recipe.mode == "full":
        recognizer.requires_grad_(True)
        return Part(recognizer, Pictures(gallery, recipe.augment), Pictures(probes, recipe.augment))
    kept = [
        features(recognizer, faces, variants, recipe.augment, cache, stages, f"features, {name}")
        for name, faces, variants in (("gallery", gallery, recipe.variants), ("probes", probes, 0))
    ]
    return Part(Unit(last_block(recognizer).requires_grad_(True)), *kept)
