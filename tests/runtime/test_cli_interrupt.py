"""Real signals to a real process in the middle of a render."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PATIENCE = 60  # seconds; a loaded machine starts slowly
# A shell's background jobs, and CI's, start with SIGINT ignored, and children inherit that.
LISTENING = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("animatic", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "animatic: interrupted, nothing unfinished was kept.\n"),
        (signal.SIGTERM, 143, ""),
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
