from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from animatic_calibration.layers import survey, to_matrix
from animatic_calibration.rows import Reservoir, sample_rows
from tests.calibration.running import run


def test_a_reservoir_is_a_fair_sample_of_bounded_size() -> None:
    reservoir = Reservoir(np.random.default_rng(0), capacity=200)
    for start in range(0, 10_000, 100):
        reservoir.add(np.arange(start, start + 100, dtype=np.float32).reshape(-1, 1) / 10_000)
    rows = reservoir.rows
    assert rows.shape == (200, 1)
    assert rows.mean() == pytest.approx(0.5, abs=0.08)
    assert len(np.unique(rows)) > 190


def test_a_reservoir_keeps_all_while_there_is_room() -> None:
    reservoir = Reservoir(np.random.default_rng(0), capacity=10)
    reservoir.add(np.eye(3))
    assert reservoir.rows.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 1], "dilations": [1, 2]}),
        ((2, 3, 3), {"pads": [1, 0, 1, 0, 2, 1]}),
    ],
)
def test_rows_times_matrix_is_the_convolution(
    kernel: tuple[int, ...], attributes: dict[str, list[int]]
) -> None:
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((2, 32, *(7,) * len(kernel))).astype(np.float16)
    weight = (rng.standard_normal((40, 32, *kernel)) / 20).astype(np.float16)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    node.attribute.extend(helper.make_attribute(name, n) for name, n in attributes.items())
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, picture.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (layer,) = survey(model).layers
    wanted = np.moveaxis(run(model, {"x": picture})["y"], 1, -1).reshape(-1, 40)
    rows = sample_rows(layer, picture, rng, count=10_000)
    assert len(rows) == len(wanted)  # every place once: the sample is without repetition
    given = rows.astype(np.float32) @ to_matrix(layer, weight)
    distances = np.abs(given[:, None, :4] - wanted[None, :, :4]).max(axis=2)
    assert (distances.min(axis=1) < 0.02).all()
    assert (distances.min(axis=0) < 0.02).all()


def test_tokens_are_rows() -> None:
    from tests.calibration.typed_model import denoiser_model

    layer = next(layer for layer in survey(denoiser_model()).layers if layer.name == "up")
    tokens = np.arange(2 * 5 * 32, dtype=np.float16).reshape(2, 5, 32)
    rows = sample_rows(layer, tokens, np.random.default_rng(0), count=4)
    assert rows.shape == (4, 32)
    assert all((tokens.reshape(-1, 32) == row).all(axis=1).any() for row in rows)
