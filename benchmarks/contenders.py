"""What every contender of a benchmark is asked for: the same shot, its text always encoded anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from animatic import Pipeline, Shot

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT: Final = "a red truck drives left through a desert at sunset, slow dolly in"


def clip(pipeline: Pipeline) -> Callable[[int], object]:
    """Return what makes the whole clip, by the number of its turn."""
    return lambda turn: pipeline.clip(_shot(turn))


def first_frame(pipeline: Pipeline) -> Callable[[int], object]:
    """Return what makes the first frame alone, by the number of its turn."""

    def first(turn: int) -> None:
        frames = pipeline.generate(_shot(turn))
        next(frames)
        frames.close()

    return first


def _shot(turn: int) -> Shot:
    # The last prompt's text is kept: three prompts by turns, so that text is always encoded, also
    # for whoever makes every second turn.
    return Shot(PROMPT + " " * (turn % 3), seed=turn)
