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
        self, bundle: OpenBundle, tokenizer: Tokenizer, encoder: Engine, *, keep: bool = True
    ) -> None:
        """Take states of a costly encoder from disk and put them there.

        keep: False for an encoder elsewhere than on the processor, whose states differ in the last
            bits: a clip must not depend on what was played before.
        """
        text = bundle.bundle.text
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._length = text.states_length
        self._cache: TextCache | None = None
        if text.costly and keep:
            from animatic.text_cache import TextCache

            self._cache = TextCache.of(bundle, encoder.spec)
        self._kept: dict[str, Inputs] = {}

    def words(self, plan: ShotPlan) -> Words:
        """Make what a plan's denoiser listens to; its prompts are kept until the next plan.

        text_states: float32 [1, tokens, D], with zeros up to states_length.
        """
        prompts = {plan.prompt: "prompt"}
        if plan.guidance != 1:
            prompts = {plan.negative_prompt: "negative prompt", **prompts}
        kept = self._kept
        self._kept = {p: kept[p] if p in kept else self._made(p, prompts[p]) for p in prompts}
        negative = self._kept[plan.negative_prompt] if plan.guidance != 1 else None
        return Words(self._kept[plan.prompt], negative, plan.guidance)

    def _made(self, prompt: str, name: str) -> Inputs:
        tokens = self._tokenizer.encode(prompt, name)
        return {"text_states": self._padded(self._states(prompt, tokens))}

    def _states(self, prompt: str, tokens: Tokens) -> npt.NDArray[np.float32]:
        states = None if self._cache is None else self._cache.get(prompt)
        if states is None:
            states = self._encoder.run(tokens._asdict())["text_states"]
            if self._cache is not None:
                self._cache.put(prompt, states)
        return states

    def _padded(self, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Fill the axis of tokens, the second, with zeros to the length that the denoiser takes."""
        if not self._length:
            return states
        missing = self._length - states.shape[1]
        if missing < 0:
            raise EngineError(
                f"The text encoder gave the states of {states.shape[1]} tokens and the denoiser "
                f"takes {self._length}; export the bundle again with a longer states_length."
            )
        return np.pad(states, [(0, 0), (0, missing), (0, 0)])
