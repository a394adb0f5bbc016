"""What a data set has beside its faces: what is left out, photos of several people, the same picture twice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

NAME = "inventory.json"


class Twin(NamedTuple):
    """Two photos that show one picture."""

    one: str  # keys
    other: str
    exact: bool  # the files are the same to the byte
    sides: tuple[str, str]  # gallery, probes
    one_person: bool  # both are of the same person


@dataclass(frozen=True)
class Inventory:
    """What `inventory.json` holds.

    Args:
        ignored: files, folders and people that are left out, by the reason.
        faces: found by the detector, those that may be meant beside the main one included.
        chosen: keys of photos with several faces, where the person's other photos tell that another one is meant.
        confirmed: the same, where they tell that the main one is meant.
        undecided: the same, where they tell nothing: the main one is taken.
        twins: photos that show one picture.

    """

    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    faces: int = 0
    chosen: Sequence[str] = ()
    confirmed: Sequence[str] = ()
    undecided: Sequence[str] = ()
    twins: Sequence[Twin] = ()

    @property
    def leaks(self) -> list[Twin]:
        """Twins of which one is enrolled and the other a probe."""
        return [twin for twin in self.twins if len(set(twin.sides)) == 2]

    @property
    def leaked(self) -> set[str]:
        """The probes among `leaks`."""
        return {(twin.one, twin.other)[twin.sides.index("probes")] for twin in self.leaks}

    def write(self, folder: Path) -> None:
        """Write `inventory.json`."""
        twins = [{**twin._asdict(), "sides": list(twin.sides)} for twin in self.twins]
        (folder / NAME).write_text(json.dumps(asdict(self) | {"twins": twins}, indent=1))


def read_inventory(folder: Path) -> Inventory:
    """What `Inventory.write` wrote."""
    found = json.loads((folder / NAME).read_text())
    twins = [Twin(**{**twin, "sides": tuple(twin["sides"])}) for twin in found.pop("twins")]
    return Inventory(**found, twins=twins)
