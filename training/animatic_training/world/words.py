"""The words of what is filmed: what captions of the training say, and what they never say.

The words held out are as common as English allows; shots described with them show whether the text
encoder carries the model beyond the words that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Words:
    """Ways to say one thing."""

    said: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    """What training never says."""


@dataclass(frozen=True)
class Forms:
    """Ways to say a class in a sentence, and as a label in a list."""

    phrase: Words
    tag: Words


@dataclass(frozen=True)
class PlaceForms:
    """Ways to say a place."""

    at: Words
    """Where something stays."""
    through: Words
    """Where something moves."""
    tag: Words


SUBJECTS: Final[dict[str, Words]] = {
    "truck": Words(("truck", "delivery truck", "box truck", "cargo truck"), ("lorry",)),
    "car": Words(("car", "sedan", "passenger car", "family car"), ("automobile",)),
    "person": Words(("person", "man", "woman", "figure", "human"), ("pedestrian",)),
    "horse": Words(("horse", "pony", "stallion", "mare"), ("steed",)),
    "ball": Words(("ball", "sphere", "giant ball", "round ball"), ("orb",)),
    "balloon": Words(("hot air balloon", "balloon", "hot-air balloon", "air balloon")),
    "helicopter": Words(("helicopter", "chopper", "rescue helicopter", "copter"), ("rotorcraft",)),
    "rocket": Words(("rocket", "spaceship", "rocket ship", "space rocket"), ("starship",)),
    "bus": Words(("bus", "city bus", "passenger bus", "tour bus"), ("coach",)),
    "motorcycle": Words(
        ("motorcycle", "motorbike", "dirt bike", "touring motorcycle"), ("two-wheeler",)
    ),
    "tractor": Words(
        ("tractor", "farm tractor", "ploughing tractor", "farmer's tractor"), ("farm vehicle",)
    ),
    "dog": Words(("dog", "hound", "puppy", "sheepdog"), ("canine",)),
    "elephant": Words(
        ("elephant", "African elephant", "Asian elephant", "bull elephant"), ("pachyderm",)
    ),
    "bird": Words(("bird", "seagull", "pigeon", "dove"), ("sparrow",)),
    "robot": Words(("robot", "android", "humanoid robot", "metal robot"), ("automaton",)),
    "airplane": Words(("airplane", "plane", "aeroplane", "propeller plane"), ("aircraft",)),
    "drone": Words(("drone", "quadcopter", "camera drone", "multicopter"), ("quadrotor",)),
    "sailboat": Words(("sailboat", "sailing boat", "yacht", "sailing ship"), ("sloop",)),
    "dinosaur": Words(("dinosaur", "T-rex", "tyrannosaurus", "dino"), ("prehistoric lizard",)),
    "crate": Words(("crate", "wooden crate", "box", "shipping crate"), ("packing case",)),
}
COLOURS: Final[dict[str, Words]] = {
    "red": Words(("red", "bright red", "crimson", "cherry red"), ("scarlet",)),
    "orange": Words(("orange", "bright orange", "deep orange", "vivid orange"), ("tangerine",)),
    "yellow": Words(("yellow", "bright yellow", "sunny yellow", "vivid yellow"), ("lemon",)),
    "green": Words(("green", "emerald green", "bright green", "grass green"), ("jade",)),
    "blue": Words(("blue", "deep blue", "royal blue", "bright blue"), ("cobalt",)),
    "purple": Words(("purple", "violet", "deep purple", "bright purple"), ("plum",)),
    "white": Words(("white", "pure white", "plain white", "bright white"), ("ivory",)),
    "black": Words(("black", "jet black", "coal black", "deep black"), ("ebony",)),
    "pink": Words(("pink", "bright pink", "hot pink", "bubblegum pink"), ("rose",)),
    "turquoise": Words(("turquoise", "teal", "aqua", "bright turquoise"), ("cyan",)),
}
PLACES: Final[dict[str, PlaceForms]] = {
    "desert": PlaceForms(
        Words(("in the desert", "in a desert", "in a sandy desert", "among desert dunes"),
              ("in the Sahara",)),
        Words(("through a desert", "across the desert", "across the sand dunes of a desert"),
              ("across the Sahara",)),
        Words(("desert", "sandy desert", "desert dunes"), ("Sahara",)),
    ),
    "city": PlaceForms(
        Words(("in the city", "on a city street", "downtown", "in the middle of a city"),
              ("in a metropolis",)),
        Words(("through a city", "down a city street", "through downtown", "through the city"),
              ("through a metropolis",)),
        Words(("city", "city street", "downtown"), ("metropolis",)),
    ),
    "forest": PlaceForms(
        Words(("in the forest", "in the woods", "among the trees", "in a dense forest"),
              ("in a woodland",)),
        Words(("through a forest", "through the woods", "between the trees", "through the forest"),
              ("through a woodland",)),
        Words(("forest", "woods", "dense forest"), ("woodland",)),
    ),
    "beach": PlaceForms(
        Words(("on a beach", "by the sea", "on a sandy beach", "at the beach"),
              ("on the seashore",)),
        Words(("along the beach", "along the sea", "across a sandy beach", "along a beach"),
              ("along the seashore",)),
        Words(("beach", "sandy beach", "beach by the sea"), ("seashore",)),
    ),
    "snow": PlaceForms(
        Words(("in a snowy field", "in a snow-covered valley", "in deep snow", "in the snow"),
              ("in the Arctic",)),
        Words(("through the snow", "across a snowy field", "through a snow-covered valley"),
              ("across the Arctic",)),
        Words(("snowy field", "snow-covered valley", "snow field"), ("Arctic",)),
    ),
    "canyon": PlaceForms(
        Words(("in a canyon", "between the walls of a red canyon", "in a rocky canyon"),
              ("in a gorge",)),
        Words(("through a canyon", "through a rocky canyon", "between the walls of a canyon"),
              ("through a gorge",)),
        Words(("canyon", "rocky canyon", "red canyon"), ("gorge",)),
    ),
    "meadow": PlaceForms(
        Words(("in a meadow", "in a grassy field", "in a field of flowers", "on a green meadow"),
              ("in a pasture",)),
        Words(("across a meadow", "through a grassy field", "through a field of flowers"),
              ("across a pasture",)),
        Words(("meadow", "grassy field", "flower meadow"), ("pasture",)),
    ),
    "mountains": PlaceForms(
        Words(("in the mountains", "high in the mountains", "in a mountain valley",
               "among rocky mountains"), ("in the Alps",)),
        Words(("through the mountains", "through a mountain valley", "over a mountain pass"),
              ("through the Alps",)),
        Words(("mountains", "mountain valley", "rocky mountains"), ("Alps",)),
    ),
    "highway": PlaceForms(
        Words(("on a highway", "on an open road", "on a motorway", "on a long straight road"),
              ("on a freeway",)),
        Words(("along a highway", "down an open road", "down a motorway", "along a straight road"),
              ("down a freeway",)),
        Words(("highway", "open road", "motorway"), ("freeway",)),
    ),
    "moon": PlaceForms(
        Words(("on the moon", "on the surface of the moon", "among the craters of the moon"),
              ("on the lunar surface",)),
        Words(("across the moon", "over the surface of the moon", "through craters on the moon"),
              ("across the lunar surface",)),
        Words(("moon", "surface of the moon", "moon craters"), ("lunar surface",)),
    ),
    "warehouse": PlaceForms(
        Words(("in a warehouse", "inside a warehouse", "in an old warehouse", "in a storage hall"),
              ("in a depot",)),
        Words(("through a warehouse", "across a warehouse", "through a storage hall"),
              ("through a depot",)),
        Words(("warehouse", "old warehouse", "storage hall"), ("depot",)),
    ),
    "living_room": PlaceForms(
        Words(("in a living room", "inside a living room", "on the living room floor",
               "in a sitting room"), ("in a lounge",)),
        Words(("through a living room", "across a living room", "across a sitting room"),
              ("across a lounge",)),
        Words(("living room", "sitting room", "family living room"), ("lounge",)),
    ),
    "corridor": PlaceForms(
        Words(("in a corridor", "in a long corridor", "in a hallway", "inside a corridor"),
              ("in a passageway",)),
        Words(("through a corridor", "down a long corridor", "down a hallway", "along a corridor"),
              ("down a passageway",)),
        Words(("corridor", "long corridor", "hallway"), ("passageway",)),
    ),
    "studio": PlaceForms(
        Words(("in a studio", "in a photo studio", "in a white studio", "inside a film studio"),
              ("on a soundstage",)),
        Words(("across a studio", "through a photo studio", "across a white studio"),
              ("across a soundstage",)),
        Words(("studio", "photo studio", "white studio"), ("soundstage",)),
    ),
}  # fmt: skip
TIMES: Final[dict[str, Forms]] = {
    "dawn": Forms(
        Words(
            ("at dawn", "at sunrise", "early in the morning", "at first light"), ("at daybreak",)
        ),
        Words(("dawn", "sunrise", "early morning"), ("daybreak",)),
    ),
    "day": Forms(
        Words(
            ("at noon", "by day", "in the daytime", "at midday", "during the day"),
            ("in the afternoon",),
        ),
        Words(("day", "noon", "midday"), ("afternoon",)),
    ),
    "sunset": Forms(
        Words(
            ("at sunset", "in the golden light of sunset", "at sundown", "at golden hour"),
            ("at dusk",),
        ),
        Words(("sunset", "sundown", "golden hour"), ("dusk",)),
    ),
    "night": Forms(
        Words(
            ("at night", "by night", "at midnight", "late at night", "after dark"),
            ("under the stars",),
        ),
        Words(("night", "midnight", "dark night"), ("starlight",)),
    ),
}
WEATHERS: Final[dict[str, Forms]] = {
    "clear": Forms(
        Words(
            ("under a clear sky", "in clear weather", "in dry weather", "under a cloudless sky"),
            ("in fair weather",),
        ),
        Words(("clear sky", "clear", "dry weather"), ("fair weather",)),
    ),
    "overcast": Forms(
        Words(
            ("under an overcast sky", "under grey clouds", "in cloudy weather", "on a grey day"),
            ("in gloomy weather",),
        ),
        Words(("overcast", "cloudy", "grey clouds"), ("gloomy weather",)),
    ),
    "rain": Forms(
        Words(("in the rain", "in heavy rain", "as rain falls", "in rainy weather"),
              ("in a downpour",)),
        Words(("rain", "rainy", "heavy rain"), ("downpour",)),
    ),
    "snowfall": Forms(
        Words(("in falling snow", "as snow falls", "in heavy snowfall", "while it snows"),
              ("in a blizzard",)),
        Words(("snowfall", "snowing", "falling snow"), ("blizzard",)),
    ),
    "fog": Forms(
        Words(("in the fog", "in thick fog", "in the mist", "in foggy weather"), ("in the haze",)),
        Words(("fog", "foggy", "mist"), ("haze",)),
    ),
}  # fmt: skip
