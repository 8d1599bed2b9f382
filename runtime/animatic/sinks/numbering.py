"""How the files of a PNG sequence are named, and which of them are there.

Frames start at 1001, as film and VFX count them: it leaves room for handles in front.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FIRST_FRAME", "Numbering", "as_pattern", "check_whole", "frames_in", "sequence"]

FIRST_FRAME: Final = 1001
_DIGITS: Final = 4  # of a frame number, where nobody says how many
# `%04d`, or `####` as renderers and players write it. A single # is left to names ("shot #3").
_PLACE: Final = re.compile(r"(?<!%)%0(\d)d|(##+)")
_FRAME_FILE: Final = re.compile(r"(?!\.).*\.\d{4,}\.png", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"(.*?)(\d{4,})(\.\w+)")


@dataclass(frozen=True, slots=True)
class Numbering:
    """The files ``folder / (before + frame number + after)``.

    digits: to which the number is filled up with zeros.
    """

    folder: Path
    before: str
    digits: int
    after: str

    @classmethod
    def asked(cls, path: Path) -> Numbering:
        """What a pattern says, or ``lorry.%04d.png`` for ``lorry.png``.

        Raises:
            OutputError: two places for the number, or a per cent sign that belongs to none.
        """
        places = list(_PLACE.finditer(path.name))
        if not places and "%" not in path.name:  # one PNG cannot hold a clip; it names the sequence
            return cls(path.parent, f"{path.stem}.", _DIGITS, path.suffix)
        before, after = (
            (path.name[: places[0].start()], path.name[places[0].end() :]) if places else ("%", "")
        )
        if len(places) > 1 or "%" in (before + after).replace("%%", ""):
            raise OutputError(
                f"{path.name} needs exactly one place such as %04d or #### for the frame number; "
                "write it as name.%04d.png."
            )
        digits, hashes = places[0].groups()
        return cls(
            path.parent,
            before.replace("%%", "%"),
            int(digits) if digits else len(hashes),
            after.replace("%%", "%"),
        )

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> Numbering:
        """The sequence ``name.1001.png`` … of a folder."""
        return cls(folder, f"{name}.", _DIGITS, ".png")

    @classmethod
    def of_frame(cls, frame: Path) -> Numbering | None:
        """The sequence that ``lorry.1001.png`` belongs to; None where there is no number."""
        match = _NUMBERED.fullmatch(frame.name)
        if match is None:
            return None
        before, number, after = match.groups()
        digits = len(number) if number.startswith("0") else _DIGITS
        return cls(frame.parent, before, digits, after)

    @property
    def pattern(self) -> Path:
        """The pattern that `asked` reads back."""
        before, after = (part.replace("%", "%%") for part in (self.before, self.after))
        return self.folder / f"{before}%0{self.digits}d{after}"

    def file(self, number: int) -> Path:
        """The file of one frame."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def occupied(self) -> list[Path]:
        """Whatever lies where the frames may go, in order, whichever numbers it has.

        Raises:
            OSError: the folder cannot be read.
        """
        name = re.compile(
            f"{re.escape(self.before)}({_digits(self.digits)}){re.escape(self.after)}"
        )
        try:
            entries = [(name.fullmatch(entry.name), entry) for entry in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [(int(match[1]), entry) for match, entry in entries if match]
        return [entry for _, entry in sorted(found)]

    def from_first(self) -> list[Path]:
        """The files from frame 1001 on, up to the first gap."""
        files = map(self.file, itertools.count(FIRST_FRAME))
        return list(itertools.takewhile(lambda file: file.exists(), files))


def _digits(count: int) -> str:
    return rf"\d{{{max(1, count)},}}"


def as_pattern(path: Path) -> Path:
    """The pattern that ``path`` stands for; see :meth:`Numbering.asked`, also for errors."""
    return Numbering.asked(path).pattern


def frames_in(folder: Path) -> list[Path]:
    """The files in a folder that are named as frames, in order."""
    found = [entry for entry in folder.iterdir() if _FRAME_FILE.fullmatch(entry.name)]
    return sorted(found, key=lambda file: (len(file.name), file.name))


def sequence(path: Path) -> list[Path]:
    """The files of a sequence in order; none where there is none.

    ``path`` is the folder, the pattern, or one of the frames (``lorry.1001.png``).
    """
    if path.is_dir():
        return frames_in(path)
    if not path.exists():
        return Numbering.asked(path).from_first()
    numbering = Numbering.of_frame(path)
    return [path] if numbering is None else numbering.from_first()


def check_whole(path: Path, count: int) -> None:
    """Refuse a sequence that is not one clip of ``count`` frames; ``path`` as for `sequence`.

    Raises:
        OutputError: a frame is missing, or there is one too many.
    """
    last = FIRST_FRAME + count - 1
    clip = f"the clip in {path}, whose frames are {FIRST_FRAME} to {last}"
    files = sequence(path)
    numbering = _most_common(files) or (
        Numbering.of_frame(path) if path.exists() else Numbering.asked(path)
    )
    if numbering is None:
        raise OutputError(
            f"{path} is one picture and no clip of {count} frames; name the folder or the pattern "
            "of the whole sequence."
        )
    expected = [numbering.file(number) for number in range(FIRST_FRAME, last + 1)]
    for number, file in enumerate(expected, start=FIRST_FRAME):
        if not file.exists():
            raise OutputError(
                f"Frame {number} is missing ({file.name} of {clip}); get it back, or make the clip "
                "again with `animatic generate`."
            )
    for file in [*files, *([path] if path.is_file() else [])]:
        if file not in expected:
            raise OutputError(f"{file.name} is not part of {clip}; move it away.")


def _most_common(files: list[Path]) -> Numbering | None:
    counted = Counter(map(Numbering.of_frame, files))
    return max(counted, key=lambda numbering: counted[numbering], default=None)
