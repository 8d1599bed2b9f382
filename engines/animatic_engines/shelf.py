"""The engines of a bundle on its disk: names, a place to build in, and publishing.

bundle.json names a plan and its sidecar only while both are there and whole: what leaves is first
no longer named, and what comes is named last. Wherever a build breaks off, even by kill -9, the
bundle is valid; what lies about unnamed is swept up by the next build.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from animatic.bundle import Role
from animatic.errors import BundleIntegrityError
from animatic.sinks.pending import explained, flush_to_disk
from animatic.store import open_bundle, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from animatic.bundle import Bundle, EngineEntry, GraphSpec

__all__ = ["SUFFIXES", "building", "publish", "stem_of", "sweep"]

FOLDER: Final = "engines"
_BUILDING: Final = ".building"
SUFFIXES: Final = (".plan", ".json", ".log", ".layers.json")
_OURS: Final = re.compile(
    rf"(?P<stem>(?:{'|'.join(get_args(Role))})\.\w+\.\w+)(?:{'|'.join(map(re.escape, SUFFIXES))})"
)


def stem_of(graph: GraphSpec, target: str, backend: str) -> str:
    """Where an engine's files lie within its bundle, but for their endings (`SUFFIXES`)."""
    return f"{FOLDER}/{target}/{graph.role}.{graph.precision}.{backend}"


@contextlib.contextmanager
def building(root: Path) -> Iterator[Path]:
    """Give an empty folder on the bundle's disk; it is gone afterwards, whatever happens.

    Call it with the bundle locked: what is in the folder already was left by a build that was
    killed. OutputError if it cannot be made.
    """
    folder = root / FOLDER / _BUILDING
    try:
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (root / FOLDER).rmdir()  # only if it is empty


def publish(root: Path, graph: GraphSpec, entry: EngineEntry, files: Mapping[str, Path]) -> None:
    """Put an engine into the bundle, in the place of one of the same kind.

    graph: what it was built from. files: where its files are now, on the bundle's disk, by ending.

    Raises:
        BundleIntegrityError: another program replaced the graph meanwhile.
        OutputError: the folder cannot be written.
    """
    bundle = open_bundle(root, verify=False).bundle
    if graph not in bundle.graphs:
        raise BundleIntegrityError(
            f"The {graph.precision} {graph.role} graph of {root} was replaced while its engine was "
            f"being built; build again: animatic build {root} --target {entry.target}."
        )
    others = tuple(e for e in bundle.engines if _kind(e) != _kind(entry))
    if others != bundle.engines:
        write_bundle(root, msgspec.structs.replace(bundle, engines=others))
    stem = entry.file.removesuffix(SUFFIXES[0])
    target = (root / entry.file).parent
    with explained(target):
        target.mkdir(exist_ok=True)
        for suffix, path in files.items():
            flush_to_disk(path)
            path.replace(root / f"{stem}{suffix}")
        flush_to_disk(target)
    bundle = msgspec.structs.replace(bundle, engines=(*others, entry))
    write_bundle(root, bundle)
    sweep(root, bundle)


def _kind(entry: EngineEntry) -> tuple[str, ...]:
    return entry.target, entry.role, entry.precision, entry.backend


def sweep(root: Path, bundle: Bundle) -> None:
    """Remove engine files that bundle.json does not name: a killed build's, or a lost graph's.

    Only files with names that builds give; anything else in the folder is somebody's own.
    """
    named = {entry.file.removesuffix(SUFFIXES[0]) for entry in bundle.engines}
    for path in (root / FOLDER).glob("*/*"):
        match = _OURS.fullmatch(path.name)
        if match is None or path.parent.name.startswith("."):
            continue
        if f"{FOLDER}/{path.parent.name}/{match['stem']}" not in named:
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()
