"""As little as is enough: each face's own ratio instead of one for all."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from veil.faces.pictures import as_saved
from veil.maskers.budget import budget
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Identities, Images, Masks, Scores, pick, view


def smallest_masks(
    faces: Faces,
    scores: Scores,
    whitebox: WhiteBox,
    repaint: Callable[[Faces, Masks], Images],
    ratio: float,
    cells: int | None,
    protected: Masks | None = None,
    image_format: str = "png",
) -> tuple[Images, Masks]:
    """Repainted faces and their masks: of each face as few cells as leave it, as it will be saved, unknown to every
    white box (`unknown`).

    Masks of the same scores are nested, so their size is found by bisection, a repaint a step: `log2(ratio * cells**2)`
    and one. A face that is known even under `ratio` keeps that mask. Likeness need not fall with every cell, so a
    smaller mask may now and then do as well. Only the white box and its surrogates are asked.

    Args:
        ratio: the most that is masked, in (0, 1].
        protected: as `budget`'s.
        image_format: of the files, `png` or `jpg`.

    """
    height, width = faces.images.shape[-2:]
    total = cells**2 if cells else view(faces.images)[0, 0].numel()

    def masked(who: Sequence[int], counts: Sequence[int]) -> tuple[Images, Masks]:
        each = [
            budget(
                scores[face : face + 1],
                count / total,
                cells,
                (height, width),
                None if protected is None else protected[face : face + 1],
            )
            for face, count in zip(who, counts, strict=True)
        ]
        return repaint(pick(faces, who), torch.cat(each)), torch.cat(each)

    def hides(images: Images, people: Identities) -> Bool[Tensor, " b"]:
        return unknown(as_saved(images, image_format), people, whitebox)

    everybody = range(len(faces.keys))
    most = round(ratio * total)
    images, masks = masked(everybody, [most] * len(everybody))
    images, hidden = images.clone(), hides(images, faces.identities).tolist()
    known, enough = [0] * len(everybody), [most] * len(everybody)  # cells: too few, and sufficient
    while who := [face for face in everybody if hidden[face] and enough[face] - known[face] > 1]:
        middle = [(known[face] + enough[face]) // 2 for face in who]
        painted, tried = masked(who, middle)
        for index, sufficient in enumerate(hides(painted, faces.identities[list(who)]).tolist()):
            face = who[index]
            if sufficient:
                enough[face], images[face], masks[face] = middle[index], painted[index], tried[index]
            else:
                known[face] = middle[index]
    return images, masks


@torch.no_grad()
def unknown(images: Images, identities: Identities, whitebox: WhiteBox) -> Bool[Tensor, " b"]:
    """Whether no white box takes a face for its person: its cosine to the centroid is not above the threshold."""
    found = []
    for member in whitebox.members:
        if member.threshold is None:
            raise ValueError("whitebox: each member needs the threshold that says whom it takes for the person")
        found.append(member.similarity(images, identities) <= member.threshold)
    return torch.stack(found).all(dim=0)
