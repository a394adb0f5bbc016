"""Do the results look like photos? KID and FID between results and clear photos of other people."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from veil.evaluation.material import Material, first, identities
from veil.faces.pictures import as_saved
from veil.metrics.distribution import FID, KID, frechet_distance, kernel_distance_interval
from veil.metrics.intervals import Interval
from veil.metrics.measure import Figure
from veil.recognizers.embed import Embedder

PHOTOS = 2  # of each person that results are compared with
PEOPLE = 4  # fewest on either side for KID's interval
IMAGES = 2000  # fewest on either side for FID (Chong and Forsyth 2020, arXiv:1911.07023, find more to be needed still)


def realism(material: Material, networks: Mapping[str, Embedder]) -> list[Figure]:
    """KID and FID of every judge and feature network, or why they are absent.

    On every judge's embeddings scaled to mean square 1, without results of which it makes nothing, and on the features
    of `networks` as they are. FID has no interval of its own: low and high are its value.
    """
    found: list[Figure] = []
    probes, gallery = material.evaluation.probes, first(material.evaluation.gallery, PHOTOS)
    for judge in material.recognizers:
        results, clear = material.anonymized(judge, probes), _references(material, judge, material.judges[judge])
        seen, shown = results.any(dim=1), clear.any(dim=1)
        found += _distances(
            judge,
            _Embedded(results[seen] * results.shape[1] ** 0.5, identities(probes)[seen]),
            _Embedded(clear[shown] * clear.shape[1] ** 0.5, identities(gallery)[shown]),
        )
    for name, network in networks.items():
        results = network.pictures(material.anonymize(probes)).embeddings
        clear = _references(material, name, network)
        found += _distances(name, _Embedded(results, identities(probes)), _Embedded(clear, identities(gallery)))
    return found


def _references(material: Material, name: str, network: Embedder) -> Float[Tensor, "n d"]:
    """What a network makes of clear photos, which are in the format of the results: compression is no paint."""
    faces = first(material.evaluation.gallery, PHOTOS)
    if {material.results[key].suffix for key in material.evaluation.probes.keys} != {".jpg"}:
        return network.clear(faces)
    return material.embed(network.network, faces, f"photos as jpg, {name}", partial(as_saved, image_format="jpg"))


class _Embedded(NamedTuple):
    """Features of photos, and whose they are."""

    features: Float[Tensor, "n d"]
    people: Int[Tensor, " n"]


def _distances(network: str, results: _Embedded, clear: _Embedded) -> list[Figure]:
    people = len(results.people.unique())
    if min(people, len(clear.people.unique())) < PEOPLE:
        seen = f"{people}, in {len(results.people)} results"
        reason = f"{network} finds the faces of fewer than {PEOPLE} people: of {seen}"
        kid = Figure(KID, reason, subject=network)
    else:
        distance = kernel_distance_interval(results.features, clear.features, results.people, clear.people)
        kid = Figure(KID, distance, subject=network)
    if min(len(results.people), len(clear.people)) < IMAGES:
        seen = f"{len(results.people)} results and {len(clear.people)} clear photos"
        return [kid, Figure(FID, f"needs {IMAGES} faces on either side, has {seen}", subject=network)]
    value = frechet_distance(results.features, clear.features)
    return [kid, Figure(FID, Interval(value, value, value, len(results.people)), subject=network)]
