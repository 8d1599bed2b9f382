"""From pictures to the model's latents: the other way than `animatic.decoding`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from animatic.errors import EngineError

if TYPE_CHECKING:
    import numpy.typing as npt

    from animatic.bundle import Bundle
    from animatic.engine import Engine

    Latents = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["Encoder"]


class Encoder:
    """Runs the encoder's graph: temporal_factor pictures become one latent frame.

    The first of a shot stands for one picture, which is therefore repeated. The encoder is causal:
    what it makes of some pictures depends on those before them, on which it warms up.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._engine = engine
        self._geometry = bundle.geometry
        # [1, channels, 1, 1, 1], to broadcast over the latents.
        self._mean = np.array(bundle.latents.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._std = np.array(bundle.latents.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)

    def held(self, picture: Pixels) -> Latents:
        """One picture, uint8 [height, width, 3], as a latent frame that stands for it alone."""
        return self._encoded(self._repeated(picture))

    def ending(self, pictures: Pixels) -> Latents:
        """The latent frames of the last pictures of a clip, less the first, its warming up.

        pictures: uint8 [frames, height, width, 3], a multiple of temporal_factor.
        """
        return self._encoded(pictures)[:, :, 1:]

    def beginning(self, pictures: Pixels) -> Latents:
        """The latent frames of the first pictures of a clip; `pictures` as for `ending`."""
        return self._encoded(np.concatenate([self._repeated(pictures[0]), pictures]))[:, :, 1:]

    def _repeated(self, picture: Pixels) -> Pixels:
        return np.repeat(picture[np.newaxis], self._geometry.temporal_factor, axis=0)

    def _encoded(self, pictures: Pixels) -> Latents:
        """float32 [1, channels, frames, rows, columns]; EngineError if they are something else."""
        light = pictures.transpose(3, 0, 1, 2)[np.newaxis].astype(np.float32) / np.float32(255)
        raw = self._engine.run({"frames": light})["latents"]
        geometry = self._geometry
        frames, height, width = pictures.shape[:3]
        expected = (
            1,
            geometry.latent_channels,
            frames // geometry.temporal_factor,
            height // geometry.spatial_factor,
            width // geometry.spatial_factor,
        )
        if raw.shape != expected:
            raise EngineError(
                f"The encoder gave the shape {list(raw.shape)} and bundle.json promises "
                f"{list(expected)}; export the bundle again."
            )
        if not np.isfinite(raw).all():
            raise EngineError(
                "The encoder gave values that are not numbers; export the model again in float32."
            )
        latents: Latents = (raw - self._mean) / self._std
        return latents
