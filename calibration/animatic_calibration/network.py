"""One graph on its way through calibration: float layers in, any choice of narrow ones out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from animatic_calibration.engine import ModelEngine
from animatic_calibration.layers import survey, to_matrix
from animatic_calibration.quantise import quantise
from animatic_calibration.smoothing import apply_smoothing, groups
from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto

    from animatic.bundle import GraphSpec
    from animatic_calibration.formats import Format
    from animatic_calibration.layer_error import Smoothing
    from animatic_calibration.layers import Layer

__all__ = ["Network", "Unit"]


@dataclass(frozen=True)
class Unit:
    """Layers that share an activation, quantised or left together; named for the first."""

    name: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A typed float16 graph, its layers, and how they are to be smoothed.

    smoothing: by activation of the unsmoothed graph. weights: where the graph's are.
    """

    spec: GraphSpec
    model: ModelProto
    layers: tuple[Layer, ...]
    left_out: Mapping[str, str]
    smoothing: Mapping[str, Smoothing]
    weights: Weights = IN_GRAPH

    @property
    def units(self) -> tuple[Unit, ...]:
        """What can be left in float16 by itself."""
        return tuple(
            Unit(group[0].name, tuple(layer.output for layer in group))
            for group in groups(self.layers).values()
        )

    def matrices(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Every layer's weight by its output, float32 [in, out]; each made when it is looked up."""
        return _Matrices(self)

    def smoothed(self, outputs: Collection[str] | None = None) -> Network:
        """Return the float graph with the layers of these outputs (None: all) smoothed."""
        chosen = [layer for layer in self.layers if outputs is None or layer.output in outputs]
        factors = {name: smoothing.factors for name, smoothing in self.smoothing.items()}
        model = apply_smoothing(self.model, chosen, factors, self.weights)
        found = survey(model, self.weights)
        return replace(self, model=model, layers=found.layers, smoothing={})

    def quantised(
        self, outputs: Collection[str], amax: Mapping[str, float], format_: Format
    ) -> ModelProto:
        """Return the graph with the layers of these outputs quantised, smoothed before.

        amax: by a layer's output, where its activation is clipped.
        """
        base = self.smoothed(outputs)
        chosen = [layer for layer in base.layers if layer.output in outputs]
        ranges = {layer.activation: amax[layer.output] for layer in chosen}
        return quantise(base.model, chosen, ranges, format_, self.weights)

    def engine(
        self, outputs: Collection[str], amax: Mapping[str, float], format_: Format
    ) -> ModelEngine:
        """Open what `quantised` gives."""
        return ModelEngine(self.quantised(outputs, amax, format_), self.spec, weights=self.weights)


class _Matrices(Mapping[str, "npt.NDArray[np.float32]"]):
    def __init__(self, network: Network) -> None:
        self._layers = {layer.output: layer for layer in network.layers}
        self._tensors = {tensor.name: tensor for tensor in network.model.graph.initializer}
        self._weights = network.weights

    def __getitem__(self, output: str) -> npt.NDArray[np.float32]:
        layer = self._layers[output]
        return to_matrix(layer, self._weights.array(self._tensors[layer.weight]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
