"""What the denoiser hears of a prompt: the text encoder's token states, as its graph takes them.

The states of the last clip's prompts are kept, as they often come again. An encoder that is costly
runs only for prompts whose states are not on disk (`animatic.text_cache`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from animatic.denoising import Words
from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from animatic.bundle import GraphSpec
    from animatic.engine import Engine
    from animatic.shot import ShotPlan
    from animatic.store import OpenBundle
    from animatic.text_cache import TextCache
    from animatic.tokenizer import Tokenizer, Tokens

    Inputs = Mapping[str, npt.NDArray[Any]]

__all__ = ["TextInputs"]


class TextInputs:
    """Turns the prompts of a plan into text inputs of the denoiser."""

    def __init__(
        self, bundle: OpenBundle, tokenizer: Tokenizer, encoder: Engine, denoiser: GraphSpec
    ) -> None:
        text = bundle.bundle.text
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._length = text.states_length
        self._takes_mask = any(tensor.name == "text_mask" for tensor in denoiser.inputs)
        self._cache: TextCache | None = None
        if text.costly:
            from animatic.text_cache import TextCache

            self._cache = TextCache.of(bundle, encoder.spec)
        self._kept: dict[str, Inputs] = {}

    def words(self, plan: ShotPlan) -> Words:
        """Make what a plan's denoiser listens to; its prompts are kept until the next plan.

        text_states: float32 [1, tokens, D], with zeros up to states_length. text_mask: int64
        [1, tokens], 1 for what counts, where the denoiser takes it.
        """
        guided = plan.guidance != 1
        prompts = {plan.prompt, plan.negative_prompt} if guided else {plan.prompt}
        kept = self._kept
        self._kept = {p: kept[p] if p in kept else self._made(p) for p in sorted(prompts)}
        negative = self._kept[plan.negative_prompt] if guided else None
        return Words(self._kept[plan.prompt], negative, plan.guidance)

    def _made(self, prompt: str) -> Inputs:
        tokens = self._tokenizer.encode(prompt)
        inputs = {"text_states": self._padded(self._states(prompt, tokens))}
        if self._takes_mask:
            inputs["text_mask"] = self._padded(tokens.attention_mask)
        return inputs

    def _states(self, prompt: str, tokens: Tokens) -> npt.NDArray[np.float32]:
        states = None if self._cache is None else self._cache.get(prompt)
        if states is None:
            states = self._encoder.run(tokens._asdict())["text_states"]
            if self._cache is not None:
                self._cache.put(prompt, states)
        return states

    def _padded(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Fill the axis of tokens, the second, with zeros to the length that the denoiser takes."""
        if not self._length:
            return array
        missing = self._length - array.shape[1]
        if missing < 0:
            raise EngineError(
                f"The text encoder gave the states of {array.shape[1]} tokens and the denoiser "
                f"takes {self._length}; export the bundle again with a longer states_length."
            )
        return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)])
