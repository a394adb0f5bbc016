"""Recognisers of FRBench: one training recipe over many backbones, losses and training sets."""

from torch import nn

from veil.errors import InputError
from veil.types import Embeddings, Images


class FRBench(nn.Module):
    """Unit embeddings by one of FRBench's models (https://github.com/HKU-TASR/FRBench), as its makers use it:
    RetinaFace and five landmarks align the face on the image that it is shown, and it and its mirror are averaged.

    A face that RetinaFace does not find has the zero vector: it is recognised as nobody. Frozen, always in eval mode,
    differentiable in the pixels. Weights are downloaded to FRBench's own cache (`frbench-download`, `FRBENCH_CACHE`).

    Args:
        model: `<backbone>_<loss>_<training set>`, such as `irse-50_arcface_ms1m`.

    Raises ModuleNotFoundError without the package, ConnectionError without the weights, InputError for a model that is
    not FRBench's.

    """

    people_listed = False  # MS1M and its like have no list beside the weights

    def __init__(self, model: str) -> None:
        super().__init__()
        try:
            import frbench
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"FRBench's {model} needs the package frbench: `pip install 'veil[panel]'`", name=error.name
            ) from error
        parts = model.split("_")
        if len(parts) != 3:
            raise InputError(f"model must be <backbone>_<loss>_<training set>, got {model!r}")
        frbench.configure(update_check=False, verbose=False)  # no calls home, no warning for each face not found
        try:
            detector = frbench.FaceDetector(eager_load=True)
            self.network = frbench.FR(*parts, detector=detector, eager_load=True)
        except frbench.FRBenchAssetNotFoundError as error:
            raise InputError(f"model must be one of FRBench's, got {model!r}: {error}") from error
        except (frbench.FRBenchDownloadError, OSError) as error:
            raise ConnectionError(
                f"FRBench's {model} could not be downloaded ({error}). Run `frbench-download {model} "
                "retinaface_mobilenetv1` where there is a network and set FRBENCH_CACHE to that folder, or choose "
                "judges=default."
            ) from error
        self.preprocessing: dict[str, object] = {"model": model}  # names its input size, its mean and its alignment
        self.requires_grad_(False).eval()

    @property
    def input_size(self) -> int:
        """Side of the aligned face in px."""
        return self.network.input_size[0]

    def train(self, mode: bool = True) -> "FRBench":
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, images: Images) -> Embeddings:
        """Find, align, embed."""
        result = self.network(images * 255, discard_invalid=True, l2_normalize=True)
        embeddings = images.new_zeros(len(images), self.network.embedding_dim)
        return embeddings.index_put((images.new_tensor(result.indices).long(),), result.embeddings)
