"""One engine: room for it, its build in another process, its first run, its place in the bundle."""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
import platformdirs

from animatic.bundle import EngineEntry, FileRef
from animatic.errors import AnimaticError, EngineError
from animatic.sinks.pending import explained
from animatic.store import sha256_file
from animatic_engines.child import ask
from animatic_engines.errors import BuildError, CompilerError, GraphError, NoRoomError
from animatic_engines.limits import needed_room, refuse_if_short
from animatic_engines.messages import LAYERS, LOG, PLAN, Compiled, CompileJob, Failed, SmokeJob
from animatic_engines.presence import presence_of
from animatic_engines.shelf import SUFFIXES, publish, stem_of
from animatic_engines.sidecar import Sidecar, encode_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.store import OpenBundle
    from animatic_engines.limits import Room
    from animatic_engines.messages import Reply, Step
    from animatic_engines.order import Order

__all__ = ["build_one"]

_PLAN, _SIDECAR, _LOG, _LAYERS = SUFFIXES
_BESIDE: Final = "sidecar"  # its name while it is in the folder of the build


def build_one(
    opened: OpenBundle,
    order: Order,
    folder: Path,
    on_step: Callable[[Order, Step], None],
    room: Callable[[Path], Room],
) -> tuple[EngineEntry, Sidecar, str]:
    """Build an engine in an empty folder of the bundle's disk and publish it.

    Also gives why it was not run, or "". Arguments and errors as `build_engines`.
    """
    need = needed_room(_size(opened, order))
    refuse_if_short(need, room(opened.root), doing=order.doing, folder=opened.root)
    try:
        compiled = _compile(opened, order, folder, on_step)
    except BuildError as error:
        log = _keep_log(folder / LOG)
        if log is None or isinstance(error, NoRoomError):
            raise
        raise type(error)(f"{str(error)[:-1]}; the build log is {log}.") from error
    stem = stem_of(order.graph, order.target.name, order.backend.name)
    with explained(folder):
        entry = EngineEntry(
            role=order.graph.role,
            precision=order.graph.precision,
            target=order.target.name,
            backend=order.backend.name,
            backend_version=order.backend.version,
            profile=order.profile,
            flags=order.flags,
            file=stem + _PLAN,
            sha256=sha256_file(folder / PLAN),
            fingerprint=order.fingerprint,
            # Not written yet: it says whether the engine, to which this entry is given, was run.
            sidecar=FileRef(file=stem + _SIDECAR, sha256="0" * 64),
        )
    presence = presence_of(order.target)
    if presence.device:
        _run(entry, order, folder, presence.device)
    sidecar = _sidecar(entry, compiled, (folder / PLAN).stat().st_size, presence.device)
    with explained(folder):
        (folder / _BESIDE).write_bytes(encode_sidecar(sidecar))
        beside = FileRef(file=stem + _SIDECAR, sha256=sha256_file(folder / _BESIDE))
    entry = msgspec.structs.replace(entry, sidecar=beside)
    files = {_LAYERS: LAYERS, _LOG: LOG, _SIDECAR: _BESIDE, _PLAN: PLAN}
    publish(opened.root, order.graph, entry, {end: folder / name for end, name in files.items()})
    return entry, sidecar, presence.reason


def _size(opened: OpenBundle, order: Order) -> int:
    """Bytes of a graph with its weights, whose files were just verified."""
    return sum(opened.path(file).stat().st_size for file in order.graph_files)


def _compile(
    opened: OpenBundle, order: Order, folder: Path, on_step: Callable[[Order, Step], None]
) -> Compiled:
    job = CompileJob(
        backend=order.backend.name,
        graph=os.fspath(opened.path(order.graph.file).absolute()),
        spec=order.graph,
        compute_capability=order.capability,
        profile=order.profile,
        workspace=order.workspace,
        folder=os.fspath(folder.absolute()),
        timing_cache=_timing_cache(order),
    )
    reply = ask(job, lambda step: on_step(order, step), doing=order.doing, folder=folder)
    if isinstance(reply, Compiled):
        return reply
    raise _explained(reply, opened, order)


def _timing_cache(order: Order) -> str:
    """Where TensorRT keeps what it measured, per version and card; TensorRT-RTX keeps nothing."""
    if order.backend.name == "tensorrt_rtx":
        return ""
    card = "sm" + "".join(map(str, order.capability))
    name = f"{order.backend.name}-{order.backend.version}-{card}.cache"
    return os.fspath(platformdirs.user_cache_path("animatic") / "timing" / name)


def _explained(reply: Reply, opened: OpenBundle, order: Order) -> AnimaticError:
    if not isinstance(reply, Failed):
        raise TypeError(reply)  # a bug: the process answers what it was not asked
    if reply.kind == "disk":
        return NoRoomError(
            f"{order.doing} filled the disk of {opened.root} or reached a limit on the size of "
            f"files ({reply.reason}); free some space, or copy the bundle to another disk."
        )
    if reply.kind == "memory":
        return NoRoomError(
            f"{order.doing} ran out of memory; close what else is running, or build on a machine "
            "with more memory."
        )
    if reply.kind == "graph":
        return GraphError(
            f"{order.backend.title} cannot compile {order.graph.file}: {reply.reason}; export the "
            "bundle again."
        )
    return CompilerError(
        f"{order.backend.title} gave up on the {order.kind}: {reply.reason}; build in another "
        "precision (--precision), or with another version of it."
    )


def _run(entry: EngineEntry, order: Order, folder: Path, device: str) -> None:
    """Run the engine once in a process of its own; EngineError if that fails."""
    job = SmokeJob(plan=os.fspath((folder / PLAN).absolute()), spec=order.graph, entry=entry)
    doing = f"Running the {order.kind} once"
    reply = ask(job, lambda _step: None, doing=doing, folder=folder)
    if isinstance(reply, Failed):
        raise EngineError(
            f"The {order.kind} was built, but does not run on the {device} here: {reply.reason}; "
            "update the driver or the backend and build again."
        )


def _sidecar(entry: EngineEntry, compiled: Compiled, plan_bytes: int, device: str) -> Sidecar:
    return Sidecar(
        role=entry.role,
        precision=entry.precision,
        target=entry.target,
        backend=entry.backend,
        backend_version=entry.backend_version,
        inputs=compiled.inputs,
        outputs=compiled.outputs,
        profile=entry.profile,
        flags=entry.flags,
        plan_bytes=plan_bytes,
        seconds=compiled.seconds,
        peak_rss=compiled.peak_rss,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layers=compiled.layers,
        ran_on=device,
        warnings=compiled.warnings,
    )


def _keep_log(log: Path) -> Path | None:
    """Move the log of a failed build out of the bundle, which keeps nothing of it."""
    kept = platformdirs.user_log_path("animatic") / "build.log"
    with contextlib.suppress(OSError):
        if log.stat().st_size:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, kept)
            return kept
    return None
