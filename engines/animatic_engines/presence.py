"""Whether a card of a target is in this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from animatic.errors import TargetError

if TYPE_CHECKING:
    from animatic.targets import Target

__all__ = ["Presence", "presence_of"]


class Presence(NamedTuple):
    """device: the card's name, "" where there is none; reason: why there is none."""

    device: str
    reason: str


def presence_of(target: Target) -> Presence:
    """Look whether an engine for the target would run here: the same compute capability.

    The card itself need be of no target: an L20 runs what was built for rtx-40.
    """
    from animatic.detect import detect_device

    try:
        found = detect_device()
    except TargetError as error:
        # What follows the semicolon is advice to whoever asked for --target auto.
        return Presence("", str(error).partition(";")[0].rstrip("."))
    if found.compute_capability != target.compute_capability:
        return Presence("", f"this machine has a {found.name}, which is no {target.name}")
    return Presence(found.name, "")
