"""CUDA's calls for memory, streams and graphs, done in host memory, with a ledger of what is held.

What is queued on a stream happens when the stream is synchronised and not before, so that whoever
forgets to wait reads old bytes. It stands in for the memory of a GPU, not for what computes there.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]

POISON = 0xA5  # fresh memory is not zeros


class HostCuda:
    """Takes the place of `animatic.engine.cuda.call`.

    held: what was taken and not given back: the call that took it, by handle.
    calls: how often each was made. fail: raises instead of the call of that number, from 0.
    """

    def __init__(self) -> None:
        self.held: dict[int, str] = {}
        self.calls: Counter[str] = Counter()
        self.fail: tuple[int, Exception] | None = None
        self._memory: dict[int, ctypes.Array[ctypes.c_uint8]] = {}
        self._queue: list[Work] = []
        self._recording: list[Work] | None = None
        self._graphs: dict[int, list[Work]] = {}
        self._handles = count(1)

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        number = sum(self.calls.values())
        self.calls[name] += 1
        if self.fail is not None and self.fail[0] == number:
            raise self.fail[1]
        result = getattr(self, f"_{name}")(*arguments)
        return () if result is None else (result,)

    def queue(self, work: Work) -> None:
        (self._queue if self._recording is None else self._recording).append(work)

    def _take(self, name: str, handle: int) -> int:
        assert handle not in self.held
        self.held[handle] = name
        return handle

    def _give(self, name: str, handle: int) -> None:
        assert self.held.pop(handle, None) == name, f"{handle} was not held by {name}"

    def _cudaMalloc(self, size: int, name: str = "cudaMalloc") -> int:  # noqa: N802
        assert self._recording is None, "CUDA does not permit allocations during capture"
        memory = (ctypes.c_uint8 * size)(*([POISON] * size))
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        return self._take(name, address)

    def _cudaFree(self, address: int, name: str = "cudaMalloc") -> None:  # noqa: N802
        self._give(name, address)
        del self._memory[address]

    def _cudaMallocHost(self, size: int) -> int:  # noqa: N802
        return self._cudaMalloc(size, "cudaMallocHost")

    def _cudaFreeHost(self, address: int) -> None:  # noqa: N802
        self._cudaFree(address, "cudaMallocHost")

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:  # noqa: N802
        assert flags == 1
        return self._take("stream", next(self._handles))

    def _cudaStreamDestroy(self, stream: int) -> None:  # noqa: N802
        self._give("stream", stream)

    def _cudaMemcpyAsync(  # noqa: N802, CUDA's own
        self, target: int, source: int, size: int, kind: object, stream: int
    ) -> None:
        assert kind is not None
        assert self.held[stream] == "stream"
        assert size <= len(self._memory[target])
        assert size <= len(self._memory[source])
        self.queue(partial(ctypes.memmove, target, source, size))

    def _cudaMemsetAsync(self, target: int, value: int, size: int, stream: int) -> None:  # noqa: N802
        assert self.held[stream] == "stream"
        assert size <= len(self._memory[target])
        self.queue(partial(ctypes.memset, target, value, size))

    def _cudaStreamSynchronize(self, stream: int) -> None:  # noqa: N802
        assert self.held[stream] == "stream"
        assert self._recording is None, "a stream that captures cannot be waited for"
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def _cudaStreamBeginCapture(self, stream: int, _mode: object) -> None:  # noqa: N802
        assert self.held[stream] == "stream"
        assert self._recording is None
        self._recording = []

    def _cudaStreamEndCapture(self, _stream: int) -> int:  # noqa: N802
        assert self._recording is not None
        handle = self._take("graph", next(self._handles))
        self._graphs[handle], self._recording = self._recording, None
        return handle

    def _cudaGraphDestroy(self, graph: int) -> None:  # noqa: N802
        self._give("graph", graph)
        del self._graphs[graph]

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> int:  # noqa: N802
        assert flags == 0
        handle = self._take("executable", next(self._handles))
        self._graphs[handle] = self._graphs[graph]
        return handle

    def _cudaGraphExecDestroy(self, executable: int) -> None:  # noqa: N802
        self._give("executable", executable)
        del self._graphs[executable]

    def _cudaGraphLaunch(self, executable: int, stream: int) -> None:  # noqa: N802
        assert self.held[stream] == "stream"
        for work in self._graphs[executable]:
            self.queue(work)


def refused() -> EngineError:
    return EngineError("refused for a test")
