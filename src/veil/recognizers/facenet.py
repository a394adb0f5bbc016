"""FaceNet: facenet-pytorch's `InceptionResnetV1`, 512-d (Schroff et al. 2015, arXiv:1503.03832)."""

from pathlib import Path

import torch
from facenet_pytorch import InceptionResnetV1
from torch import nn
from torch.nn import functional as F

from veil.data.known import read_people
from veil.errors import InputError
from veil.recognizers import weights as sources
from veil.recognizers.checkpoint import Checkpoint, read_checkpoint
from veil.recognizers.lineage import lineage
from veil.storage.networks import weights_of
from veil.types import Embeddings, Images, view


class FaceNet(nn.Module):
    """Unit embeddings of aligned crops; always in eval mode, its weights frozen.

    Args:
        weights: `packaged` (the frozen graph that installs with Veil), `casia_webface` or `vggface2` (facenet-pytorch's
            downloads), or the path of a state dict (`.pt`, `.safetensors`).
        cache: folder for the converted weights.
        checkpoint: a folder that `task=finetune` made from these weights, or the safetensors file in it.

    """

    input_size = 160  # px
    layers = ("conv2d_4b", "repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "repeat_3", "block8")  # that GradCAM may see

    checkpoint: Checkpoint | None
    ancestors: frozenset[str] = frozenset()  # of what it was tuned from (`veil.recognizers.lineage`)
    training_people: frozenset[str] = frozenset()  # whom the trunk was fine-tuned on (`veil.data.known`)
    people_listed = False  # neither CASIA-WebFace's nor VGGFace2's people are listed beside the weights

    def __init__(self, weights: str, cache: str, checkpoint: str | None = None) -> None:
        super().__init__()
        if weights == "packaged":
            state = sources.packaged_facenet(cache)
        elif weights in sources.DOWNLOADS:
            state = sources.downloaded_facenet(weights)
        elif Path(weights).suffix in (".pt", ".pth", ".safetensors"):
            state = sources.read_state(weights, "recognizer.weights")
        else:
            raise ValueError(
                f"recognizer.weights must be packaged, {', '.join(sources.DOWNLOADS)} or a .pt/.safetensors file, "
                f"got {weights!r}"
            )
        self.network = InceptionResnetV1()
        own = {name: value for name, value in state.items() if not name.startswith("logits.")}
        sources.lay(own, self.network, f"recognizer.weights={weights} are not of facenet-pytorch's InceptionResnetV1")
        self.requires_grad_(False).eval()
        self.checkpoint = None if checkpoint is None else self._tuned(weights, checkpoint)

    def _tuned(self, named: str, place: str) -> Checkpoint:
        """Take over what was trained, above the weights that it was trained above."""
        checkpoint = read_checkpoint(place)
        if checkpoint.details["base"] != weights_of(self):
            raise InputError(
                f"recognizer.checkpoint={place!r} was fine-tuned from other weights than recognizer.weights={named}"
            )
        self.ancestors = lineage(self)
        self.load_state_dict(self.state_dict() | checkpoint.trunk())
        self.training_people = read_people(checkpoint.path.parent)
        return checkpoint

    @property
    def last_block(self) -> nn.Sequential:
        """What an attacker adapts: its input, run through it and normalised, is the embedding. Parts are shared."""
        network = self.network
        return nn.Sequential(
            network.block8, network.avgpool_1a, nn.Flatten(), network.dropout, network.last_linear, network.last_bn
        )

    def train(self, mode: bool = True) -> "FaceNet":
        """Stay in eval mode: BatchNorm statistics and dropout of a frozen trunk never move."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Embed the view of each crop; differentiable in `images`."""
        faces = view(images)
        if faces.shape[-2:] != (self.input_size, self.input_size):
            faces = F.interpolate(faces, (self.input_size, self.input_size), mode="bilinear", antialias=True)
        faces = (faces * 255 - 127.5) / 128  # facenet-pytorch's fixed_image_standardization
        return self.network(faces.contiguous(memory_format=torch.channels_last))  # the faster layout on CPUs and GPUs
