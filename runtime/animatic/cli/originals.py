"""The pictures and clips that a clip was made from: found again, and known by their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from animatic.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from animatic.record import GivenFile

__all__ = ["find_originals"]


def find_originals(
    files: Iterable[GivenFile], clip: Path, folder: Path | None
) -> dict[GivenFile, Path]:
    """Say where each of a record's files lies now.

    clip: the file that the record was in. folder: where to look; None is where each lay when the
    clip was made, seen from here, and beside the clip.

    Raises:
        InputError: one is missing, is another file now, or never was one.
    """
    return {file: _find(file, clip, folder) for file in files}


def _find(file: GivenFile, clip: Path, folder: Path | None) -> Path:
    from animatic.sources import open_source

    if not file.file:
        raise InputError(
            f"{clip} was made from pictures that a program handed over, which are in no file; make "
            "it again with that program."
        )
    changed: Path | None = None
    for place in _places(Path(file.file), clip, folder):
        try:
            found = open_source(place).digest()
        except InputError:
            continue
        if found == file.sha256:
            return place
        changed = changed or place
    if changed is not None:
        raise InputError(
            f"{changed} is not the file that {clip} was made from (its SHA-256 is not "
            f"{file.sha256[:12]}…); get that back, or name its folder with --given."
        )
    raise InputError(
        f"{file.file}, from which {clip} was made, is missing; get it back, or name its folder "
        "with --given."
    )


def _places(file: Path, clip: Path, folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / file
        yield folder / file.name
        return
    yield file
    yield clip.parent / file
    yield clip.parent / file.name
