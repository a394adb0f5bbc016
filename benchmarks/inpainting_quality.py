"""Are the repainted faces good? KID, faces found, quality by steps, and whether training photos come back.

    python benchmarks/inpainting_quality.py --eval <zip of people> --train <zip of the training photos>

Repaints `--faces` random evaluation faces under random patches (ratio 0.25, 0.5) and the whole view, with
face_diffusion, telea and fill. KID is against clear photos of *other* evaluation people, on FaceNet's and on dlib's
embeddings (scaled to mean square 1; x 1000), over pairs of different people, with 95 % intervals. Prints one JSON
object; writes no picture.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import MTCNN
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from veil.data.align import face_detector, find_faces
from veil.data.crops import align
from veil.data.faces import FaceSet, join
from veil.data.folder import folder
from veil.inpainters.classical import fill, telea
from veil.inpainters.diffusion import DiffusionInpainter, VaeRoundTrip
from veil.inpainters.sizes import resize
from veil.maskers.budget import budget
from veil.maskers.random import random_patches
from veil.metrics.realism import kernel_distance_interval
from veil.pictures import as_saved, to_pixels
from veil.progress import Stages
from veil.recognizers.dlib import Dlib
from veil.recognizers.facenet import FaceNet
from veil.training.diffusion import field_box
from veil.types import Faces, Identities, Images, Masks

PER_PERSON = 5  # photos: some people have hundreds, and KID would compare those people instead of faces
Inpainter = Callable[[Faces, Masks], Images]


def read_faces(archive: str, cache: str, count: int | None, per_person: int | None = None) -> FaceSet:
    """`count` random aligned faces of a zip, at most `per_person` of each person; `None` is all."""
    photos = folder(archive)
    chosen, seen = [], defaultdict(int)
    for index in np.random.default_rng(0).permutation(len(photos)):
        seen[photos[index].person] += 1
        if per_person is None or seen[photos[index].person] <= per_person:
            chosen.append(photos[index])
    crops = align(chosen[:count], Path(cache) / "crops", Stages()).paths
    rows = [(crop, photo) for crop, photo in zip(crops, chosen, strict=False) if crop is not None]
    people = sorted({photo.person for _, photo in rows})
    identities = [people.index(photo.person) for _, photo in rows]
    return FaceSet([crop for crop, _ in rows], [photo.key for _, photo in rows], identities, range(len(rows)), seed=0)


@torch.no_grad()
def embed(recognizer: nn.Module, images: Images, identities: Identities) -> tuple[Tensor, Identities]:
    """Embeddings of the faces that the recogniser finds, mean square 1, and whose they are."""
    embeddings = torch.cat([recognizer(part) for part in images.split(64)])
    seen = embeddings.norm(dim=1) > 0
    return embeddings[seen] * embeddings.shape[1] ** 0.5, identities[seen]


def kid(found: tuple[Tensor, Identities], reference: tuple[Tensor, Identities]) -> dict[str, float | str]:
    """KID x 1000 with its interval, over pairs of different people; absent where too few faces are found."""
    people = len(found[1].unique())
    if people < 4:
        return {"absent": f"faces of {people} people found, 4 are needed for an interval"}
    interval = kernel_distance_interval(found[0], reference[0], found[1], reference[1])
    return {"value": 1000 * interval.value, "low": 1000 * interval.low, "high": 1000 * interval.high, "n": interval.n}


def in_parts(inpainter: Inpainter, faces: Faces, masks: Masks, size: int = 64) -> tuple[Images, float]:
    """Results as they would be saved, and seconds a face."""
    start = time.perf_counter()
    parts = [slice(at, at + size) for at in range(0, len(faces.keys), size)]
    painted = torch.cat([inpainter(Faces(*(field[part] for field in faces)), masks[part]) for part in parts])
    return as_saved(painted, "png"), (time.perf_counter() - start) / len(faces.keys)


def random_masks(faces: Faces, ratio: float) -> Masks:
    """Random patches over `ratio` of the view; 1 is the whole view."""
    height, width = faces.images.shape[-2:]
    return budget(random_patches(faces, nn.Identity(), cells=16), ratio, 16, (height, width))


def found(images: Images, detector: MTCNN) -> float:
    """Share of `images` in which MTCNN finds a face."""
    boxes = [box for part in images.split(64) for box in find_faces(list(to_pixels(part)), detector)]
    return sum(box is not None for box in boxes) / len(boxes)


def round_trip(model: str, faces: Faces, recognizer: nn.Module) -> dict[str, float]:
    """What the autoencoder alone costs: PSNR in dB at its resolution, cosine to clear, rank-1 among clear photos."""
    control = VaeRoundTrip(model, paste_back=False)
    inner = field_box(faces.images.shape[-1])
    fields = resize(faces.images[..., inner, inner], control.resolution)
    nowhere = torch.zeros_like(fields[:, :1], dtype=torch.bool)
    decoded = torch.cat([control._repaint(part, nowhere[: len(part)], [0] * len(part)) for part in fields.split(32)])
    psnr = peak_signal_noise_ratio(decoded, fields, data_range=1.0, reduction="none", dim=(1, 2, 3)).mean().item()
    output, _ = in_parts(control, faces, torch.zeros_like(faces.images[:, :1], dtype=torch.bool))
    clear, after = (embed(recognizer, images, faces.identities)[0] / 512**0.5 for images in (faces.images, output))
    others = (faces.identities[:, None] == faces.identities).sum(dim=1) > 1
    ranks = {}
    for name, probes in (("clear", clear), ("round_trip", after)):
        best = (probes @ clear.T).fill_diagonal_(-2).argmax(dim=1)
        ranks[f"rank1_{name}"] = (faces.identities[best] == faces.identities)[others].double().mean().item()
    return {"psnr_db": psnr, "cosine": (clear * after).sum(dim=1).mean().item(), **ranks, "n": int(others.sum())}


def nearest(embeddings: Tensor, known: Tensor) -> dict[str, float]:
    """Cosine to the nearest training photo: mean, 95th percentile and largest."""
    best = (embeddings @ known.T / embeddings.shape[1]).amax(dim=1)
    return {"mean": best.mean().item(), "p95": best.quantile(0.95).item(), "largest": best.max().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", required=True, help="zip of evaluation photos, <person>/<photo>")
    parser.add_argument("--train", help="zip of the training photos, for the nearest-neighbour check")
    parser.add_argument("--model", default="package:face_diffusion")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--table", type=int, nargs="*", default=[4, 8, 12, 25, 50], help="steps for the steps table")
    parser.add_argument("--table-faces", type=int, default=128)
    parser.add_argument("--train-photos", type=int, default=4000, help="random training photos to compare with")
    parser.add_argument("--cache", default=str(Path.home() / ".cache" / "veil"))
    args = parser.parse_args()
    recognizers = {"facenet": FaceNet("casia", args.cache), "dlib": Dlib()}
    detector = face_detector()

    everyone = read_faces(args.eval, args.cache, None, PER_PERSON)
    even = [index for index, identity in enumerate(everyone.identities) if identity % 2 == 0][: args.faces]
    odd = [index for index, identity in enumerate(everyone.identities) if identity % 2]
    faces, others = (join(list(everyone.select(part).loader(64))) for part in (even, odd))
    reference = {name: embed(recognizer, others.images, others.identities) for name, recognizer in recognizers.items()}

    def judged(images: Images) -> dict[str, dict[str, float | str]]:
        owners = faces.identities[: len(images)]
        return {
            f"kid_{name}": kid(embed(recognizer, images, owners), reference[name])
            for name, recognizer in recognizers.items()
        }

    result: dict = {"faces": len(faces.keys), "reference_photos": len(others.keys)}
    result["autoencoder"] = round_trip(args.model, faces, recognizers["facenet"])
    result["clear"] = {**judged(faces.images), "found": found(faces.images, detector)}
    model = DiffusionInpainter(args.model, steps=args.steps, batch_size=16, match_border=True)
    inpainters = {"face_diffusion": model, "telea": lambda f, m: telea(f, m, radius=3.0), "fill": fill}
    for title, ratio in (("patches 0.25", 0.25), ("patches 0.5", 0.5), ("whole view", 1.0)):
        for name, inpainter in inpainters.items():
            painted, seconds = in_parts(inpainter, faces, random_masks(faces, ratio))
            figures = {**judged(painted), "found": found(painted, detector), "seconds_per_face": seconds}
            result.setdefault(title, {})[name] = figures
            print(title, name, json.dumps(figures), flush=True)

    few = Faces(*(part[: args.table_faces] for part in faces))
    for steps in args.table:
        model.steps = steps
        painted, seconds = in_parts(model, few, random_masks(few, 0.5))
        result.setdefault("steps, patches 0.5", {})[steps] = {**judged(painted), "seconds_per_face": seconds}
    model.steps = args.steps
    if args.train:
        trained = join(list(read_faces(args.train, args.cache, args.train_photos).loader(64)))
        known, _ = embed(recognizers["facenet"], trained.images, trained.identities)
        painted, _ = in_parts(model, faces, random_masks(faces, 0.75))
        both = {"repainted 0.75": painted, "clear": faces.images}
        result["nearest_training_photo"] = {
            name: nearest(embed(recognizers["facenet"], images, faces.identities)[0], known)
            for name, images in both.items()
        } | {"training_photos": len(known)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
