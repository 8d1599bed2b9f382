"""What a shot may contain: the closed vocabulary of the world, and how it is sampled.

Every attribute is an index into one of the tuples below; the order is part of the trained
probe's contract, so entries are only ever appended.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

SUBJECTS: Final = (
    "truck", "car", "person", "horse", "ball", "balloon", "helicopter", "rocket",
    "bus", "motorcycle", "tractor", "dog", "elephant", "bird", "robot", "airplane",
    "drone", "sailboat", "dinosaur", "crate",
)  # fmt: skip
COLOURS: Final = (
    "red", "orange", "yellow", "green", "blue", "purple", "white", "black", "pink", "turquoise",
)  # fmt: skip
PLACES: Final = (
    "desert", "city", "forest", "beach", "snow", "canyon", "meadow", "mountains", "highway",
    "moon", "warehouse", "living_room", "corridor", "studio",
)  # fmt: skip
TIMES: Final = ("dawn", "day", "sunset", "night")
ACTIONS: Final = (
    "still", "left", "right", "toward", "away", "turn", "jump", "rise", "sink", "circle", "sway",
    "weave",
)  # fmt: skip
CAMERAS: Final = (
    "static", "pan_left", "pan_right", "dolly_in", "dolly_out", "crane_up", "crane_down",
    "tilt_up", "tilt_down", "truck_left", "truck_right", "orbit", "zoom_in", "zoom_out",
    "tracking", "handheld", "whip_pan",
)  # fmt: skip
SIZES: Final = ("close", "medium", "wide", "extreme_close", "extreme_wide")
WEATHERS: Final = ("clear", "overcast", "rain", "snowfall", "fog")
ANGLES: Final = ("eye_level", "low", "high", "overhead")
LENSES: Final = ("normal", "wide_angle", "telephoto")
RELATIONS: Final = ("alone", "beside", "behind", "chasing")
"""How the second subject stands to the first: the first is beside, behind, or chasing it."""
NONE: Final = "none"

CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "place": PLACES,
    "time": TIMES,
    "action": ACTIONS,
    "camera": CAMERAS,
    "size": SIZES,
    "weather": WEATHERS,
    "angle": ANGLES,
    "lens": LENSES,
    "relation": RELATIONS,
    "second": (*SUBJECTS, NONE),
    "second_colour": (*COLOURS, NONE),
}
"""Attribute name -> its classes, in the order every label array uses."""

INTERIORS: Final = frozenset({"warehouse", "living_room", "corridor", "studio"})
WITHOUT_WEATHER: Final = INTERIORS | {"moon"}
"""Places where it is always clear, and nobody says so."""
ACROSS: Final = frozenset({"left", "right"})
"""Actions that cross the frame: what can be tracked, and what a chase does."""

_NOT_FROM_ABOVE: Final = frozenset(
    {
        "tilt_up", "tilt_down", "crane_up", "crane_down", "pan_left", "pan_right", "zoom_in",
        "zoom_out",
    }
)  # fmt: skip
"""From above a tilt loses the subject, a crane is a dolly, and with nothing far behind the subject
a pan looks as a truck does and a zoom as a dolly."""

HELD_OUT_SHARE: Final = 20
"""One combination of attributes in this many is never rendered for training."""

_USUAL: Final = {"weather": 0.35, "angle": 0.5, "lens": 0.55, "relation": 0.7}
"""Share of shots in which these are as usual (their first class); the others divide the rest."""


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
    weather: int
    angle: int
    lens: int
    relation: int
    second: int
    second_colour: int

    def labels(self) -> np.ndarray:
        """Return the attributes as int64 [13], in the order of `CLASSES`."""
        return np.array(astuple(self), dtype=np.int64)

    def name(self, attribute: str) -> str:
        """Return the class name of one attribute, such as ``"truck"`` for ``"subject"``."""
        return CLASSES[attribute][int(getattr(self, attribute))]

    @property
    def held_out(self) -> bool:
        """Whether this combination belongs to the score set and is kept out of training.

        What decides is subject, colour, place, time, action, camera and size: a shot does not leave
        the score set because it rains.
        """
        digest = hashlib.sha256(bytes(astuple(self)[:7])).digest()
        return digest[0] % HELD_OUT_SHARE == 0

    @property
    def possible(self) -> bool:
        """Whether such a shot can be staged so that every attribute shows."""
        return not any(_contradictions(self))


def _contradictions(shot: ShotAttributes) -> tuple[bool, ...]:
    place, weather = shot.name("place"), shot.name("weather")
    relation, action, camera = shot.name("relation"), shot.name("action"), shot.name("camera")
    alone = relation == "alone"
    return (
        place in WITHOUT_WEATHER and weather != "clear",
        weather == "overcast" and shot.name("time") == "night",  # it is black either way
        weather == "overcast" and shot.name("time") == "sunset",
        camera == "tracking" and action not in ACROSS,
        relation == "chasing" and action not in ACROSS,
        shot.name("angle") == "overhead" and camera in _NOT_FROM_ABOVE,
        alone != (shot.name("second") == NONE),
        alone != (shot.name("second_colour") == NONE),
        not alone and shot.second == shot.subject,
        not alone and shot.second_colour == shot.colour,
        not alone and shot.name("size") == "extreme_close",
    )


def sample_attributes(rng: np.random.Generator, *, held_out: bool = False) -> ShotAttributes:
    """Draw a possible shot among the combinations that are (not) held out of training.

    Every class of an attribute is as likely as any other, but for what shots usually leave out.
    """
    while True:
        drawn = {name: _class(name, rng) for name in CLASSES}
        _reconcile(drawn, rng)
        shot = ShotAttributes(**drawn)
        if shot.held_out == held_out and shot.possible:
            return shot


def _reconcile(drawn: dict[str, int], rng: np.random.Generator) -> None:
    """Change what would seldom fit the rest, so that no class becomes rare."""
    if PLACES[drawn["place"]] in WITHOUT_WEATHER:
        drawn["weather"] = WEATHERS.index("clear")
    if ANGLES[drawn["angle"]] == "overhead" and CAMERAS[drawn["camera"]] in _NOT_FROM_ABOVE:
        drawn["camera"] = CAMERAS.index(str(rng.choice(sorted({*CAMERAS} - _NOT_FROM_ABOVE))))
    if SIZES[drawn["size"]] == "extreme_close":
        drawn["relation"] = 0
    for second, first in (("second", "subject"), ("second_colour", "colour")):
        count = len(CLASSES[first])
        other = (drawn[first] + int(rng.integers(1, count))) % count
        drawn[second] = other if drawn["relation"] else CLASSES[second].index(NONE)
    if CAMERAS[drawn["camera"]] == "tracking" or RELATIONS[drawn["relation"]] == "chasing":
        drawn["action"] = ACTIONS.index(str(rng.choice(sorted(ACROSS))))


def _class(name: str, rng: np.random.Generator) -> int:
    count = len(CLASSES[name])
    usual = _USUAL.get(name)
    if usual is not None:
        return 0 if rng.random() < usual else int(rng.integers(1, count))
    return int(rng.integers(count))
