"""From attributes and a random stream to a scene: flat arrays that any renderer can draw.

Chance decides everything before time, frames or aspect come in, so that the same stream gives the
same shot wherever a piece of it starts. The place alone is set out for the distance of the shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world import lighting, places, subjects
from animatic_training.world.attributes import INTERIORS
from animatic_training.world.camera import (
    ELEVATION,
    Filmed,
    Framing,
    Operator,
    Sized,
    closest,
    film,
    frame_shot,
    orbit_rate,
)
from animatic_training.world.posing import Parts, arrange, pose
from animatic_training.world.staging import (
    FREE,
    ROAM,
    TRAVEL,
    Blocking,
    Body,
    Cast,
    Places,
    block,
    places_of,
    second_facing,
    shown,
)

if TYPE_CHECKING:
    from animatic_training.world.attributes import ShotAttributes

NATIVE_FPS: Final = 8
"""Frames per second of the built-in model; the world's speeds are set for it."""

NEAREST_SHARE: Final = 0.48
"""Share of the framing's distance within which the eye does not come, whatever moves."""


@dataclass(frozen=True)
class Scene:
    """Everything a renderer needs, as float32 arrays; F frames, S solids, metres, linear light."""

    kind: np.ndarray  # uint8 [S], solids.BOX, ELLIPSOID or CYLINDER
    centre: np.ndarray  # [F, S, 3]
    half: np.ndarray  # [S, 3]
    turn: np.ndarray
    """[F, S, 3, 3] rows: a solid's own x, y, z axes: own = turn @ (world - centre)."""
    colour: np.ndarray  # [S, 3] linear albedo
    fill: np.ndarray  # [S]
    eye: np.ndarray  # [F, 3]
    basis: np.ndarray  # [F, 3, 3] rows: right, up, forward
    tan_half_fov: np.ndarray  # [F] of the vertical field of view (a zoom changes it)
    light: np.ndarray
    """[6, 3]: direction to the sun, sun, ambient, zenith, horizon, (haze, glow, disc).

    haze: share of light lost a metre; glow: halo of the sun in the sky; disc: 1 where the sun's
    disc is seen, 0 under cloud.
    """
    ground: np.ndarray  # [4, 3]: light, dark, band, (cell, band_near, band_far)
    air: np.ndarray
    """[4]: rain and snow 0 to 1, wind in metres a second along x, seed 0 to 999."""
    seconds: np.ndarray  # [F] of every frame since the shot began; what falls moves with them
    subject: np.ndarray  # uint8 [S]: 1 for the subject, 2 for the second subject, 0 for the set


def build_scene(
    attributes: ShotAttributes,
    rng: np.random.Generator,
    frames: int = 25,
    *,
    start: float = 0.0,
    aspect: float = 16 / 9,
) -> Scene:
    """Return `frames` frames of a shot at `NATIVE_FPS`, the first at `start` seconds."""
    seconds = start + np.arange(frames) / NATIVE_FPS
    cast, operator = Cast.draw(rng), Operator.draw(rng)
    set_rng, light_rng = (np.random.default_rng(int(n)) for n in rng.integers(2**62, size=2))

    name = attributes.name
    figures = [_figure(name("subject"), name("colour"))]
    if name("relation") != "alone":
        figures.append(_figure(name("second"), name("second_colour")))
    bodies = tuple(figure.body for figure in figures)

    framing, stage = _frame(attributes, bodies, cast, aspect)
    move = name("camera")
    blocking = block(
        name("action"),
        bodies,
        stage,
        framing,
        cast,
        seconds,
        room=framing.distance * _room(attributes),
        orbit=orbit_rate(move, operator),
    )
    filmed = _filmed(attributes, bodies, cast, framing, blocking)
    camera = film(move, name("angle"), framing, filmed, operator, seconds)

    place = places.REGISTRY[name("place")]
    props = arrange(place.props(set_rng, framing.distance))
    light, air = lighting.light_of(
        name("place"), name("time"), name("weather"), framing.distance, light_rng
    )
    posed = [
        pose(figure.parts, path, seconds)
        for figure, path in zip(figures, blocking.paths, strict=True)
    ]
    parts = [figure.parts for figure in figures] + [props]
    counts = [len(part.kind) for part in parts]
    ground = place.ground
    return Scene(
        kind=np.concatenate([part.kind for part in parts]),
        centre=np.concatenate(
            [*(centre for centre, _ in posed), props.centre + blocking.along[:, None]],
            axis=1,
            dtype=np.float32,
        ),
        half=np.concatenate([part.half for part in parts]),
        turn=np.concatenate(
            [
                *(turn for _, turn in posed),
                np.broadcast_to(props.turn, (frames, *props.turn.shape)),
            ],
            axis=1,
            dtype=np.float32,
        ),
        colour=np.concatenate([part.colour for part in parts]),
        fill=np.concatenate([part.fill for part in parts]),
        eye=camera.eye.astype(np.float32),
        basis=camera.basis.astype(np.float32),
        tan_half_fov=camera.tan_half_fov.astype(np.float32),
        light=light,
        ground=np.array(
            [
                ground.light,
                ground.dark,
                ground.band,
                (ground.cell, ground.band_near, ground.band_far),
            ],
            np.float32,
        ),
        air=air,
        seconds=seconds.astype(np.float32),
        subject=np.repeat(np.array([1, 2, 0] if len(figures) > 1 else [1, 0], np.uint8), counts),
    )


@dataclass(frozen=True)
class _Figure:
    parts: Parts
    body: Body


@cache
def _figure(name: str, colour: str) -> _Figure:
    """Return a subject as arrays, and how much room it takes."""
    parts = arrange(subjects.build_subject(name, colour))
    subject = subjects.REGISTRY[name]
    reach = np.einsum("sji,sj->si", np.abs(parts.turn), parts.half)
    most = (np.abs(parts.centre) + reach).max(axis=0)
    body = Body(
        length=float(most[0]),
        depth=float(most[2]),
        height=subject.height / 2,
        altitude=subject.altitude,
        extent=subject.extent,
    )
    return _Figure(parts, body)


def _frame(
    attributes: ShotAttributes, bodies: tuple[Body, ...], cast: Cast, aspect: float
) -> tuple[Framing, Places]:
    """Return the framing of a shot, and where its subjects stand around the middle."""
    name = attributes.name
    action, angle, first = name("action"), name("angle"), bodies[0]
    yaw, second_yaw = _yaws(attributes, cast)
    across, reach = 2 * first.across(yaw), _reach(first, yaw, angle)
    extent = first.extent
    if angle == "overhead":  # what is upright looks small from above
        extent = min(max(2 * first.across(None), 0.6 * extent), extent)
    if len(bodies) == 1:
        framing = frame_shot(
            name("size"), name("lens"), aspect, Sized(extent, across, reach), roam=0.0
        )
        return framing, Places((0.0, 0.0), (0.0, 0.0))
    pair = (bodies[0], bodies[1])
    stage = places_of(name("relation"), action, pair, cast, 0.0)
    left = min(stage.first[0] - first.across(yaw), stage.second[0] - pair[1].across(second_yaw))
    right = max(stage.first[0] + first.across(yaw), stage.second[0] + pair[1].across(second_yaw))
    near = max(reach - stage.first[1], _reach(pair[1], second_yaw, angle) - stage.second[1])
    sized = Sized(extent, across, near, 2 * max(right, -left))
    framing = frame_shot(name("size"), name("lens"), aspect, sized, roam=FREE.get(action, 0.0))
    roam = ROAM.get(action, 0.0) * framing.width
    return framing, places_of(name("relation"), action, pair, cast, roam)


def _room(attributes: ShotAttributes) -> float:
    """Return how many distances a subject travels through the set before that goes along.

    Where the camera goes round or back it has none to spare: props stand close behind it.
    """
    name = attributes.name
    free = TRAVEL.get(name("action"), (1.0, 1.0))[name("place") in INTERIORS]
    return min(free, 0.2) if name("camera") in {"orbit", "dolly_out"} else free


def _filmed(
    attributes: ShotAttributes,
    bodies: tuple[Body, ...],
    cast: Cast,
    framing: Framing,
    blocking: Blocking,
) -> Filmed:
    """Return what the camera follows and keeps clear of."""
    target = float(np.mean([body.altitude + body.height for body in bodies]))
    point = blocking.follow + np.array([0.0, target, 0.0])
    if attributes.name("camera") == "tracking":
        point[:, 0] = blocking.middle[:, 0]
    middles = [
        path.place + np.array([0.0, body.height, 0.0])
        for path, body in zip(blocking.paths, bodies, strict=True)
    ]
    least = NEAREST_SHARE * framing.distance
    clear = [
        max(closest(body.extent, _reach(body, yaw, attributes.name("angle"))), least)
        for body, yaw in zip(bodies, _yaws(attributes, cast), strict=False)
    ]
    return Filmed(point, np.stack(middles, axis=1), np.array(clear))


def _yaws(attributes: ShotAttributes, cast: Cast) -> tuple[float | None, float | None]:
    """Return the yaws at which both subjects are seen; None where all sides are."""
    action, pair = attributes.name("action"), attributes.name("relation") != "alone"
    if attributes.name("camera") == "orbit":
        return None, None
    return shown(action, cast, pair=pair), second_facing(action, cast)


def _reach(body: Body, yaw: float | None, angle: str) -> float:
    """Return how far a subject reaches from its middle towards the eye."""
    level = body.toward(yaw)
    if angle not in {"high", "overhead"}:
        return level
    least, most = ELEVATION[angle]
    rise = radians((least + most) / 2)
    return level * cos(rise) + body.height * sin(rise)
