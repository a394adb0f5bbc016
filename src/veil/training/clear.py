"""How well a classifier, and the embeddings under it, name people on clear probes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veil.data.faces import Enrolment
from veil.metrics.identification import Comparison
from veil.metrics.intervals import Interval, people_mean
from veil.metrics.measure import Figure, Measure
from veil.metrics.privacy import ACCURACY
from veil.metrics.verification import TAR
from veil.recognizers.whitebox import centroids
from veil.storage.folders import Row
from veil.training.held_out import of_people, true_accepts
from veil.types import Identities

CHUNK = 1024  # probes whose logits are held at a time

EVERYBODY, HELD_OUT = "everybody", "held_out"  # conditions: clear photos of everybody, of who was not trained on
NEAREST_CENTROID = Measure(
    "nearest_centroid",
    "the true person's mean enrolled photo is the best match",
    "privacy",
    "share",
    (0, 1),
    better="lower",
    prominence=2,
)


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
    interval = people_mean((predicted == true).double().numpy(), true.numpy(), event=True)
    assert interval is not None  # enrolment refuses data without probes
    return interval


def nearest_centroid(clear: Comparison) -> Interval:
    """Top-1 accuracy of the gallery centroid with the highest cosine: the baseline that learns nothing."""
    means = centroids(clear.templates, clear.enrolled, int(clear.enrolled.max()) + 1)
    return share_named(torch.cat([(part @ means.T).argmax(dim=1) for part in clear.probes.split(CHUNK)]), clear.probed)


def clear_figures(name: str, classifier: nn.Module, clear: Comparison) -> list[Figure]:
    """Top-1 of the classifier and of the nearest centroid, and TAR@FAR, of clear photos of everybody enrolled."""
    return [
        Figure(ACCURACY, share_named(named(classifier, clear.probes), clear.probed), subject=name, condition=EVERYBODY),
        nearest_figure(name, clear),
        *accepted_figures(name, EVERYBODY, clear),
    ]


def nearest_figure(name: str, clear: Comparison) -> Figure:
    """Top-1 of the nearest centroid."""
    return Figure(NEAREST_CENTROID, nearest_centroid(clear), subject=name, condition=EVERYBODY)


def accepted_figures(name: str, condition: str, clear: Comparison) -> list[Figure]:
    """TAR at each FAR, or why it is absent."""
    place = {"subject": name, "condition": condition}
    return [Figure(TAR[far], accepted, **place) for far, accepted in true_accepts(clear).items()]


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


def held_out_figures(name: str, clear: Comparison, held: frozenset[int]) -> list[Figure]:
    """TAR@FAR of people who were not trained on."""
    return accepted_figures(name, HELD_OUT, of_people(clear, held))
