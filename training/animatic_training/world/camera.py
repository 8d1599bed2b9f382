"""Shot sizes and camera moves: where the eye is in every frame, and where it looks."""

from __future__ import annotations

from dataclasses import dataclass
from math import radians
from typing import Final

import numpy as np

TAN_HALF_FOV: Final = 0.42
"""Tangent of half the vertical field of view: 45.6 degrees, a 29 mm lens on a 24 mm high gate."""

FRAME_SHARE: Final = {"close": 1.0, "medium": 0.60, "wide": 0.33}
"""Share of the frame's height that the subject's extent takes at the middle of the shot."""

PAN_DEGREES: Final = 22.0


@dataclass(frozen=True)
class CameraPath:
    """The camera in every frame."""

    eye: np.ndarray
    """float32 [frames, 3], metres."""
    basis: np.ndarray
    """float32 [frames, 3, 3]: rows are right, up and forward unit vectors."""


def shot_distance(extent: float, size: str) -> float:
    """Return the metres between eye and subject at which `extent` fills the size's share."""
    return extent / (2 * TAN_HALF_FOV * FRAME_SHARE[size])


def camera_path(
    move: str, distance: float, target_height: float, times: np.ndarray, rng: np.random.Generator
) -> CameraPath:
    """Return the camera for `times`, float [frames] running from -0.5 to 0.5 over the shot.

    Every move is centred: the subject stands as its shot size says at time 0. The eye stays at
    least 0.35 m above the ground, so a crane that would begin below that waits there at first.
    """
    zero = np.zeros_like(times)
    rise = float(rng.uniform(0.04, 0.20)) * distance
    pull, pan, lift = zero, zero, zero
    if move == "pan_left":
        pan = -radians(PAN_DEGREES) * times
    elif move == "pan_right":
        pan = radians(PAN_DEGREES) * times
    elif move == "dolly_in":
        pull = -0.45 * times * distance
    elif move == "dolly_out":
        pull = 0.45 * times * distance
    elif move == "crane_up":
        lift = 0.55 * times * distance
    height = np.maximum(target_height + rise + lift, 0.35)
    eye = np.stack([zero, height, -(distance + pull)], axis=-1)
    aim = np.array([rng.uniform(-0.05, 0.05) * distance, target_height, 0.0])
    forward = aim - eye
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    cosine, sine = np.cos(pan), np.sin(pan)
    x = forward[:, 0] * cosine + forward[:, 2] * sine
    z = forward[:, 2] * cosine - forward[:, 0] * sine
    forward = np.stack([x, forward[:, 1], z], axis=-1)
    right = np.cross(np.broadcast_to([0.0, 1.0, 0.0], forward.shape), forward)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    up = np.cross(forward, right)
    basis = np.stack([right, up, forward], axis=1)
    return CameraPath(eye.astype(np.float32), basis.astype(np.float32))
