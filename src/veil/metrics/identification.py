"""One attack on one recogniser: probes compared with the templates of enrolled people, by cosine."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veil.metrics.measure import Measure
from veil.types import Embeddings, Identities

RANKS = {
    k: Measure(
        f"rank{k}",
        f"the true person is {'the best match' if k == 1 else f'among the {words} best matches'}",
        "privacy",
        "share",
        (0, 1),
        better="lower",
        prominence=prominence,
    )
    for k, words, prominence in ((1, "", 3), (5, "five", 1), (10, "ten", 0))
}
MRR = Measure("mrr", "mean of 1 / rank of the true person, 1 always first", "privacy", bounds=(0, 1), better="lower")
CHUNK = 2**22  # cosines held at a time: 16 MiB, so that 200,000 probes need no more memory than 400


class Comparison(NamedTuple):
    """Probes that an attacker holds against templates of people whose names he knows."""

    probes: Embeddings  # (p, d) unit vectors, or zero where the recogniser finds no face
    probed: Int[Tensor, " p"]  # whose they are; everybody probed is enrolled
    templates: Float[Tensor, "g d"]  # unit vectors
    enrolled: Int[Tensor, " g"]  # whose they are

    @property
    def people(self) -> int:
        """How many are enrolled."""
        return len(self.enrolled.unique())


class Recognition(NamedTuple):
    """How far each probe is recognised."""

    rank: Float[Tensor, " p"]  # of its true person, 1 the closest
    reciprocal_rank: Float[Tensor, " p"]  # in (0, 1]; its mean is the MRR
    accepted: dict[float, Float[Tensor, " p"]]  # by FAR: share of its genuine pairs above the threshold


def recognition(comparison: Comparison, thresholds: Mapping[float, float]) -> Recognition:
    """Rank of each probe's person (ties count against) and share of its genuine pairs above each threshold.

    A probe of zeros ties with everybody: its rank is the number of people, and no pair of it is above a threshold,
    even a negative one.

    Args:
        thresholds: cosine by FAR, set on impostor pairs of the same kind (`verification.Strangers`).

    """
    comparison = in_columns(comparison)
    probes, probed, templates, enrolled = comparison
    ranks = torch.empty(len(probes), dtype=torch.float64)
    for part, matches in matches_in_chunks(comparison):
        ranks[part] = rank(matches, probed[part]).cpu()
    accepted = {far: torch.empty(len(probes), dtype=torch.float64) for far in thresholds}
    order, found = probed.argsort(), probes.any(dim=1)
    for part in order.split(_rows(len(templates))):
        people = probed[part]  # in order, so that few templates are of these people
        near = (enrolled >= people[0]) & (enrolled <= people[-1])
        scores = probes[part] @ templates[near].T
        for far, threshold in thresholds.items():
            accepted[far][part.cpu()] = (accepted_pairs(scores, enrolled[near], people, threshold) * found[part]).cpu()
    return Recognition(ranks, 1 / ranks, accepted)


def in_columns(comparison: Comparison) -> Comparison:
    """The comparison with enrolled people numbered 0, 1, ... without gaps, as columns of `best_matches` are.

    Raises ValueError where a template is zero or a probed person is not enrolled.
    """
    probes, probed, templates, enrolled = comparison
    blank = int((~templates.any(dim=1)).sum())
    if blank:
        raise ValueError(f"templates: must be unit vectors, got {blank} of zeros (no face found): leave them out")
    names, enrolled = enrolled.unique(return_inverse=True)
    unknown = probed[~torch.isin(probed, names)]
    if len(unknown):
        raise ValueError(f"probed: everybody must be enrolled, got person {unknown[0].item()} without a template")
    return Comparison(probes, torch.searchsorted(names, probed), templates, enrolled)


def matches_in_chunks(comparison: Comparison) -> Iterator[tuple[slice, Float[Tensor, "b people"]]]:
    """`best_matches` of a few probes at a time, and which probes these are; people numbered by `in_columns`."""
    probes, _, templates, enrolled = comparison
    people, rows = comparison.people, _rows(len(templates))
    for start in range(0, len(probes), rows):
        part = slice(start, start + rows)
        yield part, best_matches(probes[part], templates, enrolled, people)


def _rows(templates: int) -> int:
    """Probes in a chunk."""
    return max(CHUNK // templates, 1)


def best_matches(
    embeddings: Embeddings, gallery: Float[Tensor, "g d"], identities: Int[Tensor, " g"], people: int
) -> Float[Tensor, "b people"]:
    """The highest cosine of each face to any gallery photo of each person; -2 for a person with none."""
    order, counts = identities.argsort(), identities.bincount(minlength=people)
    scores = gallery[order] @ embeddings.T  # faces in the columns: each person's rows are one segment
    return torch.segment_reduce(scores, "max", lengths=counts, axis=0, initial=-2.0).T


def rank(matches: Float[Tensor, "b people"], identities: Identities) -> Float[Tensor, " b"]:
    """Position of the true person when people are ordered by their best match, 1 the closest; ties count against."""
    true = matches.gather(1, identities[:, None])
    return (matches >= true).sum(dim=1, dtype=torch.int32).double()


def accepted_pairs(
    scores: Float[Tensor, "b g"], enrolled: Int[Tensor, " g"], identities: Identities, threshold: float
) -> Float[Tensor, " b"]:
    """Share of each face's genuine pairs, with the gallery photos of its own person, above the threshold."""
    genuine = enrolled == identities[:, None]
    return ((scores > threshold) & genuine).sum(dim=1).double() / genuine.sum(dim=1)


def best_of_all(probes: Embeddings, templates: Float[Tensor, "g d"]) -> Float[Tensor, " p"]:
    """Each probe's highest cosine to any template."""
    return torch.cat([(part @ templates.T).max(dim=1).values for part in probes.split(_rows(len(templates)))]).cpu()


def best_of_mates(comparison: Comparison) -> Float[Tensor, " p"]:
    """Each probe's highest cosine to a template of its own person; everybody probed is enrolled."""
    comparison = in_columns(comparison)
    found = [
        matches.gather(1, comparison.probed[part][:, None])[:, 0] for part, matches in matches_in_chunks(comparison)
    ]
    return torch.cat(found).cpu()
