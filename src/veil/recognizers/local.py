"""A recogniser of the user's own: a weight file for a known architecture."""

from collections.abc import Sequence

from facenet_pytorch import InceptionResnetV1
from torch import nn
from torch.nn import functional as F
from torchvision import models

from veil.errors import InputError
from veil.recognizers.normalize import Normalize
from veil.recognizers.weights import lay, read_state
from veil.types import Embeddings, Images, view

FACENET = "inception_resnet_v1"


class Local(nn.Module):
    """Unit embeddings by the network of a local file; frozen, always in eval mode, differentiable in the pixels.

    Args:
        weights: path of a `.safetensors` (or `.pt`) state dict.
        architecture: `inception_resnet_v1` (facenet-pytorch's) or a `torchvision.models` name, such as `resnet18`.
        embedding: length of the network's output, which is the embedding; 512 for `inception_resnet_v1`.
        input_size: px, side of the view as the network sees it.
        mean: of each channel, RGB in [0, 1], subtracted first.
        std: of each channel, RGB; divides what is left.
        channels: the order in which the network takes them, `rgb` or `bgr`.

    Raises InputError for an unknown architecture and for weights that are not of it, FileNotFoundError for no file.

    """

    people_listed = False  # weights of anybody's making

    def __init__(
        self,
        weights: str,
        architecture: str,
        embedding: int,
        input_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        channels: str = "rgb",
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, channels)
        if input_size < 1:
            raise InputError(f"input_size is in px, at least 1, got {input_size}")
        self.input_size = input_size
        state = read_state(weights)
        self.network = build(architecture, embedding)
        if architecture == FACENET:  # its classifier of the people it was trained on is no part of it
            state = {name: value for name, value in state.items() if not name.startswith("logits.")}
        lay(state, self.network, f"weights={weights} are not of architecture={architecture} with its embedding")
        size = {"architecture": architecture, "input_size": input_size}
        self.preprocessing: dict[str, object] = {**size, **self.normalize.preprocessing}
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Local":
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Embed the view of each crop."""
        faces = F.interpolate(view(images), (self.input_size, self.input_size), mode="bilinear", antialias=True)
        return F.normalize(self.network(self.normalize(faces)), dim=1)


def build(architecture: str, embedding: int) -> nn.Module:
    """The network, its weights not yet read."""
    if architecture == FACENET:
        if embedding != 512:
            raise InputError(f"embedding is 512 for {FACENET}, got {embedding}")
        return InceptionResnetV1()
    known = models.list_models(models)
    if architecture not in known:
        raise InputError(
            f"architecture must be {FACENET} or a torchvision model ({', '.join(known[:4])}, ...), got {architecture!r}"
        )
    return models.get_model(architecture, weights=None, num_classes=embedding)
