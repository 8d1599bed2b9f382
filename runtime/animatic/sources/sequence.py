"""PNG sequences: a folder, or a name with a place for the frame number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from animatic.errors import InputError
from animatic.sources.picture import picture_size, read_picture, readable
from animatic.sources.stored import Stored
from animatic.sources.timing import padded_back, padded_front

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["SequenceSource"]


@dataclass(frozen=True, slots=True)
class SequenceSource(Stored):
    """Files that are a clip in their order; they say no rate, so each is a frame of the shot."""

    files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path, files: Sequence[Path]) -> SequenceSource:
        """Take files, at least one; ``path`` is the folder or the pattern that names them.

        Raises:
            InputError: the first is no picture.
        """
        size = picture_size(files[0])
        if size is None:
            raise InputError(f"{files[0]} is no picture; get a whole copy of it, or move it away.")
        return cls(path, size, tuple(files))

    def first(self, count: int, _fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The first pictures; see :class:`animatic.sources.Source`."""
        return padded_back([read_picture(file, size) for file in self.files[:count]], count)

    def last(self, count: int, _fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The last pictures."""
        return padded_front([read_picture(file, size) for file in self.files[-count:]], count)

    def digest(self) -> str:
        """SHA-256 of the files, one after another."""
        digest = hashlib.sha256()
        for file in self.files:
            with readable(file):
                digest.update(file.read_bytes())
        return digest.hexdigest()
