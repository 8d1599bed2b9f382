"""Real ONNX Runtime on graphs that are made here, and what every engine has in common."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from animatic.bundle import GraphSpec, StatePair, TensorSpec
from animatic.engine import Engine, FakeEngine, OnnxRuntimeEngine
from animatic.engine.cores import _cgroup_quota, usable_cores
from animatic.errors import EngineError
from tests.runtime.fake_model import ZEROS, tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tensors = dict[str, np.ndarray[Any, Any]]

replace = msgspec.structs.replace

# frames = latents * 2 + state; the next state is the latents.
SPEC = GraphSpec(
    role="vae_decoder",
    file="vae_decoder.onnx",
    sha256=ZEROS,
    precision="float32",
    inputs=(
        tensor("latents", "float32", "batch", 3, "columns"),
        tensor("state_0", "float32", "batch", 3, "columns"),
    ),
    outputs=(
        tensor("frames", "float32", "batch", 3, "columns"),
        tensor("next_state_0", "float32", "batch", 3, "columns"),
    ),
    states=(StatePair(input="state_0", output="next_state_0"),),
)


def save_graph(path: Path, *, constant: float = 2.0) -> Path:
    shape: list[str | int | None] = ["batch", 3, "columns"]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["latents", "two"], ["doubled"]),
            helper.make_node("Add", ["doubled", "state_0"], ["frames"]),
            helper.make_node("Identity", ["latents"], ["next_state_0"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in ("latents", "state_0")
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in ("frames", "next_state_0")
        ],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [constant])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save_graph(tmp_path / "vae_decoder.onnx")


def real(graph: Path) -> Engine:
    return OnnxRuntimeEngine(graph, SPEC)


def fake(_: Path) -> Engine:
    def function(inputs: Tensors) -> Tensors:
        return {
            "frames": inputs["latents"] * 2 + inputs["state_0"],
            "next_state_0": inputs["latents"],
        }

    return FakeEngine(SPEC, function)


@pytest.fixture(params=[real, fake])
def engine(request: pytest.FixtureRequest, graph: Path) -> Engine:
    make: Callable[[Path], Engine] = request.param
    return make(graph)


def latents(value: float = 1.0, columns: int = 4) -> np.ndarray[Any, Any]:
    return np.full((1, 3, columns), value, dtype=np.float32)


def test_state_pairs_are_fed_back_until_reset(engine: Engine) -> None:
    outputs = engine.run({"latents": latents(1)})
    assert outputs.keys() == {"frames"}
    np.testing.assert_array_equal(outputs["frames"], latents(2))
    np.testing.assert_array_equal(engine.run({"latents": latents(5)})["frames"], latents(11))
    np.testing.assert_array_equal(engine.run({"latents": latents(0)})["frames"], latents(5))
    engine.reset()
    np.testing.assert_array_equal(engine.run({"latents": latents(0)})["frames"], latents(0))
    assert engine.spec is SPEC


def test_another_size_needs_a_reset(engine: Engine) -> None:
    engine.run({"latents": latents(columns=4)})
    with pytest.raises(EngineError, match=r"state_0 .* \[1, 3, 4\]; .*columns=6.*reset the engine"):
        engine.run({"latents": latents(columns=6)})
    engine.reset()
    assert engine.run({"latents": latents(columns=6)})["frames"].shape == (1, 3, 6)


def test_inputs_need_not_be_contiguous(engine: Engine) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(1, 3, 8)
    np.testing.assert_array_equal(
        engine.run({"latents": wide[:, :, ::2]})["frames"], wide[:, :, ::2] * 2
    )


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "it lacks latents; give exactly latents"),
        ({"latent": latents()}, "it lacks latents; give exactly latents"),
        ({"latents": latents(), "x": latents()}, "it does not take x; give exactly latents"),
        ({"latents": latents(), "state_0": latents()}, "does not take state_0; give exactly"),
        ({"latents": latents().astype(np.float64)}, "latents .* is float64; give float32"),
        ({"latents": latents().astype(np.float16)}, "latents .* is float16; give float32"),
        ({"latents": latents()[0]}, r"shape \[3, 4\]; give \[batch, 3, columns\]"),
        ({"latents": latents()[:, :2]}, r"shape \[1, 2, 4\]; give \[batch=1, 3, columns\]"),
    ],
)
def test_wrong_inputs(engine: Engine, inputs: Tensors, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        engine.run(inputs)
    np.testing.assert_array_equal(engine.run({"latents": latents(1)})["frames"], latents(2))


def test_named_axes_agree_across_inputs() -> None:
    spec = replace(
        SPEC,
        inputs=(tensor("a", "int64", "batch", "tokens"), tensor("b", "int64", "batch", "tokens")),
        states=(),
        outputs=(tensor("c", "int64", "batch"),),
    )
    engine = FakeEngine(spec, lambda inputs: {"c": inputs["a"][:, 0]})
    a, b = np.ones((1, 3), dtype=np.int64), np.ones((1, 4), dtype=np.int64)
    with pytest.raises(EngineError, match=r"b .* shape \[1, 4\]; give \[batch=1, tokens=3\]"):
        engine.run({"a": a, "b": b})


def test_a_state_axis_that_nothing_fixes() -> None:
    state = TensorSpec(name="state_0", dtype="float32", shape=("past",))
    engine = FakeEngine(replace(SPEC, inputs=(SPEC.inputs[0], state)), lambda _: {})
    with pytest.raises(EngineError, match="axis past, which no other input fixes; export"):
        engine.run({"latents": latents()})


def test_a_fake_that_gives_other_outputs() -> None:
    engine = FakeEngine(SPEC, lambda _: {"frames": latents()})
    with pytest.raises(EngineError, match="return exactly frames, next_state_0"):
        engine.run({"latents": latents()})


def test_closed(engine: Engine) -> None:
    engine.close()
    engine.close()
    engine.reset()
    with pytest.raises(EngineError, match="is closed; open the pipeline again"):
        engine.run({"latents": latents()})


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_truncated_graph(graph: Path, length: int) -> None:
    graph.write_bytes(graph.read_bytes()[:length])
    with pytest.raises(
        EngineError,
        match=r"^The graph vae_decoder\.onnx is truncated or not an ONNX file; "
        r"run `animatic inspect BUNDLE --verify` or reinstall animatic\.$",
    ):
        OnnxRuntimeEngine(graph, SPEC)


def test_not_a_graph(graph: Path) -> None:
    graph.write_text("hello")
    with pytest.raises(EngineError, match="not an ONNX file"):
        OnnxRuntimeEngine(graph, SPEC)
    with pytest.raises(EngineError, match="is missing; run"):
        OnnxRuntimeEngine(graph.with_name("other.onnx"), SPEC)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (replace(SPEC, inputs=SPEC.inputs[:1], states=()), "input state_0, which bundle.json does"),
        (
            replace(SPEC, inputs=(*SPEC.inputs, tensor("mask", "int64", "batch"))),
            "does not have the input mask",
        ),
        (
            replace(SPEC, inputs=(tensor("latents", "int64", "batch", 3, 4), SPEC.inputs[1])),
            "does not have the input latents",
        ),
        (
            replace(SPEC, inputs=(tensor("latents", "float32", "batch", 4, 4), SPEC.inputs[1])),
            r"does not have the input latents that bundle.json describes \(float32 \['batch', 4, 4",
        ),
        (
            replace(SPEC, outputs=(tensor("velocity", "float32", "batch", 3, 4),), states=()),
            "does not have the output velocity",
        ),
    ],
)
def test_a_graph_that_is_not_the_described_one(graph: Path, spec: GraphSpec, sentence: str) -> None:
    with pytest.raises(EngineError, match=f"{sentence}.*; export the bundle again"):
        OnnxRuntimeEngine(graph, spec)


def test_a_failure_while_running(tmp_path: Path) -> None:
    shape: list[str | int | None] = ["batch", 3, "columns"]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Reshape", ["latents", "seven"], ["frames"])],
            "failing",
            [helper.make_tensor_value_info("latents", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("frames", TensorProto.FLOAT, [7])],
            [helper.make_tensor("seven", TensorProto.INT64, [1], [7])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = tmp_path / "failing.onnx"
    onnx.save(model, path)
    spec = replace(
        SPEC, inputs=SPEC.inputs[:1], outputs=(tensor("frames", "float32", 7),), states=()
    )
    engine = OnnxRuntimeEngine(path, spec)
    with pytest.raises(EngineError, match=r"failing\.onnx failed while running \(.*\); run `anim"):
        engine.run({"latents": latents()})


def test_threads_are_capped(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animatic.engine.onnxruntime.usable_cores", lambda: 2)
    assert OnnxRuntimeEngine(graph, SPEC).threads == 2
    assert OnnxRuntimeEngine(graph, SPEC, threads=1).threads == 1
    assert OnnxRuntimeEngine(graph, SPEC, threads=64).threads == 2
    with pytest.raises(EngineError, match="ask for at least 1"):
        OnnxRuntimeEngine(graph, SPEC, threads=0)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and cgroups are Linux's")
def test_usable_cores_heed_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 9})
    monkeypatch.setattr("animatic.engine.cores._cgroup_quota", lambda *_: None)
    assert usable_cores() == 3
    for quota, cores in ((1.5, 2), (0.1, 1), (2.0, 2), (64.0, 3)):
        monkeypatch.setattr("animatic.engine.cores._cgroup_quota", lambda *_, q=quota: q)
        assert usable_cores() == cores


def test_cgroup_quota(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    inner = mount / "pod" / "box"
    inner.mkdir(parents=True)
    assert _cgroup_quota(membership, mount) is None  # no such file
    membership.write_text("4:memory:/x\n")
    assert _cgroup_quota(membership, mount) is None  # version 1 alone
    membership.write_text("4:memory:/x\n0::/pod/box\n")
    assert _cgroup_quota(membership, mount) is None  # no limit anywhere
    (inner / "cpu.max").write_text("max 100000\n")
    assert _cgroup_quota(membership, mount) is None
    (mount / "pod" / "cpu.max").write_text("250000 100000\n")
    assert _cgroup_quota(membership, mount) == 2.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert _cgroup_quota(membership, mount) == 0.5
    (inner / "cpu.max").write_text("garbage")
    assert _cgroup_quota(membership, mount) == 2.5


def test_name_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be read \(File name too long\); run"):
        OnnxRuntimeEngine(tmp_path / ("x" * 300 + ".onnx"), SPEC)
