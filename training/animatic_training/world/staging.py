"""How things move: the path of every subject over the seconds of a shot, which never end.

A path is thought in the camera's view (across and away) around one point of the stage. What
travels would leave the frame, so a point to follow goes along with it, softly: within the frame the
subject moves as its action says, and the world goes by when it has come as far as it may.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, radians, sin
from typing import Final

import numpy as np

from animatic_training.world.attributes import ACROSS
from animatic_training.world.camera import MIDDLE, Framing, slowing, soft_limit

CROSS: Final = 0.18
"""Share of the frame's width a second that a subject crosses."""

SAFE: Final = 0.22
"""Share of the frame's width, to either side of its middle, within which a subject crosses."""

APPROACH: Final = 0.18
"""Share of the distance a second that a subject comes or goes."""

NEAREST: Final = 0.40
FARTHEST: Final = 0.60
"""Share of the distance that a subject comes or goes before the camera goes along."""

TURN: Final = radians(90)
"""Radians a second on the spot."""

HOP_SECONDS: Final = 1.0
LIFT: Final = 0.14
"""Share of the frame's height a second that a subject rises or sinks."""

LIFTED: Final = 0.36
"""Share of the frame's height that it has risen in the end."""

CIRCLE_SECONDS: Final = 3.2
CIRCLE_RADIUS: Final = 0.13
WEAVE_SECONDS: Final = 1.6
WEAVE_WIDTH: Final = 0.12
"""Share of the frame's width to either side."""

SWAY: Final = radians(14)
SWAY_SECONDS: Final = 1.3

TRAVELS: Final = frozenset({"left", "right", "toward", "away"})
"""Actions that lead out of the frame: here a second subject keeps pace with the first."""

GOES: Final = TRAVELS | {"circle", "weave"}
"""Actions during which wheels turn and legs walk."""

ROAM: Final = {"circle": CIRCLE_RADIUS, "weave": WEAVE_WIDTH}
"""Share of the frame's width, to either side, that an action takes on the spot."""
TRAVEL: Final = {"left": (2.2, 1.1), "right": (2.2, 1.1), "toward": (0.55, 0.5), "away": (0.6, 0.5)}
"""Distances that a subject travels through its place, outdoors and in a room, before the place goes
along: the ground still goes by, but nobody drives through a wall or out of the city."""
FREE: Final = {"circle": 2 * CIRCLE_RADIUS, "weave": 2 * WEAVE_WIDTH, "left": 0.26, "right": 0.26}
"""Share of the frame's width that an action needs beside what two subjects take."""


@dataclass(frozen=True)
class Body:
    """Half extents of a subject in its own frame, and where it keeps itself; metres."""

    length: float
    depth: float
    height: float
    """From its lowest point to its top."""
    altitude: float
    extent: float
    """What a shot is sized on."""

    def across(self, yaw: float | None) -> float:
        """Return half of what it covers of the view's width when it faces `yaw`, or any way."""
        if yaw is None:
            return max(self.length, self.depth)
        return abs(cos(yaw)) * self.length + abs(sin(yaw)) * self.depth

    def toward(self, yaw: float | None) -> float:
        """Return how far it reaches towards the eye when it faces `yaw` radians, or any way."""
        if yaw is None:
            return max(self.length, self.depth)
        return abs(sin(yaw)) * self.length + abs(cos(yaw)) * self.depth


@dataclass(frozen=True)
class Cast:
    """What chance decides about the staging, drawn before anything else."""

    side: float
    """-1 or 1: the way a subject faces."""
    turned: float
    """-1 to 1: how far it is turned from that."""
    way: float
    """-1 or 1: the way round that it turns, or the side on which the second stands."""
    phase: float
    """0 to 1: where in its circle, slalom or swaying it starts."""
    rocks_forward: bool
    """Whether it sways about its z axis rather than its x axis."""
    second_side: float
    second_turned: float
    second_way: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Cast:
        """Draw one; always the same number of values."""
        values = rng.random(8)
        signs = np.where(values < 0.5, -1.0, 1.0)
        even = 2 * values - 1
        return cls(
            float(signs[0]), float(even[1]), float(signs[2]), float(values[3]),
            bool(signs[4] > 0), float(signs[5]), float(even[6]), float(signs[7]),
        )  # fmt: skip


@dataclass(frozen=True)
class Path:
    """Where a subject is and how it stands in every frame, float64."""

    place: np.ndarray
    """[F, 3]: the ground point of its frame, its altitude added; metres."""
    yaw: np.ndarray
    """[F] radians, as of a solid."""
    pitch: np.ndarray
    roll: np.ndarray
    goes: bool
    """Whether it travels: wheels turn and legs walk."""
    rocks: bool = False
    """Whether it leans over, and may have to be lifted off the ground for it."""


@dataclass(frozen=True)
class Blocking:
    """The paths of all subjects, and the point that the camera goes along with."""

    paths: tuple[Path, ...]
    middle: np.ndarray
    """[F, 3]: where the middle of all is, metres, at the height of the ground."""
    follow: np.ndarray
    """[F, 3]: what the camera goes along with: the same, but for what moves within the frame."""
    along: np.ndarray
    """[F, 3] metres that the place has gone along."""


def facing(action: str, cast: Cast, *, pair: bool) -> float:
    """Return the yaw at which a subject begins, in the camera's view: 0 is to the right."""
    if action in ACROSS:
        return pi if action == "left" else 0.0
    if action in {"toward", "weave"}:
        return pi / 2 + 0.25 * cast.turned
    if action == "away":
        return -pi / 2 + 0.25 * cast.turned
    return _stance(cast.side, cast.turned, pair=pair)


def shown(action: str, cast: Cast, *, pair: bool) -> float | None:
    """Return the yaw at which a subject is seen; None where it turns all ways."""
    return None if action in {"turn", "circle"} else facing(action, cast, pair=pair)


def second_facing(action: str, cast: Cast) -> float:
    """Return the yaw of the second subject, which stands still unless the first travels."""
    if action in TRAVELS:
        return facing(action, cast, pair=True)
    return _stance(cast.second_side, cast.second_turned, pair=True)


def _stance(side: float, turned: float, *, pair: bool) -> float:
    """Return a three-quarter view; two subjects face the camera more, to leave each other room."""
    if pair:
        return pi / 2 + side * (0.6 + 0.3 * turned)
    return (0.0 if side > 0 else pi) + 0.7 * turned


@dataclass(frozen=True)
class Places:
    """Where two subjects stand in the camera's view around the middle of both; metres."""

    first: tuple[float, float]
    second: tuple[float, float]
    """Across and away."""

    @property
    def span(self) -> float:
        """How far they stand apart across the view."""
        return abs(self.first[0] - self.second[0])


def places_of(
    relation: str, action: str, bodies: tuple[Body, Body], cast: Cast, roam: float
) -> Places:
    """Return where the two subjects of a relation stand; `roam` is room to move about, metres."""
    yaw, second_yaw = shown(action, cast, pair=True), second_facing(action, cast)
    first, second = bodies
    across = first.across(yaw) + second.across(second_yaw)
    toward = first.toward(yaw) + second.toward(second_yaw)
    gap = 0.12 * (first.extent + second.extent)
    if relation == "chasing":
        ahead = (across + 2 * gap) / 2 * (-1.0 if action == "left" else 1.0)
        return Places((-ahead, 0.0), (ahead, 0.0))
    if relation == "behind":
        half = (0.80 * across + roam) / 2 * cast.way
        deep = (toward + (3 if action in ACROSS else 1) * gap) / 2
        return Places((half, deep + roam), (-half, -deep))
    if action in ACROSS:  # side by side they go, the second just on the far side
        half, deep = 0.36 * across * cast.way, (toward + 0.5 * gap) / 2
        return Places((half, -deep), (-half, deep))
    half = (across + gap + roam) / 2 * cast.way
    return Places((half, -0.2 * toward), (-half, 0.2 * toward))


def block(
    action: str,
    bodies: tuple[Body, ...],
    places: Places,
    framing: Framing,
    cast: Cast,
    seconds: np.ndarray,
    *,
    room: float,
    orbit: float = 0.0,
) -> Blocking:
    """Return how all move at `seconds`, float [F] since the shot began.

    `room` is how many metres they travel before the place goes along, `orbit` how
    fast the camera goes round them, radians a second: what travels keeps its course in the view.
    """
    pair = len(bodies) > 1
    time = seconds - MIDDLE
    azimuth = orbit * time if action in TRAVELS | {"weave"} else np.zeros_like(time)
    course = azimuth if action in TRAVELS else np.zeros_like(time)
    centre, offset = _travel(action, framing, bodies[0], time, orbit)
    follow = centre - _in_view(offset, course)
    yaw = facing(action, cast, pair=pair)
    first = _first(action, bodies[0], framing, cast, seconds, yaw)
    paths = [
        Path(
            centre + _in_view(_flat(places.first), course) + _in_view(first.place, azimuth),
            first.yaw - azimuth,
            first.pitch,
            first.roll,
            first.goes,
            first.rocks,
        )
    ]
    if pair:
        still = np.zeros_like(time)
        place = centre + _in_view(_flat(places.second), course)
        place[:, 1] += bodies[1].altitude
        turned = second_facing(action, cast) - course
        paths.append(Path(place, turned, still, still, action in TRAVELS))
    return Blocking(tuple(paths), centre, follow, centre - _within(centre, room))


def _flat(place: tuple[float, float]) -> np.ndarray:
    return np.array([[place[0], 0.0, place[1]]])


def _in_view(offset: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Return [F, 3] offsets across and away in the world; the view is turned by `azimuth`."""
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    across, away = offset[:, 0], offset[:, 2]
    return np.stack(
        [
            across * cosine - away * sine,
            offset[:, 1] + np.zeros_like(azimuth),
            across * sine + away * cosine,
        ],
        axis=-1,
    )


def _within(path: np.ndarray, limit: float) -> np.ndarray:
    """Return the path [F, 3] bent so that it stays within `limit` metres of the origin."""
    length = np.hypot(path[:, 0], path[:, 2])[:, None]
    return np.asarray(path * soft_limit(length, limit, knee=0.7) / np.maximum(length, 1e-6))


def _travel(
    action: str, framing: Framing, body: Body, time: np.ndarray, orbit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the path [F, 3] of a travelling group's middle, and its offset [F, 3] in the view.

    The path of an even course in a view that turns at an even rate is a circle.
    """
    path, offset = np.zeros((len(time), 3)), np.zeros((len(time), 3))
    if action not in TRAVELS:
        return path, offset
    if action in ACROSS:
        speed = CROSS * framing.width * (1.0 if action == "right" else -1.0)
        offset[:, 0] = soft_limit(speed * time, SAFE * framing.width)
        heading = 0.0
    else:
        speed = APPROACH * framing.distance * (1.0 if action == "away" else -1.0)
        near = min(NEAREST * framing.distance, 0.7 * (framing.distance - body.length))
        limit = FARTHEST * framing.distance if action == "away" else near
        offset[:, 2] = soft_limit(speed * time, limit)
        heading = pi / 2
    angle = heading + orbit * time
    if orbit:
        path[:, 0] = speed / orbit * (np.sin(angle) - sin(heading))
        path[:, 2] = speed / orbit * (cos(heading) - np.cos(angle))
    else:
        path[:, 0] = speed * time * cos(heading)
        path[:, 2] = speed * time * sin(heading)
    return path, offset


def _first(
    action: str, body: Body, framing: Framing, cast: Cast, seconds: np.ndarray, yaw: float
) -> Path:
    """Return what the first subject does around its place, in the camera's view."""
    zero = np.zeros_like(seconds)
    place = np.zeros((len(seconds), 3))
    place[:, 1] = body.altitude
    turned, pitch, roll = zero + yaw, zero, zero
    if action == "turn":
        turned = yaw + cast.way * TURN * seconds
    elif action == "jump":
        hop = (seconds / HOP_SECONDS) % 1.0
        height = min(body.extent / 3, 0.30 * framing.height)
        place[:, 1] += 4 * height * hop * (1 - hop)
    elif action in {"rise", "sink"}:
        risen = LIFT * (MIDDLE + slowing(seconds - MIDDLE, 1.0))
        lifted = framing.height * soft_limit(risen, LIFTED, knee=0.8)
        place[:, 1] += lifted if action == "rise" else LIFTED * framing.height - lifted
    elif action == "circle":
        angle = cast.way * 2 * pi * seconds / CIRCLE_SECONDS + 2 * pi * cast.phase
        radius = CIRCLE_RADIUS * min(framing.width, 1.6 * framing.height)
        place[:, 0] = radius * np.cos(angle)
        place[:, 2] = radius * np.sin(angle)
        turned = -angle - cast.way * pi / 2
    elif action == "weave":
        angle = 2 * pi * (seconds / WEAVE_SECONDS + cast.phase)
        place[:, 0] = WEAVE_WIDTH * framing.width * np.sin(angle)
        turned = yaw - radians(35) * np.cos(angle)
    elif action == "sway":
        angle = SWAY * np.sin(2 * pi * (seconds / SWAY_SECONDS + cast.phase))
        pitch, roll = (angle, zero) if cast.rocks_forward else (zero, angle)
    return Path(place, turned, pitch, roll, action in GOES, action == "sway")
