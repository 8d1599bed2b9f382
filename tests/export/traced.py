"""A text encoder is traced once a run of the tests: MiniLM takes torch twenty seconds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest
import torch

from animatic_export import graph
from tests.once import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animatic_export.graph import GraphPlan


@pytest.fixture(autouse=True, scope="session")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the graphs of text encoders, by all that decides them."""
    trace = graph.to_onnx

    def to_onnx(plan: GraphPlan) -> ir.Model:
        if plan.role != "text_encoder":
            return trace(plan)

        def make(folder: Path) -> None:
            folder.mkdir()
            ir.save(trace(plan), folder / "graph.onnx")

        return ir.load(once(tmp_path_factory, f"traced-{_key(plan)}", make) / "graph.onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "to_onnx", to_onnx)
        yield


def _key(plan: GraphPlan) -> str:
    digest = hashlib.sha256(repr((plan.module, plan.inputs, plan.outputs, plan.precision)).encode())
    for example in plan.examples[0]:
        digest.update(repr((example.shape, example.dtype)).encode())
    for name, tensor in plan.module.state_dict().items():
        digest.update(f"{name} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
