"""A compiler's messages: all in a file, as they come, and the few that are looked at afterwards."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from animatic_engines.layers import HEADING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BuildLog"]

_GRAVE: Final = frozenset({"INTERNAL_ERROR", "ERROR"})
_FLUSHED: Final = _GRAVE | {"WARNING"}  # of the thousands of others, a crash may lose the last few


class BuildLog:
    """Writes messages to a file.

    layers: the messages that list an engine's layers.
    trouble: the first error, on one line; "" if there was none.
    failure: what kept the file from being written; messages after it are lost.

    An exception must not leave `add`, which is called by the compiler's own threads.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", errors="replace")
        self._lock = threading.Lock()
        self.layers: list[str] = []
        self.trouble = ""
        self.failure: OSError | None = None

    def add(self, severity: str, message: str) -> None:
        """Keep a message; severity is INTERNAL_ERROR, ERROR, WARNING, INFO or VERBOSE."""
        with self._lock:
            if message.startswith(HEADING):
                self.layers.append(message)
            if severity in _GRAVE and not self.trouble:
                self.trouble = " ".join(message.split()).rstrip(".")
            if self.failure is not None:
                return
            try:
                self._stream.write(f"{severity} {message}\n")
                if severity in _FLUSHED:
                    self._stream.flush()
            except OSError as error:
                self.failure = error

    def check(self) -> None:
        """Raise what kept the file from being written, if anything did."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            self._stream.flush()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file; what a full disk would not take is lost, and was reported by `check`."""
        try:
            self._stream.close()
        except OSError as error:
            self.failure = self.failure or error
