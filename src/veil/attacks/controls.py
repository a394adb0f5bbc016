"""Floors of every table: what inpainters that are no anonymisers, or perfect ones, leave to the naive attack."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from veil.attacks.figures import figures, limits_of, outcome
from veil.attacks.material import BATCH, Material, attempt, clear_comparison
from veil.data.faces import FaceSet, Side, moved
from veil.metrics.comparison import Comparison
from veil.metrics.intervals import Interval
from veil.pictures import as_saved
from veil.recognizers.embed import fingerprint
from veil.recognizers.weights import write_state
from veil.types import Embeddings, Faces, Images, Masks, view_box

Inpainter = Callable[[Faces, Masks], Images]


def controls(
    material: Material, inpainters: Mapping[str, Inpainter], settings: Mapping[str, Any], cache: str
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Figures `control/<inpainter>/<judge>/...` of the naive attack on wholly repainted views, and absent ones.

    Their embeddings are computed once for a data set and kept: every run of a sweep has the same controls.

    Args:
        inpainters: by name.
        settings: their configs, which name the cached files.
        cache: folder.

    """
    probes = material.evaluation.probes
    people = len(set(material.evaluation.gallery.identities))
    found = {"control/chance/rank1": Interval(1 / people, 1 / people, 1 / people, len(probes))}
    absent: dict[str, str] = {}
    for name, inpainter in inpainters.items():
        see = partial(_embeddings, material, inpainter, settings[name], cache)
        for judge in material.recognizers:
            tried = attempt(material, judge, partial(_compare, material, see, judge))
            result = outcome(tried.target, limits_of(tried), tried.attackers)
            measured, missing = figures(result, f"control/{name}/{judge}")
            found, absent = found | measured, absent | missing
    return found, absent


def _compare(material: Material, see: Callable[[str, FaceSet], Embeddings], judge: str, side: Side) -> Comparison:
    return clear_comparison(material, judge, side)._replace(probes=see(judge, side.probes))


def whole_view(images: Images) -> Masks:
    """Everything that a mask may cover."""
    masks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool, device=images.device)
    rows, columns = view_box(*images.shape[-2:])
    masks[..., rows, columns] = True
    return masks


@torch.no_grad()
def _embeddings(
    material: Material, inpainter: Inpainter, settings: Any, cache: str, judge: str, faces: FaceSet
) -> Embeddings:
    recognizer, stems = material.recognizers[judge], [crop.stem for crop in faces.crops]
    name = json.dumps([version("veil"), settings, fingerprint(recognizer), stems, faces.seed])
    address = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    path = Path(cache).expanduser() / "controls" / f"{address}.safetensors"
    if not path.exists():
        device = next(recognizer.parameters()).device
        seen = []
        with material.stages.bar(f"controls {judge}", len(faces)) as advance:
            for batch in faces.loader(BATCH):
                faces_there = moved(batch, device)
                painted = inpainter(faces_there, whole_view(faces_there.images))
                seen.append(recognizer(as_saved(painted, "png")).cpu())
                advance(len(batch.keys))
        write_state({"embeddings": torch.cat(seen)}, path)
    return load_file(path)["embeddings"]
