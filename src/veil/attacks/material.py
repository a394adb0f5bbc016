"""What an attacker works with: clear photos, our own anonymiser, recognisers."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from veil.data.faces import FaceSet, Side, join, moved
from veil.metrics.comparison import Comparison
from veil.pictures import save, to_pixels
from veil.progress import Stages
from veil.types import Embeddings, Faces, Identities, Images

BATCH = 32
Made = TypeVar("Made")


class Attempt(NamedTuple):
    """An attack seen by one judge; all embeddings are of one space."""

    target: Comparison  # anonymised probes of the evaluated people against what the attacker holds
    clear: Comparison  # clear probes of the evaluated people against their clear gallery: sets thresholds
    attackers: Comparison | None  # as `target`, of attacker people: calibrates the posterior; None where there are none
    rebuilt: Images | None = None  # the evaluated people's probes as the attacker makes them out, where he does
    variant: bool = False  # another threat than the headline's, which leaves it out


class Anonymizer:
    """Our own pipeline in the attacker's hands: repaints a photo once and keeps it.

    Args:
        repaint: faces -> repainted crops, as a file would hold them.
        folder: for what is repainted here.
        known: files of photos that the run has repainted already, by key.

    """

    def __init__(
        self,
        repaint: Callable[[Faces], Images],
        folder: Path,
        known: Mapping[str, Path],
        device: torch.device,
        stages: Stages,
    ) -> None:
        self.repaint, self.folder, self.known = repaint, folder, known
        self.device, self.stages = device, stages

    def __call__(self, faces: FaceSet) -> FaceSet:
        """The same faces, anonymised."""
        paths = [
            self.known.get(key, self.folder / f"{number}.png")
            for key, number in zip(faces.keys, faces.numbers, strict=True)
        ]
        missing = [index for index, path in enumerate(paths) if not path.exists()]
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.stages.bar("anonymize as attacker", len(missing)) as advance:
                places = iter([paths[index] for index in missing])
                for batch in faces.select(missing).loader(BATCH):
                    self._keep(batch, places)
                    advance(len(batch.keys))
        return FaceSet(paths, faces.keys, faces.identities, faces.numbers, faces.seed)

    @torch.no_grad()
    def _keep(self, batch: Faces, places: Iterator[Path]) -> None:
        for pixels, path in zip(to_pixels(self.repaint(moved(batch, self.device))), places, strict=False):
            partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.png")
            save(pixels, partial)
            partial.replace(path)


class Material:
    """What attacks take. Everything is made when it is first asked for, and once.

    Args:
        evaluation, attackers: the people who are attacked, and those whose photos the attacker learns from.
        recognizers: by name; all judges, the white box among them.
        clear: embeddings of the clear photos, by judge and key.
        whitebox: name of the white box.

    """

    def __init__(
        self,
        evaluation: Side,
        attackers: Side,
        recognizers: Mapping[str, nn.Module],
        clear: Mapping[str, Mapping[str, Tensor]],
        anonymize: Callable[[FaceSet], FaceSet],
        whitebox: str,
        seed: int,
        stages: Stages,
    ) -> None:
        self.evaluation, self.attackers = evaluation, attackers
        self.recognizers, self.whitebox, self.seed, self.stages = recognizers, whitebox, seed, stages
        self.anonymize, self._clear = anonymize, clear
        self._anonymized: dict[str, dict[str, Tensor]] = {name: {} for name in recognizers}
        self._made: dict[str, object] = {}

    def clear(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the clear photos."""
        return torch.stack([self._clear[judge][key] for key in faces.keys])

    def anonymized(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the anonymised photos; zero where the judge finds no face."""
        seen = self._anonymized[judge]
        missing = faces.select(index for index, key in enumerate(faces.keys) if key not in seen)
        if len(missing):
            results = self.anonymize(missing)
            seen |= zip(results.keys, self.embed(self.recognizers[judge], results, f"attack {judge}"), strict=True)
        return torch.stack([seen[key] for key in faces.keys])

    @torch.no_grad()
    def embed(self, recognizer: nn.Module, faces: FaceSet | Images, label: str) -> Embeddings:
        """Embeddings of files or of pictures, on the CPU."""
        device = next(recognizer.parameters()).device
        batches = faces.split(BATCH) if isinstance(faces, Tensor) else (face.images for face in faces.loader(BATCH))
        done = []
        with self.stages.bar(label, len(faces)) as advance:
            for images in batches:
                done.append(recognizer(images.to(device)).cpu())
                advance(len(images))
        return torch.cat(done)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, made when it is first asked for; judges share it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]  # type: ignore[return-value]


def pictures(faces: FaceSet) -> Images:
    """All at once."""
    return join(list(faces.loader(BATCH))).images


def identities(faces: FaceSet) -> Identities:
    """Whose they are."""
    return torch.tensor(faces.identities)


def first(faces: FaceSet, count: int) -> FaceSet:
    """The first `count` photos of each person."""
    taken: dict[int, int] = {}
    chosen = []
    for index, person in enumerate(faces.identities):
        taken[person] = taken.get(person, 0) + 1
        if taken[person] <= count:
            chosen.append(index)
    return faces.select(chosen)


def attempt(material: Material, judge: str, compare: Callable[[Side], Comparison]) -> Attempt:
    """The same comparison of evaluated people and of attacker people."""
    return Attempt(
        compare(material.evaluation),
        clear_comparison(material, judge, material.evaluation),
        compare(material.attackers) if len(material.attackers.probes) else None,
    )


def clear_comparison(material: Material, judge: str, side: Side) -> Comparison:
    """Clear probes against the clear gallery."""
    probes, gallery = side
    return Comparison(
        material.clear(judge, probes), identities(probes), material.clear(judge, gallery), identities(gallery)
    )
