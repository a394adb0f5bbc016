"""Clear embeddings, computed once for a recogniser and a set of faces."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from veil.data.faces import FaceSet
from veil.progress import Stages
from veil.recognizers.weights import write_state
from veil.types import Embeddings

BATCH = 32  # fixed, so that the embeddings do not depend on a run's batch size


def fingerprint(module: nn.Module) -> str:
    """Digest of a module's class and every tensor of its state."""
    digest = hashlib.blake2b(type(module).__qualname__.encode(), digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def clear_embeddings(recognizer: nn.Module, faces: FaceSet, cache: str, stages: Stages, label: str) -> Embeddings:
    """Embeddings of clear crops, on the CPU; kept by the recogniser's weights and the crops' contents."""
    digest = hashlib.blake2b(fingerprint(recognizer).encode(), digest_size=16)
    for crop in faces.crops:
        digest.update(crop.stem.encode())
    path = Path(cache).expanduser() / "embeddings" / f"{digest.hexdigest()}.safetensors"
    if not path.exists():
        device = next(recognizer.parameters()).device
        embedded = []
        with stages.bar(label, len(faces)) as advance:
            for batch in faces.loader(BATCH):
                embedded.append(recognizer(batch.images.to(device)).cpu())
                advance(len(batch.keys))
        write_state({"embeddings": torch.cat(embedded)}, path)
    return load_file(path)["embeddings"]
