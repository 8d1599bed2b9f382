"""What somebody wants to see, and the plan that one model makes of it."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from animatic.errors import ShotError
from animatic.geometry import (
    MAX_RATE,
    MAX_RATE_TERM,
    LatentShape,
    PixelShape,
    parse_rate,
    to_latent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animatic.bundle import Bundle, Geometry

__all__ = ["MAX_PROMPT_CHARACTERS", "MAX_SECONDS", "MAX_SEED", "Shot", "ShotPlan", "read_rate"]

MAX_PROMPT_CHARACTERS: Final = 2_000
MAX_SEED: Final = 2**63 - 1  # what a signed 64-bit field of any file or database holds
MAX_SECONDS: Final = 86_400  # a day; no model comes near, and the arithmetic stays small

# The rates of NTSC video and its kin: people write them as 23.976, 29.97 or 59.94.
_NTSC: Final = tuple(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120))
_NTSC_ROUNDING: Final = Fraction(5, 1000)  # 23.98 is still 24000/1001; 24.0 is 24
_DECIMAL: Final = re.compile(r"\d{1,3}\.\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ShotPlan:
    """A shot that a model can make, with every choice settled.

    width, height: pixels. frames: count. fps: exact delivery rate in frames per second.
    latent_shape: the whole clip in latents.
    """

    prompt: str
    seed: int
    variant: int
    width: int
    height: int
    frames: int
    fps: Fraction
    latent_shape: LatentShape


@dataclass(frozen=True, slots=True)
class Shot:
    """A shot as it was asked for; None leaves a choice to the model.

    prompt: what is to be seen, in words.
    seed, variant: 0 to 2**63 - 1, NumPy's whole numbers too; together they choose one clip of the
        many that fit the words.
    size: (width, height) in pixels, one that the model offers.
    seconds, frames: how long; one of them or neither. Seconds give the nearest length that the
        model makes.
    fps: the delivery rate in frames per second: a whole number, a Fraction, or text that
        `read_rate` reads. The frames are conformed, which means played at that rate; none is added
        or dropped.

    Nothing is checked until `plan`, which checks everything.
    """

    prompt: str
    seed: int = 0
    size: tuple[int, int] | None = None
    seconds: float | None = None
    frames: int | None = None
    fps: Fraction | int | str | None = None
    variant: int = 0

    def plan(self, bundle: Bundle) -> ShotPlan:
        """Settle this shot on a model; ShotError says what the model would accept instead."""
        geometry = bundle.geometry
        prompt = _checked_prompt(self.prompt)
        seed = _checked_number("seed", self.seed)
        variant = _checked_number("variant", self.variant)
        width, height = self._settled_size(geometry)
        fps = geometry.fps if self.fps is None else _checked_rate(self.fps)
        frames = self._settled_frames(bundle, fps)
        return ShotPlan(
            prompt=prompt,
            seed=seed,
            variant=variant,
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            latent_shape=to_latent(PixelShape(frames, height, width), geometry),
        )

    def _settled_size(self, geometry: Geometry) -> tuple[int, int]:
        offered = [(size.width, size.height) for size in geometry.sizes]
        if self.size is None:
            return offered[0]
        asked: object = self.size
        # A list serves as well, from JSON say; an array's own == would give an array.
        if isinstance(asked, tuple | list) and all(isinstance(s, numbers.Integral) for s in asked):
            for size in offered:
                if tuple(asked) == size:
                    return size
        choices = _listed([f"{width}x{height}" for width, height in offered])
        raise ShotError(f"This model does not make that size; choose {choices}.")

    def _settled_frames(self, bundle: Bundle, fps: Fraction) -> int:
        possible = _possible_frame_counts(bundle)
        if not possible:
            raise ShotError(
                "Every clip length of this model needs more than one block, which it cannot "
                "join without context; export it again with a shorter frame count."
            )
        choices = _listed([str(count) for count in possible])
        if self.seconds is not None and self.frames is not None:
            raise ShotError("A shot has either seconds or frames; leave one of them out.")
        if self.frames is not None:
            for count in possible:
                if self.frames == count:
                    return count
            raise ShotError(f"This model does not make that many frames; choose {choices}.")
        if self.seconds is None:
            return possible[0]
        if not _is_length(self.seconds):
            raise ShotError(
                f"The length in seconds cannot be used; choose a number above 0 and up to "
                f"{MAX_SECONDS:,}, such as {float(possible[0] / fps):.4g}."
            )
        nearest = _nearest_frame_count(self.seconds, fps, bundle.geometry.temporal_factor)
        if nearest in possible:
            return nearest
        lengths = _listed([f"{float(count / fps):.4g} ({count} frames)" for count in possible])
        raise ShotError(
            f"This model does not make a clip of that many seconds at {float(fps):.6g} frames per "
            f"second; choose {lengths}."
        )


def _checked_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise ShotError(
            f"The prompt must be text (str), not {type(prompt).__name__}; say in words what is to "
            "be seen."
        )
    if all(map(_is_invisible, prompt)):
        raise ShotError("The prompt is empty; say in words what is to be seen.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ShotError(
            f"The prompt has {len(prompt):,} characters; shorten it to at most "
            f"{MAX_PROMPT_CHARACTERS:,}."
        )
    for position, character in enumerate(prompt, start=1):
        # Cc: control characters, NUL and line breaks among them. Zl, Zp: Unicode's own line and
        # paragraph breaks. Cs: half of a surrogate pair, which no UTF-8 file can hold.
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            raise ShotError(
                f"The prompt holds a control or broken character (U+{ord(character):04X}) at "
                f"place {position}; write it as one line of plain text."
            )
    return prompt


def _is_invisible(character: str) -> bool:
    # Cf: joiners, direction marks and the like. Z*: every kind of space.
    return character.isspace() or unicodedata.category(character) in {"Cf", "Zl", "Zp", "Zs"}


def _checked_number(name: str, value: object) -> int:
    try:
        # What counts as a whole number: int, and NumPy's. bool does too; True as a seed is a slip.
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise ShotError(f"That {name} cannot be used; choose a whole number from 0 to {MAX_SEED}.")
    return number


def _possible_frame_counts(bundle: Bundle) -> list[int]:
    """Find the frame counts on offer that this model can really make, the default first.

    Without context a block knows nothing of the one before it, so a clip is one block at most.
    With context it is one block, or a whole number of them.
    """
    geometry = bundle.geometry
    possible = []
    for frames in geometry.frame_counts:
        latent_frames = 1 + (frames - 1) // geometry.temporal_factor
        blocks, rest = divmod(latent_frames, geometry.block_latent_frames)
        if latent_frames <= geometry.block_latent_frames or (
            bundle.conditioning.context and blocks and not rest
        ):
            possible.append(frames)
    return possible


def read_rate(text: str) -> Fraction:
    """Read a rate as people write it: exactly, and 23.976 as the 24000/1001 that it stands for.

    ValueError as of `animatic.geometry.parse_rate`, which takes every decimal at its word.
    """
    if _DECIMAL.fullmatch(text.strip()):
        written = Fraction(text.strip())
        nearest = min(_NTSC, key=lambda rate: abs(rate - written))
        if abs(nearest - written) <= _NTSC_ROUNDING:
            return nearest
    return parse_rate(text)


def _checked_rate(fps: object) -> Fraction:
    if isinstance(fps, float | bool):
        raise ShotError(
            f"The frame rate is {fps!r}, which is no exact number; choose a whole number, "
            'Fraction(24000, 1001) or the text "24000/1001".'
        )
    if isinstance(fps, str):
        with contextlib.suppress(ValueError):
            return read_rate(fps)
    elif isinstance(fps, numbers.Rational):  # NumPy's whole numbers among them
        rate = Fraction(int(fps.numerator), int(fps.denominator))
        if 0 < rate <= MAX_RATE and max(rate.numerator, rate.denominator) <= MAX_RATE_TERM:
            return rate
    raise ShotError(
        f"That frame rate cannot be used; choose a ratio above 0 and up to {MAX_RATE} with terms "
        f'up to {MAX_RATE_TERM:,}, such as 24, Fraction(24000, 1001) or "24000/1001".'
    )


def _is_length(seconds: object) -> bool:
    return (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 < seconds <= MAX_SECONDS
    )


def _nearest_frame_count(seconds: float, fps: Fraction, temporal_factor: int) -> int:
    """Find the count of the form 1 + k * temporal_factor that lasts nearest to `seconds`."""
    # Exact arithmetic, halves up: the answer must not depend on how a float rounds.
    later = (Fraction(seconds) * fps - 1) / temporal_factor
    return 1 + max(0, math.floor(later + Fraction(1, 2))) * temporal_factor


def _listed(choices: Sequence[str]) -> str:
    """Join choices as a sentence does: a; a or b; a, b or c."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
