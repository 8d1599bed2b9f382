"""Running a program whose tensors lie at fixed places on a GPU, whichever library computes it.

Everything is taken once, for the largest sizes of the profile: a buffer on the GPU for every
tensor, pinned host memory for those that callers see, two buffers for each state, one stream.
States never cross to the host.

A program is bound once for every set of shapes and each of the two places its states can be in, and
what was bound is kept: then nothing about it changes from run to run, and the whole of it, copies
included, becomes one CUDA graph.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from animatic.engine.contract import InputCheck
from animatic.engine.cuda import DeviceBuffer, Graph, PinnedBuffer, Stream
from animatic.engine.states import PingPong, largest_bytes
from animatic.errors import DeviceLostError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.bundle import AxisRange, GraphSpec, TensorSpec
    from animatic.engine.protocol import Tensors

    Shape = tuple[int, ...]

__all__ = ["Bound", "Program", "ResidentGraph"]

_log = logging.getLogger(__name__)

SLOTS: Final = 8
"""How many bindings are kept: four sets of shapes with both places of the states."""


class Bound(Protocol):
    """A program bound for good to shapes and addresses.

    capturable: whether its work may be captured into a CUDA graph from outside.
    """

    capturable: bool

    def enqueue(self, stream: Stream) -> None:
        """Queue one run; EngineError if the library refuses."""
        ...

    def output_shape(self, name: str) -> Shape:
        """Return the shape that an output has with the bound inputs."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Program(Protocol):
    """What can be bound."""

    def bind(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> Bound:
        """Bind every input's shape and the address of every tensor; EngineError if refused."""
        ...

    def largest_output(self, name: str) -> int:
        """Return how many bytes an output can have at most."""
        ...


class ResidentGraph:
    """The buffers of one graph and its runs; the engines on a GPU stand on it."""

    def __init__(
        self, spec: GraphSpec, profile: tuple[AxisRange, ...], program: Program, mend: str
    ) -> None:
        """Take all memory at once; EngineError if the GPU has too little, with none of it kept.

        mend: the clause that names the command which makes an engine for other sizes.
        """
        self._spec, self._profile, self._program, self._mend = spec, profile, program, mend
        self._check = InputCheck(spec)
        self._states = PingPong(self._check)
        self._slots: OrderedDict[object, _Slot] = OrderedDict()
        self._under_way = False
        self._outputs = [t for t in spec.outputs if t.name not in self._check.pairs]
        with contextlib.ExitStack() as stack:
            self._stream = Stream()
            stack.callback(self._stream.close)
            self._device: dict[str, DeviceBuffer] = {}
            self._pinned: dict[str, PinnedBuffer] = {}
            self._pairs: dict[str, tuple[DeviceBuffer, DeviceBuffer]] = {}
            for tensor in (*self._check.given.values(), *self._outputs):
                size = self._largest(tensor)
                self._device[tensor.name] = device = DeviceBuffer(size)
                stack.callback(device.close)
                self._pinned[tensor.name] = pinned = PinnedBuffer(size)
                stack.callback(pinned.close)
            outputs = {tensor.name: tensor for tensor in spec.outputs}
            for output, state in self._check.pairs.items():
                size = max(self._largest(self._check.states[state]), self._largest(outputs[output]))
                first = DeviceBuffer(size)
                stack.callback(first.close)
                second = DeviceBuffer(size)
                stack.callback(second.close)
                self._pairs[state] = (first, second)
            stack.callback(self._drop_slots)  # first to go: slots point into the buffers
            self._resources = stack.pop_all()

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run once; see `Engine.run`."""
        arrays, axes = self._check.arrays(inputs)
        shapes = {name: array.shape for name, array in arrays.items()}
        self._within_profile(axes)
        shapes |= self._states.shapes(axes)
        if self._under_way:  # an interrupted run may still be reading what is written below
            self._stream.synchronise()
        slot = self._slot(shapes)
        for name, array in arrays.items():
            self._pinned[name].view(array.dtype.name, array.shape)[...] = array
        self._under_way = True
        if self._states.fresh:
            for pair in self._pairs.values():
                self._stream.zero(pair[self._states.parity])
        slot.go()
        self._stream.synchronise()
        self._under_way = False
        self._states.advance(slot.outputs)
        return {
            t.name: self._pinned[t.name].view(t.dtype, slot.outputs[t.name]).copy()
            for t in self._outputs
        }

    def forget(self) -> None:
        """Forget the states: the next run makes them zeros."""
        self._states.forget()

    def close(self) -> None:
        """Free everything; closing twice is allowed."""
        if self._under_way:
            with contextlib.suppress(EngineError):
                self._stream.synchronise()
        self._resources.close()

    def _slot(self, shapes: Mapping[str, Shape]) -> _Slot:
        key = (tuple(sorted(shapes.items())), self._states.parity)
        slot = self._slots.get(key)
        if slot is None:
            while len(self._slots) >= SLOTS:
                _, oldest = self._slots.popitem(last=False)
                oldest.close()
            slot = self._bind(shapes)
            self._slots[key] = slot
        self._slots.move_to_end(key)
        return slot

    def _bind(self, shapes: Mapping[str, Shape]) -> _Slot:
        addresses = {name: buffer.address for name, buffer in self._device.items()}
        parity = self._states.parity
        for output, state in self._check.pairs.items():
            addresses[state] = self._pairs[state][parity].address
            addresses[output] = self._pairs[state][1 - parity].address
        bound = self._program.bind(shapes, addresses)
        try:
            outputs = {t.name: tuple(bound.output_shape(t.name)) for t in self._spec.outputs}
            up = [self._copy(t, shapes[t.name]) for t in self._check.given.values()]
            down = [self._copy(tensor, outputs[tensor.name]) for tensor in self._outputs]
        except BaseException:
            bound.close()
            raise
        return _Slot(self._stream, bound, outputs, up, down)

    def _copy(self, tensor: TensorSpec, shape: Shape) -> _Copy:
        device, pinned = self._device[tensor.name], self._pinned[tensor.name]
        size = np.dtype(tensor.dtype).itemsize * math.prod(shape)
        if size > device.size:
            raise EngineError(
                f"{tensor.name} of the {self._spec.role} has {size:,} bytes and the engine was "
                f"built for {device.size:,} at most; {self._mend}."
            )
        return device, pinned, size

    def _largest(self, tensor: TensorSpec) -> int:
        size = largest_bytes(tensor, self._profile)
        return self._program.largest_output(tensor.name) if size is None else size

    def _within_profile(self, axes: Mapping[str, int]) -> None:
        for axis in self._profile:
            size = axes.get(axis.axis)
            if size is not None and not axis.minimum <= size <= axis.maximum:
                raise EngineError(
                    f"The engine of the {self._spec.role} was built for {axis.minimum} to "
                    f"{axis.maximum} {axis.axis} and is given {size}; choose another size, or "
                    f"{self._mend} with a bundle that offers it."
                )

    def _drop_slots(self) -> None:
        while self._slots:
            self._slots.popitem()[1].close()


_Copy = tuple[DeviceBuffer, PinnedBuffer, int]


class _Slot:
    """A bound program with its copies; from its second run on, one CUDA graph if that can be."""

    def __init__(
        self,
        stream: Stream,
        bound: Bound,
        outputs: dict[str, Shape],
        up: list[_Copy],
        down: list[_Copy],
    ) -> None:
        self.outputs: Final = outputs
        self._stream, self._bound, self._up, self._down = stream, bound, up, down
        self._graph: Graph | None = None
        # The first run does what must not be captured: the library's own allocations and set-up.
        self._warm = False
        self._capture = bound.capturable

    def go(self) -> None:
        """Queue the copies to the GPU, the run, and the copies back."""
        if self._graph is None and self._warm and self._capture:
            self._capture = False  # once: what cannot be captured now cannot be later
            try:
                self._graph = self._stream.capture(self._queue)
            except DeviceLostError:
                raise
            except EngineError as error:
                _log.info("runs without a CUDA graph: %s", error)
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._queue()
            self._warm = True

    def close(self) -> None:
        """Free the graph before what it was captured from."""
        if self._graph is not None:
            self._graph.close()
        self._bound.close()

    def _queue(self) -> None:
        for device, pinned, size in self._up:
            self._stream.upload(device, pinned, size)
        self._bound.enqueue(self._stream)
        for device, pinned, size in self._down:
            self._stream.download(pinned, device, size)
