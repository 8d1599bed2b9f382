"""How choices are put into a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["listed"]


def listed(choices: Sequence[str]) -> str:
    """Join choices as a sentence does: a; a or b; a, b or c."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
