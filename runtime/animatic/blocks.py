"""The pictures of one clip, block by block: noise to latents, latents to pictures.

Only one block is in memory at a time, so a clip of any length takes the same. What a block knows of
the ones before it is what the denoiser's own state pairs carry, or the last of their latents, which
stand in front of it in its window (`animatic.window`). A clip that leads to another is made from
its last block to its first, and then all its latents are kept until it is decoded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from animatic.given import GivenPictures
from animatic.noise import NoiseStream
from animatic.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from animatic.bundle import Bundle
    from animatic.decoding import Decoder
    from animatic.denoising import Denoiser, Words
    from animatic.encoding import Encoder
    from animatic.shot import ShotPlan
    from animatic.window import Window

    Latents = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["Clip", "Players", "Progress"]


class Progress(NamedTuple):
    """How far a clip is: `done` of `total` units of work.

    A unit is the text, one run of the encoder, one denoiser step of one block (guided or not), one
    run by which a block is handed on to the next, or one decoded latent frame; `stage` is "text",
    "encode", "denoise" or "decode", the kind of the unit just done. A decoder that looks ahead does
    several units at once.
    """

    done: int
    total: int
    stage: str


class Players(NamedTuple):
    """The graphs that make a clip; the encoder only if it is given pictures or loops."""

    denoiser: Denoiser
    decoder: Decoder
    encoder: Encoder | None = None


class _Seen(NamedTuple):
    """Latents that a block is given: pictures by frame, what goes before it, what comes after."""

    images: Mapping[int, Latents]
    before: Latents | None = None
    after: Latents | None = None


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
        self._layout = layout = plan.given.layout(bundle.geometry, frames)
        self._blocks = layout.blocks
        self._shape = (1, channels, layout.block, rows, columns)
        # [1, channels, 1, 1, 1], to broadcast over the latents.
        stats = bundle.latents
        self._mean = np.array(stats.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._std = np.array(stats.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        handed_on = 0 if bundle.sampler.context_timestep is None else self._blocks - 1
        encoded = sum(1 for _ in plan.given.sources()) + plan.given.loop
        warming_up = bundle.geometry.context_latent_frames if layout.continues else 0
        self._done = 0
        self._total = (
            1 + encoded + self._blocks * len(self._sampler) + handed_on + warming_up + frames
        )

    def count(self, stage: str, units: int = 1) -> None:
        """Say that work was done."""
        self._done += units
        self._on_progress(Progress(self._done, self._total, stage))

    def pictures(
        self, players: Players, words: Words, given: GivenPictures | None = None
    ) -> Iterator[Pixels]:
        """Make the pictures in order, each uint8 [height, width, 3], as they are decoded.

        given: what the plan is given, read.
        """
        seen = self._encoded(players.encoder, given or GivenPictures())
        trim = self._bundle.geometry.decoder_trim
        if seen.before is not None:
            # The decoder goes on from where the clip before ends, and nothing jumps at the seam.
            for decoded in players.decoder.decode(self._raw(seen.before)):
                self.count("decode", decoded.latent_frames)
            trim = 0
        opening: list[Pixels] = []
        needed = self._layout.after * self._bundle.geometry.temporal_factor
        for x in self._latents(players, words, seen, opening):
            for decoded in players.decoder.decode(self._raw(x)):
                self.count("decode", decoded.latent_frames)
                for picture in decoded.pictures(trim):
                    if self._layout.loops and len(opening) < needed:
                        opening.append(picture)
                    yield picture
                trim = 0

    def _encoded(self, encoder: Encoder | None, given: GivenPictures) -> _Seen:
        def counted(latents: Latents) -> Latents:
            self.count("encode")
            return latents

        if encoder is None:
            return _Seen({})
        ending, beginning = given.ending, given.beginning
        return _Seen(
            {frame: counted(encoder.held(picture)) for frame, picture in given.images.items()},
            None if ending is None else counted(encoder.ending(ending)),
            None if beginning is None else counted(encoder.beginning(beginning)),
        )

    def _latents(
        self, players: Players, words: Words, seen: _Seen, opening: list[Pixels]
    ) -> Iterator[Latents]:
        """Give each block's latents in the order in which they are decoded, with decoder's noise.

        opening: the first pictures of a clip that loops, once they are drawn.
        """
        if self._layout.backwards:
            yield from self._backwards(players.denoiser, words, seen)
            return
        context_timestep = self._bundle.sampler.context_timestep
        handed_on = self._layout.block - self._bundle.geometry.context_latent_frames
        for block in range(self._blocks):
            last = block + 1 == self._blocks
            if last and self._layout.loops and players.encoder is not None:
                seen = seen._replace(after=players.encoder.beginning(np.stack(opening)))
                self.count("encode")
            x = self._denoised(block, players.denoiser, words, seen)
            yield self._noisy(block, x)
            # After the pictures, which somebody is waiting for; the last block has no heir.
            if context_timestep is not None and not last:
                window = self._layout.window(block)
                position = block * self._layout.block
                timesteps = window.timesteps(context_timestep)
                players.denoiser.velocity(x, timesteps, words, position, window.positions)
                self.count("denoise")
            seen = seen._replace(before=x[:, :, handed_on:])

    def _backwards(self, denoiser: Denoiser, words: Words, seen: _Seen) -> Iterator[Latents]:
        made: list[Latents] = []
        for block in reversed(range(self._blocks)):
            x = self._denoised(block, denoiser, words, seen)
            made.append(self._noisy(block, x))
            seen = seen._replace(after=x[:, :, : self._layout.after])
        while made:
            yield made.pop()

    def _denoised(self, block: int, denoiser: Denoiser, words: Words, seen: _Seen) -> Latents:
        """Make a block, float32 [1, channels, frames, rows, columns], among what is given."""
        window = self._layout.window(block)
        front, back = _around(window, seen)
        start = sum(latents.shape[2] for latents in front)
        made = slice(start, start + window.made)
        position = block * self._layout.block
        x = self._sampler.start(self._noise.initial(block, self._shape)[:, :, window.fixed :])
        way = self._sampler.begin()
        for step in range(len(self._sampler)):
            shown = np.concatenate([*front, x, *back], axis=2)
            timesteps = window.timesteps(self._sampler.timestep(step))
            velocity = denoiser.velocity(shown, timesteps, words, position, window.positions)
            x = way.step(x, velocity[:, :, made], partial(self._fresh, block, step, window.fixed))
            self.count("denoise")
        return np.concatenate([*(front[-1:] if window.fixed else []), x], axis=2)

    def _fresh(self, block: int, step: int, fixed: int) -> Latents:
        """Noise for what is made of a block: the same, however much of the block is given."""
        return self._noise.fresh(block, step, self._shape)[:, :, fixed:]

    def _noisy(self, block: int, x: Latents) -> Latents:
        """Give latents the noise that the decoder wants."""
        share = self._bundle.latents.decode_noise
        if share and self._plan.decoder == "vae_decoder":
            x = (1 - share) * x + share * self._noise.decode(block, self._shape)
        return x

    def _raw(self, x: Latents) -> Latents:
        """Take latents back to raw ones."""
        return x * self._std + self._mean


def _around(window: Window, seen: _Seen) -> tuple[list[Latents], list[Latents]]:
    """The given latents in front of those that are made, and behind them, as a window has them."""
    front: list[Latents] = []
    back: list[Latents] = []
    if window.before and seen.before is not None:
        front.append(seen.before[:, :, seen.before.shape[2] - window.before :])
    if window.fixed:
        front.append(seen.images[0])
    if window.after and seen.after is not None:
        back.append(seen.after[:, :, : window.after])
    return front, [*back, *(seen.images[frame] for frame in window.stills)]
