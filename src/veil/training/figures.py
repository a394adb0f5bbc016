"""How well a classifier, and the embeddings under it, name people on clear probes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veil.data.faces import Enrolment
from veil.metrics.comparison import Comparison
from veil.metrics.intervals import Interval, people_mean
from veil.recognizers.whitebox import centroids
from veil.store import Row
from veil.training.held_out import of_people, true_accepts
from veil.types import Identities

CHUNK = 1024  # probes whose logits are held at a time

Figures = tuple[dict[str, Interval], dict[str, str]]  # measured; absent, with the reason


def compared(gallery: Float[Tensor, "g d"], probes: Float[Tensor, "p d"], enrolment: Enrolment) -> Comparison:
    """Clear embeddings of probes and gallery with whose they are."""
    probed, enrolled = (torch.tensor(part.identities) for part in (enrolment.probes, enrolment.gallery))
    return Comparison(probes, probed, gallery, enrolled)


@torch.no_grad()
def named(classifier: nn.Module, embeddings: Float[Tensor, "p d"]) -> Int[Tensor, " p"]:
    """The person whom the classifier takes each face for."""
    return torch.cat([classifier(part).argmax(dim=1) for part in embeddings.split(CHUNK)])


def share_named(predicted: Int[Tensor, " p"], true: Identities) -> Interval:
    """Top-1 accuracy."""
    interval = people_mean((predicted == true).double().numpy(), true.numpy())
    assert interval is not None  # enrolment refuses data without probes
    return interval


def nearest_centroid(clear: Comparison) -> Interval:
    """Top-1 accuracy of the gallery centroid with the highest cosine: the baseline that learns nothing."""
    means = centroids(clear.templates, clear.enrolled, int(clear.enrolled.max()) + 1)
    return share_named(torch.cat([(part @ means.T).argmax(dim=1) for part in clear.probes.split(CHUNK)]), clear.probed)


def clear_figures(name: str, classifier: nn.Module, clear: Comparison) -> Figures:
    """Top-1 of the classifier and of the nearest centroid; TAR@FAR over everybody; what is absent, and why."""
    accepted, absent = true_accepts(clear)
    figures = {
        f"clear/{name}/accuracy": share_named(named(classifier, clear.probes), clear.probed),
        f"clear/{name}/nearest_centroid": nearest_centroid(clear),
    }
    figures |= {f"clear/{name}/{figure}": interval for figure, interval in accepted.items()}
    return figures, {f"clear/{name}/{figure}": reason for figure, reason in absent.items()}


def confusions(classifier: nn.Module, clear: Comparison, people: list[str], worst: int = 20) -> list[Row]:
    """The people who are named wrongly most often: a row each with whom they are taken for, the worst first."""
    predicted = named(classifier, clear.probes)
    rows: list[Row] = []
    for person in clear.probed[predicted != clear.probed].unique().tolist():
        own = predicted[clear.probed == person]
        wrong = own[own != person]
        taken_for = int(wrong.mode().values)
        rows.append(
            {
                "label": person,
                "person": people[person],
                "probes": len(own),
                "accuracy": round(1 - len(wrong) / len(own), 4),
                "taken_for_label": taken_for,
                "taken_for": people[taken_for],
                "times": int((wrong == taken_for).sum()),
            }
        )
    return sorted(rows, key=lambda row: (row["accuracy"], -row["probes"], row["label"]))[:worst]


def held_out_figures(name: str, clear: Comparison, held: frozenset[int]) -> Figures:
    """TAR@FAR of people who were not trained on."""
    figures, absent = true_accepts(of_people(clear, held))
    return (
        {f"held_out/{name}/{figure}": interval for figure, interval in figures.items()},
        {f"held_out/{name}/{figure}": reason for figure, reason in absent.items()},
    )
