"""The white box, the judges, and what each is asked about a batch of faces."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from veil.faces.align import face_detector, find_faces
from veil.faces.landmarks import Landmarks
from veil.faces.pictures import to_pixels
from veil.metrics.intervals import Interval
from veil.metrics.measure import Figure, name_of
from veil.metrics.per_face import PerFace, PerFaceFunction
from veil.storage.folders import Row
from veil.storage.progress import Stages
from veil.types import Faces, Images, Masks

PICTURE = ""  # the subject of what is asked about the picture, not about a recogniser

Asked = dict[str, list[PerFace]]  # by subject
Known = Mapping[str, Mapping[str, Tensor]]  # what the privacy metrics take by name; each by the probe's key


def assign(functions: Mapping[str, PerFaceFunction], whitebox: str, judges: Iterable[str]) -> Asked:
    """Who is asked what: of the picture, of every recogniser, or of the white box alone, as each function says."""
    asked: Asked = {subject: [] for subject in (PICTURE, whitebox, *judges)}
    for function in functions.values():
        asks = PerFace(function).asked
        subjects = {"picture": [PICTURE], "whitebox": [whitebox], "judge": [whitebox, *judges]}[asks]
        for subject in subjects:
            asked[subject].append(PerFace(function))
    return asked


def taken_by(asked: Asked) -> set[str]:
    """What the metrics take, by name."""
    return {name for metrics in asked.values() for metric in metrics for name in metric.takes}


def figure_of(metric: PerFace, subject: str, interval: Interval | None) -> Figure:
    """A metric's figure; it is absent where no face has it."""
    return Figure(metric.measure, interval or metric.measure.undefined, subject, condition=metric.condition)


class Panel(nn.Module):
    """Measures faces; chooses nothing.

    Args:
        classifier: the white box's: embeddings -> logits over the enrolled people.
        whitebox: the name of the recogniser that the masker may ask.
        seen: by subject, what was seen in the probes before: by each recogniser, the white box included, and of the
            picture its clear landmarks, where metrics take them.
        asked: the metrics that each answers (`assign`).
        people: their names; identity i is people[i].

    """

    def __init__(
        self,
        classifier: nn.Module,
        whitebox: str,
        seen: Mapping[str, Known],
        asked: Asked,
        people: list[str],
        stages: Stages,
    ) -> None:
        super().__init__()
        self.classifier, self.whitebox, self.seen = classifier, whitebox, seen
        self.asked, self.people, self.stages = asked, people, stages
        self.detector = face_detector() if PICTURE in asked or "found" in taken_by(asked) else None
        self.landmarks = Landmarks() if "anonymized_landmarks" in taken_by(asked) else None

    def rows(self, faces: Faces, masks: Masks | None, anonymized: Images) -> list[Row]:
        """One row a face: what each metric says, whom the white box takes it for, and whether a face is found.

        Metrics of masks are left out where there are none; so is what belongs to a subject that is not asked.
        """
        shared = self._shared(faces, masks, anonymized)
        columns: dict[str, list[Any]] = {}
        for name, metrics in self.asked.items():
            if name == PICTURE:
                evidence = shared
                columns["found"] = shared["found"].tolist()
                columns["unchanged"] = (anonymized == faces.images).flatten(1).all(dim=1).tolist()
            else:
                with self.stages.clock(f"judge {name}"):
                    evidence = shared | self._evidence(name, faces)
            if name == self.whitebox:
                for column, logits in (("predicted_clear", "logits"), ("predicted", "anonymized_logits")):
                    columns[column] = [self.people[person] for person in evidence[logits].argmax(dim=1).tolist()]
            with self.stages.clock("measure"):
                columns |= values(name, metrics, identities=faces.identities, **evidence)
        return [{name: column[index] for name, column in columns.items()} for index in range(len(faces.keys))]

    def _shared(self, faces: Faces, masks: Masks | None, anonymized: Images) -> dict[str, Any]:
        """What metrics of any subject may take."""
        shared = {"images": faces.images, "anonymized": anonymized} | ({} if masks is None else {"masks": masks})
        shared |= self._seen(PICTURE, faces)
        if self.detector is not None:
            with self.stages.clock("detect"):
                shared["found"] = self._detect(anonymized)
        if self.landmarks is not None:
            with self.stages.clock("landmarks"):
                shared["anonymized_landmarks"] = self.landmarks(anonymized)
        return shared

    def _seen(self, subject: str, faces: Faces) -> dict[str, Any]:
        known, device = self.seen.get(subject, {}), faces.images.device
        return {name: torch.stack([of[key] for key in faces.keys]).to(device) for name, of in known.items()}

    def _evidence(self, judge: str, faces: Faces) -> dict[str, Any]:
        evidence = self._seen(judge, faces)
        if judge == self.whitebox:
            evidence["logits"] = self.classifier(evidence["embeddings"])
            evidence["anonymized_logits"] = self.classifier(evidence["anonymized_embeddings"])
        return evidence

    def _detect(self, images: Images) -> Bool[Tensor, " b"]:
        faces = find_faces(list(to_pixels(images)), self.detector)
        return torch.tensor([face is not None for face in faces], device=images.device)


def columns_of(subject: str, metrics: Iterable[PerFace], whitebox: str) -> list[str]:
    """The columns of a subject's rows."""
    others = {PICTURE: ["found", "unchanged"], whitebox: ["predicted_clear", "predicted"]}.get(subject, [])
    return others + [name_of(metric.measure, subject, condition=metric.condition) for metric in metrics]


def values(subject: str, metrics: Iterable[PerFace], **evidence: Any) -> dict[str, list[float | None]]:
    """Each metric's value for each face of a batch, by its figure's name; None where the face has none."""
    columns: dict[str, list[float | None]] = {}
    for metric in metrics:
        if "masks" in metric.takes and "masks" not in evidence:
            continue
        metric.reset()
        metric.update(**evidence)
        found = [None if math.isnan(value) else value for value in metric.values[0].tolist()]
        columns[name_of(metric.measure, subject, condition=metric.condition)] = found
    return columns
