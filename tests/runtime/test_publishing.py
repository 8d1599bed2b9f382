"""The last step: a finished file gets its name, and nobody else's file is lost for it."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path

import pytest

from animatic.errors import OutputError
from animatic.sinks.animation import AnimationSink, ticks
from animatic.sinks.pending import place
from tests.runtime.clips import FILES, contents, frames, sink_for, write


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    # Past the check and before the renaming, where only the file system can tell.
    monkeypatch.setattr("animatic.sinks.pending.Pending.check_target", lambda _: None)

    def late() -> None:
        with sink_for(tmp_path / name, overwrite=False) as sink:
            for frame in frames():
                sink.write(frame)
            (tmp_path / name).write_bytes(b"the other render")

    with pytest.raises(OutputError, match=r"already exists; choose another name"):
        late()
    assert contents(tmp_path) == {name: b"the other render"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with (
        pytest.raises(OutputError, match=r"is a device or a pipe; choose a file name"),
        sink_for(tmp_path / name, overwrite=True),
    ):
        pass
    assert [(path.name, path.is_fifo()) for path in tmp_path.iterdir()] == [(name, True)]


def no_links(_self: Path, _target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_file_system_without_links_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    write(tmp_path / "clip.mp4", overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_place_leaves_one_name(tmp_path: Path, *, overwrite: bool) -> None:
    (tmp_path / "a").write_bytes(b"a")
    place(tmp_path / "a", tmp_path / "b", overwrite=overwrite)
    assert contents(tmp_path) == {"b": b"a"}


@pytest.mark.parametrize(
    ("name", "fps", "sentence"),
    [
        ("clip.gif", Fraction(60), r"only up to 50; write MP4 or WebP"),
        ("clip.gif", Fraction(5001, 100), r"only up to 50; write MP4 or WebP"),
        ("clip.webp", Fraction(1001), r"only up to 1000; write MP4"),
    ],
)
def test_rate_beyond_the_clock_is_refused(
    tmp_path: Path, name: str, fps: Fraction, sentence: str
) -> None:
    with pytest.raises(OutputError, match=sentence):
        write(tmp_path / name, fps=fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps", "per_second"),
    [("clip.gif", Fraction(50), 100), ("clip.webp", Fraction(1000), 1000)],
)
def test_fastest_rate_is_timed_exactly(
    tmp_path: Path, name: str, fps: Fraction, per_second: int
) -> None:
    sink = AnimationSink(tmp_path / name, width=64, height=48, fps=fps, record=None, overwrite=True)
    sink.abort()
    for rate in (fps, fps * Fraction(1000, 1001), fps * Fraction(97, 101)):
        durations = ticks(500, rate, per_second)
        assert sum(durations) == round(500 * per_second / rate)
        assert min(durations) >= 1
