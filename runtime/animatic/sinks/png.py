"""A PNG sequence: one 8-bit RGB file per frame, the record in a tEXt chunk of each.

Two targets: a folder (``takes/lorry`` holds ``lorry.1001.png`` …), which appears whole or not at
all, and a pattern (``takes/lorry.%04d.png``) inside a folder that exists already, whose files are
renamed into place one by one when all of them are complete.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError
from animatic.sinks.numbering import FIRST_FRAME, Numbering, frames_in, sequence
from animatic.sinks.pending import Pending, explained, flush_to_disk, place
from animatic.sinks.protocol import check_pixels
from animatic.sinks.stamp import ascii_json

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.frame import Frame
    from animatic.record import GenerationRecord

__all__ = ["PngFolderSink", "PngPatternSink", "check_folder", "check_pattern", "read_text"]

RECORD_KEY: Final = "animatic"  # the tEXt chunk's keyword


class _Frames:
    """Writes numbered PNG files."""

    def __init__(
        self, numbering: Numbering, *, size: tuple[int, int], record: GenerationRecord | None
    ) -> None:
        from PIL.PngImagePlugin import PngInfo

        self.names: list[str] = []
        self._numbering = numbering
        self._width, self._height = size
        self._chunks = PngInfo()
        if record is not None:
            self._chunks.add_text(RECORD_KEY, ascii_json(record))

    def write(self, frame: Frame, target: Path) -> None:
        """Store one frame for good; ``target`` is what an error names."""
        from PIL import Image

        check_pixels(frame, self._width, self._height)
        file = self._numbering.file(FIRST_FRAME + len(self.names))
        with explained(target):
            Image.fromarray(frame.pixels).save(file, format="PNG", pnginfo=self._chunks)
            flush_to_disk(file)
        self.names.append(file.name)


class PngFolderSink:
    """Writes a folder of frames that appears whole when it is complete.

    An empty folder of that name is replaced, and so is one that holds nothing but one sequence of
    ours, when ``overwrite`` is set; any other is left alone. Hidden files (a file browser's notes)
    do not count, and move into the new folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: tuple[int, int],
        record: GenerationRecord | None,
        overwrite: bool,
    ) -> None:
        self._overwrite = overwrite
        self._pending = Pending(folder, overwrite=overwrite, folder=True)
        numbering = Numbering.in_folder(self._pending.path, folder.name)
        self._frames = _Frames(numbering, size=size, record=record)

    def start(self) -> None:
        """Make the unfinished folder."""
        self._check(self._pending.target)
        self._pending.start()

    def write(self, frame: Frame) -> None:
        """Store one frame in the unfinished folder."""
        self._frames.write(frame, self._pending.target)

    def close(self) -> None:
        """Rename the folder into place."""
        folder = self._pending.target
        if not self._frames.names:
            raise OutputError(f"No frame was made for {folder}.")
        self._check(folder)
        with explained(folder):
            there = folder.exists()
        if not there:
            self._pending.publish()
            return
        # A folder that is not empty cannot be replaced in one step: ours steps aside first, and
        # comes back if the new one cannot take its place.
        aside = self._pending.path.with_suffix(".old")
        with explained(folder):
            folder.replace(aside)
        try:
            self._pending.publish()
        except BaseException:
            with contextlib.suppress(OSError):
                aside.replace(folder)
            raise
        with explained(folder):
            for entry in aside.iterdir():
                if entry.name.startswith("."):
                    entry.replace(folder / entry.name)
        shutil.rmtree(aside, ignore_errors=True)

    def abort(self) -> None:
        """Remove the unfinished folder."""
        self._pending.discard()

    def _check(self, folder: Path) -> None:
        if check_folder(folder) and not self._overwrite:
            raise OutputError(f"{folder} already holds a sequence; choose another folder.")


class PngPatternSink:
    """Writes ``name.%04d.png`` into a folder that exists.

    The frames are made in a hidden folder beside and renamed at the end. Every other frame
    of ours under that pattern is removed, so that no clip ends in frames of another.

    Raises:
        OutputError: more than one place for the frame number.
    """

    def __init__(
        self,
        pattern: Path,
        *,
        size: tuple[int, int],
        record: GenerationRecord | None,
        overwrite: bool,
    ) -> None:
        self._numbering = numbering = Numbering.asked(pattern)
        self._target = numbering.pattern
        self._overwrite = overwrite
        self._pending = Pending(self._target, overwrite=overwrite, folder=True)
        beside = replace(numbering, folder=self._pending.path)
        self._frames = _Frames(beside, size=size, record=record)

    def start(self) -> None:
        """Make the hidden folder."""
        self._check()
        self._pending.start()

    def _check(self) -> list[Path]:
        there = check_pattern(self._numbering)
        if there and not self._overwrite:
            raise OutputError(f"{there[0]} already exists; choose another name.")
        return there

    def _final(self, name: str) -> Path:
        return self._target.parent / name

    def write(self, frame: Frame) -> None:
        """Store one frame in the hidden folder."""
        self._frames.write(frame, self._target)

    def close(self) -> None:
        """Rename every frame into place; what was there before comes back if one of them fails."""
        if not self._frames.names:
            raise OutputError(f"No frame was made for {self._target}.")
        placed: list[Path] = []
        old = self._pending.path / "old"
        try:
            with explained(self._target):
                there = self._check()
                old.mkdir()
                finals = [self._final(name) for name in self._frames.names]
                for file in there:
                    if file in finals or _is_ours(file):
                        file.replace(old / file.name)
                for final in finals:
                    place(self._pending.path / final.name, final, overwrite=self._overwrite)
                    placed.append(final)
                flush_to_disk(self._target.parent)
        except BaseException:  # half a sequence looks whole
            for file in placed:
                with contextlib.suppress(OSError):
                    file.unlink()
            with contextlib.suppress(OSError):
                for file in old.iterdir():
                    file.replace(self._final(file.name))
            raise
        self._pending.discard()

    def abort(self) -> None:
        """Remove the hidden folder."""
        self._pending.discard()


def check_folder(folder: Path) -> bool:
    """Whether a sequence of ours lies there already, and nothing else.

    Raises:
        OutputError: something else is there, which is not ours to replace.
    """
    with explained(folder):
        if not folder.exists():
            return False
        if not folder.is_dir():
            raise OutputError(
                f"{folder} is a file, and a name without a suffix makes a folder of frames; add a "
                "suffix such as .mp4, or give - for standard output."
            )
        entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
        if not entries:
            return False
        numbering = Numbering.of_frame(entries[0])
        ours = (
            numbering is not None
            and set(entries) == set(frames_in(folder)) == set(numbering.occupied())
            and all(map(_is_ours, entries))
        )
    if not ours:
        raise OutputError(
            f"The folder {folder} holds other files; choose a new or an empty folder."
        )
    return True


def check_pattern(numbering: Numbering) -> list[Path]:
    """What lies where a sequence may go.

    Raises:
        OutputError: one of them is a folder.
    """
    with explained(numbering.pattern):
        there = numbering.occupied()
        for file in there:  # nothing of ours, and not to be lost for the sake of a frame
            if file.is_dir():
                raise OutputError(f"{file} is a folder; move it away, or choose another name.")
    return there


def read_text(path: Path) -> str | None:
    """The record's JSON from one PNG, a folder of them or a pattern; None where there is none.

    Raises:
        OutputError: there is no such picture, or it cannot be read.
    """
    try:
        files = sequence(path)
        if not files and not path.is_dir():
            files = Numbering.asked(path).occupied()  # its first frame may be missing
        if not files:
            raise OutputError(f"There is no PNG sequence at {path}; check its name.")
        # Of one file where one was named; somebody else's picture may come before our first.
        return next(filter(None, map(_text_in, [path] if path.is_file() else files)), None)
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise OutputError(f"{path} cannot be read as a picture: {error}.") from error


def _text_in(file: Path) -> str | None:
    from PIL import Image

    with Image.open(file) as image:
        text = image.info.get(RECORD_KEY)
    return text if isinstance(text, str) else None


def _is_ours(frame: Path) -> bool:
    try:
        return bool(_text_in(frame))  # of this very file, whatever its neighbours hold
    except (OSError, SyntaxError):  # no picture at all, in Pillow's two words
        return False
