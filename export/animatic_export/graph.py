"""One torch module to one ONNX graph, and the proof that both compute the same."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from animatic.bundle import GraphSpec, Role, StatePair, TensorSpec
from animatic.engine import OnnxRuntimeEngine
from animatic.store import sha256_file
from animatic_export.errors import ExportError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.engine import Engine

OPSET: Final = 20


@dataclass(frozen=True)
class GraphPlan:
    """All that is needed to export one graph of a family."""

    role: Role
    module: nn.Module
    examples: tuple[tuple[Tensor, ...], ...]
    """Example inputs, each in the order of `inputs`. The graph is traced with the first, whose
    dynamic axes must be above 1; parity is measured on all, which so tell of sizes that a trace
    took for fixed."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    shrink: Callable[[ModelProto], ModelProto]
    """How the weights are stored (see `weights`)."""
    tolerance: float
    """Largest allowed relative error (L2) against torch; each output for itself."""
    states: tuple[StatePair, ...] = ()


@dataclass(frozen=True)
class ExportedGraph:
    """A graph in the bundle, and how far it is from torch."""

    spec: GraphSpec
    error: float
    """Largest relative error (L2) over the outputs."""


def export_graph(plan: GraphPlan, folder: Path) -> ExportedGraph:
    """Write `folder/<role>.onnx` and check it against torch on the examples; ParityError if off."""
    path = folder / f"{plan.role}.onnx"
    onnx.save(plan.shrink(to_onnx(plan)), path)
    spec = GraphSpec(
        role=plan.role,
        file=path.name,
        sha256=sha256_file(path),
        precision=plan.precision,
        inputs=plan.inputs,
        outputs=plan.outputs,
        states=plan.states,
    )
    return ExportedGraph(spec, _parity(plan, path, spec))


def to_onnx(plan: GraphPlan) -> ModelProto:
    """Return the float32 ONNX model of a plan's module."""
    program = torch.onnx.export(
        plan.module.eval(),
        plan.examples[0],
        input_names=[tensor.name for tensor in plan.inputs],
        output_names=[tensor.name for tensor in plan.outputs],
        dynamic_shapes=_dynamic_shapes(plan),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ExportError(f"torch exported no program for the {plan.role}: please report it.")
    model: ModelProto = program.model_proto
    # Names of files and lines of the machine that exported are no one else's business.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    _name_weights(model, plan.module)
    return model


def _name_weights(model: ModelProto, module: nn.Module) -> None:
    """Give transposed weights their parameter's name and ".T"; the exporter calls them val_7.

    So a bundle can be read back into torch (see `weights.read_weights`).
    """
    names = {
        weight.detach().t().contiguous().numpy().tobytes(): f"{name}.T"
        for name, weight in module.named_parameters()
        if weight.dim() == 2
    }
    renamed = {
        tensor.name: names[tensor.raw_data]
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.raw_data in names
    }
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)


def _dynamic_shapes(plan: GraphPlan) -> tuple[object, ...]:
    """Name the dynamic axes, nested as the module's own arguments are."""
    shapes = [
        {n: axis for n, axis in enumerate(tensor.shape) if isinstance(axis, str)}
        for tensor in plan.inputs
    ]
    parameters = inspect.signature(plan.module.forward).parameters.values()
    named = sum(p.kind is not inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return (*shapes[:named], tuple(shapes[named:]))
    return tuple(shapes)


@torch.no_grad()
def _parity(plan: GraphPlan, path: Path, spec: GraphSpec) -> float:
    stateless = GraphSpec(
        role=spec.role,
        file=spec.file,
        sha256=spec.sha256,
        precision=spec.precision,
        inputs=spec.inputs,
        outputs=spec.outputs,
    )
    engine = OnnxRuntimeEngine(path, stateless)
    try:
        return max(_error(plan, engine, example) for example in plan.examples)
    finally:
        engine.close()


def _error(plan: GraphPlan, engine: Engine, example: tuple[Tensor, ...]) -> float:
    """Return the largest relative error (L2) over the outputs; ParityError above tolerance."""
    feeds = {t.name: v.numpy() for t, v in zip(plan.inputs, example, strict=True)}
    made: Mapping[str, np.ndarray] = engine.run(feeds)
    wanted = plan.module(*example)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    worst = 0.0
    for tensor, torch_value in zip(plan.outputs, wanted, strict=True):
        reference = torch_value.numpy()
        error = float(
            np.linalg.norm(made[tensor.name] - reference) / (np.linalg.norm(reference) + 1e-12)
        )
        if not error <= plan.tolerance:
            sizes = ", ".join(str(tuple(value.shape)) for value in example)
            raise ParityError(
                f"The exported {plan.role} is off by {error:.2e} in {tensor.name} at {sizes} and "
                f"{plan.tolerance:.0e} is allowed: the export is wrong, please report it."
            )
        worst = max(worst, error)
    return worst
