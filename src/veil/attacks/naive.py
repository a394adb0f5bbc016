"""The attacker who does nothing special: anonymised probes against clear photos."""

import torch

from veil.data.faces import Side
from veil.evaluation.material import Attempt, Material, attempt, clear_comparison
from veil.metrics.identification import Comparison


def naive(material: Material, judge: str) -> Attempt:
    """Anonymised probes against the clear gallery, which holds other photos of the same people."""

    def against_gallery(side: Side) -> Comparison:
        clear = clear_comparison(material, judge, side)
        return clear._replace(probes=material.anonymized(judge, side.probes))

    return attempt(material, against_gallery)


def source_enrolled(material: Material, judge: str) -> Attempt:
    """The naive attack where the gallery also holds the very photos that were anonymised, clear: a leaked album."""

    def against_album(side: Side) -> Comparison:
        _, probed, templates, enrolled = clear_comparison(material, judge, side)
        sources = material.clear(judge, side.probes)
        probes = material.anonymized(judge, side.probes)
        return Comparison(probes, probed, torch.cat([templates, sources]), torch.cat([enrolled, probed]))

    return attempt(material, against_album)._replace(variant=True)
