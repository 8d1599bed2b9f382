"""Text states on disk: a prompt that was encoded once does not load the text encoder again.

Only for text encoders that are costly (`animatic.bundle.TextSpec`): umT5-xxl has 11 GB. A file lies
in the user's cache folder and is named for a hash of the encoder and the prompt. The prompt itself
is written nowhere, as scripts are confidential; but its states say much of what it says, so that
the folder is the user's alone.

A cache that cannot be written, or a file in it that is damaged, costs time and nothing else. With
the environment variable ANIMATIC_TEXT_CACHE set to 0 nothing is read or written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from platformdirs import user_cache_path

from animatic.fingerprint import graph_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from animatic.bundle import GraphSpec
    from animatic.store import OpenBundle

    States = npt.NDArray[np.float32]

__all__ = ["LIMIT", "SWITCH", "TextCache", "cache_folder", "switched_off"]

_log = logging.getLogger(__name__)

SWITCH: Final = "ANIMATIC_TEXT_CACHE"
LIMIT: Final = 256 << 20  # bytes; 60 tokens of umT5-xxl take 1 MB
_ENDING: Final = ".npy"
_UNFINISHED: Final = ".tmp"
_ABANDONED: Final = 3600  # seconds after which an unfinished file is a killed process's
_DIGEST: Final = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return the folder of the user's cache where text states are kept."""
    return user_cache_path("animatic") / "text"


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Have caches that are made meanwhile keep nothing: for whoever measures the text encoder."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "0"
    try:
        yield
    finally:
        del os.environ[SWITCH]
        if before is not None:
            os.environ[SWITCH] = before


class TextCache:
    """The states that one text encoder gave; other processes may use the same folder at once.

    A file is NumPy's .npy with the SHA-256 of its bytes behind them, which NumPy does not mind.
    """

    def __init__(self, folder: Path | None, encoder: str, *, limit: int = LIMIT) -> None:
        """Keep states in a folder, which need not be there yet; None keeps nothing.

        encoder: stands for all that the states depend on beside the prompt. limit: bytes of all
        files together, of other encoders too.
        """
        self._folder = folder
        self._encoder = encoder
        self._limit = limit
        self._told = False

    @classmethod
    def of(cls, opened: OpenBundle, encoder: GraphSpec) -> TextCache:
        """Return the cache of a bundle's text encoder, as this graph computes it."""
        text = opened.bundle.text
        parts = [graph_digest(encoder), text.tokenizer.sha256]
        parts += [str(text.max_tokens), str(text.pad_to_max)]
        switched_off = os.environ.get(SWITCH) == "0"
        return cls(None if switched_off else cache_folder(), "\n".join(parts))

    def get(self, prompt: str) -> States | None:
        """Return a prompt's states, float32 [1, tokens, D], or None if they are not kept."""
        if self._folder is None:
            return None
        path = self._path(self._folder, prompt)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell("read", error)
            return None
        states = _decoded(data)
        with contextlib.suppress(OSError):
            if states is None:
                _log.debug("the text states in %s are damaged and are made again", path)
                path.unlink()
            else:
                os.utime(path)  # so that what is used stays longest
        return states

    def put(self, prompt: str, states: States) -> None:
        """Keep a prompt's states, float32 [1, tokens, D], unless they hold what is no number."""
        if self._folder is None or not np.isfinite(states).all():
            return
        data = _encoded(states)
        if len(data) > self._limit:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._path(self._folder, prompt), data)
            _evict(self._folder, self._limit)
        except OSError as error:
            self._tell("written", error)

    def _path(self, folder: Path, prompt: str) -> Path:
        key = hashlib.sha256(f"{self._encoder}\n{prompt}".encode()).hexdigest()
        return folder / f"{key}{_ENDING}"

    def _tell(self, verb: str, error: OSError) -> None:
        """Log what is wrong with the folder, once."""
        level = logging.DEBUG if self._told else logging.INFO
        self._told = True
        _log.log(
            level,
            "text states cannot be %s in %s (%s): prompts are encoded anew each time",
            verb,
            self._folder,
            error.strerror or error,
        )


def _encoded(states: States) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(states, dtype=np.float32), allow_pickle=False)
    data = stream.getvalue()
    return data + hashlib.sha256(data).digest()


def _decoded(data: bytes) -> States | None:
    """Return the states in a file's bytes; None if these are damaged."""
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        states = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError):  # whole, and not ours
        return None
    return states if isinstance(states, np.ndarray) and states.dtype == np.float32 else None


def _write(path: Path, data: bytes) -> None:
    """Write beside and rename: a reader sees all of a file or none of it."""
    descriptor, name = tempfile.mkstemp(_UNFINISHED, ".", path.parent)  # the user's alone
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _evict(folder: Path, limit: int) -> None:
    """Remove what was used longest ago, until the rest is within the limit."""
    files = sorted(_files(folder), reverse=True)
    total = 0
    for used, size, path in files:
        total += size
        abandoned = path.suffix == _UNFINISHED and used < time.time() - _ABANDONED
        if abandoned or (total > limit and path.suffix == _ENDING):
            total -= size
            with contextlib.suppress(OSError):  # another process was quicker, or is reading it
                path.unlink()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each of our files was last used, in seconds since 1970, its size in bytes, its path."""
    for path in folder.iterdir():
        if path.suffix in {_ENDING, _UNFINISHED}:
            with contextlib.suppress(OSError):  # gone meanwhile
                status = path.stat()
                yield status.st_mtime, status.st_size, path
