"""Engines for one card: plans of TensorRT 10.3 to 11 and of TensorRT-RTX, run without torch."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from animatic.engine.cuda import DeviceBuffer, probe
from animatic.engine.kernels import KernelCache, kernel_folder
from animatic.engine.plan import build_command, load_plan
from animatic.engine.resident import ResidentGraph
from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from animatic.bundle import EngineEntry, GraphSpec
    from animatic.engine.cuda import Stream
    from animatic.engine.plan import LoadedPlan, Messages
    from animatic.engine.protocol import Tensors
    from animatic.engine.resident import Bound

    Shape = tuple[int, ...]

__all__ = ["TensorRtEngine"]

_log = logging.getLogger(__name__)


class TensorRtEngine:
    """One graph, compiled for this machine's GPU; its states never leave it."""

    def __init__(self, plan_path: Path, spec: GraphSpec, entry: EngineEntry) -> None:
        """Load a plan and take all memory that it will need.

        spec: the graph that the plan was compiled from. EngineError, with nothing kept, if the
        plan is missing, truncated, or of another version, graph or GPU; if there is no driver, no
        GPU, or too little memory.
        """
        self.spec = spec
        self._name = plan_path.name
        self._closed = False
        with contextlib.ExitStack() as stack:
            loaded = load_plan(plan_path, spec, entry)
            contexts = _Contexts(loaded, entry)
            stack.callback(contexts.close)
            self._graph = ResidentGraph(spec, entry.profile, contexts, build_command(entry))
            stack.callback(self._graph.close)  # the contexts' bindings go before the contexts
            self._resources = stack.pop_all()
        _log.debug("loaded %s by %s %s", plan_path, entry.backend, entry.backend_version)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run the graph once; see `Engine.run`. DeviceLostError if the GPU fails."""
        if self._closed:
            raise EngineError(f"The engine {self._name} is closed; open the pipeline again.")
        return self._graph.run(inputs)

    def reset(self) -> None:
        """Forget the state."""
        self._graph.forget()

    def close(self) -> None:
        """Give everything back."""
        self._closed = True
        self._resources.close()


class _Contexts:
    """Execution contexts of one plan: a Program, in the words of `ResidentGraph`.

    A captured graph is tied to the context that it was captured from, so every binding has a
    context of its own. As they run one after the other, they share one block of working memory.
    """

    def __init__(self, loaded: LoadedPlan, entry: EngineEntry) -> None:
        self._trt, self._messages = loaded.module, loaded.messages
        self._runtime, self._engine = loaded.runtime, loaded.engine
        self._entry = entry
        self._config: Any = None
        self._kernels: KernelCache | None = None
        self._first: Any = None
        # TensorRT-RTX captures by itself, and only it knows when: until the kernels for a shape
        # are compiled, in the background, it runs slower ones, which a capture from outside would
        # keep for good.
        self._rtx: Final = entry.backend == "tensorrt_rtx"
        self._memory = DeviceBuffer(int(self._engine.device_memory_size_v2))
        try:
            if self._rtx:
                self._configure()
            self._first = self._context()
        except BaseException:
            self.close()
            raise

    def bind(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> Bound:
        """Make a context for these shapes and addresses; see `Program`."""
        context = self._context()
        name = self._entry.file
        for tensor, shape in shapes.items():
            if not context.set_input_shape(tensor, shape):
                raise self._refused(f"the shape {list(shape)} for {tensor}")
        for tensor, address in addresses.items():
            if not context.set_tensor_address(tensor, address):
                raise self._refused(f"the address of {tensor}")
        unknown = context.infer_shapes()
        if unknown:
            raise EngineError(
                f"The engine {name} has shapes that depend on the values of {unknown[0]}; export "
                "the bundle again without."
            )
        return _BoundContext(context, self._messages, name, capturable=not self._rtx)

    def largest_output(self, name: str) -> int:
        """Return how many bytes an output can have in the profile."""
        size = int(self._first.get_max_output_size(name))
        if size < 0:
            raise self._refused(f"to say how large {name} can be")
        return size

    def close(self) -> None:
        """Keep the compiled kernels and free everything, what was made last first."""
        if self._kernels is not None:
            self._kernels.save()
        self._first = self._config = self._kernels = None
        self._engine = None
        self._runtime = None
        self._memory.close()

    def _configure(self) -> None:
        self._config = self._engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if hasattr(self._trt, "CudaGraphStrategy"):  # from TensorRT-RTX 1.2 on
            self._config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        file = kernel_folder() / f"{self._entry.sha256[:32]}.cache"
        self._kernels = KernelCache(self._config.create_runtime_cache(), file)
        self._config.set_runtime_cache(self._kernels.cache)

    def _context(self) -> Any:  # noqa: ANN401, the library is untyped
        managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        # By position: the two libraries call this argument differently.
        context = self._engine.create_execution_context(self._config if self._rtx else managed)
        if context is None:
            raise self._refused("a context")
        context.set_device_memory(self._memory.address, self._memory.size)
        return context

    def _refused(self, what: str) -> EngineError:
        """The error for what TensorRT would not do; DeviceLostError if the GPU is to blame."""
        said = self._messages.take().splitlines()
        probe()
        return EngineError(
            f"The engine {self._entry.file} refused {what} ({said[0][:200] if said else '-'}); "
            f"{build_command(self._entry)}."
        )


class _BoundContext:
    """A context that is set up for good: a Bound, in the words of `ResidentGraph`."""

    def __init__(self, context: Any, messages: Messages, name: str, *, capturable: bool) -> None:  # noqa: ANN401
        self.capturable = capturable
        self._context = context
        self._messages = messages
        self._name = name

    def enqueue(self, stream: Stream) -> None:
        """Queue one run."""
        if not self._context.execute_async_v3(stream.handle):
            # Where the GPU has failed, the next call to it says so better.
            said = self._messages.take().splitlines()
            stream.synchronise()
            raise EngineError(
                f"The engine {self._name} failed while running "
                f"({said[0][:200] if said else 'no reason given'}); run `animatic verify BUNDLE`."
            )

    def output_shape(self, name: str) -> Shape:
        """Return an output's shape with the bound inputs."""
        return tuple(self._context.get_tensor_shape(name))

    def close(self) -> None:
        """Free the context."""
        self._context = None
