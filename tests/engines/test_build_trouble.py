"""Builds that are broken off: kill -9, Ctrl-C, full disks, too little memory, two at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from animatic.store import open_bundle
from animatic_engines.errors import CrashError, NoRoomError
from tests.engines.building import (
    COMMAND,
    PATIENCE,
    PLENTY,
    alive,
    build,
    contents,
    environment,
    left_as_it_was,
    needs_compiler,
    wait_for,
    worker_of,
)
from tests.engines.small_bundle import TARGET, write_small_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animatic_engines.limits import Room
    from animatic_engines.messages import Step
    from animatic_engines.order import Order

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and /proc")
OPTIONS = ("--target", TARGET, "--precision", "fp16")


@pytest.fixture(autouse=True)
def _compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            signal.SIGKILL,
            (
                r"^Building the fp16 denoiser for rtx-40 was killed from outside, most often "
                r"because memory ran out; .* build again; the build log is .*\.$"
            ),
        ),
        (signal.SIGSEGV, r"^Building the fp16 denoiser for rtx-40 crashed \(SIGSEGV\).*; build"),
    ],
)
def test_a_worker_that_dies_is_a_sentence(bundle: Path, sent: signal.Signals, words: str) -> None:
    def kill(_order: Order, _step: Step) -> None:
        worker = worker_of(os.getpid())
        if worker is not None:
            os.kill(worker, sent)

    with left_as_it_was(bundle), pytest.raises(CrashError, match=words):
        build(bundle, on_step=kill)


def test_a_killed_rebuild_leaves_the_old_engine(built: Path) -> None:
    def kill(_order: Order, _step: Step) -> None:
        worker = worker_of(os.getpid())
        if worker is not None:
            os.kill(worker, signal.SIGKILL)

    with left_as_it_was(built), pytest.raises(CrashError):
        build(built, precision="int8", force=True, on_step=kill)


def under_way(bundle: Path, *options: str) -> subprocess.Popen[str]:
    """The command, when its worker has begun to write its log."""
    child = subprocess.Popen(
        [*COMMAND, str(bundle), *OPTIONS, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    log = bundle / "engines" / ".building" / "log"
    wait_for(lambda: log.exists() or child.poll() is not None)
    assert child.poll() is None, child.communicate()
    return child


def test_kill_9_of_the_command_ends_the_worker_and_the_next_build_sweeps_up(bundle: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    with under_way(bundle) as child:
        worker = worker_of(child.pid)
        assert worker is not None
        child.kill()
        child.communicate(timeout=PATIENCE)
    wait_for(lambda: not alive(worker))
    assert (bundle / "bundle.json").read_bytes() == before
    open_bundle(bundle)
    assert (bundle / "engines" / ".building").is_dir()
    (found,) = build(bundle)
    assert found.built
    assert not (bundle / "engines" / ".building").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_nothing(bundle: Path, sent: signal.Signals, code: int) -> None:
    with left_as_it_was(bundle):
        with under_way(bundle) as child:
            worker = worker_of(child.pid)
            child.send_signal(sent)
            out, err = child.communicate(timeout=PATIENCE)
        assert (child.returncode, out) == (code, "")
        assert err.endswith("nothing unfinished was kept.\n") or not err
        assert err.count("\n") <= 1
        assert worker is None or not alive(worker)
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize("limit", [10_000, 200_000])
def test_a_disk_that_fills_in_mid_build(bundle: Path, limit: int) -> None:
    """The log takes 40 kB and the plan 340: a limit on the size of files stops either."""
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with left_as_it_was(bundle):
        ran = subprocess.run(
            [*COMMAND, str(bundle), *OPTIONS],
            capture_output=True,
            text=True,
            env=environment(),
            preexec_fn=limited,  # nothing here has threads that could deadlock
            timeout=PATIENCE,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        f"animatic: Building the fp16 denoiser for rtx-40 filled the disk of {bundle} or reached a "
        "limit on the size of files (File too large); free some space"
    )
    assert ran.stderr.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 700 kB, of which the small bundle takes 130."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    options = ["-t", "tmpfs", "-o", "size=700k", "none", str(folder)]
    if subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_a_real_disk_that_fills_in_mid_build(small_disk: Path) -> None:
    bundle = write_small_bundle(small_disk / "bundle")
    with (
        left_as_it_was(bundle),
        pytest.raises(NoRoomError, match=r"filled the disk of .*No space left on device"),
    ):
        build(bundle, precision="int8")  # a plan of 1 MB


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (
            PLENTY._replace(memory=100 << 20),
            (
                r"^Building the fp16 denoiser for rtx-40 needs about 512 MiB of memory and 100 MiB "
                r"are available; close .*\.$"
            ),
        ),
        (
            PLENTY._replace(disk=10 << 20),
            r"^Building .* needs about 64 MiB on the disk of .* and 10 MiB are free; free .*\.$",
        ),
    ],
)
def test_too_little_room_is_refused_before_the_build(bundle: Path, room: Room, words: str) -> None:
    def never(_order: Order, _step: Step) -> None:
        raise AssertionError

    with left_as_it_was(bundle), pytest.raises(NoRoomError, match=words):
        build(bundle, room=room, on_step=never)


def test_two_builds_at_once_keep_each_other_s_engines(bundle: Path) -> None:
    with under_way(bundle) as first:
        first.send_signal(signal.SIGSTOP)  # else it may end before the second has begun
        second = subprocess.Popen(
            [*COMMAND, str(bundle), "--target", TARGET, "--precision", "int8"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with second:
            try:
                assert second.stderr is not None
                said = second.stderr.readline()
            finally:
                first.send_signal(signal.SIGCONT)
            first.communicate(timeout=PATIENCE)
            second.communicate(timeout=PATIENCE)
    assert said == f"animatic: waiting for another program that writes to {bundle}.\n"
    assert (first.returncode, second.returncode) == (0, 0)
    engines = open_bundle(bundle).bundle.engines
    assert {engine.precision for engine in engines} == {"fp16", "int8"}


def test_a_graph_that_is_replaced_meanwhile_is_not_given_the_engine(bundle: Path) -> None:
    from animatic.errors import BundleIntegrityError
    from tests.engines.small_bundle import attention_graph, replace_graph

    once = threading.Event()

    def replace(_order: Order, _step: Step) -> None:
        if not once.is_set():
            once.set()
            replace_graph(bundle, attention_graph("fp16", seed=1), "fp16")

    with pytest.raises(BundleIntegrityError, match=r"was replaced while .*; build again: animatic"):
        build(bundle, on_step=replace)
    assert open_bundle(bundle).bundle.engines == ()
    assert not any("engines" in name for name in contents(bundle))
