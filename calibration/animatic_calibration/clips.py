"""Clips through the runtime's own pipeline, on whatever engines one wants to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from animatic.engine import OnnxRuntimeEngine
from animatic.pipeline import Pipeline
from animatic.tokenizer import BundleTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.shot import Shot
    from animatic.store import OpenBundle

    Clip = npt.NDArray[np.uint8]

__all__ = ["ROLES", "Stage"]

ROLES: tuple[Role, ...] = ("denoiser", "vae_decoder")
"""The graphs that are quantised. The text encoder runs once a prompt: nothing is gained there."""


class Stage:
    """A bundle's tokenizer and text encoder, kept open for one pipeline after another."""

    def __init__(self, opened: OpenBundle) -> None:
        self._opened = opened
        text = opened.bundle.text
        self._tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
        self._text_encoder = self._reference("text_encoder")

    def reference_engines(self) -> dict[Role, Engine]:
        """The bundle's reference graphs, which compute in float32."""
        return {role: self._reference(role) for role in ROLES}

    def play(self, engines: dict[Role, Engine], shots: Sequence[Shot]) -> Iterator[Clip]:
        """Make the clips, uint8 [frames, height, width, 3] each, as they are asked for."""
        # Not closed: its engines are ours.
        pipeline = Pipeline(
            self._opened, self._tokenizer, {"text_encoder": self._text_encoder, **engines}
        )
        for shot in shots:
            yield np.stack([frame.pixels for frame in pipeline.generate(shot)])

    def _reference(self, role: Role) -> Engine:
        spec = self._opened.bundle.graph(role)
        return OnnxRuntimeEngine(self._opened.path(spec.file), spec)
