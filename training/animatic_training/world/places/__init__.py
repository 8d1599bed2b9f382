"""The places: ground, and the props that stand around the subject's stage."""

from __future__ import annotations

from typing import Final

from animatic_training.world.attributes import PLACES
from animatic_training.world.places.barren import BARREN
from animatic_training.world.places.green import GREEN
from animatic_training.world.places.interiors import INTERIORS
from animatic_training.world.places.layout import Ground, Place
from animatic_training.world.places.streets import STREETS

__all__ = ["REGISTRY", "Ground", "Place"]

_ALL: Final = BARREN | GREEN | STREETS | INTERIORS
REGISTRY: Final[dict[str, Place]] = {name: _ALL[name] for name in PLACES}
"""Name -> place, in the vocabulary's order."""
