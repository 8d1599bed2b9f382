from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from animatic.engine import OnnxRuntimeEngine
from animatic_export.graph import ExportedGraph, export_graph
from animatic_export.stored_weights import StoredWeights
from animatic_export.t5.graph import text_encoder_again, text_encoder_plan
from animatic_export.typed import typed_plan
from tests.calibration.test_compiled import layer_lines, of_type
from tests.export.t5.models import KINDS, TOKENS, ours, prompts, reference, states

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # torch takes seconds to export the smallest graph

LAYERS = 3
MATRICES = 7
"""Of a layer."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportedGraph]:
    """A umT5 of bfloat16 weights, exported."""
    folder = tmp_path_factory.mktemp("umt5")
    plan = text_encoder_plan(ours(reference("umt5", 128, torch.bfloat16)))
    return folder, export_graph(plan, folder)


def run(folder: Path, exported: ExportedGraph, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    engine = OnnxRuntimeEngine(folder / exported.spec.file, exported.spec)
    made = engine.run({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    engine.close()
    return made["text_states"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_float32_graph_gives_the_states_of_transformers(kind: str, tmp_path: Path) -> None:
    theirs = reference(kind)
    exported = export_graph(text_encoder_plan(ours(theirs)), tmp_path)
    assert exported.spec.precision == "fp32"
    for length in (1, 40, 200, TOKENS):
        ids, mask = prompts(length)
        made = run(tmp_path, exported, ids, mask)
        # States are norms of 1 to 4: float32 sums in another order (seen: 5e-6).
        np.testing.assert_allclose(made, states(theirs, ids, mask).numpy(), rtol=0, atol=2e-5)


def test_a_narrow_graph_gives_the_states_of_transformers(
    narrow: tuple[Path, ExportedGraph],
) -> None:
    folder, exported = narrow
    assert exported.spec.precision == "bf16-weights"
    ids, mask = prompts(40)
    wanted = states(reference("umt5", 128, torch.bfloat16).float(), ids, mask).numpy()
    np.testing.assert_allclose(run(folder, exported, ids, mask), wanted, rtol=0, atol=2e-5)


def test_an_unpadded_prompt_gives_what_the_padded_one_does(
    narrow: tuple[Path, ExportedGraph],
) -> None:
    theirs = reference("umt5", 128, torch.bfloat16).float()
    ids = torch.zeros(1, TOKENS, dtype=torch.int64)
    ids[:, :9] = prompts(9)[0][:1]
    mask = torch.zeros_like(ids)
    mask[:, :9] = 1
    made = run(*narrow, ids[:, :9], mask[:, :9])
    wanted = states(theirs, ids, mask)[:, :9].numpy()
    np.testing.assert_allclose(made, wanted, rtol=0, atol=2e-5)


def test_a_graph_is_half_as_large_and_keeps_its_names(narrow: tuple[Path, ExportedGraph]) -> None:
    folder, exported = narrow
    model = onnx.load(folder / exported.spec.file)
    onnx.checker.check_model(model, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    wide = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}
    assert {name for name in wide if "weight" in name} == {
        f"positions.{n}.weight" for n in range(3)
    }
    narrow_ones = {name for name, kind in kinds.items() if kind == TensorProto.BFLOAT16}
    assert len(narrow_ones) == MATRICES * LAYERS + 1
    assert {"words.weight", "layers.0.query.weight", "layers.2.down.weight"} <= narrow_ones


def test_weights_are_not_widened_when_it_loads(
    narrow: tuple[Path, ExportedGraph], tmp_path: Path
) -> None:
    folder, exported = narrow
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    path = str(folder / exported.spec.file)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["input_ids", "attention_mask"]
    loaded = onnx.load(tmp_path / "optimised.onnx")
    large = [t for t in loaded.graph.initializer if len(t.dims) == 2 and np.prod(t.dims) > 8192]
    kinds = {t.name: t.data_type for t in large if t.data_type != TensorProto.INT64}
    assert set(kinds.values()) == {TensorProto.BFLOAT16}
    assert len(kinds) == MATRICES * LAYERS + 1


def test_weights_are_widened_one_by_one(narrow: tuple[Path, ExportedGraph], tmp_path: Path) -> None:
    folder, exported = narrow
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(
        str(folder / exported.spec.file), options, providers=["CPUExecutionProvider"]
    )
    ids, mask = prompts(7)
    session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    session.end_profiling()
    (path,) = tmp_path.glob("profile*")
    events = json.loads(path.read_text())
    ran = [event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})]
    products = [place for place, kind in enumerate(ran) if kind.endswith("MatMul")]
    assert len(products) == (MATRICES + 2) * LAYERS
    # Between two products there is never more than the weight that the next one needs, and the
    # casts of the graph's start.
    ahead = [ran[:place].count("Cast") - n for n, place in enumerate(products)]
    assert max(ahead) <= 4


def test_an_encoder_is_made_again_from_its_graph(narrow: tuple[Path, ExportedGraph]) -> None:
    folder, exported = narrow
    weights = StoredWeights.open(folder / exported.spec.file)
    tensors = {name: torch.from_numpy(weights[name].copy()) for name in weights}
    again = text_encoder_again(exported.spec.architecture, tensors)
    first = ours(reference("umt5", 128, torch.bfloat16))
    assert {n: p.dtype for n, p in again.named_parameters()} == {
        n: p.dtype for n, p in first.named_parameters()
    }
    assert all(
        torch.equal(one, other)
        for one, other in zip(again.parameters(), first.parameters(), strict=True)
    )
    assert (again.config, again.max_tokens) == (first.config, first.max_tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_typed_graph_is_compiled(kind: str, tmp_path: Path) -> None:
    plan = typed_plan(
        text_encoder_plan(ours(reference(kind, 128, torch.bfloat16))), "bf16", "origin"
    )
    exported = export_graph(plan, tmp_path)
    assert 1e-4 < exported.error < plan.tolerance
    model = onnx.load(tmp_path / exported.spec.file)
    assert not any(n.op_type == "Cast" and n.input[0].endswith("weight") for n in model.graph.node)
    lines = layer_lines(model)
    fused = [line for line in lines if "_gemm_mha" in line]
    assert len(fused) == LAYERS
    gemms = of_type(lines, "(?:gemm|runtime_fusion)", "BFloat16")
    assert gemms.count("node_linear") + gemms.count("Fc") >= 4 * LAYERS
