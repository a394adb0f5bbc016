"""A recogniser that measures: what it sees in faces before and after."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from veil.types import Faces


class Judge(nn.Module):
    """A recogniser and what it saw in the clear photos.

    Args:
        recognizer: images -> unit embeddings; the zero vector for a face that it does not find.
        clear, anonymized: its embedding of each probe, by key, before and after.

    """

    def __init__(self, recognizer: nn.Module, clear: Mapping[str, Tensor], anonymized: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.recognizer, self.clear, self.anonymized = recognizer, clear, anonymized

    def evidence(self, faces: Faces) -> dict[str, Any]:
        """What the privacy metrics take by name."""
        found = {"embeddings": self.clear, "anonymized_embeddings": self.anonymized}
        return {name: torch.stack([seen[key] for key in faces.keys]).to(faces.images) for name, seen in found.items()}
