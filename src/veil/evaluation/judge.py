"""A recogniser that measures: what it sees in faces before and after."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from veil.types import Faces, Images


class Judge(nn.Module):
    """A recogniser and what it saw in the clear photos.

    Args:
        recognizer: images -> unit embeddings; the zero vector for a face that it does not find.
        clear: its embedding of each clear probe, by key.

    """

    def __init__(self, recognizer: nn.Module, clear: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.recognizer, self.clear = recognizer, clear

    def evidence(self, faces: Faces, anonymized: Images) -> dict[str, Any]:
        """What the privacy metrics take by name."""
        after = self.recognizer(anonymized)
        return {
            "embeddings": torch.stack([self.clear[key] for key in faces.keys]).to(anonymized),
            "anonymized_embeddings": after,
        }
