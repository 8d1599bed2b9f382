"""What a shot may contain: the closed vocabulary of the world, and how it is sampled.

Every attribute is an index into one of the tuples below; the order is part of the trained
probe's contract, so entries are only ever appended.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

SUBJECTS: Final = ("truck", "car", "person", "horse", "ball", "balloon", "helicopter", "rocket")
COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PLACES: Final = ("desert", "city", "forest", "beach", "snow", "canyon")
TIMES: Final = ("dawn", "day", "sunset", "night")
ACTIONS: Final = ("still", "left", "right", "toward")
CAMERAS: Final = ("static", "pan_left", "pan_right", "dolly_in", "dolly_out", "crane_up")
SIZES: Final = ("close", "medium", "wide")

CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "place": PLACES,
    "time": TIMES,
    "action": ACTIONS,
    "camera": CAMERAS,
    "size": SIZES,
}
"""Attribute name -> its classes, in the order every label array uses."""

HELD_OUT_SHARE: Final = 20
"""One combination of attributes in this many is never rendered for training."""


@dataclass(frozen=True)
class ShotAttributes:
    """One shot's attributes, each an index into the tuple of the same name in `CLASSES`."""

    subject: int
    colour: int
    place: int
    time: int
    action: int
    camera: int
    size: int

    def labels(self) -> np.ndarray:
        """Return the attributes as int64 [7], in the order of `CLASSES`."""
        return np.array(astuple(self), dtype=np.int64)

    def name(self, attribute: str) -> str:
        """Return the class name of one attribute, such as ``"truck"`` for ``"subject"``."""
        return CLASSES[attribute][int(getattr(self, attribute))]

    @property
    def held_out(self) -> bool:
        """Whether this combination belongs to the score set and is kept out of training."""
        digest = hashlib.sha256(bytes(astuple(self))).digest()
        return digest[0] % HELD_OUT_SHARE == 0


def sample_attributes(rng: np.random.Generator, *, held_out: bool = False) -> ShotAttributes:
    """Draw attributes uniformly among the combinations that are (not) held out of training."""
    sizes = [len(classes) for classes in CLASSES.values()]
    while True:
        drawn = ShotAttributes(*(int(rng.integers(size)) for size in sizes))
        if drawn.held_out == held_out:
            return drawn
