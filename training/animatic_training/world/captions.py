"""The caption writer: attributes -> a sentence, in the registers in which people write shots.

Plain sentences, slug lines, shot-list shorthand and director's notes. An attribute may be left
unsaid (the model must then choose), but never subject, and colour, place and time seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

    from animatic_training.world.attributes import ShotAttributes

SUBJECT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "truck": ("truck", "lorry", "delivery truck"),
    "car": ("car", "sedan", "automobile"),
    "person": ("person", "man", "woman", "figure"),
    "horse": ("horse", "pony", "stallion"),
    "ball": ("ball", "sphere", "giant ball"),
    "balloon": ("hot air balloon", "balloon", "hot-air balloon"),
    "helicopter": ("helicopter", "chopper"),
    "rocket": ("rocket", "spaceship", "rocket ship"),
}
COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("red", "bright red", "crimson"),
    "orange": ("orange", "bright orange"),
    "yellow": ("yellow", "bright yellow"),
    "green": ("green", "emerald green"),
    "blue": ("blue", "deep blue"),
    "purple": ("purple", "violet"),
    "white": ("white", "pure white"),
    "black": ("black", "jet black"),
}
PLACE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "desert": ("through a desert", "in the desert", "across the sand dunes of a desert"),
    "city": ("through a city", "on a city street", "in the city", "downtown"),
    "forest": ("through a forest", "in the forest", "in the woods"),
    "beach": ("on a beach", "along the beach", "by the sea"),
    "snow": ("in a snowy field", "through the snow", "in a snow-covered valley"),
    "canyon": ("through a canyon", "in a canyon", "between the walls of a red canyon"),
}
TIME_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "dawn": ("at dawn", "at sunrise", "early in the morning"),
    "day": ("at noon", "by day", "in bright daylight", "at midday"),
    "sunset": ("at sunset", "at dusk", "in the golden light of sunset"),
    "night": ("at night", "by night", "at midnight", "in the moonlight"),
}
_VERBS: Final[dict[str, tuple[str, str]]] = {
    "truck": ("drives", "driving"),
    "car": ("drives", "driving"),
    "person": ("walks", "walking"),
    "horse": ("gallops", "galloping"),
    "ball": ("rolls", "rolling"),
    "balloon": ("drifts", "drifting"),
    "helicopter": ("flies", "flying"),
    "rocket": ("hovers", "hovering"),
}
_WAYS: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "to the left", "from right to left"),
    "right": ("right", "to the right", "from left to right"),
    "toward": ("toward the camera", "towards us", "closer to the camera"),
}
_STILL: Final = (("stands still", "standing still"), ("waits", "waiting"), ("rests", "at rest"))
CAMERA_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "static": ("static camera", "locked-off shot", "the camera does not move"),
    "pan_left": ("pan left", "the camera pans left", "camera panning to the left"),
    "pan_right": ("pan right", "the camera pans right", "camera panning to the right"),
    "dolly_in": ("dolly in", "slow dolly in", "the camera pushes in", "push in"),
    "dolly_out": ("dolly out", "slow dolly out", "the camera pulls back", "pull out"),
    "crane_up": ("crane up", "the camera cranes up", "crane shot rising"),
}
SIZE_WORDS: Final[dict[str, tuple[str, str]]] = {
    "close": ("close-up", "CU"),
    "medium": ("medium shot", "MS"),
    "wide": ("wide shot", "WS"),
}
_SLUG_PLACES: Final[dict[str, str]] = {"city": "CITY STREET", "snow": "SNOWY FIELD"}
_SLUG_TIMES: Final[dict[str, tuple[str, ...]]] = {
    "dawn": ("DAWN", "SUNRISE"),
    "day": ("DAY", "NOON"),
    "sunset": ("SUNSET", "DUSK"),
    "night": ("NIGHT", "MIDNIGHT"),
}


def write_caption(
    attributes: ShotAttributes, rng: np.random.Generator, *, full: bool = False
) -> str:
    """Return one caption; with `full`, every attribute is said."""
    said = _Words(attributes, rng, full=full)
    register = rng.choice(4, p=(0.5, 0.15, 0.15, 0.2))
    if register == 0:
        return said.plain()
    if register == 1:
        return said.slug_line()
    if register == 2:
        return said.shorthand()
    return said.notes()


class _Words:
    """The words drawn for one caption; an empty string is an attribute left unsaid."""

    def __init__(self, attributes: ShotAttributes, rng: np.random.Generator, *, full: bool) -> None:
        def choose(options: tuple[str, ...]) -> str:
            return options[int(rng.integers(len(options)))]

        def keep(word: str, share: float) -> str:
            return word if full or rng.random() < share else ""

        name = attributes.name
        self.choose = choose
        self.rng = rng
        self.subject = choose(SUBJECT_WORDS[name("subject")])
        self.colour = keep(choose(COLOUR_WORDS[name("colour")]), 0.92)
        self.place = keep(choose(PLACE_WORDS[name("place")]), 0.92)
        self.time = keep(choose(TIME_WORDS[name("time")]), 0.92)
        self.camera = keep(choose(CAMERA_WORDS[name("camera")]), 0.75)
        self.size, self.short_size = (keep(w, 1.0) for w in SIZE_WORDS[name("size")])
        if not keep("x", 0.7):
            self.size = self.short_size = ""
        action = name("action")
        if action == "still":
            verb, gerund = _STILL[int(rng.integers(len(_STILL)))]
        else:
            way = choose(_WAYS[action])
            verb, gerund = (f"{form} {way}" for form in _VERBS[name("subject")])
        if not keep("x", 0.85):
            verb = gerund = ""
        self.verb, self.gerund = verb, gerund
        self.slug_place = (
            _SLUG_PLACES.get(name("place"), name("place").upper()) if self.place else "LOCATION"
        )
        self.slug_time = choose(_SLUG_TIMES[name("time")]) if self.time else ""

    @property
    def thing(self) -> str:
        """The subject with its colour and article."""
        words = f"{self.colour} {self.subject}".strip()
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def plain(self) -> str:
        """Return such as "a red truck drives left through a desert at sunset, dolly in"."""
        start = f"{self.size} of {self.thing}" if self.size and self.rng.random() < 0.5 else ""
        sentence = [start or self.thing, self.gerund if start else self.verb, self.place, self.time]
        parts = [" ".join(word for word in sentence if word), self.camera]
        if not start:
            parts.append(self.size)
        text = ", ".join(part for part in parts if part)
        return text[0].upper() + text[1:] + "." if self.rng.random() < 0.4 else text

    def slug_line(self) -> str:
        """Return such as "EXT. DESERT - SUNSET. A red truck drives left. Dolly in." ."""
        slug = f"EXT. {self.slug_place}" + (f" - {self.slug_time}" if self.slug_time else "")
        sentence = f"{self.thing} {self.verb}".strip()
        parts = [slug, sentence, self.camera, self.size]
        return " ".join(part[0].upper() + part[1:] + "." for part in parts if part)

    def shorthand(self) -> str:
        """Return such as "WS, red truck, driving left, in the desert, at sunset, dolly in"."""
        thing = f"{self.colour} {self.subject}".strip()
        parts = [self.short_size, thing, self.gerund, self.place, self.time, self.camera]
        return ", ".join(part for part in parts if part)

    def notes(self) -> str:
        """Return a director's longer note, place and time first."""
        setting = " ".join(part for part in (self.time, self.place) if part)
        sentence = " ".join(part for part in (self.thing, self.verb) if part)
        opening = f"{setting}, {sentence}" if setting else sentence
        if self.camera:
            joiner = " while " if self.camera.startswith("the camera") else ", "
            opening += joiner + self.camera
        text = opening + (f". Framed as a {self.size}" if self.size else "")
        return text[0].upper() + text[1:] + "."
