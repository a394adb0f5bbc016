"""Floors of every table: what inpainters that are no anonymisers, or perfect ones, leave to the naive attack."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from veil.data.faces import FaceSet, Side, moved
from veil.evaluation.material import BATCH, Material, attempt, clear_comparison
from veil.evaluation.outcome import RANK1, figures, outcome
from veil.faces.pictures import as_saved
from veil.metrics.identification import Comparison
from veil.metrics.intervals import Interval
from veil.metrics.measure import CHANCE, CONTROL, Figure
from veil.recognizers.weights import read_state, write_state
from veil.storage.cache import used
from veil.storage.faults import blamed
from veil.storage.fingerprint import code, digest, settings
from veil.types import Embeddings, Images, Inpainter, Masks, view_box

ByJudge = dict[str, Embeddings]  # by judge


def controls(
    material: Material, inpainters: Callable[[], Mapping[str, Inpainter]], configs: Mapping[str, Any], cache: str
) -> list[Figure]:
    """The naive attack on wholly repainted views, by inpainter and judge, and chance.

    Their embeddings are computed once for a data set and kept: every run of a sweep has the same controls.

    Args:
        inpainters: gives them by name; asked where something is not in the cache.
        configs: of the inpainters, by name; they name the cached files.
        cache: folder.

    """
    probes = material.evaluation.probes
    people = len(set(material.evaluation.gallery.identities))
    chance = Interval(1 / people, 1 / people, 1 / people, len(probes))
    found = [Figure(RANK1, chance, condition=CONTROL, control=CHANCE)]
    for name, config in configs.items():
        see = partial(_embeddings, material, partial(_control, inpainters, name), config, cache)
        for judge in material.recognizers:
            tried = attempt(material, partial(_compare, material, name, see, judge))
            found += figures(outcome(tried.target, tried.attackers), subject=judge, condition=CONTROL, control=name)
    return found


def _control(inpainters: Callable[[], Mapping[str, Inpainter]], name: str) -> Inpainter:
    return inpainters()[name]


def _compare(material: Material, name: str, see: Callable[[FaceSet], ByJudge], judge: str, side: Side) -> Comparison:
    seen = material.once(f"control {name} {side.probes.keys}", lambda: see(side.probes))
    return clear_comparison(material, judge, side)._replace(probes=seen[judge])


def whole_view(images: Images) -> Masks:
    """Everything that a mask may cover."""
    masks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool, device=images.device)
    rows, columns = view_box(*images.shape[-2:])
    masks[..., rows, columns] = True
    return masks


@torch.no_grad()
def _embeddings(
    material: Material, control: Callable[[], Inpainter], config: Any, cache: str, faces: FaceSet
) -> ByJudge:
    """What each judge sees of the repainted faces; they are repainted once for all judges that have not seen them."""
    paths = {name: _path(judge.digest, config, cache, faces) for name, judge in material.judges.items()}
    seen: dict[str, list[Embeddings]] = {judge: [] for judge, path in paths.items() if not used(path)}
    if seen:
        inpainter, device = control(), next(next(iter(material.recognizers.values())).parameters()).device
        with material.stages.bar("controls", len(faces)) as advance:
            for batch in faces.loader(BATCH):
                there = moved(batch, device)
                painted = as_saved(inpainter(there, whole_view(there.images)), "png")
                for judge, parts in seen.items():
                    parts.append(material.recognizers[judge](painted).cpu())
                advance(len(batch.keys))
        for judge, parts in seen.items():
            with blamed(paths[judge].parent):
                write_state({"embeddings": torch.cat(parts)}, paths[judge])
    return {judge: read_state(path, "cache")["embeddings"] for judge, path in paths.items()}


def _path(judge: str, inpainter: Any, cache: str, faces: FaceSet) -> Path:
    crops = [crop.stem for crop in faces.crops]
    parts = [
        settings(inpainter, cache),
        judge,
        code("veil.evaluation.controls"),
        crops,
        list(faces.keys),
        faces.seed,
    ]
    return Path(cache).expanduser() / "controls" / f"{digest(parts)}.safetensors"
