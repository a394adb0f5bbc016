"""The adversary of the recognisers: masks tried out by repainting."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.config import InputError
from veil.maskers.budget import budget, on_grid
from veil.maskers.ensemble import ranks
from veil.maskers.keep import Part, protected
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Images, Masks, Scores, pick, view

Repaint = Callable[[Faces, Masks], Images]
Cells = Bool[Tensor, "b rows columns"]


class Tried(NamedTuple):
    """Masks after repainting."""

    value: Float[Tensor, " b"]  # likeness left, and the price of the border
    gain: Float[Tensor, "b rows columns"]  # by how much repainting each cell lowers the likeness, to the first order


def search(
    faces: Faces,
    recognizer: WhiteBox,
    repaint: Repaint,
    starts: Mapping[str, Callable[[Faces, WhiteBox], Scores]],
    ratio: float,
    cells: int | None,
    keep: Sequence[Part] = (),
    repaints: int = 32,
    draws: int = 1,
    swap: float = 0.25,
    noise: float = 0.1,
    holes: float = 0.1,
    patience: int = 16,
) -> Scores:
    """Scores whose mask of `ratio`, once repainted, leaves little likeness to the person.

    A stochastic local search (Hoos and Stützle 2004): the best of the starting masks, then swaps of cells, each kept if
    it leaves less after repainting. Cells that seem to hide little go, cells that seem to give away much come: by the
    likeness's gradient times the difference between paint and face, with noise. Likeness is the mean of
    `WhiteBox.likeness` over the white box and its surrogates. Judges are never asked. Each face draws from its own
    seed; paint is tried with other seeds than the run's, so that no mask is made for one draw of paint.

    Args:
        starts: maskers by name; the start is the one whose mask leaves least.
        repaints: most repaints a face: of the whole view once, of each start, of each swap.
        draws: of paint, over which a mask's likeness is averaged; each is a repaint.
        swap: largest share of the masked cells that change at once, in (0, 1].
        noise: standard deviation of the noise on the cells' promise, as a share of the largest.
        holes: price of a mask's border, in units of likeness, for each multiple of a square's of the same area.
        patience: swaps in a row that do not help, after which a face is left as it is.

    """
    _check(repaints, draws, patience, swap, noise, holes, len(starts))
    height, width = view(faces.images).shape[-2:]
    grid = (cells, cells) if cells else (height, width)
    kept = protected(faces.images, keep) if keep else None
    spared = torch.zeros_like(faces.images[:, :1], dtype=torch.bool) if kept is None else kept
    free = ~F.adaptive_max_pool2d(view(spared).float(), grid)[:, 0].bool()
    paint = _painted(faces, torch.ones_like(spared), repaint, 1)[0]  # what would stand where nothing is masked yet

    def tried(scores: Scores, who: Sequence[int]) -> tuple[Cells, Tried]:
        part = pick(faces, who)
        size = (part.images.shape[-2], part.images.shape[-1])
        masks = budget(scores, ratio, cells, size, None if kept is None else kept[list(who)])
        found = _try(part, masks, paint[list(who)], recognizer, _painted(part, masks, repaint, draws), grid)
        chosen = F.adaptive_max_pool2d(view(masks).float(), grid)[:, 0]
        return chosen.bool(), found._replace(value=found.value + holes * (raggedness(chosen) - 1))

    everybody = list(range(len(faces.keys)))
    orders = [ranks(start(faces, recognizer), faces, cells) for start in starts.values()]
    attempts = [tried(order, everybody) for order in orders]
    best = torch.stack([found.value for _, found in attempts]).argmin(dim=0), torch.arange(len(everybody))
    chosen = torch.stack([mask for mask, _ in attempts])[best]
    value, gain = (torch.stack(parts)[best] for parts in zip(*(found for _, found in attempts), strict=True))
    generators = [Generator().manual_seed(seed) for seed in faces.seeds.tolist()]
    failures = [0] * len(everybody)
    for _ in range(repaints // draws - 1 - len(starts)):
        who = [face for face in everybody if failures[face] < patience]
        if not who:
            break
        swapped = [swapped_cells(chosen[i], free[i], gain[i], swap, noise, generators[i]) for i in who]
        masks, found = tried(torch.stack(swapped).float(), who)
        for index, face in enumerate(who):
            better = bool(found.value[index] < value[face])
            failures[face] = 0 if better else failures[face] + 1
            if better:
                chosen[face], value[face], gain[face] = masks[index], found.value[index], found.gain[index]
    return chosen + torch.stack(orders)[best]  # all that is chosen first; what comes after it, as the start has it


def _check(repaints: int, draws: int, patience: int, swap: float, noise: float, holes: float, starts: int) -> None:
    for name, count in {"repaints": repaints, "draws": draws, "patience": patience}.items():
        if count < 1:
            raise InputError(f"masker.{name} must be at least 1, got {count}")
    if not 0 < swap <= 1 or not noise >= 0 or not holes >= 0:
        raise InputError(
            f"masker.swap must be in (0, 1], masker.noise and masker.holes at least 0, got swap={swap} noise={noise} "
            f"holes={holes}"
        )
    if not starts or repaints < draws * (1 + starts):
        raise InputError(
            f"masker.repaints must pay for draws x (1 + starts) = {draws * (1 + starts)}, and there must be a start, "
            f"got repaints={repaints} and {starts} starts"
        )


@torch.no_grad()
def _painted(faces: Faces, masks: Masks, repaint: Repaint, draws: int) -> list[Images]:
    return [repaint(faces._replace(seeds=faces.seeds + 1 + draw), masks) for draw in range(draws)]


@torch.enable_grad()
def _try(
    faces: Faces, masks: Masks, paint: Images, recognizer: WhiteBox, painted: Sequence[Images], grid: tuple[int, int]
) -> Tried:
    values, gains = [], []
    for images in painted:
        images = images.detach().requires_grad_()
        members = [member.likeness(images, faces.identities) for member in recognizer.members]
        likeness = torch.stack(members).mean(dim=0)
        (gradient,) = torch.autograd.grad(likeness.sum(), images)
        change = torch.where(masks, images, paint).detach() - faces.images
        values.append(likeness.detach())
        gains.append(on_grid(-view(gradient * change).sum(dim=1), grid))
    return Tried(torch.stack(values).mean(dim=0), torch.stack(gains).mean(dim=0))


def swapped_cells(
    chosen: Bool[Tensor, "rows columns"],
    free: Bool[Tensor, "rows columns"],
    gain: Float[Tensor, "rows columns"],
    swap: float,
    noise: float,
    generator: Generator,
) -> Bool[Tensor, "rows columns"]:
    """As many cells as are chosen, some of them others: a random share of up to `swap`, at least one where there is
    another free one.
    """
    promise = gain.flatten().cpu()
    promise = promise + noise * promise.abs().max() * torch.randn(promise.numel(), generator=generator)
    inside, outside = chosen.flatten().cpu(), (free & ~chosen).flatten().cpu()
    share = swap * torch.rand(1, generator=generator).item()
    count = min(max(1, round(share * int(inside.sum()))), int(outside.sum()))
    goes = promise.masked_fill(~inside, torch.inf).argsort(stable=True)[:count]
    comes = promise.masked_fill(~outside, -torch.inf).argsort(descending=True, stable=True)[:count]
    result = inside.clone()
    result[goes], result[comes] = False, True
    return result.view_as(chosen).to(chosen.device)


def raggedness(chosen: Float[Tensor, "b rows columns"]) -> Float[Tensor, " b"]:
    """Length of each mask's border over that of a square of the same area; the view's own edge is free."""
    border = chosen.diff(dim=2).abs().sum(dim=(1, 2)) + chosen.diff(dim=1).abs().sum(dim=(1, 2))
    return border / (4 * chosen.sum(dim=(1, 2)).sqrt())
