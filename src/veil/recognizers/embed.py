"""Embeddings, computed once for a network and a picture."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from veil.data.faces import Enrolment, FaceSet, join
from veil.storage.cache import used
from veil.storage.faults import blamed
from veil.storage.locks import locked
from veil.storage.networks import network_of
from veil.storage.progress import Stages
from veil.types import Embeddings, Images, Seen

BATCH = 32  # fixed, so that the embeddings do not depend on a run's batch size


class Embedder:
    """A frozen recogniser, or another network of vectors, and what it has embedded, kept by content.

    Of one with a detector of its own, which tells by `see` where that finds a face, this is kept beside the vector.

    The network's digest is taken once: its weights may not change while this is in use.

    Args:
        name: said on progress bars.
        network: images -> vectors.
        cache: folder.

    """

    def __init__(self, name: str, network: nn.Module, cache: str, stages: Stages) -> None:
        self.name, self.network, self.stages = name, network, stages
        self.digest = network_of(network)  # it holds the kind of device
        self.device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        self.store = VectorStore(Path(cache).expanduser() / "embeddings" / self.digest)

    def clear(self, faces: FaceSet) -> Embeddings:
        """Of clear crops, on the CPU; a crop's name is the digest of its photo and of how it was cut."""
        return self._seen(faces, [crop.stem for crop in faces.crops]).embeddings

    def both(self, enrolment: Enrolment) -> "Clear":
        """Of all clear photos of a data set."""
        return Clear(self.clear(enrolment.gallery), self.clear(enrolment.probes))

    def pictures(self, faces: FaceSet) -> Seen:
        """Of pictures by what their files hold, on the CPU."""
        names = [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in faces.crops]
        return self._seen(faces, names)

    @torch.no_grad()
    def _seen(self, faces: FaceSet, names: Sequence[str]) -> Seen:
        """Read what is known; what is missing is computed in batches, and a kill costs one. Processes take turns."""
        used(self.store.names)
        known = self.store.rows()
        missing = [index for index, name in enumerate(names) if name not in known]
        if missing:
            with self.stages.bar(f"embed with {self.name}", len(missing)) as advance:
                for start in range(0, len(missing), BATCH):
                    batch = missing[start : start + BATCH]
                    with locked(self.store.folder / ".lock"):
                        known = self.store.rows()
                        self._add(faces, {names[index]: index for index in batch if names[index] not in known})
                    advance(len(batch))
        vectors = self.store.read(names)
        if hasattr(self.network, "see"):
            return Seen(vectors[:, :-1], vectors[:, -1] > 0)
        return Seen(vectors, vectors.any(dim=1))

    def _add(self, faces: FaceSet, todo: Mapping[str, int]) -> None:
        if todo:
            images = join([faces[index] for index in todo.values()]).images
            vectors = self._vectors(images.to(self.device)).cpu()
            with blamed(self.store.folder):
                self.store.append(list(todo), vectors)

    def _vectors(self, images: Images) -> Float[Tensor, "b d"]:
        network = self.network.to(self.device)
        if not hasattr(network, "see"):
            return network(images)
        seen: Seen = network.see(images)  # type: ignore[operator]
        return torch.cat([seen.embeddings, seen.found[:, None].to(seen.embeddings)], dim=1)


class Clear(NamedTuple):
    """Embeddings of the clear photos."""

    gallery: Float[Tensor, "g d"]
    probes: Float[Tensor, "p d"]


class VectorStore:
    """Vectors by name, in two files that only grow: `names` (16 bytes each) and `vectors-<width>` (float32).

    A vector is written before its name: after a kill, one without a name is not found, and is overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, folder / "names"
        self._rows: dict[str, int] = {}

    def rows(self) -> dict[str, int]:
        """Row of each name; reads what was added since the last call."""
        if self.names.exists():
            with self.names.open("rb") as file:
                file.seek(16 * len(self._rows))
                while len(name := file.read(16)) == 16:
                    self._rows[name.hex()] = len(self._rows)
        return self._rows

    def append(self, names: Sequence[str], vectors: Embeddings) -> None:
        """Add new names; the caller holds the lock. What a kill left of an earlier batch is overwritten."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole, width = len(self.rows()), vectors.shape[1]
        contents = {
            self.folder / f"vectors-{width}": (4 * width, vectors.float().numpy().tobytes()),
            self.names: (16, bytes.fromhex("".join(names))),
        }
        for path, (size, content) in contents.items():
            with path.open("ab") as file:
                file.truncate(whole * size)
                file.write(content)

    def read(self, names: Sequence[str]) -> Embeddings:
        """The vectors of `names`, all of them known."""
        known, (path,) = self.rows(), self.folder.glob("vectors-*")
        vectors = np.memmap(path, np.float32, "r", shape=(len(known), int(path.name.rpartition("-")[2])))
        return torch.from_numpy(np.array(vectors[[known[name] for name in names]]))
