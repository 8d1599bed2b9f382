"""What a recipe is: the way from one family's published checkpoints to a bundle.

`prepare` finds the files, reads what they are and refuses what does not fit, before anything is
written; `Export.write` does the work; `plan` makes one of the bundle's graphs again from the bundle
alone, so that other precisions need no checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.bundle import Bundle, Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan

__all__ = ["RECIPES", "Export", "Recipe", "Request", "find_recipe"]

_PLACES: Final[Mapping[str, str]] = {
    "blockout": "animatic_export.blockout.recipe",
    "wan2.1-1.3b": "animatic_export.wan.recipe",
    "wan2.1-1.3b-self-forcing": "animatic_export.wan.recipe",
    "ltx-2b-distilled": "animatic_export.ltx.recipe",
}
RECIPES: Final = tuple(_PLACES)


@dataclass(frozen=True)
class Request:
    """What somebody wants exported; what is None or empty is the recipe's own choice.

    checkpoint: a folder, a file or a hub id; None where the recipe brings its own.
    base: another such, for the parts that the checkpoint lacks (text encoder, VAE).
    sampler: a name of the recipe's. tiny_decoder: a file of TAEHV weights.
    adapters: LoRAs to merge, each "FILE" or "FILE:STRENGTH".
    window: latent frames that a causal model sees. sizes: (width, height) in pixels.
    frames: counts. command: is recorded as what made the bundle.
    """

    checkpoint: str | None = None
    base: str | None = None
    sampler: str | None = None
    tiny_decoder: str | None = None
    adapters: tuple[str, ...] = ()
    window: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()
    command: str = ""


class Export(Protocol):
    """An export that can begin."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Lines to be said before it does, such as the licences of what is exported."""
        ...

    def is_current(self, bundle: Bundle) -> bool:
        """Whether a bundle is already what this would make."""
        ...

    def write(self, folder: Path, say: Callable[[str], None]) -> None:
        """Fill an empty folder with the bundle; ExportError or OSError, and `say` of every step."""
        ...


class Recipe(Protocol):
    """One family.

    name: what people call it by; also the bundle's `family`.
    options: the fields of a request, beside checkpoint and command, that it understands.
    """

    name: str
    options: frozenset[str]

    def prepare(self, request: Request) -> Export:
        """Find and check everything; ExportError says what is wrong and what to do."""
        ...

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan the reference graph of a role again, with the weights that the bundle holds."""
        ...


def find_recipe(name: str) -> Recipe:
    """Return the recipe of this name, one of `RECIPES`; its modules are imported only now."""
    recipes: Mapping[str, Recipe] = import_module(_PLACES[name]).RECIPES
    return recipes[name]
