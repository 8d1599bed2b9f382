"""Reading pictures and clips: which frames, at which rate, how they are fitted, what is none."""

from __future__ import annotations

import os
import struct
import tracemalloc
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image, features

from animatic.errors import InputError
from animatic.sources import crops, open_source
from animatic.sources.fit import fitted, nearest_shape
from animatic.sources.timing import Timed, first_of, last_of
from tests.runtime.clips import COUNT, FILES, HEIGHT, SEQUENCES, WIDTH, picture, sink_for, write

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from animatic.sources import Source

    Pixels = npt.NDArray[np.uint8]

SIZE = (WIDTH, HEIGHT)
TIMED = [name for name in FILES if not name.endswith(".rgb")]
EIGHT = Fraction(8)


def numbers(pictures: Pixels) -> list[int]:
    """Which of the clip's pictures these are; the box of the 17th stands where the first's does."""
    originals = np.stack([picture(index) for index in range(16)]).astype(int)
    return [int(np.abs(originals - shown).mean(axis=(1, 2, 3)).argmin()) for shown in pictures]


@pytest.mark.parametrize("name", [*TIMED, *SEQUENCES])
@pytest.mark.parametrize("fps", [EIGHT, Fraction(24000, 1001), Fraction(30)])
def test_every_format_that_is_written_is_read(tmp_path: Path, name: str, fps: Fraction) -> None:
    write(tmp_path / name, fps=fps, count=16)
    source = open_source(tmp_path / name)
    assert source.size == SIZE
    assert numbers(source.first(12, fps, SIZE)) == list(range(12))
    assert numbers(source.last(12, fps, SIZE)) == list(range(4, 16))


@pytest.mark.parametrize("name", TIMED)
def test_a_clip_of_another_rate_is_sampled_by_time(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, fps=Fraction(24), count=16)
    source = open_source(tmp_path / name)
    assert numbers(source.first(5, EIGHT, SIZE)) == [0, 3, 6, 9, 12]
    assert numbers(source.last(5, EIGHT, SIZE)) == [3, 6, 9, 12, 15]
    slow = open_source(tmp_path / name)
    assert numbers(slow.first(4, Fraction(48), SIZE)) == [0, 0, 1, 1]
    assert numbers(slow.last(4, Fraction(48), SIZE)) == [14, 14, 15, 15]


@pytest.mark.parametrize("name", [*TIMED, *SEQUENCES])
def test_short_clips_are_padded(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, count=3)
    source = open_source(tmp_path / name)
    assert numbers(source.first(5, EIGHT, SIZE)) == [0, 1, 2, 2, 2]
    assert numbers(source.last(5, EIGHT, SIZE)) == [0, 0, 0, 1, 2]


def test_frames_that_were_held_are_still_held(tmp_path: Path) -> None:
    """WebP and GIF store equal neighbours once."""
    for name in ("clip.webp", "clip.gif"):
        with sink_for(tmp_path / name) as sink:
            from animatic.frame import Frame

            for index, number in enumerate([0, 1, 1, 1, 5, 5, 5, 5]):
                sink.write(Frame(index, picture(number), Fraction(index, 8)))
        source = open_source(tmp_path / name)
        assert numbers(source.first(8, EIGHT, SIZE)) == [0, 1, 1, 1, 5, 5, 5, 5]
        assert numbers(source.last(8, EIGHT, SIZE)) == [0, 1, 1, 1, 5, 5, 5, 5]


def test_times_that_are_not_even() -> None:
    """Frames as long as 1, 3, 1, 1 and 10 tenths of a second."""
    ends = np.cumsum([1, 3, 1, 1, 10])
    starts = [0, *ends[:-1]]
    film = [
        Timed(Fraction(int(start), 10), Fraction(int(end), 10), np.array([number], np.uint8))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    ten = Fraction(10)
    assert [int(p[0]) for p in first_of(film, 7, ten)] == [0, 1, 1, 1, 2, 3, 4]
    assert [int(p[0]) for p in last_of(film, 12, ten)] == [2, 3, *[4] * 10]
    assert [int(p[0]) for p in first_of(film, 99, Fraction(1))] == [0, 4]
    assert first_of([], 3, ten) == last_of([], 3, ten) == []


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """H.264 with 4:2:0 colour: within 3 levels amid a bar, and on the whole as bright."""
    write(tmp_path / "clip.mp4")
    shown = open_source(tmp_path / "clip.mp4").first(1, EIGHT, SIZE)[0].astype(int)
    for bar in range(4):
        middle = (slice(20, 44), slice(16 * bar + 5, 16 * bar + 11))
        wanted = picture(0)[middle].astype(int)
        np.testing.assert_allclose(shown[middle], wanted, rtol=0, atol=3)
        assert abs((shown[middle] - wanted).mean()) < 1


@pytest.mark.parametrize("name", ["clip.gif", *SEQUENCES])
def test_lossless_ones_are_exact(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    shown = open_source(tmp_path / name).first(1, EIGHT, SIZE)[0]
    np.testing.assert_array_equal(shown, picture(0))


def test_a_long_film_is_decoded_from_near_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key frame every 250 frames, which is x264's own habit, 1,000 frames are 4 of them."""
    write(tmp_path / "long.mp4", count=1001)
    source = open_source(tmp_path / "long.mp4")
    seen: list[None] = []

    def noting(pixels: Pixels, size: tuple[int, int]) -> Pixels:
        seen.append(None)
        return fitted(pixels, size)

    monkeypatch.setattr("animatic.sources.film.fitted", noting)
    last = numbers(source.last(12, EIGHT, SIZE))
    assert last == [number % 16 for number in range(1001 - 12, 1001)]
    assert len(seen) < 400
    seen.clear()
    source.first(8, EIGHT, SIZE)
    assert len(seen) < 12


def test_a_long_animation_takes_the_memory_of_a_few_frames(tmp_path: Path) -> None:
    write(tmp_path / "long.gif", count=300)
    source = open_source(tmp_path / "long.gif")
    source.last(2, EIGHT, SIZE)
    tracemalloc.start()
    try:
        source.last(12, EIGHT, SIZE)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 12 pictures twice, one on its way, and what Pillow holds of a frame; 300 would be 2.8 MB.
    assert most < 60 * WIDTH * HEIGHT * 3


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_an_animated_avif_is_no_picture(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(picture(index)) for index in range(6))
    first.save(tmp_path / "clip.avif", save_all=True, append_images=others, duration=125)
    assert numbers(open_source(tmp_path / "clip.avif").last(3, EIGHT, SIZE)) == [3, 4, 5]


def test_a_picture_is_a_clip_that_stands_still(tmp_path: Path) -> None:
    for name in ("still.png", "still.jpg", "still.webp", "still.bmp"):
        Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(tmp_path / name, quality=100)
        source = open_source(tmp_path / name)
        assert source.size == (8, 6)
        for shown in (source.first(5, EIGHT, (8, 6)), source.last(5, EIGHT, (8, 6))):
            assert shown.shape == (5, 6, 8, 3)
            np.testing.assert_allclose(shown.astype(int), 90, rtol=0, atol=1)


def test_a_numbered_picture_is_itself_and_not_its_sequence(tmp_path: Path) -> None:
    write(tmp_path / "takes")
    one = open_source(tmp_path / "takes" / "takes.1003.png")
    assert numbers(one.last(2, EIGHT, SIZE)) == [2, 2]


@pytest.mark.parametrize("pattern", ["lorry.%04d.png", "lorry.####.png", "lorry.png"])
def test_sequences_of_others_begin_at_any_number(tmp_path: Path, pattern: str) -> None:
    for number in range(4):
        Image.fromarray(picture(number)).save(tmp_path / f"lorry.{number + 7:04}.png")
    assert numbers(open_source(tmp_path / pattern).last(3, EIGHT, SIZE)) == [1, 2, 3]
    assert numbers(open_source(str(tmp_path)).first(3, EIGHT, SIZE)) == [0, 1, 2]


def test_a_folder_of_pictures_with_other_names(tmp_path: Path) -> None:
    for number, name in enumerate(["a.png", "b.PNG", "c.png"]):
        Image.fromarray(picture(number)).save(tmp_path / name)
    (tmp_path / ".hidden.png").write_bytes(b"")
    assert numbers(open_source(tmp_path).first(3, EIGHT, SIZE)) == [0, 1, 2]


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    for index in range(12):
        Image.fromarray(picture(index)).save(tmp_path / f"frame{index + 1}.png")
    shown = numbers(open_source(tmp_path).first(12, EIGHT, SIZE))
    assert shown == list(range(12))


def test_arrays(tmp_path: Path) -> None:
    clip = np.stack([picture(index) for index in range(4)])
    source = open_source(clip)
    clip[:] = 0  # what is planned does not change
    assert source.size == SIZE
    assert numbers(source.first(3, Fraction(99), SIZE)) == [0, 1, 2]
    assert numbers(source.last(6, Fraction(1), SIZE)) == [0, 0, 0, 1, 2, 3]
    assert numbers(open_source(picture(5)).first(1, EIGHT, SIZE)) == [5]
    assert source.digest() != open_source(clip).digest()
    assert (source.file, str(tmp_path) in source.name) == ("", False)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((1, 1, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array: npt.NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"; give uint8 RGB \[height, width, 3\], or"):
        open_source(array)


def test_a_picture_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the right-hand side of what was stored is the top of what was seen
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    source = open_source(tmp_path / "phone.png")
    assert source.size == (4, 8)
    shown = source.first(1, EIGHT, (4, 8))[0]
    assert shown[:4].min() == 255
    assert shown[4:].max() == 0


def test_a_film_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    """A quarter clockwise, by the matrix in the header of its track (ISO 14496-12, 8.3.2)."""
    write(tmp_path / "phone.mp4")
    data = bytearray((tmp_path / "phone.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = turned
    (tmp_path / "phone.mp4").write_bytes(data)
    source = open_source(tmp_path / "phone.mp4")
    assert source.size == (HEIGHT, WIDTH)
    shown = source.first(3, EIGHT, source.size)
    assert numbers(np.rot90(shown, 1, axes=(1, 2))) == [0, 1, 2]


def test_an_anamorphic_film_is_stretched_as_its_player_would(tmp_path: Path) -> None:
    """Pixels a third wider than high (DVCPRO HD's 4:3): a square is as wide as high again."""
    path = tmp_path / "squeezed.mp4"
    squeezed = np.zeros((48, 48, 3), np.uint8)
    squeezed[16:32, 18:30] = 255  # 16 lines of 12 pixels, each 4/3 wide
    write_film(path, [squeezed] * 2, shape=Fraction(4, 3))
    source = open_source(path)
    assert source.size == SIZE
    shown = source.first(1, EIGHT, SIZE)[0].mean(axis=2) > 128
    assert abs(shown.any(axis=0).sum() - 16) <= 1  # half a pixel of blur on either side
    assert shown.any(axis=1).sum() == 16


def test_films_that_store_no_times(tmp_path: Path) -> None:
    """H.264 in an AVI, frames stored in another order than shown; a bare stream of MPEG-2."""
    for name, codec in [("old.avi", "libx264"), ("bare.m2v", "mpeg2video")]:
        write_film(tmp_path / name, [picture(index) for index in range(16)], codec=codec, rate=24)
        source = open_source(tmp_path / name)
        assert source.size == SIZE
        assert numbers(source.first(12, Fraction(24), SIZE)) == list(range(12))
        assert numbers(source.first(4, EIGHT, SIZE)) == [0, 3, 6, 9]


def write_film(
    path: Path,
    pictures: list[Pixels],
    *,
    codec: str = "libx264",
    rate: int = 8,
    shape: Fraction = Fraction(1),
) -> None:
    """Write a film as others do; shape: how much wider than high its pixels are."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = shape
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    grey16 = np.full((4, 4), 0x8000, np.uint16)
    Image.fromarray(grey16).save(tmp_path / "deep.png")
    clear = np.full((4, 4, 4), 200, np.uint8)
    clear[..., 3] = 128
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(clear[..., 0]).convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(clear).convert("CMYK").save(tmp_path / "print.jpg")
    for name, level in [("deep.png", 128), ("clear.png", 100), ("palette.gif", 200)]:
        shown = open_source(tmp_path / name).first(1, EIGHT, (4, 4))
        np.testing.assert_allclose(shown.astype(int), level, rtol=0, atol=1)
    assert open_source(tmp_path / "print.jpg").first(1, EIGHT, (4, 4)).shape == (1, 4, 4, 3)


def test_pictures_of_a_hundred_megapixels_are_read_and_bombs_are_not(tmp_path: Path) -> None:
    for name, side in [("large.png", 9_600), ("bomb.png", 14_000)]:
        Image.new("1", (side, side)).save(tmp_path / name)
    assert open_source(tmp_path / "large.png").size == (9_600, 9_600)
    with pytest.raises(InputError, match=r"is too large to be read .*; make it smaller\.$"):
        open_source(tmp_path / "bomb.png")


def test_a_film_that_names_no_matrix(tmp_path: Path) -> None:
    """Below 720 lines it is taken for BT.601: the red of 200 30 30, stored so, comes back."""
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = 200, 30, 30
    with av.open(tmp_path / "old.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(red, format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = open_source(tmp_path / "old.mp4").first(1, EIGHT, SIZE)
    np.testing.assert_allclose(shown.astype(int), red[np.newaxis], rtol=0, atol=3)


@pytest.mark.parametrize(
    ("size", "target", "cut"),
    [
        ((64, 48), (64, 48), False),
        ((128, 96), (64, 48), False),
        ((1920, 1080), (256, 144), False),
        ((1920, 1088), (256, 144), False),  # 16:9 filled up to whole macroblocks
        ((1920, 1080), (192, 192), True),
        ((720, 576), (256, 144), True),
    ],
)
def test_what_is_cut_off(size: tuple[int, int], target: tuple[int, int], *, cut: bool) -> None:
    assert crops(size, target) == cut
    assert fitted(np.zeros((size[1], size[0], 3), np.uint8), target).shape == (*target[::-1], 3)


def test_the_middle_is_kept() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    # Lanczos looks a little beyond the edge of what is kept.
    assert fitted(wide, (5, 5)).min() > 230
    assert fitted(wide, (5, 5))[:, 1:-1].min() > 250
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    assert fitted(tall, (20, 20)).mean() > 245
    # Of nearly the same shape nothing is lost: the edges are those of the picture.
    edged = np.zeros((100, 101, 3), np.uint8)
    edged[:, 0] = edged[:, -1] = 255
    scaled = fitted(edged, (50, 50))
    assert scaled[:, 0].min() > 80
    assert scaled[:, -1].min() > 80


def test_the_nearest_shape() -> None:
    offered = [(256, 144), (192, 192), (144, 256), (304, 128), (128, 72)]
    wanted = {
        (1920, 1080): (256, 144),
        (4096, 1716): (304, 128),
        (1080, 1350): (192, 192),
        (1080, 1920): (144, 256),
        (640, 480): (256, 144),  # as far from the one as from the other: the first
        (480, 640): (192, 192),
        (128, 72): (128, 72),
        (100, 100): (192, 192),
    }
    assert {size: nearest_shape(size, offered) for size in wanted} == wanted


def broken(folder: Path, name: str) -> Path:
    """Make what cannot be read; the name says how."""
    path = folder / name
    write(folder / "whole.mp4")
    match name:
        case "cut.mp4":
            path.write_bytes((folder / "whole.mp4").read_bytes()[:700])
        case "light.tif":
            Image.fromarray(np.full((48, 64), 0.5, np.float32)).save(path)
        case "unfinished.mp4":  # its table of contents comes last, and is cut off
            write_film(path, [picture(index) for index in range(16)])
            whole = path.read_bytes()
            path.write_bytes(whole[: whole.index(b"moov") + 9])
        case "sound.wav":
            with av.open(path, "w") as container:
                stream = container.add_stream("pcm_s16le", rate=8000)
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 800), np.int16), format="s16", layout="mono"
                )
                frame.sample_rate = 8000
                container.mux(stream.encode(frame))
        case "notes.txt":
            path.write_text("no picture\n")
        case "empty.png":
            path.write_bytes(b"")
        case "cut.png":
            Image.fromarray(picture(0)).save(path)
            path.write_bytes(path.read_bytes()[:90])
        case "pipe":
            os.mkfifo(path)
        case "empty folder":
            path.mkdir()
        case "wrong":
            path.mkdir()
            (path / "a.1001.png").write_text("no picture")
    return path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing.mp4", "There is no file .*nothing.mp4; check its name"),
        ("nothing.####.png", "There is no file .*; check its name"),
        ("a.##.##.png", "needs exactly one place"),
        ("cut.mp4", "cut.mp4 is no film or picture that can be read .*; give an MP4"),
        ("light.tif", "light.tif holds floating-point light.*; store it as a PNG of 8 or 16 bits"),
        ("unfinished.mp4", "holds nothing that can be shown; get a whole copy"),
        ("sound.wav", "holds no picture, only sound; give an MP4"),
        ("notes.txt", "is no film or picture that can be read"),
        ("empty.png", "is no film or picture that can be read"),
        ("cut.png", "picture .*cut.png cannot be read .*; get a whole copy"),
        ("pipe", "is a device or a pipe, which can be read only once; store it as a file"),
        ("empty folder", "holds no PNG pictures; name one that does"),
        ("wrong", "a.1001.png is no picture; get a whole copy of it, or move it away"),
        ("x" * 300, "cannot be read .File name too long.; check its name"),
        ("a\0b", "There is no file|cannot be read"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        open_source(broken(tmp_path, name) if "\0" not in name else name).first(1, EIGHT, SIZE)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("asked", ["", "  ", 7, b"clip.mp4", ["clip.mp4"]])
def test_what_names_nothing(asked: Any) -> None:
    with pytest.raises(InputError, match="neither named nor given; give the name of a file or"):
        open_source(asked)


def test_hashes_know_the_contents(tmp_path: Path) -> None:
    write(tmp_path / "takes")
    folder: Source = open_source(tmp_path / "takes")
    before = folder.digest()
    assert open_source(tmp_path / "takes").digest() == before
    last = tmp_path / "takes" / f"takes.{1000 + COUNT}.png"
    Image.fromarray(picture(3)).save(last)
    assert open_source(tmp_path / "takes").digest() != before
    last.unlink()
    with pytest.raises(InputError, match=r"There is no file .*check its name"):
        folder.digest()
