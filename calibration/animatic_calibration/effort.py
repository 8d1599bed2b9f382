"""How much is done for a calibration: all of it, or where clips are costly, what tells most.

A clip of Blockout takes a tenth of a second and one of Wan 2.1 minutes (21 TFLOP in three steps at
448x256x17). So for a costly model clips are few, short and small; the graphs are listened to once,
and not again after smoothing; and what a layer loses is read from a sample of its own rows. Clips
are still made to choose by and to measure on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from animatic.lengths import Lengths
from animatic.shot import Shot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animatic.bundle import Bundle
    from animatic_calibration.prompts import PromptSplit

__all__ = ["Effort"]

LISTENED_SEEDS: Final = 0  # so that no two clips of a calibration are the same
JUDGED_SEEDS: Final = 1_000
MEASURED_SEEDS: Final = 2_000
JUDGED: Final = 4
MEASURED: Final = 8
COSTLY_CLIPS: Final = 4
MOST_HIGH: Final = 0.25
LEAST_STEPS: Final = 4
"""A schedule with fewer is not taken for cheapness: activations differ from one noise level to
another, and all that matter are to be heard."""


@dataclass(frozen=True)
class Effort:
    """What is done.

    costly: as above. listened, judged, measured: the clips that are listened to, that choices are
        made on, and that the result is measured on; without a decoder.
    most_high: the largest part of a graph's units that may be left in float16. Clips of a costly
        model drift apart for so little that no choice of layers may hold them together, and a graph
        that is all float16 again helps nobody.
    """

    costly: bool
    listened: tuple[Shot, ...]
    judged: tuple[Shot, ...]
    measured: tuple[Shot, ...]
    most_high: float

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        prompts: PromptSplit,
        *,
        costly: bool,
        clips: int | None = None,
        frames: int | None = None,
    ) -> Effort:
        """Plan it.

        costly: whether clips are. clips: how many are listened to; None: one for each calibration
        prompt, or COSTLY_CLIPS. Of a costly model half as many are chosen by and measured on.
        frames: of every clip; None: the usual number, or the smallest. ShotError if the model does
            not make clips of that many.
        """
        count = clips or (COSTLY_CLIPS if costly else len(prompts.calibration))
        few = -(-count // 2) if costly else MEASURED
        form = Shot("-", frames=frames)
        if costly:
            smallest = min(bundle.geometry.sizes, key=lambda size: size.width * size.height)
            form = Shot(
                "-",
                size=(smallest.width, smallest.height),
                frames=frames or _shortest(bundle),
                steps=_fewest_steps(bundle),
            )

        def shots(texts: Sequence[str], most: int, first_seed: int) -> tuple[Shot, ...]:
            return tuple(
                replace(form, prompt=prompt, seed=first_seed + n)
                for n, prompt in enumerate(_spread(texts, most))
            )

        effort = cls(
            costly=costly,
            listened=shots(prompts.calibration, count, LISTENED_SEEDS),
            judged=shots(prompts.calibration[:JUDGED], min(JUDGED, few), JUDGED_SEEDS),
            measured=shots(prompts.held[:MEASURED], min(MEASURED, few), MEASURED_SEEDS),
            most_high=MOST_HIGH if costly else 1.0,
        )
        effort.listened[0].plan(bundle)
        return effort


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """Take at most so many, from the whole length of a list."""
    count = min(most, len(texts))
    return [texts[n * len(texts) // count] for n in range(count)]


def _shortest(bundle: Bundle) -> int:
    """Return the frames of the shortest clip; of a model that joins blocks two must be joined."""
    geometry = bundle.geometry
    if bundle.conditioning.context:
        return 1 + (2 * geometry.block_latent_frames - 1) * geometry.temporal_factor
    return min(Lengths.of(bundle, geometry.fps).named)


def _fewest_steps(bundle: Bundle) -> int | None:
    """Return the fewest sampler steps that will do; None: the usual number."""
    sampler = bundle.sampler
    usual = len(sampler.sigmas)
    offered = {len(schedule.sigmas) for schedule in sampler.schedules}
    return min((n for n in offered if LEAST_STEPS <= n < usual), default=None)
