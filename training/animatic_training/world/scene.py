"""From attributes and a random stream to a scene: flat arrays that any renderer can draw."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from animatic_training.world import lighting, places, subjects
from animatic_training.world.camera import TAN_HALF_FOV, camera_path, shot_distance

if TYPE_CHECKING:
    from animatic_training.world.attributes import ShotAttributes

NATIVE_FPS = 8
"""Frames per second of the built-in model; the world's speeds are set for it."""


@dataclass(frozen=True)
class Scene:
    """Everything a renderer needs, as float32 arrays; F frames, S solids, metres, linear light."""

    kind: np.ndarray  # uint8 [S], solids.BOX or solids.ELLIPSOID
    centre: np.ndarray  # [F, S, 3]
    half: np.ndarray  # [S, 3]
    yaw: np.ndarray  # [F, S] radians
    colour: np.ndarray  # [S, 3]
    fill: np.ndarray  # [S]
    eye: np.ndarray  # [F, 3]
    basis: np.ndarray  # [F, 3, 3] rows: right, up, forward
    light: (
        np.ndarray
    )  # [6, 3]: direction to the sun, sun, ambient, zenith, horizon, (haze, glow, 0)
    ground: np.ndarray  # [4, 3]: light, dark, band, (cell, band_near, band_far)
    tan_half_fov: float


def build_scene(attributes: ShotAttributes, rng: np.random.Generator, frames: int = 9) -> Scene:
    """Return the scene of one shot of `frames` frames at `NATIVE_FPS`."""
    place = places.REGISTRY[attributes.name("place")]
    time = lighting.REGISTRY[attributes.name("time")]
    subject = subjects.REGISTRY[attributes.name("subject")]
    parts = subjects.build_subject(attributes.name("subject"), attributes.name("colour"))
    props = place.props(rng)

    times = np.linspace(-0.5, 0.5, frames)
    distance = shot_distance(subject.extent, attributes.name("size"))
    path, heading, moving = _blocking(
        attributes.name("action"), distance, subject.extent, times, rng
    )
    path[:, 1] += subject.altitude

    seconds = (times + 0.5) * (frames - 1) / NATIVE_FPS
    centre = np.empty((frames, len(parts) + len(props), 3), np.float32)
    yaw = np.empty(centre.shape[:2], np.float32)
    cosine, sine = np.cos(heading), np.sin(heading)
    for index, part in enumerate(parts):
        gait = 2 * pi * subject.strides * seconds + part.phase
        x = part.centre[0] + (part.swing * np.sin(gait) if moving else 0.0)
        z = part.centre[2]
        centre[:, index, 0] = path[:, 0] + x * cosine + z * sine
        centre[:, index, 1] = path[:, 1] + part.centre[1]
        centre[:, index, 2] = path[:, 2] - x * sine + z * cosine
        yaw[:, index] = heading + part.yaw + 2 * pi * part.spin * seconds
    for index, prop in enumerate(props, start=len(parts)):
        centre[:, index] = prop.centre
        yaw[:, index] = prop.yaw

    solids = [*parts, *props]
    target = subject.altitude + subject.height / 2
    camera = camera_path(attributes.name("camera"), distance, target, times, rng)
    sun = lighting.sun_direction(time, rng)
    ground = place.ground
    return Scene(
        kind=np.array([s.kind for s in solids], np.uint8),
        centre=centre,
        half=np.array([s.half for s in solids], np.float32),
        yaw=yaw,
        colour=np.array([s.colour for s in solids], np.float32),
        fill=np.array([s.fill for s in solids], np.float32),
        eye=camera.eye,
        basis=camera.basis,
        light=np.array(
            [sun, time.sun, time.ambient, time.zenith, time.horizon, (time.haze, time.glow, 0)],
            np.float32,
        ),
        ground=np.array(
            [
                ground.light,
                ground.dark,
                ground.band,
                (ground.cell, ground.band_near, ground.band_far),
            ],
            np.float32,
        ),
        tan_half_fov=TAN_HALF_FOV,
    )


def _blocking(
    action: str, distance: float, extent: float, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float, bool]:
    """Return the subject's path [F, 3], the way it faces (radians) and whether it moves.

    Across the frame it passes the origin at time 0 and travels 40 % of the frame's
    width (the height times the built-in model's aspect, 1.8), so that the move reads at every
    shot size.
    """
    path = np.zeros((len(times), 3))
    across = 2 * TAN_HALF_FOV * distance * 1.8 * 0.40
    if action == "left":
        path[:, 0] = -across * times
        return path, pi, True
    if action == "right":
        path[:, 0] = across * times
        return path, 0.0, True
    if action == "toward":
        # Set back by its own depth: a close-up must not end inside the subject.
        path[:, 2] = (0.10 - 0.45 * times) * distance + 0.4 * extent
        return path, pi / 2 + float(rng.uniform(-0.3, 0.3)), True
    side = 0.0 if rng.random() < 0.5 else pi
    return path, side + float(rng.uniform(-0.7, 0.7)), False
