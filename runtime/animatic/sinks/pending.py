"""A file or folder that is written beside its final name and renamed when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Pending", "explain", "explained", "flush_to_disk"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def explain(error: OSError, path: Path) -> OutputError:
    """One sentence for what the operating system said about writing ``path``."""
    if error.errno in _FULL:
        return OutputError(
            f"No room to write {path} ({os.strerror(error.errno)}); "
            "free some space or choose another folder."
        )
    if error.errno in _FORBIDDEN:
        return OutputError(
            f"Not allowed to write {path}; choose a folder that you may write to, "
            "or change its permissions."
        )
    reason = os.strerror(error.errno) if error.errno is not None else str(error)
    return OutputError(f"Cannot write {path} ({reason}); choose another folder.")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` of the block into the :class:`OutputError` that explains it."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


class Pending:
    """The unfinished form of ``target``: a hidden name in the same folder.

    The same folder means the same file system, so that the final rename is atomic.

    Nothing is touched before ``start``.
    """

    def __init__(self, target: Path, *, overwrite: bool, folder: bool = False) -> None:
        self.target = target
        self._overwrite = overwrite
        self._folder = folder
        # The random part keeps two renders of one target apart.
        self.path = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"

    def start(self) -> None:
        """Make the unfinished form.

        Raises:
            OutputError: the folder is missing or unwritable, or the target exists and may not be
                replaced.
        """
        target = self.target
        if not target.parent.is_dir():
            raise OutputError(
                f"The folder {target.parent} does not exist; create it, or choose another."
            )
        self.check_target()
        with explained(target):
            if self._folder:
                self.path.mkdir()
            else:
                # Made at once, so that an unwritable folder is found before any work is done;
                # os.open and not mkstemp, so that the file gets the user's ordinary permissions.
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))

    def check_target(self) -> None:
        """Refuse a target that may not be replaced (:class:`OutputError`)."""
        if self._folder:
            return  # what may be replaced in a folder is for its sink to say
        if self.target.is_dir():
            raise OutputError(f"{self.target} is a folder; choose a file name.")
        if not self._overwrite and self.target.exists():
            raise OutputError(f"{self.target} already exists; choose another name.")

    def publish(self) -> None:
        """Flush to the disk and rename into place."""
        with explained(self.target):
            self.check_target()
            if not self._folder:
                flush_to_disk(self.path)
            self.path.replace(self.target)
            flush_to_disk(self.target.parent)

    def discard(self) -> None:
        """Remove the unfinished form, if it is still there."""
        if self._folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Ask the operating system to store ``path`` (a file, or a folder's entries) for good."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems (FUSE, SMB) have no fsync for folders; the rename has still happened.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP} or path.is_file():
            raise
    finally:
        os.close(descriptor)
