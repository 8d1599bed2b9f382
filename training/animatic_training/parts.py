"""A file in parts, for machines that give back only small ones, and one again.

`blockout.safetensors` becomes `blockout.safetensors.00` and so on, and last of all
`blockout.safetensors.parts`: the SHA-256 of the whole and the number of parts.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from animatic_training.atomic import whole_file

if TYPE_CHECKING:
    from pathlib import Path


class PartsError(Exception):
    """A file cannot be put together; the message says which part to fetch again."""


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number:02d}")


def _list(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def split_file(path: Path, limit: int) -> list[Path]:
    """Write a file again in parts of at most `limit` bytes beside it; return what was written."""
    data = path.read_bytes()
    parts = [data[n : n + limit] for n in range(0, len(data), limit)]
    written = []
    for number, part in enumerate(parts):
        written.append(_part(path, number))
        with whole_file(written[-1]) as temporary:
            temporary.write_bytes(part)
    with whole_file(_list(path)) as temporary:
        listed = {"sha256": hashlib.sha256(data).hexdigest(), "parts": len(parts)}
        temporary.write_text(json.dumps(listed) + "\n")
    return [*written, _list(path)]


def join_file(path: Path, into: Path | None = None) -> None:
    """Write a file from its parts beside it, there or `into` another place.

    PartsError if they are not all there and whole.
    """
    if not _list(path).is_file():
        raise PartsError(f"There is no {_list(path)}: fetch it with the parts that it lists.")
    listed = json.loads(_list(path).read_text())
    names = [_part(path, number) for number in range(listed["parts"])]
    if missing := [name.name for name in names if not name.is_file()]:
        raise PartsError(f"{path} lacks the parts {', '.join(missing)}: fetch them too.")
    data = b"".join(name.read_bytes() for name in names)
    if hashlib.sha256(data).hexdigest() != listed["sha256"]:
        raise PartsError(f"The parts of {path} are not those that were written: fetch them again.")
    with whole_file(into or path) as temporary:
        temporary.write_bytes(data)
