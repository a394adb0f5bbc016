"""Are the repainted faces good? KID, faces found, time by steps, and whether training photos come back.

    python benchmarks/inpainting_quality.py --eval lfw_eval_250px.zip --train faces_train_128px.zip

Repaints `--faces` random evaluation faces under random patches (ratio 0.25, 0.5) and the whole view. KID (Binkowski et
al. 2018, arXiv:1801.01401; polynomial kernel, unbiased, on unit FaceNet embeddings, x 1000) is against clear photos of
other evaluation people. Prints one JSON object; writes no picture.
"""

import argparse
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torch import Tensor

from veil.data.align import crop_face, find_faces
from veil.inpainters.composite import paste_back
from veil.inpainters.diffusion import DiffusionInpainter, VaeRoundTrip, resize
from veil.recognizers.facenet import FaceNet
from veil.training.diffusion import field_box
from veil.training.masks import highest
from veil.types import Faces, Images, Masks, view_box

PER_PERSON = 5  # photos: some people have hundreds, and KID would compare those people instead of faces
Inpainter = Callable[[Faces, Masks], Images]


def read_crops(archive: str, count: int | None, per_person: int | None = None) -> tuple[list[str], Tensor]:
    """Names and aligned crops (uint8) of `count` random photos in a zip, at most `per_person` of each; None is all."""
    files = zipfile.ZipFile(archive)
    names = sorted(name for name in files.namelist() if name.lower().endswith((".jpg", ".png")))
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    seen: Counter[str] = Counter()
    if per_person is not None:
        order = [index for index in order if _counted(seen, names[index].split("/")[-2]) <= per_person]
    detector, kept, crops = MTCNN(device="cpu"), [], []
    for start in range(0, len(order), 64):
        some = [names[index] for index in order[start : start + 64]]
        photos = [np.array(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in some]
        for name, photo, box in zip(some, photos, find_faces(photos, detector), strict=True):
            if box is not None:
                kept.append(name)
                crops.append(torch.from_numpy(crop_face(photo, box)).permute(2, 0, 1))
        if count is not None and len(kept) >= count:
            break
    return kept[:count], torch.stack(crops[:count])


def _counted(seen: Counter[str], person: str) -> int:
    seen[person] += 1
    return seen[person]


def kid(first: Tensor, second: Tensor, subsets: int = 50, size: int = 200) -> dict[str, float]:
    """Mean and standard deviation of the unbiased squared MMD over random subsets, x 1000."""
    generator = torch.Generator().manual_seed(0)
    size = min(size, len(first), len(second))
    scores = []
    for _ in range(subsets):
        x = first[torch.randperm(len(first), generator=generator)[:size]].double()
        y = second[torch.randperm(len(second), generator=generator)[:size]].double()
        xx, yy, xy = (((a @ b.T) + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        off = size * (size - 1)
        scores.append((((xx.sum() - xx.trace()) + (yy.sum() - yy.trace())) / off - 2 * xy.mean()).item() * 1000)
    return {"value": mean(scores), "sd_of_subsets": stdev(scores)}


def embed(recognizer: FaceNet, images: Tensor) -> Tensor:
    """Unit embeddings, a batch at a time; bytes are taken as 0 to 255."""
    scale = 255 if images.dtype == torch.uint8 else 1
    with torch.inference_mode():
        return torch.cat([recognizer(part.float() / scale) for part in images.split(64)])


def view_masks(count: int, ratio: float) -> Masks:
    """Random patches over `ratio` of the view; 1 is the whole view."""
    masks = torch.zeros(count, 1, 256, 256, dtype=torch.bool)
    rows, columns = view_box(256, 256)
    for number in range(count):
        scores = torch.rand(16, 16, generator=torch.Generator().manual_seed(number))
        masks[number, 0, rows, columns] = highest(scores, ratio, rows.stop - rows.start)
    return masks


def telea(faces: Faces, masks: Masks) -> Images:
    painted = [
        cv2.inpaint(face.mul(255).round().byte().permute(1, 2, 0).numpy(), mask[0].byte().numpy(), 3, cv2.INPAINT_TELEA)
        for face, mask in zip(faces.images, masks, strict=True)
    ]
    return paste_back(faces.images, torch.from_numpy(np.stack(painted)).permute(0, 3, 1, 2).float() / 255, masks)


def fill(faces: Faces, masks: Masks) -> Images:
    clear = (~masks).float()
    colour = (faces.images * clear).sum(dim=(2, 3), keepdim=True) / clear.sum(dim=(2, 3), keepdim=True)
    return paste_back(faces.images, colour.expand_as(faces.images), masks)


def found(images: Images, detector: MTCNN) -> float:
    """Share of `images` in which MTCNN finds a face."""
    photos = list(images.mul(255).round().byte().permute(0, 2, 3, 1).numpy())
    boxes = [box for start in range(0, len(photos), 64) for box in find_faces(photos[start : start + 64], detector)]
    return sum(box is not None for box in boxes) / len(boxes)


def in_parts(inpainter: Inpainter, faces: Faces, masks: Masks, size: int = 64) -> Images:
    parts = range(0, len(faces.keys), size)
    return torch.cat([inpainter(Faces(*(f[i : i + size] for f in faces)), masks[i : i + size]) for i in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", required=True, help="zip of evaluation photos, <person>/<photo>")
    parser.add_argument("--train", help="zip of the training photos, for the nearest-neighbour check")
    parser.add_argument("--model", default="package:face_diffusion")
    parser.add_argument("--scheduler", default="DPMSolverMultistepScheduler")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--table", type=int, nargs="*", default=[4, 8, 12, 25, 50], help="steps for the steps table")
    parser.add_argument("--table-faces", type=int, default=256)
    parser.add_argument("--photos", type=int, help="evaluation photos to read, at random; all of them if not given")
    parser.add_argument("--train-photos", type=int, help="training photos to compare with; all of them if not given")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", default=str(Path.home() / ".cache" / "veil"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recognizer, detector = FaceNet("casia", args.cache), MTCNN(device="cpu")

    names, crops = read_crops(args.eval, args.photos, PER_PERSON)
    faces, reference = repainted_and_reference(names, crops, args.faces)
    clear = embed(recognizer, faces.images)
    others = embed(recognizer, reference)
    result: dict = {"model": args.model, "faces": len(faces.keys), "reference_photos": len(reference)}
    result["autoencoder"] = round_trip(VaeRoundTrip(args.model, paste_back=False), faces, recognizer, clear)
    result["clear"] = {"kid": kid(clear, others), "found": found(faces.images, detector)}

    options = {"scheduler": args.scheduler, "batch_size": 16, "match_border": True}
    model = DiffusionInpainter(args.model, steps=args.steps, **options)
    for title, ratio in (("patches 0.25", 0.25), ("patches 0.5", 0.5), ("whole face", 1.0)):
        masks = view_masks(len(faces.keys), ratio)
        for name, inpainter in (("face_diffusion", model), ("telea", telea), ("fill", fill)):
            start = time.perf_counter()
            painted = in_parts(inpainter, faces, masks)
            seconds = (time.perf_counter() - start) / len(painted)
            after = embed(recognizer, painted)
            result.setdefault(title, {})[name] = {
                "kid": kid(after, others),
                "found": found(painted, detector),
                "cosine_to_clear": (after * clear).sum(dim=1).mean().item(),
                "seconds_per_face": seconds,
            }

    few = Faces(*(part[: args.table_faces] for part in faces))
    for title, ratio in (("patches 0.5", 0.5), ("whole face", 1.0)):
        masks = view_masks(len(few.keys), ratio)
        for steps in args.table:
            model.steps = steps
            start = time.perf_counter()
            painted = in_parts(model, few, masks)
            seconds = (time.perf_counter() - start) / len(painted)
            row = {"kid": kid(embed(recognizer, painted), others), "seconds_per_face": seconds}
            result.setdefault("steps", {}).setdefault(title, {})[str(steps)] = row
    model.steps = args.steps

    if args.train:
        _, training = read_crops(args.train, args.train_photos)
        known = embed(recognizer, training)
        painted = in_parts(model, faces, view_masks(len(faces.keys), 0.75))
        result["nearest_training_photo"] = {
            "repainted": nearest(embed(recognizer, painted), known),
            "clear": nearest(clear, known),
            "training_photos": len(known),
        }
    print(json.dumps(result, indent=2))


def repainted_and_reference(names: list[str], crops: Tensor, count: int) -> tuple[Faces, Tensor]:
    """`count` random faces to repaint, and all photos of the people who are not among them."""
    people = [name.split("/")[-2] for name in names]
    half = set(sorted(set(people))[::2])  # every second person is repainted, the others are the reference
    rows = [index for index, person in enumerate(people) if person in half][:count]
    others = [index for index, person in enumerate(people) if person not in half]
    numbers = torch.arange(len(rows))
    return Faces(crops[rows].float() / 255, numbers, numbers, tuple(names[row] for row in rows)), crops[others]


def round_trip(control: VaeRoundTrip, faces: Faces, recognizer: FaceNet, clear: Tensor) -> dict:
    """What the autoencoder alone costs: PSNR at its own resolution, cosine to clear, rank-1 among the clear photos."""
    inner = field_box(faces.images.shape[-1])
    fields = faces.images[..., inner, inner]
    none = torch.zeros(len(fields), 1, *fields.shape[-2:], dtype=torch.bool)
    seeds = [0] * len(fields)
    at_model = resize(fields, control.resolution)
    output = torch.cat([control._repaint(part, none[: len(part)], seeds) for part in at_model.split(32)])
    error = (output - at_model).square().mean(dim=(1, 2, 3))
    after = embed(recognizer, in_parts(control, faces, torch.zeros_like(faces.images[:, :1], dtype=torch.bool)))
    people = [key.split("/")[-2] for key in faces.keys]
    return {
        "psnr_db": (-10 * error.log10()).mean().item(),
        "cosine_to_clear": (after * clear).sum(dim=1).mean().item(),
        "rank1_clear": rank1(clear, clear, people),
        "rank1_round_trip": rank1(after, clear, people),
    }


def rank1(probes: Tensor, gallery: Tensor, people: list[str]) -> dict[str, float]:
    """Share of probes whose nearest other photo is of the same person, among those who have another photo."""
    similarity = (probes @ gallery.T).fill_diagonal_(-2)
    hits = [people[best] == person for best, person in zip(similarity.argmax(dim=1).tolist(), people, strict=True)]
    known = [hit for hit, person in zip(hits, people, strict=True) if people.count(person) > 1]
    return {"value": mean(known), "n": len(known)}


def nearest(embeddings: Tensor, known: Tensor) -> dict[str, float]:
    """Cosine to the nearest training photo: mean, 95th percentile and largest."""
    best = (embeddings @ known.T).amax(dim=1)
    return {"mean": best.mean().item(), "p95": best.quantile(0.95).item(), "largest": best.max().item()}


if __name__ == "__main__":
    main()
