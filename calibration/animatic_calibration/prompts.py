"""The shots on which a model is calibrated, and those on which the result is measured.

The built-in prompts were written once by the training captioner, from combinations that are not
held out: the score set is made of held-out ones only, so no prompt of it can be among them.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from animatic_calibration.errors import CalibrationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PromptSplit", "built_in_prompts", "read_prompts", "split_prompts"]

HELD_EVERY: Final = 4
"""One prompt in this many is held back: nothing is chosen on it, the result is measured on it."""


class PromptSplit(NamedTuple):
    """Prompts to calibrate with, and prompts to measure on; none is in both."""

    calibration: tuple[str, ...]
    held: tuple[str, ...]


def built_in_prompts() -> tuple[str, ...]:
    """Return the prompts that come with animatic, spread over the built-in world."""
    text = (files("animatic_calibration") / "prompts.txt").read_text("utf-8")
    return _lines(text)


def read_prompts(path: Path) -> tuple[str, ...]:
    """Read a file of prompts, one a line; CalibrationError if that cannot be done."""
    try:
        return _lines(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"The prompts {path} cannot be read ({error}); give a UTF-8 text file, one a line."
        ) from error


def split_prompts(prompts: tuple[str, ...], count: int) -> PromptSplit:
    """Take `count` prompts to calibrate with, from the whole length of the list.

    CalibrationError if there are too few to calibrate and to measure.
    """
    unique = tuple(dict.fromkeys(prompts))
    held = unique[HELD_EVERY - 1 :: HELD_EVERY]
    rest = [prompt for prompt in unique if prompt not in set(held)]
    if count < 1 or len(rest) < count or not held:
        most = max(0, len(rest) if held else 0)
        raise CalibrationError(
            f"Of these {len(unique)} prompts at most {most} can calibrate (every "
            f"{HELD_EVERY}th is held back to measure on) and {count} were asked for; give "
            "a --prompts in that range, or a --prompt-file with more lines."
        )
    return PromptSplit(tuple(rest[n * len(rest) // count] for n in range(count)), held)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
