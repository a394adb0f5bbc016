"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` for this process alone; what is written there takes the place of `path` at the end.

    What raises leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem[:40]}.{os.getpid()}.partial{path.suffix}")  # names end at 255 bytes
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
