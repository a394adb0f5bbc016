"""What a network is, as a digest."""

import hashlib
import json

import torch
from torch import nn

from veil.storage.fingerprint import code, digest, versions


def weights_of(module: nn.Module) -> str:
    """Digest of a network: its class, every tensor of its state, its buffers that are not saved, and the
    `preprocessing` of it and its parts, a dict that JSON can hold: what else its output depends on, such as its input
    size.
    """
    kind, state = type(module), module.state_dict()
    total = hashlib.blake2b(f"{kind.__module__}.{kind.__qualname__}".encode(), digest_size=16)
    unsaved = {name: tensor for name, tensor in module.named_buffers() if name not in state}
    for name, tensor in [*state.items(), *unsaved.items()]:
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for name, part in module.named_modules():
        if hasattr(part, "preprocessing"):
            total.update(f"{name} {json.dumps(part.preprocessing, sort_keys=True)}".encode())
    return total.hexdigest()


def network_of(module: nn.Module) -> str:
    """Digest of a network's weights, its code, its kind of device, and the versions of packages that it may rest on."""
    sources = sorted({type(part).__module__ for part in module.modules()})
    own = code(*(name for name in sources if not name.startswith("torch.")))
    kind = next((parameter.device.type for parameter in module.parameters()), "cpu")
    return digest([weights_of(module), own, versions(), kind])
