"""Real signals to a real process in the middle of a render."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.record import GenerationRecord
    from animatic.shot import Shot
    from tests.runtime.command_line import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none, and skips this file
PATIENCE = 60  # seconds; a loaded machine starts slowly
# A shell's background jobs, and CI's, start with SIGINT ignored, and children inherit that.
LISTENING = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("animatic", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True)
def in_the_foreground() -> Iterator[None]:
    """Under nohup SIGHUP is ignored, and children would inherit that."""
    before = signal.signal(HANGUP, signal.SIG_DFL)
    yield
    signal.signal(HANGUP, before)


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "animatic: interrupted, nothing unfinished was kept.\n"),
        (signal.SIGTERM, 143, "animatic: terminated, nothing unfinished was kept.\n"),
        (HANGUP, 129, "animatic: the terminal was closed, nothing unfinished was kept.\n"),
    ],
)
@pytest.mark.parametrize("output", ["clip.mp4", "clip.gif", "clip.rgb", "takes", "clip.%04d.png"])
def test_signal_in_mid_render_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, output: str, sent: signal.Signals, code: int, said: str
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with subprocess.Popen(
        [
            *(sys.executable, "-c", LISTENING, "generate", "a red lorry"),
            *("--bundle", str(tiny_bundle), "--frames", "8001", "-o", output),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + PATIENCE
        while not list(folder.iterdir()):  # the unfinished file: the render is under way
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        child.send_signal(sent)
        out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out, err) == (code, "", said)
    assert list(folder.iterdir()) == []


@pytest.fixture
def heard() -> Iterator[None]:
    """This process listens to Ctrl-C, even as a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


SIGNALS = [
    (signal.SIGINT, 130, "interrupted"),
    (signal.SIGTERM, 143, "terminated"),
    (HANGUP, 129, "the terminal was closed"),
]


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("sent", "code", "word"), SIGNALS)
@pytest.mark.parametrize("command", ["inspect", "doctor"])
def test_signal_while_a_compiled_module_is_imported(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    sent: signal.Signals,
    code: int,
    word: str,
) -> None:
    """Its initialisation turns whatever is raised in it into an ImportError."""
    before = {number: signal.getsignal(number) for number, *_ in SIGNALS}

    def imported(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(sent)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr("animatic.store.open_bundle", imported)
    monkeypatch.setattr("animatic.pipeline.Pipeline.open", imported)
    result = run(command, *(["--bundle", "BUNDLE"] if command == "doctor" else ["BUNDLE"]))
    assert result == (code, "", f"animatic: {word}, nothing unfinished was kept.\n")
    assert {number: signal.getsignal(number) for number, *_ in SIGNALS} == before


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("sent", "code", "word"), SIGNALS)
def test_signal_that_went_astray_stops_at_the_next_frame(
    run: Run, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int, word: str
) -> None:
    from animatic.pipeline import Pipeline

    real = Pipeline.record

    def deaf(pipeline: Pipeline, shot: Shot) -> GenerationRecord:
        with contextlib.suppress(BaseException):  # as an import that is tried and given up
            signal.raise_signal(sent)
        return real(pipeline, shot)

    monkeypatch.setattr(Pipeline, "record", deaf)
    result = run("generate", "a cube", "--bundle", "BUNDLE", "-o", "takes")
    assert result == (code, "", f"animatic: {word}, nothing unfinished was kept.\n")
    assert list(Path.cwd().iterdir()) == []


def test_nohup_is_respected(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up(*_: object, **__: object) -> None:
        signal.raise_signal(HANGUP)
        raise EngineError("It went on.")

    monkeypatch.setattr("animatic.store.open_bundle", hang_up)
    before = signal.signal(HANGUP, signal.SIG_IGN)
    try:
        assert run("inspect", "BUNDLE") == (1, "", "animatic: It went on.\n")
        assert signal.getsignal(HANGUP) is signal.SIG_IGN
    finally:
        signal.signal(HANGUP, before)
