"""A graph in memory on ONNX Runtime, with taps: what capture and every measurement run on.

The runtime's own engine plays files as fast as it can. Here graphs change by the minute, some
outputs are taken out for others to see, and int8 must be computed exactly: ONNX Runtime is told to
treat Q/DQ pairs as the nodes they are, because its fused int8 kernels saturate on processors
without VNNI.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from onnx import ModelProto, helper

from animatic.engine.contract import GraphInputs
from animatic.engine.cores import usable_cores
from animatic.engine.untracked import import_onnxruntime
from animatic.errors import EngineError
from animatic_calibration.weights import IN_GRAPH, Weights
from animatic_calibration.widening import widen_late

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import onnxruntime

    from animatic.bundle import GraphSpec
    from animatic.engine.protocol import Tensors

__all__ = ["ModelEngine", "with_taps"]

_SEVERITY_ERROR: Final = 3
_FOLDER_OF_WEIGHTS: Final = "session.model_external_initializers_file_folder_path"


def with_taps(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """Return a copy of a graph that also gives these tensors, of whatever type they have."""
    tapped = ModelProto()
    tapped.CopyFrom(model)
    present = {value.name for value in tapped.graph.output}
    given = {value.name for value in tapped.graph.input}
    for name in tensors:
        if name not in present | given:
            tapped.graph.output.append(helper.make_empty_tensor_value_info(name))
    return tapped


class ModelEngine:
    """An `Engine` on a graph in memory.

    taps: tensors within the graph that `watch` is shown after every run.
    watch: called with the complete inputs (states among them), the outputs and the taps.
    weights: where the graph's are. Those in files stay there (see `widening`).
    """

    def __init__(
        self,
        model: ModelProto,
        spec: GraphSpec,
        *,
        taps: Sequence[str] = (),
        watch: Callable[[Tensors, Tensors], None] | None = None,
        weights: Weights = IN_GRAPH,
    ) -> None:
        self.spec = spec
        self._inputs = GraphInputs(spec)
        self._outputs = [tensor.name for tensor in spec.outputs]
        self._watch = watch
        self._session = _session(with_taps(model, taps) if taps else model, weights)
        there = {value.name for value in self._session.get_outputs()}
        self._taps = [name for name in taps if name in there and name not in self._outputs]

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run once, show what happened to the watcher, keep the states."""
        complete = self._inputs.complete(inputs)
        outputs = self.run_complete(complete)
        if self._watch:
            self._watch(complete, outputs)
        return self._inputs.keep({name: outputs[name] for name in self._outputs})

    def run_complete(self, complete: Tensors) -> Tensors:
        """Run on inputs that hold the states too; returns every output and tap."""
        names = [*self._outputs, *self._taps]
        try:
            arrays = self._session.run(names, complete)
        except Exception as error:  # ONNX Runtime has a dozen exceptions without a common base
            raise EngineError(
                f"The {self.spec.role} failed in calibration ({_first_line(error)}); export the "
                "bundle again."
            ) from error
        return dict(zip(names, arrays, strict=True))

    def reset(self) -> None:
        """Forget the state."""
        self._inputs.forget()

    def close(self) -> None:
        """Forget the state; the session goes with the engine."""
        self._inputs.forget()


def _session(model: ModelProto, weights: Weights) -> onnxruntime.InferenceSession:
    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _SEVERITY_ERROR
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if weights.root is not None:
        model = widen_late(model)
        options.enable_cpu_mem_arena = False  # it grows from run to run
        options.add_session_config_entry("session.disable_prepacking", "1")  # copies of weights
        options.add_session_config_entry(_FOLDER_OF_WEIGHTS, os.fspath(weights.root))
    providers = ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers)
    except OSError:
        raise
    except Exception as error:  # as above
        raise EngineError(
            f"ONNX Runtime does not take a graph of this bundle ({_first_line(error)}); export "
            "the bundle again with the present `animatic export`."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
