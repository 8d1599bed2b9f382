"""A PNG sequence: one 8-bit RGB file per frame, the record in a tEXt chunk of each.

Two targets: a folder (``takes/lorry`` holds ``lorry.1001.png`` …), which appears whole or not at
all, and a pattern (``takes/lorry.%04d.png``) inside a folder that exists already, whose files are
renamed into place one by one when all of them are complete. Frames start at 1001, as film and VFX
count them: it leaves room for handles in front.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError
from animatic.sinks.pending import Pending, explained, flush_to_disk, place
from animatic.sinks.protocol import check_pixels
from animatic.sinks.stamp import ascii_json

if TYPE_CHECKING:
    from animatic.frame import Frame
    from animatic.record import GenerationRecord

__all__ = [
    "FIRST_FRAME",
    "RECORD_KEY",
    "PngFolderSink",
    "PngPatternSink",
    "as_pattern",
    "occupied",
    "read_text",
    "sequence",
]

FIRST_FRAME: Final = 1001
RECORD_KEY: Final = "animatic"  # the tEXt chunk's keyword
_PLACE: Final = re.compile(r"(?<!%)%0(\d)d")
_FRAME_FILE: Final = re.compile(r"(?!\.).*\.\d{4,}\.png", re.IGNORECASE)


class _Frames:
    """Writes numbered PNG files into one folder."""

    def __init__(
        self, folder: Path, pattern: str, *, size: tuple[int, int], record: GenerationRecord | None
    ) -> None:
        from PIL.PngImagePlugin import PngInfo

        self.names: list[str] = []
        self._folder, self._pattern = folder, pattern
        self._width, self._height = size
        self._chunks = PngInfo()
        if record is not None:
            self._chunks.add_text(RECORD_KEY, ascii_json(record))

    def write(self, frame: Frame, target: Path) -> None:
        """Store one frame for good; ``target`` is what an error names."""
        from PIL import Image

        check_pixels(frame, self._width, self._height)
        name = self._pattern % (FIRST_FRAME + len(self.names))
        with explained(target):
            Image.fromarray(frame.pixels).save(
                self._folder / name, format="PNG", pnginfo=self._chunks
            )
            flush_to_disk(self._folder / name)
        self.names.append(name)


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
        # A per cent sign in the folder's name is no placeholder.
        pattern = folder.name.replace("%", "%%") + ".%04d.png"
        self._frames = _Frames(self._pending.path, pattern, size=size, record=record)

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
        with explained(folder):
            if not folder.exists():
                return
            if not folder.is_dir():
                raise OutputError(f"{folder} is a file; choose another name for the folder.")
            entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
            if not entries:
                return
            ours = (
                _FRAME_FILE.fullmatch(entries[0].name) is not None
                and entries == occupied(_pattern_of(entries[0]))
                and all(map(_is_ours, entries))
            )
        if not ours:
            raise OutputError(
                f"The folder {folder} holds other files; choose a new or an empty folder."
            )
        if not self._overwrite:
            raise OutputError(f"{folder} already holds a sequence; choose another folder.")


class PngPatternSink:
    """Writes ``name.%04d.png`` into a folder that exists.

    The frames are made in a hidden folder beside and renamed at the end. What follows them from an
    earlier, longer sequence of ours is removed, so that no clip ends in frames of another.

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
        pattern = as_pattern(pattern)
        self._target = pattern
        self._overwrite = overwrite
        self._pending = Pending(pattern, overwrite=overwrite, folder=True)
        self._frames = _Frames(self._pending.path, pattern.name, size=size, record=record)

    def start(self) -> None:
        """Make the hidden folder."""
        with explained(self._target):
            self._check()
        self._pending.start()

    def _check(self) -> None:
        there = occupied(self._target)
        if there and not self._overwrite:
            raise OutputError(f"{there[0]} already exists; choose another name.")
        for file in there:  # nothing of ours, and not to be lost for the sake of a frame
            if file.is_dir():
                raise OutputError(f"{file} is a folder; move it away, or choose another name.")

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
                self._check()
                old.mkdir()
                finals = [self._final(name) for name in self._frames.names]
                stale = [file for file in sequence(self._target)[len(finals) :] if _is_ours(file)]
                for file in [*filter(os.path.lexists, finals), *stale]:
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


def as_pattern(path: Path) -> Path:
    """The pattern that ``path`` stands for: itself, or ``lorry.%04d.png`` for ``lorry.png``.

    Raises:
        OutputError: two placeholders, or a per cent sign that belongs to none.
    """
    if "%" not in path.name:  # one PNG cannot hold a clip; it names the sequence
        return path.with_name(f"{path.stem}.%04d{path.suffix}")
    rest = _PLACE.sub("", path.name, count=1).replace("%%", "")
    if "%" in rest or not _PLACE.search(path.name):
        raise OutputError(
            f"{path.name} needs exactly one place such as %04d for the frame number; "
            "write it as name.%04d.png."
        )
    return path


def read_text(path: Path) -> str | None:
    """The record's JSON from one PNG, a folder of them or a pattern; None where there is none.

    Raises:
        OutputError: there is no such picture, or it cannot be read.
    """
    try:
        return _text_in(_first_frame(path))
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise OutputError(f"{path} cannot be read as a picture: {error}.") from error


def _text_in(file: Path) -> str | None:
    from PIL import Image

    with Image.open(file) as image:
        text = image.info.get(RECORD_KEY)
    return text if isinstance(text, str) else None


def occupied(pattern: Path) -> list[Path]:
    """Whatever lies where the frames of a pattern may go, in order, whichever numbers it has.

    Raises:
        OutputError: ``pattern`` is none; see :func:`as_pattern`.
        OSError: its folder cannot be read.
    """
    pattern = as_pattern(pattern)
    before, digits, after = _PLACE.split(pattern.name)
    name = re.compile(
        re.escape(before.replace("%%", "%"))
        + rf"\d{{{max(1, int(digits))},}}"
        + re.escape(after.replace("%%", "%"))
    )
    try:
        return sorted(entry for entry in pattern.parent.iterdir() if name.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def sequence(path: Path) -> list[Path]:
    """The files of a sequence in order; none where there is none.

    ``path`` is the folder, the pattern, or one of the frames (``lorry.1001.png``).
    """
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if _FRAME_FILE.fullmatch(entry.name))
    pattern = (_pattern_of(path) if path.exists() else as_pattern(path)).name
    if not _PLACE.search(pattern):
        return [path]
    files = (path.with_name(pattern % number) for number in itertools.count(FIRST_FRAME))
    return list(itertools.takewhile(Path.exists, files))


def _pattern_of(frame: Path) -> Path:
    """The pattern that ``lorry.1001.png`` belongs to; the name itself where it has no number."""
    return frame.with_name(re.sub(r"\.\d{4,}(\.\w+)$", r".%04d\1", frame.name.replace("%", "%%")))


def _is_ours(frame: Path) -> bool:
    try:
        return bool(_text_in(frame))  # of this very file, whatever its neighbours hold
    except (OSError, SyntaxError):  # no picture at all, in Pillow's two words
        return False


def _first_frame(path: Path) -> Path:
    files = sequence(path)
    if not files:
        raise OutputError(f"There is no PNG sequence at {path}; check its name.")
    return files[0]
