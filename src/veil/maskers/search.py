"""The adversary of the recognisers: masks tried out by repainting."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.errors import InputError
from veil.maskers.budget import budget, on_grid
from veil.maskers.ensemble import ranks
from veil.maskers.protect import Part, protected
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Images, Masks, Scores, pick, view

Repaint = Callable[[Faces, Masks], Images]
Cells = Bool[Tensor, "b rows columns"]


class Tried(NamedTuple):
    """Masks after repainting."""

    masks: Masks
    chosen: Cells
    value: Float[Tensor, " b"]  # likeness left, and the price of the border
    painted: Float[Tensor, "b draws 3 h w"]

    def take(self, other: "Tried", rows: Sequence[int], others: Sequence[int]) -> None:
        """Put `others` of the other's faces in the place of `rows`."""
        for mine, its in zip(self, other, strict=True):
            mine[list(rows)] = its[list(others)]


def search(
    faces: Faces,
    recognizer: WhiteBox,
    repaint: Repaint,
    starts: Mapping[str, Callable[[Faces, WhiteBox], Scores]],
    ratio: float,
    cells: int | None,
    protect: Sequence[Part] = (),
    repaints: int = 8,
    mixes: int = 2,
    draws: int = 1,
    swap: float = 0.25,
    noise: float = 0.1,
    holes: float = 0.1,
    patience: int = 16,
) -> Scores:
    """Scores whose mask of `ratio`, once repainted, leaves little likeness to the person.

    A stochastic local search (Hoos and Stützle 2004): of the starting masks and of masks between them, the one that
    leaves least; from there swaps of cells, each kept if it leaves less after repainting. Cells that seem to hide
    little go, cells that seem to give away much come: by the likeness's gradient times the difference between paint and
    face, with noise. Likeness is the mean of `WhiteBox.likeness` over the white box and its surrogates. Judges are
    never asked. Each face draws from its own seed. The first draw of paint is the one that the run publishes.

    Args:
        starts: maskers by name.
        repaints: most repaints a face: of each start, of each mix, then of the whole view once and of each swap.
        mixes: masks by a mean of the starts' ranks, with weights drawn evenly from all that add up to 1.
        draws: of paint, over which a mask's likeness is averaged; each is a repaint.
        swap: largest share of the masked cells that change at once, in (0, 1].
        noise: standard deviation of the noise on the cells' promise, as a share of the largest.
        holes: price of a mask's border, in units of likeness, for each multiple of a square's of the same area.
        patience: swaps in a row that do not help, after which a face is left as it is.

    """
    _check(repaints, mixes, draws, patience, swap, noise, holes, len(starts))
    trials = Trials(faces, recognizer, repaint, ratio, cells, protect, draws, holes)
    everybody = range(len(faces.keys))
    generators = [Generator().manual_seed(seed) for seed in faces.seeds.tolist()]
    orders = torch.stack([ranks(start(faces, recognizer), faces, cells) for start in starts.values()])
    order = orders[0].clone()
    best = trials(order, everybody)
    for another in [*orders[1:], *(mixed(orders, generators) for _ in range(mixes))]:
        now = trials(another, everybody)
        better = (now.value < best.value).nonzero()[:, 0].tolist()
        best.take(now, better, better)
        order[better] = another[better]
    swaps = (repaints - 1) // draws - len(starts) - mixes
    if swaps > 0:
        _swap(trials, best, generators, swaps, swap, noise, patience)
    return best.chosen + order  # all that is chosen first; what comes after it, as its start has it


class Trials:
    """Masks of a batch of faces, repainted and shown to the white boxes; the arguments are `search`'s."""

    def __init__(
        self,
        faces: Faces,
        recognizer: WhiteBox,
        repaint: Repaint,
        ratio: float,
        cells: int | None,
        protect: Sequence[Part],
        draws: int,
        holes: float,
    ) -> None:
        self.faces, self.recognizer, self.repaint = faces, recognizer, repaint
        self.ratio, self.cells, self.draws, self.holes = ratio, cells, draws, holes
        self.size = (faces.images.shape[-2], faces.images.shape[-1])
        height, width = view(faces.images).shape[-2:]
        self.grid = (cells, cells) if cells else (height, width)
        self.kept = protected(faces.images, protect) if protect else None

    def __call__(self, scores: Scores, who: Sequence[int]) -> Tried:
        """The masks by these scores of some of the faces."""
        part = pick(self.faces, who)
        masks = budget(scores, self.ratio, self.cells, self.size, None if self.kept is None else self.kept[list(who)])
        painted = self.painted(part, masks, self.draws)
        with torch.no_grad():
            value = torch.stack([self.likeness(part, images) for images in painted.unbind(dim=1)]).mean(dim=0)
        chosen = F.adaptive_max_pool2d(view(masks).float(), self.grid)[:, 0]
        return Tried(masks, chosen.bool(), value + self.holes * (raggedness(chosen) - 1), painted)

    @torch.no_grad()
    def painted(self, faces: Faces, masks: Masks, draws: int) -> Float[Tensor, "b draws 3 h w"]:
        """As the run paints, then with the next seeds."""
        draw = (self.repaint(faces._replace(seeds=faces.seeds + more), masks) for more in range(draws))
        return torch.stack(list(draw), dim=1)

    def likeness(self, faces: Faces, images: Images) -> Float[Tensor, " b"]:
        """Mean over the white box and its surrogates."""
        members = self.recognizer.members
        return torch.stack([member.likeness(images, faces.identities) for member in members]).mean(dim=0)

    @torch.enable_grad()
    def gain(self, tried: Tried, bare: Images, who: Sequence[int]) -> Float[Tensor, "b rows columns"]:
        """By how much repainting each cell lowers the likeness, to the first order.

        Args:
            tried: all faces' masks.
            bare: all faces, the whole view repainted: what would stand where nothing is masked yet.
            who: the faces that are asked for.

        """
        rows, part, gains = list(who), pick(self.faces, who), []
        for images in tried.painted[rows].unbind(dim=1):
            images = images.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.likeness(part, images).sum(), images)
            change = torch.where(tried.masks[rows], images, bare[rows]).detach() - part.images
            gains.append(on_grid(-view(gradient * change).sum(dim=1), self.grid))
        return torch.stack(gains).mean(dim=0)


def _swap(
    trials: Trials,
    best: Tried,
    generators: Sequence[Generator],
    swaps: int,
    swap: float,
    noise: float,
    patience: int,
) -> None:
    """Swap cells of the best masks, in place, as long as that helps."""
    spared = torch.zeros_like(best.masks) if trials.kept is None else trials.kept
    free = ~F.adaptive_max_pool2d(view(spared).float(), trials.grid)[:, 0].bool()
    bare = trials.painted(trials.faces, torch.ones_like(spared), 1)[:, 0]
    failures = [0] * len(generators)
    for _ in range(swaps):
        who = [face for face, count in enumerate(failures) if count < patience]
        if not who:
            return
        gain = trials.gain(best, bare, who)
        swapped = [
            swapped_cells(best.chosen[face], free[face], gain[row], swap, noise, generators[face])
            for row, face in enumerate(who)
        ]
        now = trials(torch.stack(swapped).float(), who)
        better = (now.value < best.value[who]).tolist()
        for face, helped in zip(who, better, strict=True):
            failures[face] = 0 if helped else failures[face] + 1
        rows = [row for row, helped in enumerate(better) if helped]
        best.take(now, [who[row] for row in rows], rows)


def _check(
    repaints: int, mixes: int, draws: int, patience: int, swap: float, noise: float, holes: float, starts: int
) -> None:
    for name, count in {"repaints": repaints, "draws": draws, "patience": patience}.items():
        if count < 1:
            raise InputError(f"masker.{name} must be at least 1, got {count}")
    if mixes < 0 or not 0 < swap <= 1 or not noise >= 0 or not holes >= 0:
        raise InputError(
            f"masker.swap must be in (0, 1], masker.mixes, masker.noise and masker.holes at least 0, got swap={swap} "
            f"mixes={mixes} noise={noise} holes={holes}"
        )
    if not starts or repaints < draws * (starts + mixes):
        raise InputError(
            f"masker.repaints must pay for draws x (starts + mixes) = {draws * (starts + mixes)}, and there must be a "
            f"start, got repaints={repaints} and {starts} starts"
        )


def mixed(orders: Float[Tensor, "starts b rows columns"], generators: Sequence[Generator]) -> Scores:
    """A mean of the starts' ranks, each face with its own random weights (Dirichlet, all parameters 1)."""
    drawn = torch.stack(
        [-torch.rand(len(orders), generator=generator).clamp_min(1e-7).log() for generator in generators]
    )
    weights = (drawn / drawn.sum(dim=1, keepdim=True)).to(orders)
    return torch.einsum("bs,sbrc->brc", weights, orders)


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
