"""Real activations: clips are made through the pipeline while the graphs are listened to.

Every call counts, at every sampler step and of every latent frame. What is kept is bounded: peaks
and a histogram for each tensor, a sample of rows for each layer, and a handful of whole calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_calibration.engine import ModelEngine
from animatic_calibration.rows import Reservoir, sample_rows
from animatic_calibration.statistics import TensorStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from onnx import ModelProto

    from animatic.bundle import GraphSpec, Role
    from animatic.engine import Engine
    from animatic.engine.protocol import Tensors
    from animatic.shot import Shot
    from animatic_calibration.clips import Stage
    from animatic_calibration.layers import Layer

__all__ = ["Call", "Heard", "Listener", "capture"]

KEPT_CALLS: Final = 4
"""Whole calls kept of a graph: one for each of as many places in a clip, from different clips."""


@dataclass(frozen=True)
class Call:
    """One run of a graph: its inputs with the states, and what it gave."""

    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class Heard:
    """What was learnt of one graph.

    statistics: by activation. rows: by the layer's output, float32 [n, in]. calls: in clip order.
    runs: how often the graph was run.
    """

    statistics: Mapping[str, TensorStatistics]
    rows: Mapping[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]
    calls: tuple[Call, ...]
    runs: int


class Listener:
    """Takes in every call of one graph.

    outputs: the names of what the graph gives anyway.
    """

    def __init__(self, layers: Sequence[Layer], outputs: Sequence[str]) -> None:
        self._layers = layers
        self._outputs = outputs
        self._rng = np.random.default_rng(0)  # two calibrations of one bundle are to agree
        self._statistics = {
            layer.activation: TensorStatistics(layer.activation, layer.channel_axis)
            for layer in layers
        }
        self._reservoirs = {layer.output: Reservoir(self._rng) for layer in layers}
        self._calls: dict[int, Call] = {}
        self._clip = -1
        self._place = 0
        self._runs = 0

    @property
    def taps(self) -> tuple[str, ...]:
        """The tensors to listen to."""
        return tuple(self._statistics)

    def next_clip(self) -> None:
        """Say that the following calls belong to another clip."""
        self._clip += 1
        self._place = 0

    def watch(self, inputs: Tensors, outputs: Tensors) -> None:
        """Take in one call."""
        seen = {**inputs, **outputs}
        for name, statistics in self._statistics.items():
            statistics.add(seen[name])
        for layer in self._layers:
            rows = sample_rows(layer, seen[layer.activation], self._rng)
            self._reservoirs[layer.output].add(rows)
        self._keep(inputs, outputs)
        self._place += 1
        self._runs += 1

    def heard(self) -> Heard:
        """Return what was learnt so far."""
        return Heard(
            statistics=dict(self._statistics),
            rows={name: reservoir.rows for name, reservoir in self._reservoirs.items()},
            calls=tuple(self._calls[place] for place in sorted(self._calls)),
            runs=self._runs,
        )

    def _keep(self, inputs: Tensors, outputs: Tensors) -> None:
        if self._place >= KEPT_CALLS:
            return
        # Each from another clip, as long as there are clips enough.
        if self._place not in self._calls or self._clip == self._place:
            plain = {name: outputs[name] for name in self._outputs}
            self._calls[self._place] = Call(dict(inputs), plain)


def capture(
    stage: Stage,
    graphs: Mapping[Role, tuple[ModelProto, GraphSpec, Sequence[Layer]]],
    shots: Sequence[Shot],
    tell: Callable[[int], None],
) -> dict[Role, Heard]:
    """Make the shots and return what was heard in each graph.

    tell: called with the number of clips made, after each.
    """
    listeners = {
        role: Listener(layers, [tensor.name for tensor in spec.outputs])
        for role, (_, spec, layers) in graphs.items()
    }
    engines: dict[Role, Engine] = {
        role: ModelEngine(model, spec, taps=listeners[role].taps, watch=listeners[role].watch)
        for role, (model, spec, _) in graphs.items()
    }
    for done, shot in enumerate(shots, start=1):
        for listener in listeners.values():
            listener.next_clip()
        for _ in stage.play(engines, [shot]):
            tell(done)
    return {role: listener.heard() for role, listener in listeners.items()}
