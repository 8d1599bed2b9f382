"""How a shot is filmed: lens, shot size and angle, and the camera's move over the seconds.

The camera stands on a rig around the point that it follows: so far off that the shot size holds, at
the height of its angle, and moved from there as its move says. At last an operator keeps the
subject in the frame, whatever subject and camera do, for as long as the shot runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, degrees, radians, sin
from typing import Final

import numpy as np

TAN_HALF_FOV: Final = {"normal": 0.42, "wide_angle": 0.75, "telephoto": 0.20}
"""Tangent of half the vertical field of view: lenses of 29, 16 and 60 mm on a 24 mm high gate."""

REACH_SHARE: Final = {"normal": 0.45, "wide_angle": 0.8, "telephoto": 0.45}
"""Share of what stands before the subject's middle that the distance grows by: a short lens stands
so near that the near side is all that counts."""
PAIR_REACH_SHARE: Final = 0.9
"""The same of two subjects: the nearer must leave the other to be seen."""

FRAME_SHARE: Final = {
    "extreme_close": 1.7, "close": 1.0, "medium": 0.60, "wide": 0.36, "extreme_wide": 0.20,
}  # fmt: skip
"""Share of the frame that the subject's extent takes a second into the shot."""

PAIR_SHARE: Final = {"close": 0.92, "medium": 0.74, "wide": 0.50, "extreme_wide": 0.30}
"""Largest share of the frame's width that two subjects take together."""

ELEVATION: Final = {"eye_level": (2.0, 8.0), "high": (30.0, 40.0), "overhead": (77.0, 81.0)}
"""Range of the eye's height above what it looks at, degrees."""

LOW_EYE: Final = (0.28, 0.45)
"""Range of the height of a low camera's eye, metres."""

LOWEST_EYE: Final = 0.25
"""Metres above the ground under which no eye goes."""

MIDDLE: Final = 1.0
"""Seconds into the shot at which distances, sizes and pans are as their class says."""

PAN: Final = 9.0
"""Degrees a second, through the normal lens at 16:9; other fields of view in proportion."""

TILT: Final = 7.0
ORBIT: Final = 20.0
"""Degrees a second."""

DOLLY: Final = 0.20
"""Share of the distance a second."""
ZOOM: Final = 0.21
"""Growth a second: the logarithm of the magnification."""
TRUCK: Final = 0.15
"""Share of the frame's width a second."""
CRANE: Final = 0.20
CRANED: Final = 0.55
"""Share of the distance a second that a crane lifts, and in the end."""

WHIP_SECONDS: Final = 0.5
IN_FRAME: Final = 0.62
"""Share of the way from the frame's middle to its edge that the middle of what is filmed may go."""
EDGE: Final = 0.75
"""The same of the first of two subjects."""


def slowing(time: np.ndarray, calm: float) -> np.ndarray:
    """Return seconds before `MIDDLE` as they are, and later ones growing ever slower.

    After `calm` seconds what moves by them has half its pace. So a move is plain to see in a shot's
    first block, still goes on in its fourth, and does not run out of its place.
    """
    late = np.maximum(time, 0.0)
    return np.asarray(np.minimum(time, 0.0) + calm * np.log1p(late / calm))


def soft_limit(value: np.ndarray, limit: float, knee: float = 0.5) -> np.ndarray:
    """Return `value` as it is up to `knee` of the limit, then bent so as to never pass the limit.

    Its slope has no jump: what moves at an even speed comes softly to rest.
    """
    straight = knee * limit
    room = limit - straight
    size = np.abs(value)
    bent = straight + room * np.tanh(np.maximum(size - straight, 0.0) / room)
    limited: np.ndarray = np.sign(value) * np.minimum(size, bent)
    return limited


@dataclass(frozen=True)
class Framing:
    """What the frame holds where the subject stands, at `MIDDLE` seconds."""

    distance: float
    """Metres between the eye and the middle of what is filmed."""
    tan_half_fov: float
    """Of the vertical field of view."""
    aspect: float
    """Width of the frame by its height."""

    @property
    def height(self) -> float:
        """Metres that the frame is high at the subject."""
        return 2 * self.tan_half_fov * self.distance

    @property
    def width(self) -> float:
        """Metres that the frame is wide at the subject."""
        return self.height * self.aspect


@dataclass(frozen=True)
class Sized:
    """What a shot is sized on, metres."""

    extent: float
    """What takes its share of the frame's height."""
    across: float
    """The width that takes that share of the frame's width where this is more."""
    reach: float
    """From the subject's middle to its nearest point, towards the eye."""
    span: float = 0.0
    """The width of two subjects together; 0 of one."""


def frame_shot(size: str, lens: str, aspect: float, sized: Sized, *, roam: float) -> Framing:
    """Return the framing of a shot; `roam` is the share of the width that two must have free.

    A share of the reach is added to the distance: what is near looks large, and a close-up must
    not end inside the subject.
    """
    ahead = (PAIR_REACH_SHARE if sized.span else REACH_SHARE[lens]) * sized.reach
    tan = TAN_HALF_FOV[lens]
    measure = max(sized.extent, sized.across / aspect)
    distance = measure / (2 * tan * FRAME_SHARE[size]) + ahead
    distance = max(distance, closest(sized.extent, sized.reach) + 0.05 * sized.extent)
    if sized.span:
        share = min(PAIR_SHARE[size], 0.95 - roam)
        distance = max(distance, sized.span / (2 * tan * aspect * share) + ahead)
    return Framing(distance, tan, aspect)


def closest(extent: float, reach: float) -> float:
    """Return the metres from a subject's middle within which no eye comes."""
    return reach + 0.06 * extent + 0.1


@dataclass(frozen=True)
class Operator:
    """What chance decides about a camera: shares from 0 to 1, drawn before anything else."""

    height: float
    aim: float
    way: float
    shake: np.ndarray
    """[5, 3]: phases of the three waves of each of five ways to shake."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Operator:
        """Draw one; always the same number of values."""
        height, aim, way = rng.random(3).tolist()
        return cls(height, aim, way, rng.random((5, 3)))

    @property
    def side(self) -> float:
        """-1 or 1: which way an orbit goes round or from which side a whip pan comes."""
        return 1.0 if self.way < 0.5 else -1.0


@dataclass(frozen=True)
class CameraPath:
    """The camera in every frame, float64."""

    eye: np.ndarray
    """[F, 3], metres."""
    basis: np.ndarray
    """[F, 3, 3]: rows are right, up and forward unit vectors."""
    tan_half_fov: np.ndarray
    """[F], of the vertical field of view."""


@dataclass(frozen=True)
class Filmed:
    """What the camera follows."""

    point: np.ndarray
    """[F, 3]: the point that the rig goes along with, metres; its height is that of the aim."""
    subjects: np.ndarray
    """[F, N, 3]: the middle of each subject; the first is the one to keep in the frame."""
    clear: np.ndarray
    """[N]: metres around each within which no eye comes."""


def orbit_rate(move: str, operator: Operator) -> float:
    """Return how fast the camera goes round the subject, radians a second, to its own right."""
    return radians(ORBIT) * operator.side if move == "orbit" else 0.0


def film(
    move: str, angle: str, framing: Framing, filmed: Filmed, operator: Operator, seconds: np.ndarray
) -> CameraPath:
    """Return the camera of each of `seconds`, float [F] since the shot began."""
    time = seconds - MIDDLE
    azimuth = orbit_rate(move, operator) * time
    away = np.stack([np.sin(-azimuth), np.zeros_like(time), np.cos(azimuth)], axis=-1)
    side = np.stack([np.cos(azimuth), np.zeros_like(time), np.sin(azimuth)], axis=-1)

    reach = framing.distance * _pull(move, time)
    sine = _rise(angle, framing, float(filmed.point[:, 1].mean()), operator)
    eye = filmed.point - reach[:, None] * (1 - sine * sine) ** 0.5 * away
    eye[:, 1] += reach * sine + _lift(move, framing.distance, time)
    aim = filmed.point + (operator.aim - 0.5) * 0.06 * framing.width * side
    if move.startswith("truck"):
        slide = _slide(move, framing.width, time)[:, None] * side
        eye += slide
        aim += slide
    shake = np.zeros((5, 1))
    if move == "handheld":
        shake = _shake(operator, seconds)
        eye += 0.012 * framing.distance * shake[:3].T
    eye[:, 1] = LOWEST_EYE + _positive(eye[:, 1] - LOWEST_EYE, 0.05)

    forward = _unit(aim - eye)
    gap = filmed.subjects - eye[:, None]
    short = filmed.clear - np.linalg.norm(gap, axis=-1)
    eye -= forward * _positive(short, 0.06 * framing.distance).max(axis=1)[:, None]
    eye[:, 1] = np.maximum(eye[:, 1], LOWEST_EYE)

    vertical = away if angle == "overhead" else np.broadcast_to([0.0, 1.0, 0.0], away.shape)
    tan = framing.tan_half_fov * np.exp(-_zoom(move, time))
    across, upright = atan(framing.tan_half_fov * framing.aspect), atan(framing.tan_half_fov)
    basis = _look(forward, vertical)
    if move.startswith(("pan", "tilt", "handheld")):
        pan = np.tan(_pan(move, across, time) + 0.07 * across * shake[3])
        tilt = np.tan(_tilt(move, upright, time) + 0.07 * upright * shake[4])
        basis = _aside(basis, vertical, pan, tilt)
    targets = [(filmed.subjects.mean(axis=1), IN_FRAME)]
    if filmed.subjects.shape[1] > 1:
        targets.append((filmed.subjects[:, 0], EDGE))
    for target, edge in targets:
        right, up = _late(target - eye, basis, tan, tan * framing.aspect, edge)
        if right.any() or up.any():
            basis = _aside(basis, vertical, right, up)
    if move == "whip_pan":
        basis = _aside(basis, vertical, np.tan(_whip(across, seconds)) * operator.side, 0.0 * time)
    return CameraPath(eye, basis, tan)


def _pull(move: str, time: np.ndarray) -> np.ndarray:
    """Return the camera's distance as a multiple of the framing's."""
    way = {"dolly_in": -1.0, "dolly_out": 1.0}.get(move, 0.0)
    return 1 + way * soft_limit(DOLLY * slowing(time, 1.5), 0.55, knee=0.8)


def _zoom(move: str, time: np.ndarray) -> np.ndarray:
    """Return the logarithm of how much larger the lens shows everything."""
    way = {"zoom_in": 1.0, "zoom_out": -1.0}.get(move, 0.0)
    return way * soft_limit(ZOOM * slowing(time, 1.5), 0.6, knee=0.8)


def _rise(angle: str, framing: Framing, target: float, operator: Operator) -> float:
    """Return the sine of the eye's elevation, seen from the point that it looks at."""
    if angle == "low":
        low = LOW_EYE[0] + (LOW_EYE[1] - LOW_EYE[0]) * operator.height
        return max((low - target) / framing.distance, -0.75)
    least, most = ELEVATION[angle]
    return sin(radians(least + (most - least) * operator.height))


def _lift(move: str, distance: float, time: np.ndarray) -> np.ndarray:
    """Return how far a crane has lifted the eye, metres: up from its angle, or down to it."""
    if move not in {"crane_up", "crane_down"}:
        return np.zeros_like(time)
    lifted = distance * soft_limit(CRANE * (MIDDLE + slowing(time, 1.0)), CRANED, knee=0.8)
    return lifted if move == "crane_up" else CRANED * distance - lifted


def _slide(move: str, width: float, time: np.ndarray) -> np.ndarray:
    """Return metres to the right."""
    way = -1.0 if move == "truck_left" else 1.0
    return way * width * soft_limit(TRUCK * slowing(time, 1.0), 0.36, knee=0.8)


def _pan(move: str, across: float, time: np.ndarray) -> np.ndarray:
    """Return radians to the right; `across` is half the horizontal field of view."""
    way = {"pan_left": -1.0, "pan_right": 1.0}.get(move, 0.0)
    scale = min(across / atan(0.42 * 16 / 9), 1.25) * radians(1)
    return way * soft_limit(PAN * scale * slowing(time, 1.5), 24.0 * scale, knee=0.8)


def _tilt(move: str, upright: float, time: np.ndarray) -> np.ndarray:
    """Return radians upwards; `upright` is half the vertical field of view."""
    way = {"tilt_up": 1.0, "tilt_down": -1.0}.get(move, 0.0)
    scale = min(upright / atan(0.42), 1.25) * radians(1)
    return way * soft_limit(TILT * scale * slowing(time, 1.0), 16.0 * scale, knee=0.8)


def _whip(across: float, seconds: np.ndarray) -> np.ndarray:
    """Return radians still to turn: all at the start, none after `WHIP_SECONDS`."""
    whole = radians(min(1.1 * degrees(across), 48.0))
    share = np.clip(seconds / WHIP_SECONDS, 0.0, 1.0)
    return whole * (1 - share * share * (3 - 2 * share))


def _shake(operator: Operator, seconds: np.ndarray) -> np.ndarray:
    """Return [5, F]: smooth noise of about -1 to 1, waves of half a second to two seconds."""
    waves = 2 * np.pi * (np.array([0.53, 0.97, 1.71]) * seconds[:, None] + operator.shake[:, None])
    return np.asarray(np.sin(waves) @ np.array([0.5, 0.4, 0.25]))


def _positive(value: np.ndarray, softness: float) -> np.ndarray:
    """Return what is above zero, and a smooth way to zero below it."""
    return np.asarray(softness * np.logaddexp(0.0, value / softness))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.sqrt(np.einsum("fi,fi->f", vectors, vectors))[:, None])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cross products [F, 3]; numpy's own takes five times as long for so few."""
    product = np.empty_like(b)
    product[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    product[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    product[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product


def _look(forward: np.ndarray, vertical: np.ndarray) -> np.ndarray:
    """Return the bases [F, 3, 3] that look along `forward` with `vertical` upright in the frame."""
    basis = np.empty((len(forward), 3, 3))
    basis[:, 0] = _unit(_cross(vertical, forward))
    basis[:, 1] = _cross(forward, basis[:, 0])
    basis[:, 2] = forward
    return basis


def _aside(
    basis: np.ndarray, vertical: np.ndarray, right: np.ndarray, up: np.ndarray
) -> np.ndarray:
    """Turn cameras to look at what stands `right` and `up` of the middle, in tangents [F]."""
    forward = basis[:, 2] + right[:, None] * basis[:, 0] + up[:, None] * basis[:, 1]
    return _look(_unit(forward), vertical)


def _late(
    rel: np.ndarray, basis: np.ndarray, tan: np.ndarray, wide: np.ndarray, edge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a camera must turn after what would come too near to the frame's edge.

    `rel` [F, 3] is where that is from the eye; the answer is tangents to the right and up, [F].
    """
    seen = np.einsum("fij,fj->fi", basis, rel)
    depth = np.maximum(seen[:, 2], 1e-3)
    right, up = seen[:, 0] / depth, seen[:, 1] / depth
    return (
        right - wide * soft_limit(right / wide, edge, knee=0.7),
        up - tan * soft_limit(up / tan, edge, knee=0.7),
    )
