"""Clips through the runtime's own pipeline, on whatever engines one wants to hear."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from animatic.engine import OnnxRuntimeEngine
from animatic.engine.lazy import LazyEngine
from animatic.pipeline import Pipeline
from animatic.text_inputs import TextInputs
from animatic.tokenizer import BundleTokenizer
from animatic_calibration.echo import Echo
from animatic_calibration.engine import ModelEngine
from animatic_calibration.sources import LIMITS, stored_bytes
from animatic_calibration.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.shot import Shot
    from animatic.store import OpenBundle

    Clip = npt.NDArray[np.uint8]

__all__ = ["Stage"]


class Stage:
    """A bundle's tokenizer and the states of prompts, for one pipeline after another.

    in_memory: as in `Limits`, of the reference graphs.
    """

    def __init__(self, opened: OpenBundle, in_memory: int = LIMITS.in_memory) -> None:
        self._opened = opened
        self._in_memory = in_memory
        text = opened.bundle.text
        self._tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
        encoder = opened.bundle.graph("text_encoder")
        self._text_encoder = Echo(encoder, partial(self._played, "text_encoder"))

    def rehearse(self, shots: Sequence[Shot]) -> None:
        """Encode the prompts of all shots that will be played, then let the text encoder go.

        It may be larger than everything else together.
        """
        bundle = self._opened.bundle
        text = TextInputs(self._opened, self._tokenizer, self._text_encoder)
        for shot in shots:
            text.words(shot.plan(bundle))
        self._text_encoder.close()

    def reference(self, role: Role) -> Engine:
        """A reference graph of the bundle, which computes in float32; opened by its first run."""
        return LazyEngine(self._opened.bundle.graph(role), partial(self._open, role))

    def play(self, engines: Mapping[Role, Engine], shots: Sequence[Shot]) -> Iterator[Clip]:
        """Make the clips, uint8 [frames, height, width, 3] each, as they are asked for.

        What `engines` lacks is played by the reference graphs.
        """
        roles = {graph.role for graph in self._opened.bundle.graphs}
        rest = {role: self.reference(role) for role in roles - engines.keys()}
        # Not closed: its engines are the caller's, or go with it.
        pipeline = Pipeline(
            self._opened, self._tokenizer, {**rest, **engines, "text_encoder": self._text_encoder}
        )
        for shot in shots:
            yield np.stack([frame.pixels for frame in pipeline.generate(shot)])

    def _open(self, role: Role) -> Engine:
        spec = self._opened.bundle.graph(role)
        if stored_bytes(self._opened, spec) <= self._in_memory:
            return self._played(role)
        weights = Weights(self._opened.root)
        model = weights.load(self._opened.path(spec.file))
        return ModelEngine(model, spec, weights=weights)

    def _played(self, role: Role) -> Engine:
        """A reference graph as the runtime plays it."""
        spec = self._opened.bundle.graph(role)
        return OnnxRuntimeEngine(self._opened.path(spec.file), spec)
