"""Anonymised photos against each other."""

from veil.data.faces import Side
from veil.evaluation.material import Attempt, Material, attempt, first, identities, needs
from veil.metrics.identification import Comparison


@needs(gallery="photos")
def linkage(material: Material, judge: str, photos: int = 1) -> Attempt:
    """Anonymised against anonymised: do two anonymised photos of one person find each other?

    Args:
        photos: of each person's gallery, anonymised as the probes are.

    """

    def against_anonymized(side: Side) -> Comparison:
        others = first(side.gallery, photos)
        probes, templates = (material.anonymized(judge, part) for part in (side.probes, others))
        return Comparison(probes, identities(side.probes), templates, identities(others))

    return attempt(material, against_anonymized)._replace(links=True)
