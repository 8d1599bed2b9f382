"""SHA-256 of checkpoints: of each file, streaming, and of a folder over its files.

A folder's digest is that of the lines which `sha256sum` prints of its files, sorted by name, so
that anyone can check it: `sha256sum a.safetensors b.safetensors | sha256sum`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from animatic.store import sha256_file
from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def hash_files(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of each file, by its path relative to `root`, with "/"."""
    try:
        return {file.relative_to(root).as_posix(): sha256_file(file) for file in files}
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} cannot be read ({error.strerror}): fetch it again."
        ) from error


def combine(hashes: Mapping[str, str]) -> str:
    """Return one SHA-256 in hex over names and their SHA-256, in whatever order they come."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def parse_sha256(text: str) -> str:
    """Return the hex of "sha256:HEX" or of bare HEX, in lower case; CheckpointError if neither."""
    match = _SHA256.fullmatch(text.strip())
    if match is None:
        raise CheckpointError(
            f"{text!r} is not a SHA-256: write `sha256:` and its 64 hexadecimal digits."
        )
    return match[1].lower()


def check_sha256(name: str, found: str, expected: str) -> None:
    """Refuse a file or folder whose digest is not the expected one ("sha256:HEX" or HEX)."""
    wanted = parse_sha256(expected)
    if found != wanted:
        raise CheckpointError(
            f"{name} is not the checkpoint that was asked for (its SHA-256 is {found}, expected "
            f"{wanted}): fetch it again, or correct the expected hash."
        )
