"""What somebody wants to see, and the plan that one model makes of it."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import re
import unicodedata
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from animatic.bundle import DECODER_ROLES, DecoderRole
from animatic.errors import ShotError
from animatic.geometry import (
    MAX_RATE,
    MAX_RATE_TERM,
    LatentShape,
    PixelShape,
    parse_rate,
    to_latent,
)
from animatic.given import Given, open_given
from animatic.lengths import MAX_SECONDS, Lengths
from animatic.schedules import schedule_of
from animatic.sentences import listed
from animatic.sources.fit import nearest_shape

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from animatic.bundle import Bundle, Geometry, SamplerSpec, Tier

    Asked = str | os.PathLike[str] | npt.NDArray[np.uint8]

__all__ = [
    "MAX_GUIDANCE",
    "MAX_PROMPT_CHARACTERS",
    "MAX_SECONDS",
    "MAX_SEED",
    "DecoderName",
    "Shot",
    "ShotPlan",
    "read_rate",
    "usual_decoder",
]

MAX_PROMPT_CHARACTERS: Final = 2_000
MAX_SEED: Final = 2**63 - 1  # what a signed 64-bit field of any file or database holds
MAX_GUIDANCE: Final = 100  # models are made for 3 to 8; far beyond, pictures burn out
_SAME_COST: Final = 1.25  # times as many pixels: 16:9 and 2.39:1 of one budget differ by 1.06

# The rates of NTSC video and its kin: people write them as 23.976, 29.97 or 59.94.
_NTSC: Final = tuple(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120))
_NTSC_ROUNDING: Final = Fraction(5, 1000)  # 23.98 is still 24000/1001; 24.0 is 24
_DECIMAL: Final = re.compile(r"\d{1,3}\.\d{1,20}", re.ASCII)


DecoderName = Literal["vae", "tiny"]
"""The decoders as people call them."""

_DECODERS: Final[dict[str, DecoderRole]] = {
    "vae": "vae_decoder",
    "tiny": "tiny_decoder",
    **{role: role for role in DECODER_ROLES},
}


@dataclass(frozen=True, slots=True)
class ShotPlan:
    """A shot that a model can make, with every choice settled.

    width, height: pixels. frames: count. fps: exact delivery rate in frames per second.
    latent_shape: the whole clip in latents. given: what it is given beside its words.
    steps: of the sampler. guidance: its weight; at 1 there is none, and no negative prompt either.
    decoder: which graph draws the pictures.
    """

    prompt: str
    seed: int
    variant: int
    width: int
    height: int
    frames: int
    fps: Fraction
    latent_shape: LatentShape
    steps: int
    guidance: float
    negative_prompt: str
    decoder: DecoderRole
    given: Given = field(default_factory=Given)


@dataclass(frozen=True, slots=True)
class Shot:
    """A shot as it was asked for; None leaves a choice to the model.

    prompt: what is to be seen, in words.
    seed, variant: 0 to 2**63 - 1, NumPy's whole numbers too; together they choose one clip of the
        many that fit the words.
    size: (width, height) in pixels, one that the model offers; without it, the one whose shape is
        nearest to what is given, among those about as large as the tier's.
    seconds, frames: how long; one of them or neither. Seconds give the nearest length that the
        model makes.
    fps: the delivery rate in frames per second: a whole number, a Fraction, or text that
        `read_rate` reads. The frames are conformed, which means played at that rate; none is added
        or dropped.
    tier: a name of the bundle's (`Bundle.tiers`), which settles size, steps and decoder together;
        what is given beside it wins.
    steps: how many sampler steps, a number that the model offers.
    guidance: weight of classifier-free guidance, 1 to 100; 1 is none.
    negative_prompt: what guidance leads away from, in words; empty for nothing in particular.
    decoder: "vae", or "tiny", which is what a bundle that has one uses when neither this nor the
        tier says otherwise; the names of their roles serve too.
    images: pictures for frames, counted from 0, or from the end with -1.
    continue_from: a clip that this one goes on from. before: a clip that it leads to. Both, and it
        joins them; only the frames in between are made.
    loop: the last frame leads to the first again.

    A picture or clip is the name of a file, of a folder of PNGs or of a sequence, or an array of
    uint8 RGB, [height, width, 3] or [frames, height, width, 3]. It is scaled to fill the shot, and
    what stands out is cut off; a clip is sampled at the rate of the shot. With a model that can be
    given none, ShotError.

    Nothing is checked until `plan`, which checks everything.
    """

    prompt: str
    seed: int = 0
    size: tuple[int, int] | None = None
    seconds: float | Fraction | None = None
    frames: int | None = None
    fps: Fraction | int | str | None = None
    variant: int = 0
    tier: str | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    decoder: DecoderName | DecoderRole | None = None
    images: Mapping[int, Asked] = field(default_factory=dict, hash=False)
    continue_from: Asked | None = field(default=None, hash=False)
    before: Asked | None = field(default=None, hash=False)
    loop: bool = False

    def plan(self, bundle: Bundle) -> ShotPlan:
        """Settle this shot on a model; ShotError says what the model would accept instead.

        InputError if a picture or clip is missing or is none.
        """
        geometry = bundle.geometry
        prompt = _checked_prompt(self.prompt)
        seed = _checked_number("seed", self.seed)
        variant = _checked_number("variant", self.variant)
        tier = _settled_tier(self.tier, bundle)
        given = open_given(self.images, self.continue_from, self.before, self.loop, bundle)
        width, height = _settled_size(self.size, tier, given, geometry)
        fps = geometry.fps if self.fps is None else _checked_rate(self.fps)
        frames = _lengths(bundle, fps, given).settle(self.seconds, self.frames)
        begins = given.continue_from is None
        guidance = _settled_guidance(self.guidance, bundle.sampler)
        return ShotPlan(
            prompt=prompt,
            seed=seed,
            variant=variant,
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            latent_shape=to_latent(PixelShape(frames, height, width), geometry, begins=begins),
            steps=_settled_steps(self.steps, tier, bundle.sampler),
            guidance=guidance,
            negative_prompt=_settled_negative(self.negative_prompt, guidance, bundle.sampler),
            decoder=_settled_decoder(self.decoder, tier, bundle),
            given=given.counted(frames, geometry),
        )


def _lengths(bundle: Bundle, fps: Fraction, given: Given) -> Lengths:
    lengths = Lengths.of(bundle, fps)
    if given.continue_from is not None:
        return lengths.going_on()
    return lengths.looping() if given.loop else lengths


def _settled_tier(asked: object, bundle: Bundle) -> Tier | None:
    if asked is None:
        return None
    for tier in bundle.tiers:
        if isinstance(asked, str) and asked == tier.name:
            return tier
    if not bundle.tiers:
        raise ShotError("This model has no tiers; leave the tier out.")
    raise ShotError(
        f"This model has no such tier; choose {listed([tier.name for tier in bundle.tiers])}."
    )


def _settled_size(
    asked: object, tier: Tier | None, given: Given, geometry: Geometry
) -> tuple[int, int]:
    offered = [(size.width, size.height) for size in geometry.sizes]
    if asked is None:
        usual = (tier.size.width, tier.size.height) if tier else offered[0]
        shown = next(given.sources(), None)
        if shown is None:
            return usual
        costs = _pixels(usual) if tier else None
        return nearest_shape(shown.size, [s for s in offered if _alike(costs, _pixels(s))])
    # A list serves as well, from JSON say; an array's own == would give an array.
    if isinstance(asked, tuple | list) and all(isinstance(s, numbers.Integral) for s in asked):
        for size in offered:
            if tuple(asked) == size:
                return size
    choices = listed([f"{width}x{height}" for width, height in offered])
    raise ShotError(f"This model does not make that size; choose {choices}.")


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _alike(costs: int | None, pixels: int) -> bool:
    """Whether a size costs about as much as a tier's, which names one of its shapes; None: any."""
    return costs is None or abs(math.log(pixels / costs)) < math.log(_SAME_COST)


def _settled_steps(asked: object, tier: Tier | None, sampler: SamplerSpec) -> int:
    if asked is None:
        return (tier and tier.steps) or len(sampler.sigmas)
    steps = _whole(asked)
    schedule_of(sampler, steps)
    return steps


def _settled_guidance(asked: object, sampler: SamplerSpec) -> float:
    if asked is None:
        return sampler.guidance
    guidance = -1.0
    if type(asked) is not bool and isinstance(asked, numbers.Real):  # True would be a slip
        with contextlib.suppress(OverflowError):  # whole numbers have no end
            guidance = float(asked)
    if sampler.guidance == 1 and guidance != 1:
        raise ShotError("This model runs without guidance; leave it out.")
    if not 1 <= guidance <= MAX_GUIDANCE:
        raise ShotError(
            f"That guidance cannot be used; choose a number from 1 (none) to {MAX_GUIDANCE}, such "
            f"as {sampler.guidance:g}."
        )
    return guidance


def _settled_negative(asked: object, guidance: float, sampler: SamplerSpec) -> str:
    if asked is None:
        return "" if guidance == 1 else sampler.negative_prompt
    if isinstance(asked, str) and all(map(_is_invisible, asked)):
        return ""
    negative = _checked_text("negative prompt", asked)
    if guidance == 1:
        raise ShotError(
            "Without guidance nothing leads away from a negative prompt; leave it out"
            + ("." if sampler.guidance == 1 else f", or ask for guidance of {sampler.guidance:g}.")
        )
    return negative


def _settled_decoder(asked: object, tier: Tier | None, bundle: Bundle) -> DecoderRole:
    if asked is None:
        return tier.decoder if tier else usual_decoder(bundle)
    role = _DECODERS.get(asked) if isinstance(asked, str) else None
    if role is None:
        raise ShotError("There is no such decoder; choose vae or tiny.")
    if role == "tiny_decoder" and not _has_tiny_decoder(bundle):
        raise ShotError("This model has no tiny decoder; leave the decoder out.")
    return role


def usual_decoder(bundle: Bundle) -> DecoderRole:
    """Which decoder draws where nobody chooses one: the fast one, if the bundle has it."""
    return "tiny_decoder" if _has_tiny_decoder(bundle) else "vae_decoder"


def _has_tiny_decoder(bundle: Bundle) -> bool:
    return any(graph.role == "tiny_decoder" for graph in bundle.graphs)


def _checked_prompt(prompt: object) -> str:
    if isinstance(prompt, str) and all(map(_is_invisible, prompt)):
        raise ShotError("The prompt is empty; say in words what is to be seen.")
    return _checked_text("prompt", prompt)


def _checked_text(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise ShotError(
            f"The {name} must be text (str), not {type(text).__name__}; say in words what is "
            f"{'' if name == 'prompt' else 'not '}to be seen."
        )
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ShotError(
            f"The {name} has {len(text):,} characters; shorten it to at most "
            f"{MAX_PROMPT_CHARACTERS:,}."
        )
    for position, character in enumerate(text, start=1):
        # Cc: control characters, NUL and line breaks among them. Zl, Zp: Unicode's own line and
        # paragraph breaks. Cs: half of a surrogate pair, which no UTF-8 file can hold.
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            raise ShotError(
                f"The {name} holds a control or broken character (U+{ord(character):04X}) at "
                f"place {position}; write it as one line of plain text."
            )
    return str(text)  # NumPy's str_ is one too


def _is_invisible(character: str) -> bool:
    # Cf: joiners, direction marks and the like. Z*: every kind of space.
    return character.isspace() or unicodedata.category(character) in {"Cf", "Zl", "Zp", "Zs"}


def _checked_number(name: str, value: object) -> int:
    number = _whole(value)
    if not 0 <= number <= MAX_SEED:
        raise ShotError(f"That {name} cannot be used; choose a whole number from 0 to {MAX_SEED}.")
    return number


def _whole(value: object) -> int:
    """Return what counts as a whole number, int and NumPy's, as an int; -1 for anything else."""
    try:
        # bool counts too; True as a seed is a slip.
        return -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return -1


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
