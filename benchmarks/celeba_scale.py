"""What does CelebA's size cost: preparing it, starting from its split file, training a head of its people?

    python benchmarks/celeba_scale.py

Makes a folder like CelebA's aligned release, 10,177 people and 202,599 photos of 8 x 8 px, and prints one JSON object:
seconds and peak memory of each step, each in a process of its own.

Not measured: detection and cropping. MTCNN takes 0.05 to 0.1 s a photo on one core, hours for 202,599, and is replaced
by "the whole photo is the face"; the crop is the photo itself. What is measured is everything else that `task=prepare`
does: checking the lists, reading, hashing, decoding, locking, writing crops, splitting, writing the split file. The
embeddings that the head is trained on are random vectors around one centre a person, in the real cache.

On a busy machine (load 5 on 2 cores), CPU seconds: prepare 143, start 2.5 (4.6 on the clock), prepare again with all
crops there 23, read 162,111 embeddings 1.6, an epoch of a head of 10,177 classes 97. Peak memory: 1.1 GiB to prepare,
1.0 to start, of which 0.8 are imports.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

PEOPLE, PHOTOS, ATTRIBUTES = 10_177, 202_599, 40
WIDTH, BATCH = 512, 1024


def make(root: Path, people: int, photos: int) -> None:
    """The four files of the release."""
    generator = np.random.default_rng(0)
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    for number in range(1, photos + 1):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number:06d}.jpg", "png", compress_level=1)
    owners = np.concatenate([np.arange(people), generator.integers(people, size=photos - people)])
    owners = generator.permutation(owners)
    names = [f"{number:06d}.jpg" for number in range(1, photos + 1)]
    lines = (f"{name} {owner + 1}\n" for name, owner in zip(names, owners, strict=True))
    (root / "identity_CelebA.txt").write_text("".join(lines))
    parts = np.digitize(owners, [0.8 * people, 0.9 * people])
    lines = (f"{name} {part}\n" for name, part in zip(names, parts, strict=True))
    (root / "list_eval_partition.txt").write_text("".join(lines))
    with (root / "list_attr_celeba.txt").open("w") as file:
        file.write(f"{photos}\n{' '.join(f'Attribute_{number}' for number in range(ATTRIBUTES))}\n")
        for name in names:
            file.write(f"{name} {' '.join(np.where(generator.random(ATTRIBUTES) < 0.5, ' 1', '-1'))}\n")


def config(root: Path, cache: Path) -> Any:
    from veil.config import compose

    return compose("task=prepare", "data=celeba", f"data.root={root}", f"cache={cache}")


def prepare(root: Path, cache: Path) -> dict[str, Any]:
    from veil.data.splitfile import counts
    from veil.faces import crops
    from veil.storage.progress import Stages
    from veil.tasks.prepare import prepared

    crops.find_faces = lambda photos, detector: [np.array([0, 0, 8, 8], np.float32) for _ in photos]  # type: ignore
    crops.crop_face = lambda photo, box: photo  # type: ignore
    crops.Aligner.detector = None  # type: ignore
    return clocked(lambda: counts(prepared(config(root, cache), Stages())))


def start(root: Path, cache: Path) -> dict[str, Any]:
    from veil.data.faces import divide
    from veil.storage.progress import Stages
    from veil.tasks.prepare import prepared

    def first_batch() -> str:
        enrolment = prepared(config(root, cache), Stages())
        evaluation, _ = divide(enrolment, 0.25, 0, probes=500)
        return next(iter(evaluation.probes.loader(16))).keys[0]

    return clocked(first_batch)


def head(root: Path, cache: Path) -> dict[str, Any]:
    """Fill and read the cache of embeddings; an epoch of softmax on them, as `task=finetune` does on a frozen trunk."""
    from veil.recognizers.embed import VectorStore
    from veil.storage.progress import Stages
    from veil.tasks.prepare import prepared

    enrolment = prepared(config(root, cache), Stages())
    people = torch.tensor(enrolment.gallery.identities)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(len(enrolment.people), WIDTH, generator=generator)
    names = [crop.stem for crop in enrolment.gallery.crops]
    store = VectorStore(cache / "embeddings" / "random")

    def fill() -> None:
        for part in torch.arange(len(names)).split(32):
            noise = torch.randn(len(part), WIDTH, generator=generator)
            store.append([names[row] for row in part.tolist()], F.normalize(centres[people[part]] + noise, dim=1))

    filled, read = clocked(fill), clocked(lambda: list(VectorStore(store.folder).read(names).shape))
    embeddings = VectorStore(store.folder).read(names)
    layer = torch.nn.Linear(WIDTH, len(enrolment.people))
    adam = torch.optim.Adam(layer.parameters(), 0.1)

    def epoch() -> float:
        for part in torch.randperm(len(people), generator=generator).split(BATCH):
            adam.zero_grad()
            F.cross_entropy(layer(embeddings[part]), people[part]).backward()
            adam.step()
        with torch.no_grad():
            hits = [
                layer(embeddings[part]).argmax(1) == people[part] for part in torch.arange(len(people)).split(BATCH)
            ]
        return round(torch.cat(hits).float().mean().item(), 4)

    trained = clocked(epoch)
    return {"fill_embeddings": filled, "read_embeddings": read, "epoch_and_accuracy": trained}


def clocked(function: Callable[[], Any]) -> dict[str, Any]:
    begin, worked = time.perf_counter(), time.process_time()
    result = function()
    seconds = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - worked}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {name: round(value, 2) for name, value in (seconds | {"peak_gib": peak}).items()} | {"result": result}


def in_process(step: Callable[[Path, Path], dict[str, Any]], root: Path, cache: Path) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step, (root, cache))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--folder", type=Path, help="where to make the release and keep it; default: a temporary one")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    root, cache = folder / "celeba", folder / "cache"
    result: dict[str, Any] = {"people": args.people, "photos": args.photos}
    if not root.exists():
        result["make"] = clocked(lambda: make(root, args.people, args.photos))
    for name, step in (("prepare", prepare), ("start", start)):
        result[name] = in_process(step, root, cache)
    shutil.rmtree(cache / "splits")
    result["prepare_with_all_crops_there"] = in_process(prepare, root, cache)
    result |= in_process(head, root, cache)
    print(json.dumps(result, indent=2))
    if args.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
