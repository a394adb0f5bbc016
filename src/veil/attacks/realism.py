"""Do the results look like photos? KID and FID between results and clear photos of other people."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from veil.attacks.material import Material, first, identities
from veil.metrics.frechet import frechet_distance
from veil.metrics.intervals import Interval
from veil.metrics.realism import kernel_distance_interval

PHOTOS = 2  # of each person that results are compared with
PEOPLE = 4  # fewest on either side for KID's interval
IMAGES = 2000  # fewest on either side for FID (Chong and Forsyth 2020, arXiv:1911.07023, find more to be needed still)


def realism(material: Material, networks: Mapping[str, nn.Module]) -> tuple[dict[str, Interval], dict[str, str]]:
    """`utility/kid/<network>` and `utility/fid/<network>`, and why others are absent.

    On every judge's embeddings scaled to mean square 1, without the results in which it finds no face, and on the
    features of `networks` as they are. FID has no interval of its own: low and high are its value.
    """
    figures: dict[str, Interval] = {}
    absent: dict[str, str] = {}
    probes, gallery = material.evaluation.probes, first(material.evaluation.gallery, PHOTOS)
    for judge in material.recognizers:
        results, clear = material.anonymized(judge, probes), material.clear(judge, gallery)
        found, shown = results.any(dim=1), clear.any(dim=1)
        sets = (
            _Photos(results[found] * results.shape[1] ** 0.5, identities(probes)[found]),
            _Photos(clear[shown] * clear.shape[1] ** 0.5, identities(gallery)[shown]),
        )
        _distances(judge, *sets, figures, absent)
    for name, network in networks.items():
        results = material.embed(network, material.anonymize(probes), f"features {name}")
        clear = material.embed(network, gallery, f"features {name}")
        sets = _Photos(results, identities(probes)), _Photos(clear, identities(gallery))
        _distances(name, *sets, figures, absent)
    return figures, absent


class _Photos(NamedTuple):
    """Features of photos, and whose they are."""

    features: Float[Tensor, "n d"]
    people: Int[Tensor, " n"]


def _distances(
    network: str, results: _Photos, clear: _Photos, figures: dict[str, Interval], absent: dict[str, str]
) -> None:
    people = len(results.people.unique())
    if min(people, len(clear.people.unique())) < PEOPLE:
        seen = f"{people}, in {len(results.people)} results"
        absent[f"utility/kid/{network}"] = f"{network} finds the faces of fewer than {PEOPLE} people: of {seen}"
    else:
        kid = kernel_distance_interval(results.features, clear.features, results.people, clear.people)
        figures[f"utility/kid/{network}"] = kid
    if min(len(results.people), len(clear.people)) < IMAGES:
        seen = f"{len(results.people)} results and {len(clear.people)} clear photos"
        absent[f"utility/fid/{network}"] = f"needs {IMAGES} faces on either side, has {seen}"
    else:
        value = frechet_distance(results.features, clear.features)
        figures[f"utility/fid/{network}"] = Interval(value, value, value, len(results.people))
