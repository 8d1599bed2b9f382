"""Building small bundles in tests: in this process, and as a command in one of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from animatic.bundle import EngineEntry, FileRef
from animatic.store import open_bundle, sha256_file
from animatic.targets import find_target
from animatic_engines.build import Outcome, Request, build_engines
from animatic_engines.limits import Room
from animatic_engines.shelf import stem_of
from tests.engines.small_bundle import TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from animatic.bundle import GraphSpec
    from animatic_engines.messages import Step
    from animatic_engines.order import Order

PATIENCE: Final = 120  # seconds; a loaded machine builds slowly
PLENTY: Final = Room(memory=1 << 40, disk=1 << 40)
# The command line with `build` in it. A shell's background jobs start with SIGINT ignored.
COMMAND: Final = (
    sys.executable,
    "-c",
    (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from animatic.cli import group, main\n"
        "from animatic_engines.cli import command\n"
        "group.add_command(command)\n"
        "sys.exit(main())\n"
    ),
    "build",
)


def needs_compiler() -> None:
    """Skip a test where TensorRT-RTX is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed: pip install 'animatic[build]'")


def build(
    root: Path,
    *,
    precision: str = "fp16",
    target: str = TARGET,
    force: bool = False,
    on_step: Callable[[Order, Step], None] = lambda _order, _step: None,
    room: Room = PLENTY,
) -> list[Outcome]:
    """Build all of a bundle for one target."""
    request = Request((find_target(target),), precision, force=force)
    engines = build_engines(
        root, request, on_step=on_step, on_wait=lambda: None, room=lambda _folder: room
    )
    return list(engines)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path within it."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def left_as_it_was(root: Path) -> Iterator[None]:
    """Assert that the bundle is byte for byte the same afterwards, and valid."""
    before = contents(root)
    yield
    assert contents(root) == before
    assert not (root / "engines" / ".building").exists()
    open_bundle(root)


def worker_of(parent: int) -> int | None:
    """The process that compiles for a parent; None if there is none."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if not folder.name.isdigit():
                continue
            # The fields after the command's name, which may hold anything, are plain.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
            if int(fields[1]) == parent and b"animatic_engines.worker" in command:
                return int(folder.name)
    return None


def alive(process: int) -> bool:
    """Whether a process is there and not merely waiting to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def environment() -> dict[str, str]:
    """This process's, with the same import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def entry_for(
    graph: GraphSpec, folder: Path, content: bytes
) -> tuple[EngineEntry, dict[str, Path]]:
    """An engine that nobody compiled, and its files."""
    files = {ending: folder / name for ending, name in ((".plan", "plan"), (".json", "sidecar"))}
    for path in files.values():
        path.write_bytes(content)
    stem = stem_of(graph, "rtx-40", "tensorrt_rtx")
    entry = EngineEntry(
        role=graph.role,
        precision=graph.precision,
        target="rtx-40",
        backend="tensorrt_rtx",
        backend_version="1",
        profile=(),
        flags={},
        file=f"{stem}.plan",
        sha256=sha256_file(files[".plan"]),
        fingerprint="0" * 64,
        sidecar=FileRef(file=f"{stem}.json", sha256=sha256_file(files[".json"])),
    )
    return entry, files
