"""A bundle's graphs to engines for one or more targets: what `animatic build` does.

Every graph is compiled in a process of its own, one after the other, and published as soon as it is
done: a failure keeps what was finished before it, and an engine that is still the right one is not
built again.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from animatic.lock import locked
from animatic.store import open_bundle, sha256_file, verify_files
from animatic_engines.child import ask
from animatic_engines.choices import Probe, choose_backend, choose_graphs
from animatic_engines.errors import BuildError
from animatic_engines.limits import measure
from animatic_engines.messages import Failed, ProbeJob, Version
from animatic_engines.order import Order
from animatic_engines.presence import presence_of
from animatic_engines.shelf import building, sweep
from animatic_engines.sidecar import Sidecar, decode_sidecar
from animatic_engines.single import build_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from animatic.bundle import Bundle, EngineEntry, GraphSpec
    from animatic.store import OpenBundle
    from animatic.targets import Target
    from animatic_engines.limits import Room
    from animatic_engines.messages import Step

__all__ = ["Outcome", "Request", "build_engines"]


class Request(NamedTuple):
    """What to build.

    precision: "fp16", "bf16", "int8" or "fp8"; None is each target's own default.
    backend: "tensorrt_rtx" or "tensorrt"; None is the first that can build for the target here.
    force: build even what is fresh.
    text: build for a costly text encoder too; else only where it had an engine before.
    """

    targets: tuple[Target, ...]
    precision: str | None = None
    backend: str | None = None
    force: bool = False
    text: bool = False

    def precision_for(self, target: Target) -> str:
        """The one asked for, else the target's own."""
        return self.precision or target.default_precision

    def graphs_for(self, bundle: Bundle, target: Target) -> tuple[GraphSpec, ...]:
        """The graphs of a bundle that are built for a target; errors as `choose_graphs`."""
        return choose_graphs(bundle, target, self.precision_for(target), text=self.text)

    def leaves_text_out(self, bundle: Bundle) -> bool:
        """Whether the bundle's text encoder has no engine for a target, as nobody asked for one."""
        had = {entry.target for entry in bundle.engines if entry.role == "text_encoder"}
        missing = any(target.name not in had for target in self.targets)
        return bundle.text.costly and not self.text and missing


class Outcome(NamedTuple):
    """One engine that is there now.

    built: it was compiled just now; else it was fresh.
    not_run: why the new engine was not run on its device; "" if it was run, or is not new.
    """

    entry: EngineEntry
    sidecar: Sidecar
    built: bool
    not_run: str


def build_engines(
    root: Path,
    request: Request,
    *,
    on_step: Callable[[Order, Step], None],
    on_wait: Callable[[], None],
    room: Callable[[Path], Room] = measure,
) -> Iterator[Outcome]:
    """Build what a bundle needs for the targets, and yield each engine as it is published.

    on_step: called as a build gets on. on_wait: called if another program holds the bundle.
    room: measures memory and disk.

    Whatever can be refused without building is refused before the first build begins. Closing the
    iterator, or an exception in it, ends the build under way and leaves nothing of it.

    Raises:
        BundleError, TargetError, BuildError, OutputError: each says what to do.
    """
    bundle = open_bundle(root, verify=False).bundle
    for target in request.targets:  # before backends are imported, which takes a second
        request.graphs_for(bundle, target)
    with locked(root, on_wait), building(root) as folder:
        opened = open_bundle(root, verify=False)  # another build may just have ended
        sweep(root, opened.bundle)
        orders = _orders(opened, request, folder)
        verify_files(opened, {file for order in orders for file in order.graph_files})
        for order in orders:
            kept = None if request.force else _kept(opened, order)
            if kept is not None:
                yield kept
                continue
            entry, sidecar, not_run = build_one(opened, order, folder, on_step, room)
            yield Outcome(entry, sidecar, built=True, not_run=not_run)


def _orders(opened: OpenBundle, request: Request, folder: Path) -> list[Order]:
    """Everything that is wanted, each once."""

    @cache
    def probe(name: str) -> Probe:
        reply = ask(ProbeJob(backend=name), _ignore, doing=f"Importing {name}", folder=folder)
        if isinstance(reply, Version):
            return Probe(reply.version, "")
        return Probe("", reply.reason if isinstance(reply, Failed) else "it gives no version")

    orders: list[Order] = []
    for target in dict.fromkeys(request.targets):
        graphs = request.graphs_for(opened.bundle, target)
        backend = choose_backend(
            target, request.backend, opened.root, probe=probe, presence=presence_of
        )
        orders += [Order.of(opened.bundle, graph, target, backend) for graph in graphs]
    return orders


def _ignore(_step: Step) -> None:
    """Importing has no steps."""


def _kept(opened: OpenBundle, order: Order) -> Outcome | None:
    """The engine that is there, if a build would give the same and its files are whole."""
    fingerprint = order.fingerprint
    entry = next((e for e in opened.bundle.engines if e.fingerprint == fingerprint), None)
    if entry is None:
        return None
    plan, beside = opened.path(entry.file), opened.path(entry.sidecar.file)
    with contextlib.suppress(OSError, BuildError):  # missing, or an older version's: built again
        if (sha256_file(plan), sha256_file(beside)) == (entry.sha256, entry.sidecar.sha256):
            sidecar = decode_sidecar(beside.read_bytes())
            return Outcome(entry, sidecar, built=False, not_run="")
    return None
