"""H.264 in MP4 or MOV, through PyAV.

Colour: the frames are full-range R'G'B'; they are stored as 8-bit 4:2:0 Y'CbCr, ITU-R BT.709,
limited range, and tagged as such. Without a named matrix a player guesses, and saturated colours
shift by up to 32/255.

Determinism: one encoder thread, no macroblock tree (see ENCODING) and the bit-exact flags of muxer,
scaler and encoder make the same frames give the same bytes, with the same PyAV build. No date is
stored.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError
from animatic.sinks.pending import Pending, explain
from animatic.sinks.protocol import check_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

    from av import VideoStream
    from av.container import OutputContainer

    from animatic.frame import Frame
    from animatic.record import GenerationRecord

__all__ = ["CODEC", "Mp4Sink", "comment", "read_text"]

CODEC: Final = "libx264"
ENCODING: Final = {
    "crf": "16",  # visually lossless for grey-box pictures
    # x264's macroblock-tree rate control reads memory that it has not written when there are
    # B-frames (core 165, assembler build): the same frames then give other bytes now and then.
    # Found by encoding one clip hundreds of times; without the tree, or without the assembler, all
    # were equal. The tree saves bits where pictures stand still; at this CRF it is not missed.
    "mbtree": "0",
}
RECORD_KEY: Final = "animatic"
# ITU-T H.273, the code point for BT.709 in each of primaries, transfer and matrix.
BT709: Final = 1
# libavutil/pixfmt.h: AVCOL_RANGE_MPEG, luma 16-235.
LIMITED_RANGE: Final = 1


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system or FFmpeg said into one sentence."""
    import av

    try:
        yield
    except OSError as error:  # some of FFmpeg's errors are OSErrors too
        raise explain(error, path) from error
    except av.FFmpegError as error:
        raise OutputError(f"Cannot encode {path}: {error.strerror or error}.") from error


class Mp4Sink:
    """Writes ``path`` (.mp4 or .mov) at the exact rate ``fps`` (frames per second).

    Raises:
        OutputError: odd width or height (4:2:0 halves both).
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        record: GenerationRecord | None,
        overwrite: bool,
    ) -> None:
        if width % 2 or height % 2:
            raise OutputError(
                f"H.264 with 4:2:0 colour needs an even width and height, not {width}x{height}; "
                "choose another size, or write PNG, WebP or GIF."
            )
        self._path, self._fps, self._record = path, fps, record
        self._width, self._height = width, height
        self._time_base = 1 / fps
        self._frames = 0
        self._pending = Pending(path, overwrite=overwrite)
        self._container: OutputContainer | None = None

    def start(self) -> None:
        """Make the unfinished file and describe the stream in it."""
        import av

        self._pending.start()
        with _explained(self._path):
            container = self._container = av.open(
                str(self._pending.path),
                "w",
                format="mov" if self._path.suffix.lower() == ".mov" else "mp4",
                options={
                    # the index first, so that a browser plays before the file has arrived;
                    # our own metadata key needs the second flag
                    "movflags": "+faststart+use_metadata_tags",
                    "fflags": "+bitexact",
                },
            )
            if self._record is not None:
                container.metadata[RECORD_KEY] = self._record.to_json()
                container.metadata["comment"] = comment(self._record)
            try:
                self._stream = container.add_stream(CODEC, rate=self._fps, options=ENCODING)
            except av.codec.codec.UnknownCodecError as error:
                raise OutputError(
                    f"This build of PyAV has no {CODEC}; install PyAV's own wheel, "
                    "or write PNG, WebP or GIF."
                ) from error
        self._describe(self._stream)
        self._mux = container.mux
        self._finish = container.close

    def _describe(self, stream: VideoStream) -> None:
        from av.codec.context import Flags

        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        stream.time_base = self._time_base
        context = stream.codec_context
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED_RANGE

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        import av
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        check_pixels(frame, self._width, self._height)
        picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24").reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            # Area averaging with full chroma input has no bias after a round trip; the default
            # (bicubic, subsampled input) darkens every channel by about 1/255.
            interpolation=Interpolation.AREA
            | Interpolation.FULL_CHR_H_INP
            | Interpolation.ACCURATE_RND
            | Interpolation.BITEXACT,
        )
        picture.pts, picture.time_base = self._frames, self._time_base
        self._frames += 1
        with _explained(self._pending.target):
            self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Flush the encoder, write the index, publish."""
        if not self._frames:
            raise OutputError(f"No frame was made for {self._pending.target}.")
        with _explained(self._pending.target):
            self._mux(self._stream.encode(None))
            self._finish()
        self._pending.publish()

    def abort(self) -> None:
        """Close the encoder and remove the file."""
        import av

        # Closing writes a trailer, which fails where the frames failed: a full disk, say.
        with contextlib.suppress(OSError, av.FFmpegError):
            if self._container is not None:
                self._container.close()
        self._pending.discard()


def comment(record: GenerationRecord) -> str:
    """What a person reads in a file browser's column: the prompt, the seed, the bundle."""
    return f"Animatic: “{record.prompt}”, seed {record.seed}, {record.bundle_name}"


def read_text(path: Path) -> str | None:
    """The record's JSON from an MP4 or MOV, or None where it holds none.

    Raises:
        OutputError: the file cannot be read as a film.
    """
    import av

    try:
        with av.open(str(path)) as container:
            return container.metadata.get(RECORD_KEY)
    except (OSError, av.FFmpegError) as error:
        raise OutputError(f"{path} cannot be read as a film: {error.strerror or error}.") from error
