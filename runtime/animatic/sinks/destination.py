"""What kind of clip a name asks for, and whether anything can be written there at all.

``check_place`` finds what no overwriting mends, so that it can be said before a model is loaded.
The sinks look again when they start and when they publish: much may happen in between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from animatic.errors import OutputError
from animatic.sinks.numbering import Numbering
from animatic.sinks.pending import check_parent, check_replaceable, explained
from animatic.sinks.png import check_folder, check_pattern

__all__ = ["Kind", "check_place", "kind_of"]

Kind = Literal["film", "animation", "folder", "pattern", "raw"]

_KINDS: Final[dict[str, Kind]] = {
    ".mp4": "film",
    ".mov": "film",
    ".webp": "animation",
    ".gif": "animation",
    ".png": "pattern",
    ".rgb": "raw",
}
_OFFERED: Final = "use .mp4, .mov, .webp, .gif, .png, .rgb, a folder or - for a pipe"


def kind_of(place: Path) -> Kind:
    """What is to be written to ``place``, by its suffix; see the table in :mod:`animatic.sinks`.

    Raises:
        OutputError: a suffix that we do not write, a sequence that would be hidden, or a folder
            that cannot be replaced because this process works in it.
    """
    with explained(place):
        folder = place.is_dir()
        if folder and Path.cwd().is_relative_to(place.resolve()):
            raise OutputError(
                f"The folder {place} is in use and cannot become a folder of frames; name a new "
                "folder inside it, or a file."
            )
    suffix = place.suffix.lower()
    kind = "folder" if folder or not suffix else _KINDS.get(suffix)
    if kind is None:
        raise OutputError(f"Animatic does not write {suffix} files; {_OFFERED}.")
    # A sequence is looked for by its frames' names, and hidden files are none of it.
    if kind in {"folder", "pattern"} and place.name.startswith("."):
        if place.name.lower() in _KINDS or kind == "pattern":
            raise OutputError(
                f"{place} has no name in front of the dot; write it as {place.parent / 'clip'}"
                f"{place.name}."
            )
        raise OutputError(
            f"{place} would hide its frames; choose a name that does not begin with a dot."
        )
    return kind


def check_place(place: Path) -> None:
    """Refuse a place that no clip can be written to, even if what is there may be replaced.

    Raises:
        OutputError: see :func:`kind_of`; or a device, a folder with other files, a name that is
            taken by a folder or a file where the clip needs the other, or no folder around it.
    """
    kind = kind_of(place)
    check_parent(place)
    check_replaceable(place)
    if kind == "folder":
        check_folder(place)
    elif kind == "pattern":
        check_pattern(Numbering.asked(place))
