"""Real activations: clips are made through the pipeline while the graphs are listened to.

Every call counts, at every sampler step and of every latent frame. What is kept is bounded: peaks
and a histogram for each tensor, a sample of rows for each layer, and a handful of whole calls. Of a
costly model (`effort`) only the peaks and the rows are kept, which tell what smoothing will do too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_calibration.engine import ModelEngine
from animatic_calibration.rows import Reservoir, sample_rows
from animatic_calibration.smoothing import groups
from animatic_calibration.statistics import TensorStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.engine.protocol import Tensors
    from animatic.shot import Shot
    from animatic_calibration.clips import Stage
    from animatic_calibration.layer_error import Matrix, Rows
    from animatic_calibration.layers import Layer
    from animatic_calibration.network import Network

__all__ = ["Call", "Heard", "Listener", "capture"]

KEPT_CALLS: Final = 4
"""Whole calls kept of a graph: one for each of as many places in a clip, from different clips."""


@dataclass(frozen=True)
class Call:
    """One run of a graph: its inputs with the states."""

    inputs: Tensors


@dataclass(frozen=True)
class Heard:
    """What was learnt of one graph.

    statistics: by activation. rows: by the layer's output, float16 [n, in]. calls: in clip order.
    runs: how often the graph was run.
    """

    statistics: Mapping[str, TensorStatistics]
    rows: Mapping[str, Rows]
    calls: tuple[Call, ...]
    runs: int

    def smoothed(self, network: Network, smooth: Network) -> Heard:
        """Return what would have been heard of a network when it is smoothed, without listening.

        network: what was heard, and how it is smoothed. smooth: the same, smoothed.
        """
        read = {layer.output: layer.activation for layer in smooth.layers}
        statistics: dict[str, TensorStatistics] = {}
        rows: dict[str, Rows] = {}
        for activation, group in groups(network.layers).items():
            before = self.statistics[activation]
            smoothing = network.smoothing.get(activation)
            factors = smoothing.factors if smoothing else np.ones_like(before.channel_amax)
            samples: list[Matrix] = []
            for layer in group:
                sample: Matrix = self.rows[layer.output].astype(np.float32)
                sample /= np.repeat(factors, sample.shape[1] // len(factors))
                samples.append(sample)
                rows[layer.output] = sample.astype(np.float16)  # as it is in the graph
            statistics[read[group[0].output]] = before.divided(factors, samples)
        return Heard(statistics, rows, (), self.runs)


class Listener:
    """Takes in every call of one graph.

    whole: whether histograms and whole calls are kept too.
    """

    def __init__(self, layers: Sequence[Layer], *, whole: bool = True) -> None:
        self._layers = layers
        self._whole = whole
        self._rng = np.random.default_rng(0)  # two calibrations of one bundle are to agree
        self._statistics = {
            layer.activation: TensorStatistics(layer.activation, layer.channel_axis, counted=whole)
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
        self._keep(inputs)
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

    def _keep(self, inputs: Tensors) -> None:
        if self._place >= KEPT_CALLS or not self._whole:
            return
        # Each from another clip, as long as there are clips enough.
        if self._place not in self._calls or self._clip == self._place:
            self._calls[self._place] = Call(dict(inputs))


def capture(
    stage: Stage,
    networks: Mapping[Role, Network],
    shots: Sequence[Shot],
    tell: Callable[[int], None],
    *,
    others: Mapping[Role, Engine] | None = None,
    whole: bool = True,
) -> dict[Role, Heard]:
    """Make the shots and return what was heard in each network.

    tell: called with the number of clips made, after each. others: engines that play beside the
        networks. whole: as in `Listener`.
    """
    listeners = {role: Listener(n.layers, whole=whole) for role, n in networks.items()}
    listening: dict[Role, Engine] = {
        role: ModelEngine(
            network.model,
            network.spec,
            taps=listeners[role].taps,
            watch=listeners[role].watch,
            weights=network.weights,
        )
        for role, network in networks.items()
    }
    engines = {**(others or {}), **listening}
    for done, shot in enumerate(shots, start=1):
        for listener in listeners.values():
            listener.next_clip()
        for _ in stage.play(engines, [shot]):
            tell(done)
    return {role: listener.heard() for role, listener in listeners.items()}
