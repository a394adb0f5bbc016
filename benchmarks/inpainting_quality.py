"""Are the repainted faces good? KID, eyes, faces found, and whether training photos come back.

    python benchmarks/inpainting_quality.py --eval <zip of people> --out figures.json --train <zip>

Repaints `--faces` random evaluation faces under random patches (ratio 0.25, 0.5), the T of eyes, nose and mouth, and
the whole view, with each model and telea. KID is against clear photos of *other* evaluation people, on FaceNet's and on
dlib's embeddings (scaled to mean square 1; x 1000), over pairs of different people, with 95 % intervals. `eyes` is the
share of faces in which both eyes look like eyes (`eyes.py`; 0.95 of clear faces by its making); `n` of a KID is the
number of faces that its recogniser finds. Killed, it goes on at the row where it stopped.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eyes import EyeCheck
from numpy import ndarray
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchvision.utils import make_grid, save_image

from veil.data.celeba import celeba
from veil.data.faces import FaceSet, join
from veil.data.folder import folder
from veil.data.photos import Photos
from veil.faces.crops import align
from veil.faces.pictures import as_saved
from veil.inpainters.classical import telea
from veil.inpainters.composite import resize
from veil.inpainters.diffusion import DiffusionInpainter, VaeRoundTrip
from veil.maskers.anatomy import t_zone
from veil.maskers.budget import budget
from veil.maskers.random import random_patches
from veil.metrics.distribution import kernel_distance_interval
from veil.recognizers.dlib import Dlib
from veil.recognizers.facenet import FaceNet
from veil.storage.progress import Stages
from veil.types import Faces, Identities, Images, Masks, field_box, pick

PER_PERSON = 3  # photos: some people have hundreds, and KID would compare those people instead of faces
Inpainter = Callable[[Faces, Masks], Images]


def read_faces(photos: Photos, cache: str, count: int | None, per_person: int | None = None) -> FaceSet:
    """`count` random aligned faces, at most `per_person` of each person; `None` is all."""
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


def random_masks(ratio: float) -> Callable[[Faces], Masks]:
    """Random patches over `ratio` of the view; 1 is the whole view."""
    return lambda faces: budget(random_patches(faces, nn.Identity(), cells=16), ratio, 16, faces.images.shape[-2:])


MASKS: dict[str, Callable[[Faces], Masks]] = {
    "patches 0.25": random_masks(0.25),
    "patches 0.5": random_masks(0.5),
    "t_zone 0.25": lambda faces: budget(t_zone(faces, nn.Identity()), 0.25, 16, faces.images.shape[-2:]),
    "whole view": random_masks(1.0),
    "patches 0.75": random_masks(0.75),
}
MODELS = (
    "name=folder,steps or name=folder,steps,scheduler; the first is the one whose seeds and neighbours are looked at"
)


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


def share(yes: ndarray) -> dict[str, float]:
    """A share of the faces with its 95 % interval (Wilson 1927)."""
    low, high = proportion_confint(int(yes.sum()), len(yes), method="wilson")
    return {"value": float(yes.mean()), "low": low, "high": high, "n": len(yes)}


def two_seeds(inpainter: Inpainter, faces: Faces) -> dict[str, float]:
    """Mean absolute difference, of 255, inside the mask, between what two seeds paint; and the least of these faces."""
    figures = {}
    for mask in ("patches 0.25", "patches 0.5"):
        masks = MASKS[mask](faces)
        one, two = (inpainter(faces._replace(seeds=faces.seeds + shift), masks) for shift in (0, 1))
        difference = 255 * ((one - two).abs() * masks).sum(dim=(1, 2, 3)) / (3 * masks.sum(dim=(1, 2, 3)))
        figures |= {f"{mask} mean": difference.mean().item(), f"{mask} least": difference.min().item()}
    return figures


def named_model(text: str) -> tuple[str, Inpainter]:
    """`name=folder,steps` or `name=folder,steps,scheduler`; without a scheduler the model's own."""
    name, _, rest = text.partition("=")
    folder_, steps, *scheduler = rest.split(",")
    return name, DiffusionInpainter(
        folder_, steps=int(steps), scheduler=scheduler[0] if scheduler else None, batch_size=16, match_border=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", required=True, help="photos for evaluation: a zip of people, or CelebA's release")
    parser.add_argument("--celeba", action="store_true", help="--eval is CelebA's release")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file; what it holds already is not measured again"
    )
    parser.add_argument("--models", nargs="*", default=["face_diffusion=package:face_diffusion,8"], help=MODELS)
    parser.add_argument("--masks", nargs="*", default=list(MASKS), choices=MASKS)
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--train", help="zip of the training photos, for the nearest-neighbour check")
    parser.add_argument("--train-photos", type=int, default=4000, help="random training photos to compare with")
    parser.add_argument("--picture", type=Path, help="48 faces under each mask and model, for your eyes only")
    parser.add_argument("--cache", default=str(Path.home() / ".cache" / "veil"))
    args = parser.parse_args()
    asked = {name: vars(args)[name] for name in ("eval", "celeba", "models", "faces", "train", "train_photos")}
    result = json.loads(args.out.read_text()) if args.out.exists() else {"asked": asked}
    if result["asked"] != asked:
        parser.error(f"--out {args.out} holds figures of other arguments: {result['asked']}")
    recognizers = {"facenet": FaceNet("packaged", args.cache), "dlib": Dlib()}
    photos = celeba(args.eval) if args.celeba else folder(args.eval)
    everyone = read_faces(photos, args.cache, None, PER_PERSON)
    even = [index for index, identity in enumerate(everyone.identities) if identity % 2 == 0][: args.faces]
    odd = [index for index, identity in enumerate(everyone.identities) if identity % 2]
    faces, others = (join(list(everyone.select(part).loader(64))) for part in (even, odd))
    reference = {name: embed(recognizer, others.images, others.identities) for name, recognizer in recognizers.items()}
    trained, held_out = others.identities % 4 == 1, others.identities % 4 == 3
    eyes = EyeCheck(others.images[trained]).calibrate(others.images[held_out])

    def measure(images: Images) -> dict[str, Any]:
        kids = {
            f"kid_{name}": kid(embed(recognizer, images, faces.identities), reference[name])
            for name, recognizer in recognizers.items()
        }
        return {**kids, "eyes": share(eyes(images))}

    def keep(title: str, make: Callable[[], dict[str, Any]]) -> None:
        if title not in result:
            result[title] = make()
            print(title, json.dumps(result[title]), flush=True)
            args.out.write_text(json.dumps(result, indent=2))

    def painted(inpainter: Inpainter, masks: Masks, picture: str) -> dict[str, Any]:
        images, seconds = in_parts(inpainter, faces, masks)
        if args.picture:
            args.picture.mkdir(parents=True, exist_ok=True)
            inner = field_box(images.shape[-1])
            save_image(make_grid(images[:48, :, inner, inner], nrow=12), args.picture / f"{picture}.png")
        return {**measure(images), "seconds_per_face": seconds}

    keep("sets", lambda: {"faces": len(faces.keys), "reference_photos": len(others.keys)})
    keep("clear", lambda: measure(faces.images))
    inpainters: dict[str, Inpainter] = dict(map(named_model, args.models))
    inpainters |= {"telea": lambda f, m: telea(f, m, radius=3.0)}
    for mask in args.masks:
        masks = MASKS[mask](faces)
        for name, inpainter in inpainters.items():
            title = f"{mask} / {name}"
            keep(title, lambda: painted(inpainter, masks, title.replace(" / ", "-").replace(" ", "-")))  # noqa: B023
    first = next(iter(inpainters.values()))
    keep("autoencoder", lambda: round_trip(args.models[0].split("=")[1].split(",")[0], faces, recognizers["facenet"]))
    keep("two seeds", lambda: two_seeds(first, pick(faces, range(min(48, len(faces.keys))))))
    if args.train:
        known = join(list(read_faces(folder(args.train), args.cache, args.train_photos).loader(64)))
        known_embeddings, _ = embed(recognizers["facenet"], known.images, known.identities)

        def nearest_photos(images: Images) -> dict[str, float]:
            return nearest(embed(recognizers["facenet"], images, faces.identities)[0], known_embeddings)

        keep("nearest training photo, clear", lambda: nearest_photos(faces.images))
        keep(
            "nearest training photo, 0.75 repainted",
            lambda: nearest_photos(in_parts(first, faces, MASKS["patches 0.75"](faces))[0]),
        )


if __name__ == "__main__":
    main()
