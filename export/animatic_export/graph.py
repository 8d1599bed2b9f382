"""One torch module to one ONNX graph, and the proof that both compute the same."""

from __future__ import annotations

import inspect
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import torch
from torch import Tensor, nn

from animatic.bundle import GraphSpec, Role, StatePair, TensorSpec
from animatic.engine import OnnxRuntimeEngine
from animatic.store import sha256_file
from animatic_export.errors import ExportError, ParityError
from animatic_export.external_data import SINGLE_FILE, data_path, refuse_if_short, write_model
from animatic_export.literal import LiteralGraph
from animatic_export.weight_names import name_weights
from animatic_export.weights import stored_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx_ir as ir

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
    shrink: Callable[[ir.Model], ir.Model]
    """How the weights are stored (see `weights`)."""
    tolerance: float
    """Largest allowed relative error (L2) against torch; each output for itself."""
    states: tuple[StatePair, ...] = ()
    reference: nn.Module | None = None
    """What parity is measured against, in float32; None: the module itself."""
    file: str = ""
    """Name of the graph's file; empty: `<role>.onnx`."""
    made_from: str = ""
    """See `GraphSpec.made_from`."""
    architecture: str = ""
    """See `GraphSpec.architecture`."""


@dataclass(frozen=True)
class ExportedGraph:
    """A graph in the bundle, and how far it is from torch."""

    spec: GraphSpec
    error: float
    """Largest relative error (L2) over the outputs."""


def export_graph(plan: GraphPlan, folder: Path, *, single_file: int = SINGLE_FILE) -> ExportedGraph:
    """Write the graph into a folder and check it against torch on the examples.

    single_file: bytes of weights up to which it is one file; above, they lie in another beside it.
    ParityError if it is off, ExportError if there is no room for it, OSError if a file cannot be
    written: after any failure none is left.
    """
    path = folder / (plan.file or f"{plan.role}.onnx")
    size = stored_bytes(plan.module, plan.precision)
    if size > single_file:
        refuse_if_short(folder, size, f"Exporting the {plan.precision} {plan.role}")
    try:
        data = write_model(plan.shrink(to_onnx(plan)), path, single_file)
        spec = GraphSpec(
            role=plan.role,
            file=path.name,
            sha256=sha256_file(path),
            precision=plan.precision,
            inputs=plan.inputs,
            outputs=plan.outputs,
            states=plan.states,
            external_data=data,
            made_from=plan.made_from,
            architecture=plan.architecture,
        )
        return ExportedGraph(spec, _parity(plan, path, spec))
    except BaseException:
        path.unlink(missing_ok=True)
        data_path(path).unlink(missing_ok=True)
        raise


def to_onnx(plan: GraphPlan) -> ir.Model:
    """Return the ONNX model of a plan's module, in the types that the module has.

    Its weights are the module's own memory: it is written before that changes.
    """
    with warnings.catch_warnings():
        # Of torch's own internals, and that torchvision is not there: no user can mend either.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        program = torch.onnx.export(
            plan.module.eval(),
            tuple(_as(t, value) for t, value in zip(plan.inputs, plan.examples[0], strict=True)),
            input_names=[tensor.name for tensor in plan.inputs],
            output_names=[tensor.name for tensor in plan.outputs],
            dynamic_shapes=_dynamic_shapes(plan),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch exported no program for the {plan.role}: please report it.")
    model: ir.Model = program.model
    name_weights(model, plan.module)
    return model


def _as(tensor: TensorSpec, value: Tensor) -> Tensor:
    """Give an example the type that its input has in this graph."""
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    return value.to(dtype)


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
    """Return the largest relative error (L2) over examples and outputs."""
    typed = 0.0
    if plan.reference is not None:
        # torch rounds after every operation, as engines do. ONNX Runtime drops what it can of the
        # casts between half-precision nodes, and has no bfloat16 on processors at all.
        typed = max(_error(plan, plan.module, example) for example in plan.examples)
        if plan.precision == "bf16":
            return typed
    stateless = msgspec.structs.replace(spec, states=())
    engine = (
        LiteralGraph(path, stateless) if spec.external_data else OnnxRuntimeEngine(path, stateless)
    )

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        feeds = {t.name: v.numpy() for t, v in zip(plan.inputs, given, strict=True)}
        made = engine.run(feeds)
        return tuple(torch.from_numpy(made[tensor.name]) for tensor in plan.outputs)

    try:
        return max(typed, *(_error(plan, run, example) for example in plan.examples))
    finally:
        engine.close()


def _error(
    plan: GraphPlan, run: Callable[..., Tensor | tuple[Tensor, ...]], example: tuple[Tensor, ...]
) -> float:
    """Return the largest relative error (L2) over the outputs; ParityError above tolerance."""
    given = [_as(tensor, value) for tensor, value in zip(plan.inputs, example, strict=True)]
    made = _as_tuple(run(*given))
    wanted = _as_tuple((plan.reference or plan.module)(*example))
    worst = 0.0
    for tensor, ours, reference in zip(plan.outputs, made, wanted, strict=True):
        off = torch.linalg.vector_norm(ours.double() - reference.double())
        error = float(off / (torch.linalg.vector_norm(reference.double()) + 1e-12))
        if not error <= plan.tolerance:
            sizes = ", ".join(str(tuple(value.shape)) for value in example)
            raise ParityError(
                f"The exported {plan.precision} {plan.role} is off by {error:.2e} in {tensor.name} "
                f"at {sizes} and {plan.tolerance:.0e} is allowed: the export is wrong, please "
                "report it."
            )
        worst = max(worst, error)
    return worst


def _as_tuple(values: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return values if isinstance(values, tuple) else (values,)
