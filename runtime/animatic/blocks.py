"""The pictures of one clip, block by block: noise to latents, latents to pictures.

Only one block is in memory at a time, so a clip of any length takes the same. What a block knows of
the ones before it is what the denoiser's own state pairs carry.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from animatic.noise import NoiseStream
from animatic.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from animatic.bundle import Bundle
    from animatic.decoding import Decoder
    from animatic.denoising import Denoiser, Words
    from animatic.shot import ShotPlan

    Latents = npt.NDArray[np.float32]

__all__ = ["Clip", "Progress"]


class Progress(NamedTuple):
    """How far a clip is: `done` of `total` units of work.

    A unit is the text, one denoiser step of one block (guided or not), one run by which a block is
    handed on to the next, or one decoded latent frame; `stage` is "text", "denoise" or "decode",
    the kind of the unit just done. A decoder that looks ahead does several units at once.
    """

    done: int
    total: int
    stage: str


class Clip:
    """One planned shot on its way."""

    def __init__(
        self,
        bundle: Bundle,
        plan: ShotPlan,
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Lay out the blocks; ShotError if the model does not offer the plan's steps.

        ValueError if the clip is not a whole number of blocks, which no plan of a sound bundle is.
        """
        self._bundle = bundle
        self._plan = plan
        self._on_progress = on_progress
        self._sampler = Sampler(bundle.sampler, plan.steps)
        self._noise = NoiseStream(plan.seed, plan.variant)
        channels, frames, rows, columns = plan.latent_shape
        block_frames = min(bundle.geometry.block_latent_frames, frames)
        self._blocks, rest = divmod(frames, block_frames)
        if rest:
            raise ValueError(f"{frames} latent frames are not a multiple of {block_frames}")
        self._shape = (1, channels, block_frames, rows, columns)
        # [1, channels, 1, 1, 1], to broadcast over the latents.
        stats = bundle.latents
        self._mean = np.array(stats.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._std = np.array(stats.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        handed_on = 0 if bundle.sampler.context_timestep is None else self._blocks - 1
        self._done = 0
        self._total = 1 + self._blocks * len(self._sampler) + handed_on + frames

    def count(self, stage: str, units: int = 1) -> None:
        """Say that work was done."""
        self._done += units
        self._on_progress(Progress(self._done, self._total, stage))

    def pictures(
        self, denoiser: Denoiser, decoder: Decoder, words: Words
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Make the pictures in order, each uint8 [height, width, 3], as they are decoded."""
        context_timestep = self._bundle.sampler.context_timestep
        trim = self._bundle.geometry.decoder_trim
        for block in range(self._blocks):
            position = block * self._shape[2]
            x = self._denoised(block, partial(denoiser.velocity, words=words, position=position))
            for decoded in decoder.decode(self._raw(block, x)):
                self.count("decode", decoded.latent_frames)
                yield from decoded.pictures(trim)
                trim = 0
            # After the pictures, which somebody is waiting for; the last block has no heir.
            if context_timestep is not None and block + 1 < self._blocks:
                denoiser.velocity(x, context_timestep, words, position)
                self.count("denoise")

    def _denoised(self, block: int, velocity: Callable[[Latents, float], Latents]) -> Latents:
        x = self._sampler.start(self._noise.initial(block, self._shape))
        way = self._sampler.begin()
        for step in range(len(self._sampler)):
            predicted = velocity(x, self._sampler.timestep(step))
            x = way.step(x, predicted, partial(self._noise.fresh, block, step, self._shape))
            self.count("denoise")
        return x

    def _raw(self, block: int, x: Latents) -> Latents:
        """Give latents the noise that the decoder wants, and take them back to raw ones."""
        share = self._bundle.latents.decode_noise
        if share and self._plan.decoder == "vae_decoder":
            x = (1 - share) * x + share * self._noise.decode(block, self._shape)
        return x * self._std + self._mean
