"""The score set: prompts of held-out combinations, every attribute said, in every register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world.attributes import ShotAttributes, sample_attributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Sequence

SCORE_SEED: Final = 77


@dataclass(frozen=True)
class ScorePrompt:
    """One prompt of the score set and what it asks for."""

    text: str
    attributes: ShotAttributes


def score_prompts(count: int, *, held_out_words: bool = False) -> list[ScorePrompt]:
    """Return the first `count` prompts of the score set; always the same.

    held_out_words: with synonyms that no caption of the training holds.
    """
    rng = np.random.default_rng(SCORE_SEED)
    prompts = []
    for _ in range(count):
        attributes = sample_attributes(rng, held_out=True)
        text = write_caption(attributes, rng, full=True, held_out_words=held_out_words)
        prompts.append(ScorePrompt(text, attributes))
    return prompts


def labels_of(prompts: Sequence[ScorePrompt]) -> np.ndarray:
    """Return what prompts ask for, int64 [N, 13]."""
    return np.stack([prompt.attributes.labels() for prompt in prompts])
