"""Weights stored in 16 bits: where there are many, they stay narrow in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from animatic.bundle import FileRef, GraphSpec, TensorSpec
from animatic.engine import OnnxRuntimeEngine
from animatic.engine import onnxruntime as module

if TYPE_CHECKING:
    from pathlib import Path

replace = msgspec.structs.replace
SIDE = 32
SPEC = GraphSpec(
    role="text_encoder",
    file="text_encoder.onnx",
    sha256="0" * 64,
    precision="bf16-weights",
    inputs=(TensorSpec(name="words", dtype="float32", shape=("tokens", SIDE)),),
    outputs=(TensorSpec(name="text_states", dtype="float32", shape=("tokens", SIDE)),),
    external_data=(FileRef(file="text_encoder.onnx.data", sha256="0" * 64),),
)
WORDS = {"words": np.random.default_rng(1).standard_normal((5, SIDE), dtype=np.float32)}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A matrix product whose weights lie beside it in bfloat16, 2 KiB of them."""
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(ml_dtypes.bfloat16)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", SIDE])
        for name in ("words", "text_states")
    ]
    nodes = [
        helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["words", "wide"], ["text_states"]),
    ]
    stored = [numpy_helper.from_array(weights, "narrow")]
    model = helper.make_model(
        helper.make_graph(nodes, "narrow", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    path = tmp_path / SPEC.file
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=SPEC.external_data[0].file,
        size_threshold=0,
    )
    return path


@pytest.fixture
def operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Of every session, the operators of the graph that ONNX Runtime made of ours."""
    found: list[list[str]] = []
    session = onnxruntime.InferenceSession

    def watched(path: str, options: Any, **rest: Any) -> Any:
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        made = session(path, options, **rest)
        optimised = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
        found.append([node.op_type for node in optimised.graph.node])
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    return found


@pytest.mark.parametrize(
    ("limit", "precision", "expected"),
    [
        (2047, "bf16-weights", ["Cast", "MatMul"]),
        (4096, "bf16-weights", ["MatMul"]),  # the graph itself counts, with less than 2 KiB
        (0, "bf16", ["MatMul"]),
    ],
)
def test_many_weights_are_not_widened_at_load(
    graph: Path,
    operators: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    precision: str,
    expected: list[str],
) -> None:
    monkeypatch.setattr(module, "WIDENED_AT_LOAD", limit)
    engine = OnnxRuntimeEngine(graph, replace(SPEC, precision=precision), threads=1)
    engine.close()
    assert operators == [expected]


def test_the_results_are_the_same_bits(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[np.ndarray[Any, Any]] = []
    for limit in (0, 1 << 30):
        monkeypatch.setattr(module, "WIDENED_AT_LOAD", limit)
        engine = OnnxRuntimeEngine(graph, SPEC, threads=1)
        found.append(engine.run(WORDS)["text_states"])
        engine.close()
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0]).max() > 1
