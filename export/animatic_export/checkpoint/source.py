"""Where a checkpoint lies: on this disk as it is, or on the hub, fetched once into its cache.

huggingface_hub does the fetching and keeps the cache, so that a checkpoint which another tool has
fetched is not fetched again, and one that is in the cache is found without a network.
"""

from __future__ import annotations

import errno
import glob
import re
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from animatic_export.errors import MissingCheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

CARD: Final = ("README.md", "LICEN[CS]E*", "NOTICE*", "*licen[cs]e*.txt")
"""What is fetched beside the weights where there is such a thing: the model card and licences."""
WHOLE: Final = "give a checkpoint that does, whole"

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HUB: Final = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^:\\]+))?",
    re.ASCII,
)


class HubReference(NamedTuple):
    """A repository on the hub: "owner/name", its branch, tag or commit, and a file in it."""

    repository: str
    revision: str | None
    file: str | None


def is_here(path: str | Path) -> bool:
    """Whether there is such a file or folder; a text that can be no path is not here either."""
    try:
        return str(path) != "" and Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a name too long, a folder that is closed, ~nobody
        return False


def hub_reference(reference: str | Path) -> HubReference | None:
    """Read "owner/name[@revision][:file/in/repo]"; None for what is here, or cannot be an id."""
    if isinstance(reference, Path) or is_here(reference):
        return None
    match = _HUB.fullmatch(reference)
    if match is None or ".." in PurePosixPath(match["file"] or "").parts:
        return None
    return HubReference(match["repository"], match["revision"], match["file"])


def locate(
    reference: str | Path,
    wanted: Sequence[str] = ("*",),
    card: Sequence[str] = CARD,
    advice: str = WHOLE,
) -> Path:
    """Return the file or folder of a checkpoint, fetching it if it is on the hub and not here.

    reference: a path, or "owner/name[@revision][:file/in/repo]". What is here goes before the hub.
    wanted: patterns (`fnmatch`, "*" crosses "/") of the only files that are needed of a folder or
        a repository; each must be there.
    card: patterns of what else is fetched where it exists.
    advice: what to do where something that is wanted is not there.
    """
    hub = hub_reference(reference)
    if hub is None:
        if not is_here(reference):
            raise MissingCheckpointError(
                f"There is no file or folder {reference}, and that is no id on the hub "
                "(`owner/name`): check its name."
            )
        path = Path(reference).expanduser()
        if path.is_dir():
            _check_complete(path, wanted, str(reference), advice)
        return path
    if hub.file is None:
        folder = _fetch(hub, [*wanted, *card])
        _check_complete(folder, wanted, str(reference), advice)
        return folder
    file = _fetch(hub, [glob.escape(hub.file), *card]) / hub.file
    if not file.is_file():
        raise MissingCheckpointError(
            f"{hub.repository} has no file {hub.file}, or it is not in the cache: check its name."
        )
    return file


def _fetch(hub: HubReference, patterns: list[str]) -> Path:
    """Bring the files into the hub's cache, or find them there; return the snapshot's folder."""
    try:
        from httpx2 import TransportError
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingCheckpointError(
            f"{hub.repository} is to be fetched from the hub, which needs huggingface_hub: "
            "`pip install 'animatic[export]'`, or give a folder that is here."
        ) from error
    fetch = partial(
        snapshot_download, hub.repository, revision=hub.revision, allow_patterns=patterns
    )
    try:
        try:
            return Path(fetch())
        except TransportError:  # a proxy, or a line that broke: no answer falls back by itself
            return Path(fetch(local_files_only=True))
    # huggingface_hub has no class over all of its errors, nor over those of what it stands on.
    except Exception as error:
        raise MissingCheckpointError(_reason(hub, error)) from error


def _reason(hub: HubReference, error: Exception) -> str:
    """Say in one sentence why huggingface_hub did not give a repository."""
    from huggingface_hub import errors

    name, page = hub.repository, f"https://huggingface.co/{hub.repository}"
    if (isinstance(error, OSError) and error.errno in _FULL) or "os error 28" in str(error):
        return (
            f"The disk is full and {name} did not fit: make room, or set HF_HOME to a folder on a "
            "larger disk."
        )
    sentences: dict[type[Exception], str] = {  # the order counts: the first are kinds of the later
        errors.GatedRepoError: (
            f"{name} is given only to those who accepted its terms: accept them on {page}, then "
            "log in with `hf auth login`."
        ),
        errors.RepositoryNotFoundError: (
            f"There is no folder {name} here and no such repository on the hub that you may see: "
            "check its name, or log in with `hf auth login` if it is private."
        ),
        errors.RevisionNotFoundError: (
            f"{name} has no revision {hub.revision}: give a branch, tag or commit of {page}."
        ),
        errors.HFValidationError: (
            f"{name} is no folder here and no id on the hub (`owner/name`): check its name."
        ),
        errors.LocalEntryNotFoundError: (
            f"{name} is not in the cache, or not all of it, and {_silence(error)}, or give a "
            "folder that is here."
        ),
    }
    for kind, sentence in sentences.items():
        if isinstance(error, kind):
            return sentence
    detail = str(error).strip().partition("\n")[0] or type(error).__name__
    return (
        f"{name} could not be fetched ({detail}): try again, or run `hf download {name}` and give "
        "the folder that it prints."
    )


def _silence(error: Exception) -> str:
    """Say why there is only the cache, and what to do about that."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error.__cause__, HfHubHTTPError):
        return f"the hub answered {error.__cause__.response.status_code}: try again later"
    return "the hub cannot be reached: connect to the network, without HF_HUB_OFFLINE"


def _check_complete(folder: Path, wanted: Sequence[str], name: str, advice: str) -> None:
    """Refuse a folder that lacks what is wanted."""
    for pattern in wanted:
        files = (file for file in folder.rglob("*") if file.is_file())
        if not any(fnmatch(file.relative_to(folder).as_posix(), pattern) for file in files):
            raise MissingCheckpointError(f"{name} holds no {pattern}: {advice}.")
