"""One page, and tables, about an album whose faces were covered."""

import base64
import csv
import heapq
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from veil.data.photos import read_file
from veil.faces.decode import decode
from veil.faces.frames import is_video, still
from veil.storage.atomic import whole

PAGE, FACES, PHOTOS = "index.html", "faces.csv", "photos.csv"
LISTED = 100  # photos named on the page for each reason
THUMB = 160  # px
FACE = ("name", "face", "person", "action", "ratio", "tries", "recognised", "confidence", "box", "masker_followed")
CLIP = ("frames", "recognised_frames", "given_up_frames", "first_s", "last_s")  # of a face of a video
PHOTO = ("name", "status", "reason", "faces", "identical")
Line = Mapping[str, Any]


@dataclass
class Summary:
    """What was done, counted while the lines pass."""

    photos: Counter[str] = field(default_factory=Counter)  # by status
    actions: Counter[str] = field(default_factory=Counter)  # faces by what was done
    listed: dict[str, list[str]] = field(default_factory=dict)  # photos that were not written, by reason
    ignored: Mapping[str, int] = field(default_factory=dict)  # files that were not looked at, by reason
    anew: int = 0  # photos of lossy formats that were encoded anew as a whole
    first: int = 0  # faces that one repaint was enough for
    ratios: float = 0.0  # sum over the repainted
    failed: int = 0  # faces that no repaint hid
    recognised: int = 0  # faces, not spared, that some recogniser still knows

    @property
    def faces(self) -> int:
        """All of them."""
        return sum(self.actions.values())

    def add(self, line: Line) -> None:
        """Count a photo."""
        self.photos[line["status"]] += 1
        self.anew += line.get("identical") is False
        if line["reason"]:
            names = self.listed.setdefault(line["reason"], [])
            if len(names) < LISTED:
                names.append(line["name"])
        for face in line["faces"]:
            self.actions[face["action"]] += 1
            repainted = face["action"] == "repaint"
            self.first += repainted and face["tries"] == 1
            self.ratios += face["ratio"] if repainted else 0
            self.failed += not repainted and face["tries"] > 0
            self.recognised += face["recognised"]

    def __str__(self) -> str:
        photos = ", ".join(f"{count} {status}" for status, count in self.photos.most_common())
        lines = [f"Photos: {photos}" if photos else "Photos: none"]
        if self.faces:
            repainted = self.actions["repaint"]
            mean = f" (mean ratio {self.ratios / repainted:.2f}, {self.first} at the first try)" if repainted else ""
            others = "".join(f", {count} {name}" for name, count in self.actions.items() if name != "repaint")
            lines.append(f"Faces: {self.faces}; {repainted} repainted{mean}{others}")
        if self.recognised:
            lines.append(f"Still taken for the same person: {self.recognised} of {self.faces} faces")
        lines += [f"Not written: {reason}: {', '.join(names[:3])}" for reason, names in self.listed.items()]
        if self.ignored:
            lines.append(f"Ignored: {', '.join(f'{count} x {reason}' for reason, count in self.ignored.items())}")
        return "\n".join(lines)


def write_album(
    output: Path,
    folder: Path,
    lines: Iterable[Line],
    summary: Summary,
    thresholds: Mapping[str, float],
    facts: Mapping[str, Any],
    originals: Mapping[str, Path] | None = None,
    pictured: int = 200,
) -> None:
    """Write `index.html`, `faces.csv` and `photos.csv` into `folder`. Lines pass one by one, so that an album may have
    any size.

    Args:
        output: where the covered photos are.
        summary: is filled.
        thresholds: by recogniser, the cosine above which a face is recognised.
        facts: of the command, shown as they are.
        originals: the photos as they were, by name, where they are to be shown; None shows none.
        pictured: faces on the page, those first that are most like what they were.

    """
    cosines = [f"cosine/{name}" for name in thresholds]
    most: list[tuple[float, dict[str, Any]]] = []
    with (
        whole(folder / FACES) as faces_csv,
        whole(folder / PHOTOS) as photos_csv,
        faces_csv.open("w", newline="") as one,
        photos_csv.open("w", newline="") as other,
    ):
        by_face = csv.DictWriter(one, [*FACE, *CLIP, *cosines], extrasaction="ignore")
        by_photo = csv.DictWriter(other, PHOTO, extrasaction="ignore")
        by_face.writeheader()
        by_photo.writeheader()
        for line in lines:
            summary.add(line)
            by_photo.writerow({**line, "faces": len(line["faces"])})
            for number, face in enumerate(line["faces"]):
                row = {**face, "name": line["name"], "face": number}
                by_face.writerow(row)
                margin = max((row[f"cosine/{name}"] - limit for name, limit in thresholds.items()), default=0.0)
                if face["action"] != "spared":
                    most.append((margin, row))
                if len(most) > 2 * pictured:
                    most = _most_alike(most, pictured)
    ranked = [row for _, row in _most_alike(most, pictured)]
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("album.html.j2").render(
        summary=summary,
        thresholds=thresholds,
        facts=facts,
        faces=[{**row, **_pictures(row, output, originals)} for row in ranked],
        before=originals is not None,
    )
    with whole(folder / PAGE) as partial:
        partial.write_text(page)


def _most_alike(faces: Sequence[tuple[float, Any]], count: int) -> list[tuple[float, Any]]:
    return heapq.nlargest(count, faces, key=lambda pair: pair[0])


def _pictures(row: Line, output: Path, originals: Mapping[str, Path] | None) -> dict[str, str | None]:
    """A face as it was and as it is, as data of the page."""
    before = None if originals is None else _cut(originals[row["name"]], row)
    return {"before": before, "after": _cut(output / row["name"], row)}


def _cut(path: Path, row: Line) -> str:
    """The face's box, half as large again, as a small JPEG; of a video, from the middle of its frames."""
    image = Image.fromarray(still(path, row["still_s"]) if is_video(path.name) else decode(read_file(path)))
    left, top, right, bottom = row["box"]
    reach = 0.75 * max(right - left, bottom - top)
    middle = (left + right) / 2, (top + bottom) / 2
    corners = (middle[0] - reach, middle[1] - reach, middle[0] + reach, middle[1] + reach)
    face = image.crop(corners).resize((THUMB, THUMB))
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
