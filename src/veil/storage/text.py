"""Text files as people have them, spreadsheets' tables among them."""

import codecs
import csv
import io
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple

from veil.errors import InputError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = ",;\t"  # the last two: spreadsheets of countries with a decimal comma, "Unicode text"


class Table(NamedTuple):
    """A table with a header."""

    columns: list[str]
    rows: list[dict[str, str]]
    lines: Sequence[int]  # of each row in its file


def text_of(content: bytes, where: str) -> str:
    """Text in UTF-8, or in UTF-16 that begins with its mark.

    Args:
        content: of the file.
        where: the knob and the file, for messages: `data.root: faces.csv`.

    Raises InputError for another encoding: which one it is nobody can tell from the bytes.

    """
    try:
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{where} must be text in UTF-8, got other bytes in line {line} ({error.reason}): save it as 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        raise InputError(f"{where} must be text in UTF-8, got bytes of 0: save it as 'CSV UTF-8'")
    return text


def table_of(content: bytes, where: str, wanted: Collection[str]) -> Table:
    """A table whose fields are separated by commas, semicolons or tabs, the first that gives the columns `wanted`.

    Raises InputError for another encoding, a column that is not there, no row, and a line of another length.
    """
    text = text_of(content, where)
    header = next(iter(text.splitlines()), "")
    found = (mark for mark in SEPARATORS if set(wanted) <= set(_fields(header, mark)))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=next(found, ","), skipinitialspace=True)
    rows, lines = [], []
    for row in reader:
        rows.append(row)
        lines.append(reader.line_num)
        if None in row or None in row.values():
            raise InputError(f"{where} has a line that is longer or shorter than its header, line {reader.line_num}")
    columns = list(reader.fieldnames or ())
    if not rows or not set(wanted) <= set(columns):
        raise InputError(f"{where} needs rows with the columns {' and '.join(wanted)}, got {columns}")
    return Table(columns, rows, lines)


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def legible(name: str) -> str:
    r"""A name of the file system as text that every file can hold: bytes that are no UTF-8 become `\xe9`."""
    if name.isascii():
        return name
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def same_name(name: str) -> str:
    """A legible name in Unicode's composed form (NFC): what is read as one name is one name."""
    return name if name.isascii() else unicodedata.normalize("NFC", legible(name))
