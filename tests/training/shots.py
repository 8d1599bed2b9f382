"""Shots for tests: a plain one, changed in what the test is about."""

from __future__ import annotations

from animatic_training.world.attributes import CLASSES, NONE, ShotAttributes

PLAIN = {
    "subject": "car", "colour": "red", "place": "desert", "time": "day", "action": "still",
    "camera": "static", "size": "medium", "weather": "clear", "angle": "eye_level",
    "lens": "normal", "relation": "alone", "second": NONE, "second_colour": NONE,
}  # fmt: skip


def shot(**changed: str) -> ShotAttributes:
    """Return a red car that stands in a desert by day, but for what is changed."""
    names = PLAIN | changed
    return ShotAttributes(*(CLASSES[kind].index(names[kind]) for kind in CLASSES))
