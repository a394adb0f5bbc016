"""Control maskers, which tell *where*, *whose* and *what shape* apart.

A map that beats `random` may do so because it is one piece, because it lies where any face is told by, or because it is
this person's. Compare at equal area and raggedness (`raggedness=`).
"""

import heapq
from collections.abc import Callable

import torch
from torch import Tensor, nn

from veil.data.faces import FaceSet, moved
from veil.errors import InputError
from veil.maskers.ensemble import ranks
from veil.metrics.shape import border_ratio
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Identities, Scores, view

TILTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of a blob to the centre, against noise of about 1
BATCH = 16

Others = Callable[[], FaceSet]
Masker = Callable[[Faces, WhiteBox], Scores]


def blobs(faces: Faces, recognizer: nn.Module, cells: int | None, ratio: float, ragged: float) -> Scores:
    """One piece, grown from the centre along noise of each face's own (invasion percolation; Wilkinson and Willemsen
    1983): the shape without the place or the person.

    Args:
        ragged: wanted raggedness (`metrics.shape.border_ratio`) of the mask at `ratio`, at least 1. Each face takes the
            tilt to the centre that comes nearest to it; one piece of a few cells cannot be much above 2.

    """
    if not ragged >= 1:
        raise InputError(f"masker.ragged must be at least 1, a square's raggedness, got {ragged}")
    rows, columns = (cells, cells) if cells else view(faces.images).shape[-2:]
    count = round(ratio * rows * columns)
    scores = []
    for seed in faces.seeds.tolist():
        noise = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        tried = torch.stack([_grown(noise, tilt) for tilt in TILTS])
        grown = border_ratio(tried > -count)
        scores.append(tried[(grown - ragged).abs().argmin()])
    return torch.stack(scores).to(faces.images)


def _grown(noise: Tensor, tilt: float) -> Tensor:
    """Minus the turn in which each cell is taken in: always the cheapest neighbour of what is there."""
    rows, columns = noise.shape
    y, x = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
    price = (noise + tilt * (y[:, None] ** 2 + x**2).sqrt() * 4).tolist()
    turns = torch.full((rows, columns), torch.nan)
    start = (rows // 2, columns // 2)
    open_cells, met, turn = [(price[start[0]][start[1]], start)], {start}, 0
    while open_cells:
        _, (row, column) = heapq.heappop(open_cells)
        turns[row, column] = -turn
        turn += 1
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= cell[0] < rows and 0 <= cell[1] < columns and cell not in met:
                met.add(cell)
                heapq.heappush(open_cells, (price[cell[0]][cell[1]], cell))
    return turns


def shuffled(faces: Faces, recognizer: WhiteBox, of: Masker, others: Others) -> Scores:
    """Another person's scores: of a photo that each face draws among the attacker people's. Whose map it is counts for
    as much as the face's own scores do better.

    Args:
        of: the masker whose scores are exchanged.
        others: gives the attacker people's clear photos.

    """
    donors = _some(others(), "shuffled")
    people = torch.tensor(donors.identities)
    chosen = [_drawn(people, face, seed) for face, seed in zip(faces.identities, faces.seeds.tolist(), strict=True)]
    batches = donors.select(chosen).loader(BATCH)
    scores = [of(moved(batch, faces.images.device), recognizer) for batch in batches]
    return torch.cat(scores).to(faces.images)


def _drawn(people: Identities, person: Tensor, seed: int) -> int:
    """Index of a photo of somebody else, the same whatever the batch."""
    strangers = (people != person.cpu()).nonzero()[:, 0]
    return int(strangers[torch.randint(len(strangers), (), generator=torch.Generator().manual_seed(seed))])


def mean_map(faces: Faces, recognizer: WhiteBox, of: Masker, others: Others, photos: int, cells: int | None) -> Scores:
    """The mean map of a masker over attacker people's photos, the same for everybody: the place without the person.

    Maps are averaged as ranks (`ensemble.ranks`), so that every photo weighs the same.

    Args:
        of: the masker whose scores are averaged; it should remember them, it is asked anew with every batch.
        others: gives the attacker people's clear photos.
        photos: how many of them, spread over the people; at least 1.

    """
    if photos < 1:
        raise InputError(f"masker.photos must be at least 1, got {photos}")
    every = _some(others(), "mean_map")
    step = max(len(every) / photos, 1)
    chosen = every.select(int(index * step) for index in range(min(photos, len(every))))
    maps = [ranks(of(moved(batch, faces.images.device), recognizer), batch, cells) for batch in chosen.loader(BATCH)]
    mean = torch.cat(maps).mean(dim=0)
    return mean.expand(len(faces.keys), -1, -1).to(faces.images)


def _some(others: FaceSet, masker: str) -> FaceSet:
    if len(set(others.identities)) < 2:
        raise InputError(
            f"masker={masker} takes maps of attacker people: split.attackers must leave at least 2, got "
            f"{len(set(others.identities))}"
        )
    return others
