"""What sources that lie on the disk have in common: the path that names them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from animatic.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["OneFile", "Stored", "there"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A source that a path names; see :class:`animatic.sources.Source`."""

    path: Path
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    @property
    def file(self) -> str:
        """The path as it was given."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class OneFile(Stored):
    """A source that is one file."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The file alone."""
        return (self.path,)


@contextlib.contextmanager
def there(path: Path) -> Iterator[None]:
    """Say in an InputError that a file is missing, or closed to us."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; check its name.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read; give yourself permission to it.") from error
