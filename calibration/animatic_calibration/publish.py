"""Quantised graphs into a bundle: all of them, or the bundle as it was.

Files are written beside first. Where a graph of the same name is replaced, bundle.json lets go of
it for the moment of the renames: whatever kills the process, what bundle.json names is there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import onnx

from animatic.bundle import FileRef
from animatic.errors import OutputError
from animatic.lock import locked
from animatic.store import open_bundle, sha256_file, write_bundle
from animatic_calibration.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from animatic.bundle import Bundle, GraphSpec, Role
    from animatic.store import OpenBundle
    from animatic_calibration.weights import Weights

__all__ = ["SOURCE", "publish", "report_path", "save_graph", "save_report", "workplace"]

SOURCE: Final = "fp16"
"""The precision of the graphs that are quantised."""

_REPORTS: Final = "calibration"
_WORKPLACE: Final = ".calibration."


def report_path(root: Path, precision: str) -> Path:
    """Where the JSON report of a precision lies; the Markdown is beside it."""
    return root / _REPORTS / f"report.{precision}.json"


@contextlib.contextmanager
def workplace(root: Path, waiting: Callable[[], None]) -> Iterator[Path]:
    """Make a folder inside the bundle for files in the making; it is gone afterwards.

    What killed calibrations left is swept away first. The folder is locked while it is in use, and
    the bundle only while sweeping; waiting: called if another program holds the bundle.

    OutputError if the bundle cannot be written, before any work is done for it, and for whatever
    the disk refuses within.
    """
    folder = root / f"{_WORKPLACE}{secrets.token_hex(6)}.tmp"
    files = folder / "files"  # beside it: what `publish` puts aside, and a lock's own file
    try:
        with contextlib.ExitStack() as held:
            with locked(root, waiting):
                _sweep(root)
                folder.mkdir()
                held.enter_context(locked(folder, _busy))
            files.mkdir()
            yield files
    except OSError as error:
        raise OutputError(
            f"{root} cannot be written ({error.strerror or error}); calibrate a copy of the "
            "bundle that you may write to, on a disk with room."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _BusyError(Exception):
    """A folder is in use."""


def _busy() -> NoReturn:
    raise _BusyError


def _sweep(root: Path) -> None:
    """Remove workplaces that nobody holds; call it with the bundle locked."""
    for folder in root.glob(f"{_WORKPLACE}*"):
        with contextlib.suppress(_BusyError, OutputError):
            with locked(folder, _busy):
                pass  # nobody can take it from now on: that needs the bundle's lock
            shutil.rmtree(folder, ignore_errors=True)


def save_graph(
    model: ModelProto,
    source: GraphSpec,
    precision: str,
    made_from: str,
    folder: Path,
    *,
    weights: Weights,
    one_file: int,
) -> GraphSpec:
    """Write a graph into a folder and describe it: the source's spec in another precision.

    weights: where the graph's are. one_file: bytes of them above which they get their own file.
    """
    path = folder / f"{source.role}.{precision}.onnx"
    data = weights.save(model, path, one_file)
    onnx.checker.check_model(path, full_check=True)  # by the file: the model may pass 2 GiB
    external = () if data is None else (FileRef(file=data.name, sha256=sha256_file(data)),)
    return msgspec.structs.replace(
        source,
        file=path.name,
        sha256=sha256_file(path),
        precision=precision,
        external_data=external,
        made_from=made_from,
    )


def save_report(json: bytes, markdown: str, precision: str, folder: Path) -> None:
    """Write the two reports into a folder."""
    path = report_path(folder, precision)
    path.parent.mkdir()
    path.write_bytes(json)
    path.with_suffix(".md").write_text(markdown, "utf-8")


def publish(
    opened: OpenBundle, graphs: Sequence[GraphSpec], folder: Path, waiting: Callable[[], None]
) -> None:
    """Move everything in a workplace into the bundle, then name the graphs in bundle.json.

    opened: the bundle as it was calibrated. What was added to it meanwhile, engines and graphs of
        other precisions, stays.
    waiting: called if another program holds the bundle.

    CalibrationError if somebody else changed the model or the graphs that were quantised.
    """
    root = opened.root
    with locked(root, waiting):
        now = open_bundle(root, verify=False)
        sources = [graph for graph in opened.bundle.graphs if graph.precision == SOURCE]
        if now.digest != opened.digest or any(s not in now.bundle.graphs for s in sources):
            raise CalibrationError(
                f"The bundle {root} was changed while it was calibrated; run `animatic calibrate` "
                "again."
            )
        _replace(root, now.bundle, graphs, folder)


def _replace(root: Path, bundle: Bundle, graphs: Sequence[GraphSpec], folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        _flush(path)
    kinds = {(graph.role, graph.precision) for graph in graphs}
    others = [graph for graph in bundle.graphs if (graph.role, graph.precision) not in kinds]
    replaces = len(others) < len(bundle.graphs)
    backup = folder.with_name("old")  # goes with the workplace
    moves: list[tuple[Path, Path | None]] = []
    try:
        if replaces:
            write_bundle(root, _without(bundle, others, kinds))
        for path in files:
            place, kept = root / path.relative_to(folder), backup / path.relative_to(folder)
            place.parent.mkdir(exist_ok=True)
            replaced = place.exists()
            # Noted before it is done: Ctrl-C may come in between.
            moves.append((place, kept if replaced else None))
            if replaced:
                kept.parent.mkdir(parents=True, exist_ok=True)
                place.rename(kept)
            path.rename(place)
        write_bundle(root, msgspec.structs.replace(bundle, graphs=(*others, *graphs)))
    except BaseException:
        _undo(root, bundle, moves)
        raise


def _undo(root: Path, bundle: Bundle, moves: Sequence[tuple[Path, Path | None]]) -> None:
    """Put the old files back, and then the bundle.json that names them.

    moves: each place with where its old file was to be kept, None if there was none.
    """
    for place, kept in moves:
        if kept is None:
            place.unlink(missing_ok=True)
        elif kept.exists():  # else the old file was not moved yet
            kept.replace(place)
    write_bundle(root, bundle)


def _without(bundle: Bundle, graphs: Sequence[GraphSpec], kinds: set[tuple[Role, str]]) -> Bundle:
    """Return the bundle with these graphs only, and no engine of the others."""
    engines = tuple(e for e in bundle.engines if (e.role, e.precision) not in kinds)
    return msgspec.structs.replace(bundle, graphs=tuple(graphs), engines=engines)


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
