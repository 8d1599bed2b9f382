"""The part of TensorRT's Python API that is used on its objects, as both packages have it.

Neither package ships types. All this exists from TensorRT 10.3 and TensorRT-RTX 1.0 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BuilderConfig", "Network", "NetworkLayer", "NetworkTensor"]


class NetworkTensor(Protocol):
    """What is used of TensorRT's ITensor.

    is_shape_tensor: its values, and not only its shape, say how large other tensors are.
    """

    name: str
    dtype: object
    shape: Sequence[int]
    is_shape_tensor: bool


class NetworkLayer(Protocol):
    """What is used of TensorRT's ILayer."""

    name: str
    type: object
    metadata: str
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int) -> NetworkTensor | None:
        """One of the tensors that go in; None where an optional one is left out."""

    def get_output(self, index: int) -> NetworkTensor:
        """One of the tensors that come out."""


class Network(Protocol):
    """What is used of TensorRT's INetworkDefinition."""

    num_layers: int
    num_inputs: int
    num_outputs: int

    def get_layer(self, index: int) -> NetworkLayer:
        """One of the layers, in the order of the graph."""

    def get_input(self, index: int) -> NetworkTensor:
        """One of the tensors that the user gives."""

    def get_output(self, index: int) -> NetworkTensor:
        """One of the tensors that the user gets."""


class BuilderConfig(Protocol):
    """What is used of TensorRT's IBuilderConfig; compute capabilities are TensorRT-RTX's only."""

    num_compute_capabilities: int

    def set_compute_capability(self, capability: object, index: int) -> bool:
        """Build for this card, whatever is in this machine."""

    def create_timing_cache(self, kept: bytes) -> object:
        """Read a timing cache, or make an empty one from no bytes."""

    def set_timing_cache(self, cache: object, *, ignore_mismatch: bool) -> bool:
        """Use a cache; False if it comes from another card or version and is not ignored."""

    def get_timing_cache(self) -> TimingCache:
        """The cache with all that was measured."""


class TimingCache(Protocol):
    """What is used of TensorRT's ITimingCache."""

    def serialize(self) -> memoryview:
        """Its bytes, to be kept."""
