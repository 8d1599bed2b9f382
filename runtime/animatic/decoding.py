"""From raw latents to pictures, by either kind of decoder.

A streaming decoder has a frame axis of 1: it is called for each latent frame and carries what it
must know of the ones before in its own state pairs. One whose frame axis is dynamic looks ahead: it
is called once, with all the latent frames of a clip. Both give temporal_factor pictures for every
latent frame, of which the first of a clip stands for one only (`Geometry.decoder_trim`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from animatic.errors import EngineError
from animatic.roles import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from animatic.bundle import Bundle
    from animatic.engine import Engine

__all__ = ["Decoded", "Decoder"]


class Decoded(NamedTuple):
    """What one call of the decoder gave.

    latent_frames: how many it drew. frames: float32 [1, 3, frames, height, width] in [0, 1].
    """

    latent_frames: int
    frames: npt.NDArray[np.float32]

    def pictures(self, first: int = 0) -> Iterator[npt.NDArray[np.uint8]]:
        """Give each picture from the first on: uint8 [height, width, 3], 0-255.

        EngineError if one holds values that are not numbers.
        """
        for place in range(first, self.frames.shape[2]):
            light = self.frames[0, :, place]
            if not np.isfinite(light).all():
                raise EngineError(
                    "The decoder gave values that are not numbers; try another seed, or export "
                    "the model again in float32."
                )
            pixels = (light * 255).round().clip(0, 255).astype(np.uint8)
            yield np.ascontiguousarray(pixels.transpose(1, 2, 0))


class Decoder:
    """Runs one decoder's graph on a block of raw latents."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._engine = engine
        self._streams = streams(engine.spec)
        self._factor = bundle.geometry.temporal_factor
        self._scale = bundle.geometry.spatial_factor

    def decode(self, raw: npt.NDArray[np.float32]) -> Iterator[Decoded]:
        """Decode a block, call by call.

        raw: float32 [1, channels, frames, rows, columns], with the model's mean and std.
        """
        if not self._streams:
            yield self._called(raw)
            return
        for place in range(raw.shape[2]):
            yield self._called(raw[:, :, place : place + 1])

    def _called(self, raw: npt.NDArray[np.float32]) -> Decoded:
        frames = self._engine.run({"latents": raw})["frames"]
        latent_frames, rows, columns = raw.shape[2:]
        expected = (1, 3, latent_frames * self._factor, rows * self._scale, columns * self._scale)
        if frames.shape != expected:
            raise EngineError(
                f"The decoder gave the shape {list(frames.shape)} and bundle.json promises "
                f"{list(expected)}; export the bundle again."
            )
        return Decoded(latent_frames, frames)
