"""The subjects: what each is built of, facing +x, standing on y = 0, two to four metres long.

Sizes are a toy shop's, not nature's: a person is as tall as a car is long, so that every
subject fills a frame alike and a shot size means the same for all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from animatic_training.world.attributes import SUBJECTS
from animatic_training.world.subjects.aircraft import AIRCRAFT
from animatic_training.world.subjects.creatures import CREATURES
from animatic_training.world.subjects.parts import Subject
from animatic_training.world.subjects.things import THINGS
from animatic_training.world.subjects.vehicles import VEHICLES

if TYPE_CHECKING:
    from animatic_training.world.solids import Solid, Vector

__all__ = ["FILL", "PALETTE", "REGISTRY", "Subject", "build_subject"]

PALETTE: Final[dict[str, Vector]] = {
    "red": (0.82, 0.05, 0.05),
    "orange": (0.95, 0.40, 0.02),
    "yellow": (0.95, 0.82, 0.06),
    "green": (0.08, 0.58, 0.12),
    "blue": (0.06, 0.18, 0.85),
    "purple": (0.48, 0.08, 0.65),
    "white": (0.93, 0.93, 0.93),
    "black": (0.04, 0.04, 0.05),
    "pink": (0.94, 0.34, 0.58),
    "turquoise": (0.05, 0.72, 0.68),
}
"""Colour -> linear albedo."""

FILL: Final = 0.22
"""Share of its albedo that a subject shows whatever the light."""

_ALL: Final = VEHICLES | CREATURES | AIRCRAFT | THINGS
REGISTRY: Final[dict[str, Subject]] = {name: _ALL[name] for name in SUBJECTS}
"""Name -> subject, in the vocabulary's order."""


def build_subject(name: str, colour: str) -> list[Solid]:
    """Return a subject's solids in its own frame, lit by the set's fill light."""
    parts = REGISTRY[name].build(PALETTE[colour])
    return [replace(part, fill=FILL) for part in parts]
