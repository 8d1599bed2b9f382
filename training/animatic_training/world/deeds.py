"""The words of actions and of relations between two subjects: verbs, their forms and their ways."""

from __future__ import annotations

from typing import Final

from animatic_training.world.words import Words

VERBS: Final[dict[str, tuple[str, ...]]] = {
    "truck": ("drives", "rolls"),
    "car": ("drives", "speeds"),
    "person": ("walks", "strides"),
    "horse": ("gallops", "trots"),
    "ball": ("rolls",),
    "balloon": ("drifts", "floats"),
    "helicopter": ("flies",),
    "rocket": ("flies", "cruises"),
    "bus": ("drives", "rolls"),
    "motorcycle": ("rides", "speeds"),
    "tractor": ("drives", "rolls"),
    "dog": ("runs", "trots"),
    "elephant": ("walks", "marches"),
    "bird": ("flies", "flaps"),
    "robot": ("walks", "marches"),
    "airplane": ("flies",),
    "drone": ("flies", "buzzes"),
    "sailboat": ("sails", "glides"),
    "dinosaur": ("stomps", "walks"),
    "crate": ("slides", "glides"),
}
"""How each subject travels; "moves" says it of all."""

AIRBORNE: Final = frozenset({"balloon", "helicopter", "rocket", "bird", "airplane", "drone"})
"""Subjects that hover where others stand."""

WAYS: Final[dict[str, Words]] = {
    "left": Words(("left", "to the left", "from right to left"), ("screen-left",)),
    "right": Words(("right", "to the right", "from left to right"), ("screen-right",)),
    "toward": Words(
        ("toward the camera", "towards us", "closer to the camera", "straight at the camera"),
        ("in our direction",),
    ),
    "away": Words(
        ("away from the camera", "away from us", "farther away", "off into the background"),
        ("into the distance",),
    ),
    "circle": Words(
        ("in a circle", "in circles", "round and round", "in a small circle"), ("in a loop",)
    ),
}
"""How what travels goes, after its verb."""

DEEDS: Final[dict[str, Words]] = {
    "still": Words(("stands still", "waits", "rests", "stays in place"), ("remains motionless",)),
    "turn": Words(
        ("turns around", "spins on the spot", "rotates in place", "turns on the spot"),
        ("pivots in place",),
    ),
    "jump": Words(
        ("jumps up and down", "hops", "hops up and down", "jumps"), ("leaps into the air",)
    ),
    "rise": Words(
        ("rises into the air", "lifts off", "goes up into the air", "floats upwards"),
        ("ascends",),
    ),
    "sink": Words(
        ("sinks to the ground", "comes down from the air", "sinks down", "floats downwards"),
        ("descends",),
    ),
    "sway": Words(
        (
            "rocks from side to side",
            "sways to and fro",
            "rocks back and forth",
            "leans from side to side",
        ),
        ("teeters",),
    ),
    "weave": Words(
        ("weaves left and right", "swerves left and right", "slaloms", "snakes left and right"),
        ("zigzags",),
    ),
}
"""What the others do."""

HOVERS: Final = Words(("hovers in place", "hangs in the air", "hovers"), ("remains motionless",))
"""How the airborne stand still."""

TAGS: Final[dict[str, Words]] = {
    "still": Words(("still", "staying still", "at rest"), ("motionless",)),
    "left": Words(("R-L", "moving left", "going left"), ("screen-left",)),
    "right": Words(("L-R", "moving right", "going right"), ("screen-right",)),
    "toward": Words(("toward cam", "coming closer", "toward camera"), ("in our direction",)),
    "away": Words(("away from cam", "going away", "away from camera"), ("into the distance",)),
    "turn": Words(("turning around", "spinning", "rotating"), ("pivoting",)),
    "jump": Words(("jumping", "hopping", "jumping up and down"), ("leaping",)),
    "rise": Words(("rising", "lifting off", "going up"), ("ascending",)),
    "sink": Words(("sinking", "coming down", "going down"), ("descending",)),
    "circle": Words(("in a circle", "in circles", "circling"), ("in a loop",)),
    "sway": Words(("rocking", "swaying", "rocking from side to side"), ("teetering",)),
    "weave": Words(("weaving", "slalom", "weaving left and right"), ("zigzag",)),
}
"""Actions as labels in a list."""

NEAR: Final[dict[str, Words]] = {
    "beside": Words(("beside", "next to", "alongside", "close beside"), ("side by side with",)),
    "behind": Words(("behind", "close behind", "just behind", "in back of"), ("at the rear of",)),
}
"""Where the first subject is, before the second is named."""

WITH: Final[dict[str, Words]] = {
    "beside": Words(("beside {it}", "next to {it}", "close beside {it}"), ("abreast of {it}",)),
    "behind": Words(
        ("in front of {it}", "in the foreground", "in front", "closer to us"), ("before {it}",)
    ),
}
"""Where the second subject is, after "with" and its name."""

COURSES: Final[dict[str, Words]] = {
    "left": Words(("to the left", "from right to left"), ("screen-left",)),
    "right": Words(("to the right", "from left to right"), ("screen-right",)),
}
"""How a chase goes, after what is chased."""

CHASES: Final = Words(("chases", "follows", "runs after", "goes after"), ("pursues",))

_DOUBLED: Final = frozenset({"hops", "runs", "flaps", "spins", "trots", "zigzags"})
"""Verbs that double their last letter in the gerund."""


def gerund(phrase: str) -> str:
    """Return such as "driving left" of "drives left"."""
    verb, _, rest = phrase.partition(" ")
    stem = verb[:-1]
    if verb in _DOUBLED:
        stem += stem[-1]
    elif verb.endswith(("ches", "shes", "goes", "zzes")):
        stem = verb[:-2]
    elif verb.endswith("ies"):
        stem = f"{verb[:-3]}y"
    elif stem.endswith("e"):
        stem = stem[:-1]
    return f"{stem}ing {rest}".rstrip()
