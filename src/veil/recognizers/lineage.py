"""Which recognisers are kin: they share weights, one was tuned from the other, or they see the same."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 1000  # numbers of a tensor that is no chance to be shared
SAME = 0.01  # two networks whose cosines between photos differ by no more are one, in other clothes


def lineage(recognizer: nn.Module) -> frozenset[str]:
    """Digests of the parameters that a network is made of, whatever their names and its class, and of those that it was
    tuned from, where it knows (`ancestors`).
    """
    large = [tensor for tensor in recognizer.parameters() if tensor.numel() >= LEAST]
    own = {_digest(tensor) for tensor in large if tensor.min() < tensor.max()}  # a constant is no heirloom
    return frozenset(own) | getattr(recognizer, "ancestors", frozenset())


def see_the_same(one: Float[Tensor, "n d"], other: Float[Tensor, "n k"]) -> bool:
    """Whether two recognisers' embeddings of the same photos have the same cosines: one network in two formats."""
    return bool((one @ one.T - other @ other.T).abs().max() <= SAME)


def _digest(tensor: Tensor) -> str:
    numbers = tensor.detach().cpu().float().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.blake2b(numbers.data, digest_size=16).hexdigest()
