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

__all__ = [
    "Pending",
    "check_parent",
    "check_replaceable",
    "explain",
    "explained",
    "flush_to_disk",
    "place",
]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def explain(error: OSError, path: Path) -> OutputError:
    """One sentence for what the operating system said about writing ``path``."""
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(
            f"The name {path} is too long for this file system; choose a shorter one."
        )
    if error.errno == errno.EEXIST:
        return OutputError(f"{path} already exists; choose another name.")
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


def place(source: Path, target: Path, *, overwrite: bool) -> None:
    """Move a finished file to its final name, in the same folder or at least file system.

    Without ``overwrite`` a file that somebody else put there meanwhile stays: a link is made only
    where nothing is, in one step, while a check and a rename would be two.

    Raises:
        FileExistsError: the name is taken and may not be replaced.
        OSError: anything else that the operating system has against it.
    """
    if not overwrite:
        try:
            target.hardlink_to(source)
        except FileExistsError:
            raise
        except OSError as error:  # file systems without links: FAT, many network shares
            if os.path.lexists(target):
                raise FileExistsError(
                    errno.EEXIST, os.strerror(errno.EEXIST), str(target)
                ) from error
        else:
            source.unlink()
            return
    source.replace(target)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` of the block into the :class:`OutputError` that explains it."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def check_parent(target: Path) -> None:
    """Refuse a target in a folder that is not there (:class:`OutputError`)."""
    with explained(target):
        if not target.parent.is_dir():
            raise OutputError(
                f"The folder {target.parent} does not exist; create it, or choose another."
            )


def check_replaceable(target: Path) -> None:
    """Refuse a device or a pipe (:class:`OutputError`): a rename would put a file in its place."""
    with explained(target):
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise OutputError(
                f"{target} is a device or a pipe; choose a file name, or give - and "
                "redirect standard output."
            )


class Pending:
    """The unfinished form of ``target``: a hidden name in the same folder.

    The same folder means the same file system, so that the final rename is atomic.

    Nothing is touched before ``start``.
    """

    def __init__(self, target: Path, *, overwrite: bool, folder: bool = False) -> None:
        self.target = target
        self._overwrite = overwrite
        self._folder = folder
        # The random part keeps two renders of one target apart. The name is cut, so that it is not
        # too long where the target's own is not: UTF-8 takes up to 4 of 255 bytes a character.
        self.path = target.parent / f".{target.name[:48]}.{secrets.token_hex(4)}.part"

    def start(self) -> None:
        """Make the unfinished form.

        Raises:
            OutputError: the folder is missing or unwritable, or the target exists and may not be
                replaced.
        """
        target = self.target
        check_parent(target)
        with explained(target):
            self.check_target()
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
        with explained(self.target):
            if self.target.is_dir():
                raise OutputError(f"{self.target} is a folder; choose a file name.")
            check_replaceable(self.target)
            if not self._overwrite and os.path.lexists(self.target):
                raise OutputError(f"{self.target} already exists; choose another name.")

    def publish(self) -> None:
        """Flush to the disk and rename into place."""
        with explained(self.target):
            self.check_target()
            if self._folder:
                self.path.replace(self.target)
            else:
                flush_to_disk(self.path)
                place(self.path, self.target, overwrite=self._overwrite)
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
