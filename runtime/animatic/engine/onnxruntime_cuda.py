"""Graphs on an NVIDIA GPU, by ONNX Runtime's CUDA provider: no plan is needed, any card will do.

Inputs, outputs and states are OrtValues at fixed places on the GPU, bound once for every set of
shapes and each of the two places that the states can be in; so ONNX Runtime can replay the run as a
CUDA graph. States never cross to the host.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from animatic.engine.contract import InputCheck
from animatic.engine.cuda import LOST
from animatic.engine.onnxruntime import load_session
from animatic.engine.states import PingPong
from animatic.engine.untracked import import_onnxruntime
from animatic.errors import DeviceLostError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnxruntime

    from animatic.bundle import GraphSpec
    from animatic.engine.protocol import Tensors

    Shape = tuple[int, ...]
    _Pair = tuple[dict[str, onnxruntime.OrtValue], dict[str, onnxruntime.OrtValue]]

__all__ = ["OnnxRuntimeCudaEngine"]

_log = logging.getLogger(__name__)

SLOTS: Final = 8
"""How many bindings, and CUDA graphs, a session keeps; ONNX Runtime cannot drop a graph again."""
SIZES: Final = 4
"""Of how many sizes the places of the states are kept."""
_WITHOUT: Final = (
    "runs without its CUDA provider; pip install onnxruntime-gpu in the place of onnxruntime, with "
    "the CUDA and cuDNN that it asks for, or render with --device cpu."
)
_WARNING: Final = 2  # ONNX Runtime's severities; this one is its default
_FATAL: Final = 4
_NO_GRAPH: Final = "-1"  # ONNX Runtime's own name for "do not capture this run"


class OnnxRuntimeCudaEngine:
    """One graph in one session of ONNX Runtime's CUDA provider."""

    PROVIDER: ClassVar[str] = "CUDAExecutionProvider"
    DEVICE: ClassVar[str] = "cuda"
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "use_tf32": "0",  # float32 means float32: TF32 keeps 10 bits of its 23
    }
    """What the provider is told; a CUDA graph is asked for besides."""

    def __init__(self, graph_path: Path, spec: GraphSpec) -> None:
        """Load a graph; EngineError if it is not the spec's, or if there is no CUDA for it."""
        self.spec = spec
        self._name = graph_path.name
        self._check = InputCheck(spec)
        self._states = PingPong(self._check)
        self._slots: OrderedDict[object, _Slot] = OrderedDict()
        self._pairs: dict[object, _Pair] = {}
        self._captured = 0
        self._captures = False
        self._session: onnxruntime.InferenceSession | None = self._load(graph_path)
        _log.debug("loaded %s by %s, CUDA graphs %s", graph_path, self.PROVIDER, self._captures)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run the graph once; see `Engine.run`. DeviceLostError if the GPU fails."""
        session = self._session
        if session is None:
            raise EngineError(f"The graph {self._name} is closed; open the pipeline again.")
        arrays, axes = self._check.arrays(inputs)
        states = self._states.shapes(axes)
        shapes = {name: array.shape for name, array in arrays.items()} | states
        try:
            slot = self._slot(session, shapes)
            if self._states.fresh:
                for name, shape in states.items():
                    slot.inputs[name].update_inplace(
                        np.zeros(shape, dtype=self._check.states[name].dtype)
                    )
            for name, array in arrays.items():
                slot.inputs[name].update_inplace(array)
            outputs = self._go(session, slot)
            given = {
                name: _on_host(value)
                for name, value in outputs.items()
                if name not in self._check.pairs
            }
        except EngineError:
            raise
        except Exception as error:  # ONNX Runtime has a dozen exceptions without a common base
            raise self._failure(error) from error
        self._states.advance({name: tuple(value.shape()) for name, value in outputs.items()})
        return given

    def reset(self) -> None:
        """Forget the state."""
        self._states.forget()

    def close(self) -> None:
        """Free the session and what is bound to it."""
        self._slots.clear()
        self._pairs.clear()
        self._session = None

    def _load(self, path: Path) -> onnxruntime.InferenceSession:
        onnxruntime = import_onnxruntime()

        if self.PROVIDER not in onnxruntime.get_available_providers():
            raise EngineError(f"The installed onnxruntime {_WITHOUT}")
        if self.DEVICE == "cuda":
            # It prints what it misses, and its default logger has no other way to be quiet; only
            # the CLI prints.
            onnxruntime.set_default_logger_severity(_FATAL)
            if hasattr(onnxruntime, "preload_dlls"):
                with contextlib.redirect_stdout(io.StringIO()):
                    onnxruntime.preload_dlls()  # CUDA and cuDNN, where pip brought them
        try:
            session = self._open(path)
        finally:
            if self.DEVICE == "cuda":
                onnxruntime.set_default_logger_severity(_WARNING)
        # What it was compiled with counts as available on machines that have no GPU; only the
        # session says what it really uses.
        if self.PROVIDER not in session.get_providers():
            wanted = getattr(onnxruntime, "cuda_version", "") or "of its version"
            raise EngineError(
                f"The libraries of CUDA {wanted} do not load: ONNX Runtime {_WITHOUT}"
            )
        return session

    def _open(self, path: Path) -> onnxruntime.InferenceSession:
        """Open a session that captures CUDA graphs, or one that does not where it refuses to."""
        onnxruntime = import_onnxruntime()

        options = onnxruntime.SessionOptions()
        options.use_deterministic_compute = True
        if self.DEVICE == "cuda":
            provider = (self.PROVIDER, {**self.OPTIONS, "enable_cuda_graph": "1"})
            try:
                session = load_session(path, self.spec, options, [provider])
            except EngineError:  # among others where a node must run on the processor
                _log.debug("%s is tried without CUDA graphs", self._name, exc_info=True)
            else:
                self._captures = True
                return session
        return load_session(path, self.spec, options, [(self.PROVIDER, self.OPTIONS)])

    def _slot(self, session: onnxruntime.InferenceSession, shapes: Mapping[str, Shape]) -> _Slot:
        key = (tuple(sorted(shapes.items())), self._states.parity)
        slot = self._slots.get(key)
        if slot is None:
            while len(self._slots) >= SLOTS:
                self._slots.popitem(last=False)
            slot = self._bind(session, shapes)
            self._slots[key] = slot
        self._slots.move_to_end(key)
        return slot

    def _bind(self, session: onnxruntime.InferenceSession, shapes: Mapping[str, Shape]) -> _Slot:
        """Bind places for the inputs and states; those of the outputs are known after one run."""
        binding = session.io_binding()
        pairs = self._pair_of({name: shapes[name] for name in self._check.states})
        reading, writing = pairs[self._states.parity], pairs[1 - self._states.parity]
        inputs = {t.name: self._value(shapes[t.name], t.dtype) for t in self._check.given.values()}
        inputs |= reading
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for tensor in self.spec.outputs:
            state = self._check.pairs.get(tensor.name)
            if state is None:
                binding.bind_output(tensor.name, self.DEVICE)
            else:
                binding.bind_ortvalue_output(tensor.name, writing[state])
        annotation = _NO_GRAPH
        if self._captures and self._captured < SLOTS:
            self._captured += 1
            annotation = str(self._captured)
        return _Slot(binding, inputs, annotation)

    def _pair_of(self, shapes: Mapping[str, Shape]) -> _Pair:
        """The two places of every state; a run leaves its state at the same size."""
        key = tuple(sorted(shapes.items()))
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= SIZES:  # of sizes that were forgotten: a kept state is found
                self._slots.clear()
                self._pairs.clear()
            specs = self._check.states.values()
            first = {t.name: self._value(shapes[t.name], t.dtype) for t in specs}
            second = {t.name: self._value(shapes[t.name], t.dtype) for t in specs}
            pair = self._pairs[key] = first, second
        return pair

    def _go(
        self, session: onnxruntime.InferenceSession, slot: _Slot
    ) -> dict[str, onnxruntime.OrtValue]:
        onnxruntime = import_onnxruntime()

        options = onnxruntime.RunOptions()
        if self._captures:
            options.add_run_config_entry(
                "gpu_graph_id", slot.annotation if slot.settled else _NO_GRAPH
            )
        session.run_with_iobinding(slot.binding, options)
        slot.binding.synchronize_outputs()
        names = [tensor.name for tensor in self.spec.outputs]
        outputs = dict(zip(names, slot.binding.get_outputs(), strict=True))
        if not slot.settled:
            # From now on they are written to where they were put this time.
            for name, value in outputs.items():
                slot.binding.bind_ortvalue_output(name, value)
            slot.settled = True
        return outputs

    def _value(self, shape: Shape, dtype: str) -> onnxruntime.OrtValue:
        onnxruntime = import_onnxruntime()

        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.dtype(dtype).type, self.DEVICE, 0
        )

    def _failure(self, error: Exception) -> EngineError:
        """Turn an exception of ONNX Runtime into ours; it names CUDA's error by its number."""
        text = str(error).strip().partition("\n")[0][:300]
        code = re.search(r"CUDA (?:failure|error) (\d+)", text)
        if code and int(code[1]) in LOST:
            return DeviceLostError(
                f"The GPU failed under way ({text}); start animatic again, and if it comes back "
                "look at `nvidia-smi` and the system's log, or render with --device cpu."
            )
        return EngineError(
            f"The graph {self._name} failed while running on the GPU ({text}); run `animatic "
            "doctor`, or render with --device cpu."
        )


@dataclass(slots=True)
class _Slot:
    """A binding and what is bound.

    inputs: every input's place, states among them.
    annotation: the name of its CUDA graph. settled: the outputs' places are bound, too.
    """

    binding: onnxruntime.IOBinding
    inputs: dict[str, onnxruntime.OrtValue]
    annotation: str
    settled: bool = False


def _on_host(value: onnxruntime.OrtValue) -> np.ndarray[Any, Any]:
    """Copy to the host; from the GPU numpy() does, in host memory it shares."""
    array: np.ndarray[Any, Any] = value.numpy()
    return array.copy() if array.ctypes.data == value.data_ptr() else array
