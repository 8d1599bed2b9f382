"""What made a bundle: the versions at work and the moment, around what a recipe knows."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from animatic.bundle import Provenance

if TYPE_CHECKING:
    from animatic.bundle import Adapter

__all__ = ["provenance"]


def provenance(
    *, source: str, digest: str, licence: str, command: str, adapters: tuple[Adapter, ...] = ()
) -> Provenance:
    """Note down what a bundle is made from, here and now.

    source: the checkpoint's name. digest: SHA-256 in hex of all that went in.
    """
    versions = {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
    return Provenance(
        source=source,
        source_sha256=digest,
        licence=licence,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=command,
        versions=versions | {"python": platform.python_version()},
        adapters=adapters,
    )
