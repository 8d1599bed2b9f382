"""Bundles on disk: opening, verifying, writing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from animatic.bundle import Bundle, decode_bundle, encode_bundle
from animatic.errors import (
    BundleIntegrityError,
    BundleNotFoundError,
    BundleSchemaError,
    OutputError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from animatic.bundle import GraphSpec

__all__ = [
    "OpenBundle",
    "add_graphs",
    "open_bundle",
    "sha256_file",
    "shipped_bundle_path",
    "verify_files",
    "write_bundle",
]

_MEND = "reinstall animatic or export the bundle again"


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A bundle and where it lies.

    root: the folder of bundle.json.
    digest: stands for the model, SHA-256 in hex: of what bundle.json says, hashes of the reference
        graphs included, without what is derived from them (typed graphs, engines), without scores
        and without the number of its schema. So a clip can be reproduced after engines were built.
    """

    root: Path
    bundle: Bundle
    digest: str

    def path(self, file: str) -> Path:
        """Where a file of the bundle lies; BundleSchemaError if the name leaves the folder."""
        # Judged by the name alone, without following links: some installers (and every
        # content-addressed cache) put a link in place of the file, and the hash still holds.
        parts = PurePosixPath(file).parts
        if not parts or parts[0] == "/" or ".." in parts or any(c in file for c in "\\:\0"):
            raise BundleSchemaError(
                f"bundle.json names the file {file!r}, which is not inside the bundle's folder; "
                "do not use this bundle, or export it again."
            )
        return self.root.joinpath(*parts)


def shipped_bundle_path() -> Path:
    """Return the folder of Blockout, the model that comes with animatic."""
    return Path(__file__).parent / "bundles" / "blockout"


def open_bundle(path: str | os.PathLike[str] | None = None, *, verify: bool = True) -> OpenBundle:
    """Read the bundle in a folder, which may be named by its bundle.json too.

    None is the Blockout that comes with animatic.

    verify: also hash every file (`verify_files`).
    Raises BundleNotFoundError, BundleSchemaError or BundleIntegrityError.
    """
    root = shipped_bundle_path() if path is None else Path(path)
    if root.name == "bundle.json" and not root.is_dir():
        root = root.parent
    try:
        data = (root / "bundle.json").read_bytes()
    # ValueError: a path with a NUL in it.
    except (OSError, ValueError) as error:
        if path is None:
            message = "The built-in model is missing from this installation; reinstall animatic."
        elif isinstance(error, PermissionError):
            message = f"{root / 'bundle.json'} may not be read; give yourself permission to it."
        elif isinstance(error, NotADirectoryError):
            message = f"{root} is a file; give the folder of a bundle, which holds a bundle.json."
        else:
            message = (
                f"There is no bundle at {root}; give a folder that holds a bundle.json, or leave "
                "the bundle out to use the built-in model."
            )
        raise BundleNotFoundError(message) from error
    bundle = decode_bundle(data)
    opened = OpenBundle(root, bundle, _digest(bundle))
    if verify:
        verify_files(opened)
    return opened


def _digest(bundle: Bundle) -> str:
    graphs = tuple(graph for graph in bundle.graphs if not graph.made_from)
    model = msgspec.structs.replace(bundle, graphs=graphs, engines=(), scores={})
    fields = msgspec.json.decode(encode_bundle(model))
    del fields["schema_version"]
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()


def _files(opened: OpenBundle) -> Iterator[tuple[str, str | None, str]]:
    """Every file that bundle.json names: its SHA-256, where it states one, and how to mend it."""
    bundle = opened.bundle
    for graph in bundle.graphs:
        mend = _mend(opened, graph)
        yield graph.file, graph.sha256, mend
        for data in graph.external_data:
            yield data.file, data.sha256, mend
    yield bundle.text.tokenizer.file, bundle.text.tokenizer.sha256, _MEND
    for engine in bundle.engines:
        mend = f"run `animatic build {shlex.quote(str(opened.root))} --target {engine.target}`"
        yield engine.file, engine.sha256, mend
        yield engine.sidecar.file, engine.sidecar.sha256, mend
    for licence in bundle.licences:
        yield licence.file, None, _MEND


def _mend(opened: OpenBundle, graph: GraphSpec) -> str:
    """How a graph is made again: one that is derived without the rest of the bundle."""
    if not graph.made_from:
        return _MEND
    root = shlex.quote(str(opened.root))
    if graph.precision in {"int8", "fp8"}:
        return f"run `animatic calibrate {root} --precision {graph.precision}`"
    family = opened.bundle.family
    return f"run `animatic export {family} --precision {graph.precision} --out {root}`"


def verify_files(opened: OpenBundle, only: Collection[str] | None = None) -> None:
    """Hash a bundle's files; BundleIntegrityError names the first that is not right.

    only: the names of those that will be used (a bundle may hold engines for ten cards); None is
        every file.
    """
    for file, expected, mend in _files(opened):
        if only is not None and file not in only:
            continue
        path = opened.path(file)
        try:
            if not path.is_file():
                raise BundleIntegrityError(f"The file {path} of the bundle is missing; {mend}.")
            if expected is None:
                continue
            actual = sha256_file(path)
        except OSError as error:
            raise BundleIntegrityError(
                f"The file {path} of the bundle cannot be read ({error.strerror}); {mend}."
            ) from error
        if actual != expected:
            raise BundleIntegrityError(
                f"The file {path} is truncated or changed (its SHA-256 begins {actual[:12]}, "
                f"bundle.json says {expected[:12]}); {mend}."
            )


def write_bundle(root: Path, bundle: Bundle) -> str:
    """Write bundle.json into a folder whose other files are already there; returns its digest.

    The file is written beside and renamed: until the very end, and after any failure, an older
    bundle.json stays as it was. OutputError if the folder cannot be written.
    """
    data = encode_bundle(bundle)
    target = root / "bundle.json"
    temporary = root / f".bundle.json.{os.getpid()}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error.strerror}); choose a folder that you may write "
            "to, on a disk with room."
        ) from error
    finally:
        # After a success there is nothing to remove; after anything else, Ctrl-C too, there is.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return _digest(bundle)


def add_graphs(root: Path, specs: Sequence[GraphSpec], staged: Path) -> None:
    """Move graphs from the folder `staged`, on the same disk, into the bundle at `root`.

    They take the place of graphs of the same role and precision, whose engines go with them. The
    bundle is whole at every moment: what leaves is first no longer named by bundle.json, and what
    comes is named last. OutputError if the folder cannot be written.
    """
    bundle = open_bundle(root, verify=False).bundle
    kinds = {(spec.role, spec.precision) for spec in specs}
    graphs = tuple(g for g in bundle.graphs if (g.role, g.precision) not in kinds)
    engines = tuple(e for e in bundle.engines if (e.role, e.precision) not in kinds)
    if graphs != bundle.graphs:
        write_bundle(root, msgspec.structs.replace(bundle, graphs=graphs, engines=engines))
    try:
        for spec in specs:
            for file in _files_of(spec):
                (staged / file).replace(root / file)
    except OSError as error:
        raise OutputError(
            f"{root} cannot be written ({error.strerror}); choose a folder that you may write to, "
            "on a disk with room."
        ) from error
    named = msgspec.structs.replace(bundle, graphs=(*graphs, *specs), engines=engines)
    write_bundle(root, named)
    left = [file for e in bundle.engines if e not in engines for file in (e.file, e.sidecar.file)]
    kept = {file for graph in named.graphs for file in _files_of(graph)}
    left += [f for g in bundle.graphs if g not in graphs for f in _files_of(g) if f not in kept]
    for file in left:
        (root / file).unlink(missing_ok=True)


def _files_of(graph: GraphSpec) -> tuple[str, ...]:
    """A graph and its external data."""
    return (graph.file, *(data.file for data in graph.external_data))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hash a file's bytes: SHA-256, in hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
