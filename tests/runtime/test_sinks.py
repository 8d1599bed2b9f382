from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from animatic.errors import OutputError
from animatic.frame import Frame
from animatic.sinks import read_record
from animatic.sinks.animation import ticks
from animatic.sinks.numbering import FIRST_FRAME
from tests.runtime.clips import (
    COUNT,
    FILES,
    HEIGHT,
    RECORD,
    SEQUENCES,
    WIDTH,
    contents,
    frames,
    picture,
    sink_for,
    write,
)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
@pytest.mark.parametrize("fps", [Fraction(8), Fraction(24), Fraction(24000, 1001)], ids=str)
def test_film_has_every_frame_at_the_exact_rate(tmp_path: Path, name: str, fps: Fraction) -> None:
    path = tmp_path / name
    write(path, fps=fps)
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        decoded = list(film.decode(stream))
        assert stream.average_rate == fps
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == COUNT / fps
    assert len(decoded) == COUNT
    assert [time_of(frame) for frame in decoded] == [index / fps for index in range(COUNT)]


def time_of(frame: av.VideoFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_film_is_tagged_bt709_limited(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with av.open(str(tmp_path / name)) as film:
        first = next(film.decode(video=0))
    # ITU-T H.273: 1 is BT.709; libavutil: range 1 is limited.
    assert (first.color_primaries, first.color_trc, first.colorspace) == (1, 1, 1)
    assert first.color_range == 1
    assert first.format.name == "yuv420p"


def test_film_keeps_its_colours(tmp_path: Path) -> None:
    from av.video.reformatter import ColorRange, Colorspace

    write(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as film:
        for index, frame in enumerate(film.decode(video=0)):
            back = frame.reformat(
                format="rgb24",
                src_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
            ).to_ndarray()
            error = back.astype(int) - picture(index)
            # The middle of each bar: chroma at its edges is halved by 4:2:0 whatever one does.
            middles = error[20:, WIDTH // 8 :: WIDTH // 4]
            assert abs(middles).max() <= 4
            assert abs(error.mean()) < 1.5


def test_film_starts_with_its_index(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4")
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif"])
def test_animation_has_every_frame_and_the_whole_length(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == COUNT
        assert image.info["loop"] == 0
        for index in range(COUNT):
            image.seek(index)
            error = np.asarray(image.convert("RGB")).astype(int) - picture(index)
            assert abs(error[20:, WIDTH // 8 :: WIDTH // 4]).max() <= 8
        assert sum_of_durations(image) == pytest.approx(1000 * COUNT / 8, abs=5)  # GIF: 10 ms


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif"])
@pytest.mark.parametrize("count", [1, 5])
def test_animation_that_does_not_move_is_one_picture(tmp_path: Path, name: str, count: int) -> None:
    with sink_for(tmp_path / name, made_from=RECORD) as sink:
        for index in range(count):
            sink.write(Frame(index, picture(0), Fraction(index, 8)))
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == 1
        # GIF counts 10 ms; a still WebP has no length at all, see animation.py.
        length = 0 if name.endswith(".webp") else round(12.5 * count) * 10
        assert image.info.get("duration", 0) == length
    assert read_record(tmp_path / name) == RECORD


def sum_of_durations(image: Image.Image) -> int:
    length = 0
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        length += image.info["duration"]
    return length


def test_ticks_add_up_at_any_rate() -> None:
    assert sum(ticks(240, Fraction(24000, 1001), 100)) == 1001
    assert set(ticks(8, Fraction(8), 100)) == {12, 13}


def test_folder_holds_lossless_frames_from_1001(tmp_path: Path) -> None:
    write(tmp_path / "takes")
    files = sorted((tmp_path / "takes").iterdir())
    assert [file.name for file in files] == [
        f"takes.{number}.png" for number in range(FIRST_FRAME, FIRST_FRAME + COUNT)
    ]
    for index, file in enumerate(files):
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), picture(index))


def test_single_png_names_a_sequence(tmp_path: Path) -> None:
    write(tmp_path / "clip.png")
    assert len(list(tmp_path.glob("clip.[0-9]*.png"))) == COUNT
    assert read_record(tmp_path / "clip.png") == RECORD


def test_pattern_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep", "utf-8")
    write(tmp_path / "clip.%06d.png")
    assert (tmp_path / "notes.txt").read_text("utf-8") == "keep"
    assert (tmp_path / "clip.001001.png").exists()
    assert len(list(tmp_path.iterdir())) == COUNT + 1


def test_shorter_take_replaces_a_longer_one_whole(tmp_path: Path) -> None:
    write(tmp_path / "clip.%04d.png", count=9)
    (tmp_path / "clip.1011.png").write_bytes(b"after a gap, not of this sequence")
    write(tmp_path / "clip.%04d.png", count=5)
    assert len(list(tmp_path.iterdir())) == 5 + 1


@pytest.mark.parametrize("name", ["50%.png", "%04d.%04d.png", "clip.%d.png", "clip.%s.png"])
def test_pattern_needs_one_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"exactly one place such as %04d"):
        write(tmp_path / name)


def test_raw_is_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "clip.rgb")
    expected = b"".join(picture(index).tobytes() for index in range(COUNT))
    assert (tmp_path / "clip.rgb").read_bytes() == expected


@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_same_input_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one")


def test_bytes_do_not_depend_on_what_memory_held(tmp_path: Path) -> None:
    """x264's macroblock tree reads what it has not written; see ENCODING in mp4.py."""
    noise = np.random.default_rng(0)
    blocks = noise.integers(0, 256, (COUNT, 8, 12, 3), np.uint8)
    films = set()
    for _ in range(25):
        # Freed at once: the encoder gets memory that is full of this.
        noise.integers(0, 256, int(noise.integers(1_000, 3_000_000)), np.uint8)
        with sink_for(tmp_path / "clip.mp4", width=192, height=128) as sink:
            for index, block in enumerate(blocks):
                pixels = np.ascontiguousarray(block.repeat(16, axis=0).repeat(16, axis=1))
                sink.write(Frame(index, pixels, Fraction(index, 8)))
        films.add((tmp_path / "clip.mp4").read_bytes())
    assert len(films) == 1


@pytest.mark.parametrize("name", FILES + SEQUENCES)
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 3])
def test_abort_leaves_nothing(
    tmp_path: Path, name: str, failure: type[BaseException], after: int
) -> None:
    def fail() -> None:
        with sink_for(tmp_path / name, made_from=RECORD) as sink:
            for frame in frames(after):
                sink.write(frame)
            raise failure

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_nothing_appears_before_the_end(tmp_path: Path, name: str) -> None:
    with sink_for(tmp_path / name) as sink:
        for frame in frames():
            sink.write(frame)
            assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_no_frame_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"No frame was made"):
        write(tmp_path / name, count=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_overwriting_is_a_choice(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, made_from=replace(RECORD, seed=1))
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"already"):
        write(tmp_path / name, overwrite=False)
    assert contents(tmp_path) == before
    write(tmp_path / name, made_from=replace(RECORD, seed=2))
    if not name.endswith(".rgb"):
        assert contents(tmp_path) != before
        assert read_record(tmp_path / name).seed == 2
    assert len(contents(tmp_path)) == len(before)


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(OutputError, match=r"holds other files"):
        write(tmp_path / "takes")
    assert contents(tmp_path) == {"takes/thesis.txt": b"years of work"}


def test_pngs_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "takes", made_from=None)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"holds other files"):
        write(tmp_path / "takes")
    assert contents(tmp_path) == before


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    write(tmp_path / "takes", overwrite=False)
    assert len(contents(tmp_path)) == COUNT


@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"The folder .*nowhere does not exist"):
        write(tmp_path / "nowhere" / name)


def test_unknown_suffix_lists_what_is_offered(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"does not write \.avi files; use \.mp4, .*"):
        write(tmp_path / "clip.avi")


@pytest.mark.parametrize("size", [(63, 48), (64, 47)])
def test_odd_size_is_refused_for_film_only(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    frame = Frame(0, picture(0, width=width, height=height), Fraction(0))
    with (
        pytest.raises(OutputError, match=r"even width and height"),
        sink_for(tmp_path / "clip.mp4", width=width, height=height),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with sink_for(tmp_path / "takes", width=width, height=height) as sink:
        sink.write(frame)


def test_wrong_frame_is_a_bug_of_the_caller(tmp_path: Path) -> None:
    wrong = Frame(0, picture(0, width=32), Fraction(0))
    with (
        pytest.raises(ValueError, match=r"this sink was opened for"),
        sink_for(tmp_path / "clip.mp4") as sink,
    ):
        sink.write(wrong)


def test_many_frames_do_not_pile_up(tmp_path: Path) -> None:
    """A film streams: what is on the disk grows while frames are written."""
    noise = np.random.default_rng(0)
    with sink_for(tmp_path / "clip.mp4") as sink:
        written = []
        for index in range(300):
            pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            sink.write(Frame(index, pixels, Fraction(index, 8)))
            written.append(next(tmp_path.iterdir()).stat().st_size)
    assert written[-1] > 100_000
    assert any(before < after for before, after in pairwise(written[:200]))


# A child process, because the limit is for good and root passes every permission check.
CHILD: Final = """
import os, resource, signal, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from animatic.errors import OutputError
from animatic.frame import Frame
from animatic.sinks import open_sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kind, target = sys.argv[1:]
noise = np.random.default_rng(0)
from animatic.sinks import animation, mp4, png, raw  # before the limit and the change of user
import av, imageio.v3, PIL.Image
if kind == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
else:
    os.setgid(65534)
    os.setuid(65534)
try:
    with open_sink(Path(target), width=64, height=48, fps=Fraction(8), record=None) as sink:
        for index in range(60):
            pixels = noise.integers(0, 256, (48, 64, 3), np.uint8)
            sink.write(Frame(index, pixels, Fraction(index, 8)))
except OutputError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_full_disk_is_one_sentence_and_no_file(tmp_path: Path, name: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, "full", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stderr) == (3, "")
    assert child.stdout.startswith("No room to write")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="changes to a user without rights"
)
@pytest.mark.parametrize("name", FILES + SEQUENCES)
def test_unwritable_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o755)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and "pytest-" in str(parent):
            parent.chmod(0o755)  # pytest's own folders are private
    child = subprocess.run(
        [sys.executable, "-c", CHILD, "forbidden", str(folder / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 3, child.stderr
    assert child.stdout.startswith("Not allowed to write")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="Linux's /dev/full")
def test_raw_pipe_to_a_full_disk() -> None:
    from animatic.sinks.raw import RawPipeSink

    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = RawPipeSink(width=WIDTH, height=HEIGHT, stream=full)
        with pytest.raises(OutputError, match=r"Standard output cannot be written \(No space"):
            sink.write(next(frames()))
