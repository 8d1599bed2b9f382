"""The denoiser's graph, called as it was declared: once a step, or twice under guidance.

    velocity = v_neg + guidance (v_pos - v_neg)

v_pos is the velocity for the prompt, v_neg that for the negative prompt (Ho and Salimans,
"Classifier-Free Diffusion Guidance", 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from animatic.roles import takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from animatic.engine import Engine

    Inputs = Mapping[str, npt.NDArray[Any]]
    Latents = npt.NDArray[np.float32]

__all__ = ["Denoiser", "Words"]


class Words(NamedTuple):
    """What a clip's denoiser listens to.

    positive, negative: text inputs (`TextInputs`) of what is to be seen and of what is to be led
        away from; negative is None without guidance. guidance: the weight, 1 or more.
    """

    positive: Inputs
    negative: Inputs | None = None
    guidance: float = 1.0


class Denoiser:
    """Runs the graph on one window at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._takes_position = takes(engine.spec, "position")
        self._takes_positions = takes(engine.spec, "positions")

    def velocity(
        self,
        x: Latents,
        timesteps: npt.NDArray[np.float32],
        words: Words,
        position: int,
        positions: npt.NDArray[np.float32],
    ) -> Latents:
        """Predict the velocity, of the shape of the latents.

        x: float32 [1, channels, frames, rows, columns].
        timesteps: float32 [1, frames], the noise level of each on the model's scale.
        position: how many latent frames of the clip were made before these.
        positions: float32 [frames], where each stands in the window (`animatic.window`).
        """
        inputs: dict[str, npt.NDArray[Any]] = {"latents": x, "timesteps": timesteps}
        if self._takes_position:
            inputs["position"] = np.array([position], dtype=np.int64)
        if self._takes_positions:
            inputs["positions"] = positions[np.newaxis]
        wanted: Latents = self._engine.run({**inputs, **words.positive})["velocity"]
        if words.negative is None:
            return wanted
        unwanted: Latents = self._engine.run({**inputs, **words.negative})["velocity"]
        return unwanted + np.float32(words.guidance) * (wanted - unwanted)
