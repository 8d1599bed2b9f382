"""IO binding with states that stay where they are, run by real ONNX Runtime on the processor.

The engine for the GPU differs from the one here in the provider's name and in capturing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from animatic.engine import OnnxRuntimeEngine, onnxruntime_cuda
from animatic.engine.onnxruntime_cuda import OnnxRuntimeCudaEngine
from animatic.errors import DeviceLostError, EngineError
from tests.runtime.device import require_device
from tests.runtime.fake_model import tensor
from tests.runtime.test_engine import SPEC, latents, save_graph

if TYPE_CHECKING:
    from pathlib import Path

replace = msgspec.structs.replace


class OnProcessor(OnnxRuntimeCudaEngine):
    PROVIDER = "CPUExecutionProvider"
    DEVICE = "cpu"
    OPTIONS = {}  # noqa: RUF012, as the class it stands for


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save_graph(tmp_path / "vae_decoder.onnx")


def test_it_agrees_with_the_plain_engine(graph: Path) -> None:
    random = np.random.default_rng(0)
    engine, plain = OnProcessor(graph, SPEC), OnnxRuntimeEngine(graph, SPEC)
    for columns in (4, 9, 1, 4, 2, 6, 7, 4):
        for _run in range(4):
            given = {"latents": random.standard_normal((1, 3, columns), dtype=np.float32)}
            mine, theirs = engine.run(given), plain.run(given)
            assert mine.keys() == theirs.keys() == {"frames"}
            np.testing.assert_array_equal(mine["frames"], theirs["frames"])
        engine.reset()
        plain.reset()
    assert len(engine._slots) <= onnxruntime_cuda.SLOTS
    assert len(engine._pairs) <= onnxruntime_cuda.SIZES


def test_states_stay_in_place(graph: Path) -> None:
    engine = OnProcessor(graph, SPEC)
    for value in (1, 5, 2, 7, 3):
        engine.run({"latents": latents(value)})
    slots = list(engine._slots.values())
    assert len(slots) == 2
    places = [slot.inputs["state_0"].data_ptr() for slot in slots]
    assert len(set(places)) == 2
    bound = [
        dict(zip(("frames", "next"), slot.binding.get_outputs(), strict=True)) for slot in slots
    ]
    assert [outputs["next"].data_ptr() for outputs in bound] == places[::-1]


def test_results_are_the_callers_own(graph: Path) -> None:
    engine = OnProcessor(graph, SPEC)
    first = engine.run({"latents": latents(1)})["frames"]
    engine.run({"latents": latents(9)})
    engine.reset()
    engine.run({"latents": latents(9)})
    np.testing.assert_array_equal(first, latents(2))
    engine.close()
    np.testing.assert_array_equal(first, latents(2))


def test_a_state_outlives_another_input_of_another_size(tmp_path: Path) -> None:
    shape: list[str | int | None] = ["batch", 3, "columns"]
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceSum", ["extra"], ["total"], keepdims=0),
        helper.make_node("Add", ["latents", "state_0"], ["sum"]),
        helper.make_node("Add", ["sum", "total"], ["frames"]),
        helper.make_node("Identity", ["latents"], ["next_state_0"]),
    ]
    inputs = [value(name, TensorProto.FLOAT, shape) for name in ("latents", "state_0")]
    inputs.append(value("extra", TensorProto.FLOAT, ["tokens"]))
    outputs = [value(name, TensorProto.FLOAT, shape) for name in ("frames", "next_state_0")]
    model = helper.make_model(
        helper.make_graph(nodes, "two", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    spec = replace(SPEC, inputs=(*SPEC.inputs, tensor("extra", "float32", "tokens")))
    engine = OnProcessor(path, spec)
    before = 0
    for number, tokens in ((1, 2), (2, 3), (3, 1), (4, 4), (5, 2), (6, 3)):
        extra = np.full(tokens, 10, dtype=np.float32)
        frames = engine.run({"latents": latents(number), "extra": extra})["frames"]
        np.testing.assert_array_equal(frames, latents(number + before + 10 * tokens))
        before = number


def test_wrong_inputs_change_nothing(graph: Path) -> None:
    engine = OnProcessor(graph, SPEC)
    with pytest.raises(EngineError, match="is float64; give float32"):
        engine.run({"latents": latents().astype(np.float64)})
    engine.run({"latents": latents(1)})
    with pytest.raises(EngineError, match=r"columns=6\], or reset the engine first"):
        engine.run({"latents": latents(columns=6)})
    np.testing.assert_array_equal(engine.run({"latents": latents(0)})["frames"], latents(1))


def test_closed(graph: Path) -> None:
    engine = OnProcessor(graph, SPEC)
    engine.close()
    engine.close()
    engine.reset()
    with pytest.raises(EngineError, match="is closed; open the pipeline again"):
        engine.run({"latents": latents()})


def test_without_the_provider_it_is_said(graph: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was compiled with CUDA")
    with pytest.raises(EngineError, match=r"without its CUDA provider; pip install onnxruntime-gp"):
        OnnxRuntimeCudaEngine(graph, SPEC)


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        (
            "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=x ; ",
            DeviceLostError,
            "failed under way .*start animatic again",
        ),
        ("CUDA error 719: unspecified launch failure", DeviceLostError, "--device cpu"),
        ("CUDA failure 2: out of memory ; GPU=0", EngineError, "failed while running on the GPU"),
        ("Non-zero status code returned while running Add", EngineError, "`animatic doctor`"),
    ],
)
def test_failures_of_the_gpu_are_told_apart(
    graph: Path, text: str, error: type[EngineError], sentence: str
) -> None:
    failure = OnProcessor(graph, SPEC)._failure(RuntimeError(text))
    assert type(failure) is error
    with pytest.raises(error, match=sentence):
        raise failure


@pytest.mark.device
def test_it_agrees_with_the_processor(graph: Path) -> None:
    device = require_device()
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime-gpu is not installed beside {device.name}")
    random = np.random.default_rng(0)
    engine, plain = OnnxRuntimeCudaEngine(graph, SPEC), OnnxRuntimeEngine(graph, SPEC)
    assert engine._captures
    for columns in (4, 9, 4):
        for _run in range(6):  # the first of a shape, the warm-up, the capture, and replays
            given = {"latents": random.standard_normal((1, 3, columns), dtype=np.float32)}
            np.testing.assert_allclose(
                engine.run(given)["frames"], plain.run(given)["frames"], rtol=1e-6
            )
        engine.reset()
        plain.reset()
    engine.close()
