from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from animatic.bundle import GraphSpec, TensorSpec
from animatic_calibration.engine import ModelEngine
from animatic_calibration.formats import FORMATS
from animatic_calibration.layers import survey
from animatic_calibration.quantise import quantise
from animatic_calibration.smoothing import apply_smoothing, groups
from animatic_calibration.split_products import split_products
from animatic_calibration.weights import ALIGNMENT, IN_GRAPH, INLINE, Weights
from tests.calibration.running import denoiser_inputs, run, snr
from tests.calibration.typed_model import denoiser_model

if TYPE_CHECKING:
    from pathlib import Path

INT8 = FORMATS["int8"]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A graph in one file."""
    path = tmp_path / "bundle" / "denoiser.fp16.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(denoiser_model(), path)
    return path


@pytest.fixture
def parted(whole: Path) -> Path:
    """The same with its weights in another file."""
    onnx.save(
        onnx.load(whole),
        whole,
        save_as_external_data=True,
        location="denoiser.fp16.onnx.data",
        size_threshold=INLINE,
    )
    assert len(whole.read_bytes()) < 10_000
    return whole


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    place = tmp_path / "bundle" / "place"
    place.mkdir(parents=True, exist_ok=True)
    return Weights(tmp_path / "bundle", place / "made.data")


def narrow(path: Path, weights: Weights) -> onnx.ModelProto:
    """All that calibration does to a graph."""
    model = split_products(weights.load(path), weights)
    factors = {
        name: np.exp2(np.arange(group[0].channels[0]) % 5 - 2).astype(np.float32)
        for name, group in groups(survey(model, weights).layers).items()
    }
    smooth = apply_smoothing(model, survey(model, weights).layers, factors, weights)
    layers = survey(smooth, weights).layers
    return quantise(smooth, layers, {layer.activation: 4.0 for layer in layers}, INT8, weights)


@pytest.mark.parametrize("kind", ["whole", "parted"])
def test_in_files_it_is_the_same_graph(
    kind: str, weights: Weights, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    made = narrow(path, weights)
    assert all(len(tensor.raw_data) <= INLINE for tensor in made.graph.initializer)
    assert weights.save(made, tmp_path / "saved.onnx", 1 << 30) is None
    usual = tmp_path / "usual.onnx"
    IN_GRAPH.save(narrow(path, IN_GRAPH), usual, 1 << 30)
    assert (tmp_path / "saved.onnx").read_bytes() == usual.read_bytes()


def test_a_large_graph_is_saved_in_two_files(
    parted: Path, weights: Weights, tmp_path: Path
) -> None:
    made = narrow(parted, weights)
    path = tmp_path / "large" / "denoiser.int8.onnx"
    path.parent.mkdir()
    data = weights.save(made, path, 1000)
    assert data == path.with_name("denoiser.int8.onnx.data")
    onnx.checker.check_model(path, full_check=True)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tensor.external_data
    ]
    assert {place["location"] for place in places} == {data.name}
    assert all(int(place["offset"]) % ALIGNMENT == 0 for place in places)
    wanted = {t.name: weights.array(t) for t in made.graph.initializer}
    loaded = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert wanted.keys() == loaded.keys()
    assert all((loaded[name] == array).all() for name, array in wanted.items())
    # Whoever plays it needs nothing but the two files.
    given = run(onnx.load(path), denoiser_inputs())["velocity"]
    assert (given == run(narrow(parted, IN_GRAPH), denoiser_inputs())["velocity"]).all()


def test_an_engine_reads_weights_from_their_files(parted: Path, weights: Weights) -> None:
    made = narrow(parted, weights)
    outputs = (TensorSpec(name="velocity", dtype="float32", shape=()),)
    spec = GraphSpec(
        role="denoiser", file="-", sha256="0" * 64, precision="-", inputs=(), outputs=outputs
    )
    engine = ModelEngine(made, spec, taps=("bent",), weights=weights)
    given = engine.run_complete(denoiser_inputs())
    wanted = run(narrow(parted, IN_GRAPH), denoiser_inputs(), ("bent",))
    # More is rounded to float16, so that here and there int8 is the next step.
    assert all(snr(given[name], wanted[name]) > 30 for name in ("velocity", "bent"))


def test_the_same_weight_is_made_once(parted: Path, weights: Weights) -> None:
    narrow(parted, weights)
    made = parted.parent / "place" / "made.data"
    size = made.stat().st_size
    model = weights.load(parted)
    layers = [layer for layer in survey(model, weights).layers if layer.name == "down"]
    ranges = {layer.activation: 4.0 for layer in layers}
    first = quantise(model, layers, ranges, INT8, weights)
    grown = made.stat().st_size
    assert grown > size
    again = quantise(model, layers, ranges, INT8, weights)
    assert made.stat().st_size == grown
    assert first == again


def test_the_file_of_the_bundle_is_only_read(parted: Path, weights: Weights) -> None:
    data = parted.with_name("denoiser.fp16.onnx.data")
    before = data.read_bytes()
    narrow(parted, weights)
    assert data.read_bytes() == before
    # onnx and ONNX Runtime refuse files with a second link, whoever reads the bundle meanwhile.
    assert data.stat().st_nlink == 1


def test_a_mapped_weight_cannot_be_written_to(parted: Path, weights: Weights) -> None:
    model = weights.load(parted)
    tensor = next(t for t in model.graph.initializer if t.name == "up.weight.T")
    with pytest.raises(ValueError, match="read-only"):
        weights.array(tensor)[:] = 0
