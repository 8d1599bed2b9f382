"""What is asked of a bundle's engines, and what follows from it for each role.

Three kinds of engine may not be needed by a clip, and are opened by their first run: a text encoder
that is costly, whose states are most often on disk (`animatic.text_cache`), a decoder that is not
the usual one, and the encoder of pictures, which most shots are not given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from animatic.shot import usual_decoder

if TYPE_CHECKING:
    from animatic.bundle import Bundle, DecoderRole, GraphSpec, Role
    from animatic.store import OpenBundle

__all__ = ["ROLES", "DeviceName", "TextDevice", "Wish"]

DeviceName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt_rtx", "onnxruntime-cuda"]
"""What can be asked for: "cuda" is an NVIDIA GPU by whichever backend, best first; the last three
are that backend on it."""

TextDevice = Literal["auto", "cpu", "gpu"]
"""Where the text encoder plays: on the processor, where the rest does on a GPU, or ("auto") on the
processor if it is costly and else where the rest does."""

ROLES: Final[tuple[Role, ...]] = ("text_encoder", "denoiser", "vae_decoder")
"""What every bundle has."""

FURTHER: Final[tuple[Role, ...]] = ("tiny_decoder", "vae_encoder")
"""What a bundle may have."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; see `animatic.engine.choice.choose`."""

    opened: OpenBundle
    device: str
    precision: str | None
    threads: int | None
    verify: bool
    text_device: str = "auto"

    @property
    def bundle(self) -> Bundle:
        """What is to be played."""
        return self.opened.bundle

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every role that is played, in the order in which engines are opened."""
        has = {graph.role for graph in self.bundle.graphs}
        return (*ROLES, *(role for role in FURTHER if role in has))

    @property
    def decoder(self) -> DecoderRole:
        """The usual decoder."""
        return usual_decoder(self.bundle)

    @property
    def text_on_processor(self) -> bool:
        """Whether the text encoder stays on the processor wherever the rest plays."""
        costly = self.bundle.text.costly
        return self.text_device == "cpu" or (self.text_device == "auto" and costly)

    @property
    def needed(self) -> tuple[Role, ...]:
        """The roles that every clip needs on the device of the denoiser."""
        text: tuple[Role, ...] = ("text_encoder",)
        if self.text_on_processor or self.is_lazy("text_encoder"):
            text = ()
        return (*text, "denoiser", self.decoder)

    def is_lazy(self, role: Role) -> bool:
        """Whether a role's engine is opened by its first run."""
        if role == "text_encoder":
            return self.bundle.text.costly
        return role not in {"denoiser", self.decoder}

    def typed(self, role: Role, *precisions: str) -> str | None:
        """The first of some precisions that a role has a graph in; None if it has none of them."""
        has = {graph.precision for graph in self.bundle.graphs if graph.role == role}
        return next((precision for precision in precisions if precision in has), None)

    def graph(self, role: Role, *precisions: str) -> GraphSpec:
        """A role's graph in the first of some precisions that it has, else the reference."""
        return self.bundle.graph(role, self.typed(role, *precisions))
