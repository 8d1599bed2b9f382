"""Graphs on the processor, by ONNX Runtime: the backend that every installation has."""

from __future__ import annotations

import logging
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal

from animatic.engine.contract import GraphInputs
from animatic.engine.cores import usable_cores
from animatic.engine.untracked import import_onnxruntime
from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

    from animatic.bundle import GraphSpec, TensorSpec
    from animatic.engine.protocol import Tensors

    Level = Literal["basic", "extended", "all"]

__all__ = ["OnnxRuntimeEngine", "load_session"]

_log = logging.getLogger(__name__)

_MEND: Final = "run `animatic inspect BUNDLE --verify` or reinstall animatic"
_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}
_SEVERITY_ERROR: Final = 3  # ONNX Runtime prints warnings to stderr; only the CLI prints
_NARROW: Final = frozenset({"bf16-weights", "fp16-weights"})
_WITHOUT_FOLDING: Final = ("optimization.disable_specified_optimizers", "ConstantFolding")
WIDENED_AT_LOAD: Final = 1 << 30
"""Bytes of 16-bit weights up to which they are widened to float32 once, when they are loaded.

ONNX Runtime folds constants, and so holds such weights in float32. Of larger ones each is widened
as it is used, and they stay in their file, which is mapped. For 32 matrices of 4096x4096 in
bfloat16 that is 0.14 GiB and the file's pages instead of 2.05 GiB, no time to load instead of 4.4
seconds of one core, and 1.5 seconds of one core more in every run, however long that is (of 32
tokens 2.8 instead of 1.3, of 128 tokens 5.7 instead of 4.2; ONNX Runtime 1.32.0). The results are
the same bits.
"""


class OnnxRuntimeEngine:
    """One graph in one session of ONNX Runtime's CPU provider."""

    def __init__(
        self,
        graph_path: Path,
        spec: GraphSpec,
        *,
        threads: int | None = None,
        optimisation: Level = "all",
    ) -> None:
        """Load a graph.

        threads: how many to compute with; never more than the cores this process may use, which
        is also what None takes. optimisation: which rewritings of the graph ONNX Runtime may do;
        "basic" leaves out its fused 8-bit kernels, which saturate on processors without VNNI.
        EngineError if the file is missing, is not a graph, or is not the graph that the spec
        describes.
        """
        onnxruntime = import_onnxruntime()

        if threads is not None and threads < 1:
            raise EngineError("A graph cannot run on fewer than one thread; ask for at least 1.")
        cores = usable_cores()
        self.spec = spec
        self.threads: Final = cores if threads is None else min(threads, cores)
        self._name = graph_path.name
        self._inputs = GraphInputs(spec)
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = {
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[optimisation]
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # The threads spin within a run (without, a run takes 7 % longer: 2 cores, 12 convolutions
        # of 64 channels at 48x80, p50 of 120) and not after it, when the cores are someone else's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.use_deterministic_compute = True
        provider = ("CPUExecutionProvider", dict[str, str]())
        self._session: InferenceSession | None = load_session(graph_path, spec, options, [provider])
        self._output_names = [tensor.name for tensor in spec.outputs]
        _log.debug("loaded %s on %d threads", graph_path, self.threads)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run the graph once; see `Engine.run`."""
        if self._session is None:
            raise EngineError(f"The graph {self._name} is closed; open the pipeline again.")
        complete = self._inputs.complete(inputs)
        try:
            arrays = self._session.run(self._output_names, complete)
        except Exception as error:  # ONNX Runtime has a dozen exceptions without a common base
            raise EngineError(
                f"The graph {self._name} failed while running ({_first_line(error)}); {_MEND}."
            ) from error
        return self._inputs.keep(dict(zip(self._output_names, arrays, strict=True)))

    def reset(self) -> None:
        """Forget the state."""
        self._inputs.forget()

    def close(self) -> None:
        """Free the session."""
        self._inputs.forget()
        self._session = None


def load_session(
    path: Path,
    spec: GraphSpec,
    options: SessionOptions,
    providers: Sequence[tuple[str, Mapping[str, str]]],
) -> InferenceSession:
    """Load a graph for the first of the providers that takes it, and hold it to its spec.

    EngineError as for `OnnxRuntimeEngine`.
    """
    onnxruntime = import_onnxruntime()

    options.log_severity_level = _SEVERITY_ERROR
    try:
        missing = not path.is_file()
        if not missing and _narrow_bytes(path, spec) > WIDENED_AT_LOAD:
            options.add_session_config_entry(*_WITHOUT_FOLDING)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise EngineError(
            f"The graph {path} cannot be read ({error.strerror}); {_MEND}."
        ) from error
    if missing:
        raise EngineError(f"The graph {path} is missing; {_MEND}.")
    try:
        # Without its own fall-back, which prints, and goes on with another provider.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=list(providers), enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime has a dozen exceptions without a common base
        _log.debug("ONNX Runtime refused %s", path, exc_info=True)
        if "CUDA" in str(error):
            raise EngineError(
                f"ONNX Runtime cannot use the GPU ({_first_line(error)}); look at `nvidia-smi`, or "
                "render with --device cpu."
            ) from error
        raise EngineError(
            f"The graph {path.name} is truncated or not an ONNX file; {_MEND}."
        ) from error
    _check_declared(path.name, "input", session.get_inputs(), spec.inputs)
    _check_declared(path.name, "output", session.get_outputs(), spec.outputs)
    return session


def _narrow_bytes(path: Path, spec: GraphSpec) -> int:
    """Bytes of a graph that stores its weights in 16 bits, external data included; else 0."""
    if spec.precision not in _NARROW:
        return 0
    beside = (path.with_name(PurePosixPath(data.file).name) for data in spec.external_data)
    return sum(file.stat().st_size for file in (path, *beside) if file.is_file())


def _check_declared(
    name: str, side: str, actual: Sequence[NodeArg], declared: Sequence[TensorSpec]
) -> None:
    """Refuse a graph that is not the one of bundle.json: names, dtypes, ranks, sizes."""
    found = {node.name: (_DTYPES.get(node.type, node.type), node.shape) for node in actual}
    for tensor in declared:
        dtype, shape = found.pop(tensor.name, ("absent", []))
        same = dtype == tensor.dtype and len(shape) == len(tensor.shape)
        if not same or any(
            isinstance(inside, int) and isinstance(outside, int) and inside != outside
            for inside, outside in zip(shape, tensor.shape, strict=True)
        ):
            raise EngineError(
                f"The graph {name} does not have the {side} {tensor.name} that bundle.json "
                f"describes ({tensor.dtype} {list(tensor.shape)}); export the bundle again."
            )
    if found and side == "input":
        raise EngineError(
            f"The graph {name} has the input {min(found)}, which bundle.json does not describe; "
            "export the bundle again."
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
