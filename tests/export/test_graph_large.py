from __future__ import annotations

import dataclasses
import errno
import shutil
import tracemalloc
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from animatic.bundle import FileRef, TensorSpec
from animatic.engine import OnnxRuntimeEngine
from animatic.store import sha256_file
from animatic_export import external_data
from animatic_export.errors import ExportError, ParityError
from animatic_export.external_data import ALIGNMENT, write_model
from animatic_export.graph import ExportedGraph, GraphPlan, export_graph
from animatic_export.stored_weights import StoredWeights
from animatic_export.typed import typed_plan
from animatic_export.weights import Storage, storage_of, store_bfloat16

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 64
STORAGE = storage_of(torch.bfloat16)


class Toy(nn.Module):
    """Layers of a denoiser's kinds; those that start equal are stored once by the exporter."""

    FLOAT32_ISLANDS = ("island",)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.island = nn.Linear(8, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.gains = nn.ParameterList(torch.ones(WIDTH) for _ in range(2))
        self.ends = nn.ModuleList(nn.Linear(WIDTH, 8) for _ in range(2))

    def forward(self, latents: Tensor) -> Tensor:
        shift = self.island(latents)
        x = self.embed(latents.to(self.embed.weight.dtype))
        for layer, gain in zip(self.layers, self.gains, strict=True):
            normed = nn.functional.rms_norm(x.float(), (WIDTH,)) * gain + shift
            x = x + layer(normed.to(x.dtype))
        velocity: Tensor = (self.ends[0](x) - self.ends[1](nn.functional.silu(x))).float()
        return velocity


def toy() -> Toy:
    torch.manual_seed(0)
    module = Toy().eval().requires_grad_(requires_grad=False)
    for parameter in module.parameters():
        parameter.copy_(parameter.bfloat16())
    for one, other in (module.layers, module.ends):
        other.load_state_dict(one.state_dict())
    return module


def toy_plan(module: nn.Module, storage: Storage = STORAGE) -> GraphPlan:
    shape = ("batch", "tokens", 8)
    return GraphPlan(
        role="denoiser",
        module=module,
        examples=((torch.randn(2, 5, 8),), (torch.randn(1, 3, 8),)),
        inputs=(TensorSpec(name="latents", dtype="float32", shape=shape),),
        outputs=(TensorSpec(name="velocity", dtype="float32", shape=shape),),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=1e-4,
        architecture="{}",
    )


@dataclasses.dataclass
class Exports:
    """One module exported in one file, in two, and in two in half precision."""

    folder: Path
    plan: GraphPlan
    single: ExportedGraph
    split: ExportedGraph
    half: ExportedGraph


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    folder = tmp_path_factory.mktemp("graphs")
    plan = toy_plan(toy())
    return Exports(
        folder,
        plan,
        single=export_graph(dataclasses.replace(plan, file="single.onnx"), folder),
        split=export_graph(plan, folder, single_file=4096),
        half=export_graph(typed_plan(plan, "fp16", "origin"), folder, single_file=4096),
    )


@pytest.mark.slow
def test_weights_above_the_limit_lie_beside_the_graph(exports: Exports) -> None:
    assert exports.single.spec.external_data == ()
    for made, stem in ((exports.split, "denoiser"), (exports.half, "denoiser.fp16")):
        data = f"{stem}.onnx.data"
        digest = sha256_file(exports.folder / data)
        assert made.spec.external_data == (FileRef(file=data, sha256=digest),)
        assert made.spec.sha256 == sha256_file(exports.folder / f"{stem}.onnx")
        model = onnx.load(exports.folder / made.spec.file, load_external_data=False)
        inside = [t for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL]
        assert all(len(tensor.raw_data) <= external_data.INLINE for tensor in inside)
    assert sorted(path.name for path in exports.folder.iterdir()) == [
        "denoiser.fp16.onnx",
        "denoiser.fp16.onnx.data",
        "denoiser.onnx",
        "denoiser.onnx.data",
        "single.onnx",
    ]


@pytest.mark.slow
def test_both_ways_of_writing_hold_the_same_model(exports: Exports) -> None:
    one, two = (onnx.load(exports.folder / name) for name in ("single.onnx", "denoiser.onnx"))
    for model in (one, two):
        for tensor in model.graph.initializer:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


@pytest.mark.slow
def test_a_weight_starts_on_a_page(exports: Exports) -> None:
    model = onnx.load(exports.folder / "denoiser.onnx", load_external_data=False)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.external_data
    ]
    assert len(places) == 5  # two layers, and in float32 embed, island and one end
    assert {place["location"] for place in places} == {"denoiser.onnx.data"}
    assert all(int(place["offset"]) % ALIGNMENT == 0 for place in places)


@pytest.mark.slow
def test_a_split_graph_is_checked_and_runs(exports: Exports) -> None:
    assert exports.split.error < exports.plan.tolerance  # the weights are bfloat16's own
    assert 0 < exports.half.error < 1e-2
    example = exports.plan.examples[0][0]
    wanted = exports.plan.module(example).numpy()
    for made, tolerance in ((exports.split, 1e-5), (exports.half, 1e-2)):
        engine = OnnxRuntimeEngine(exports.folder / made.spec.file, made.spec)
        velocity = engine.run({"latents": example.numpy()})["velocity"]
        engine.close()
        assert np.linalg.norm(velocity - wanted) / np.linalg.norm(wanted) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("file", ["single.onnx", "denoiser.onnx"])
def test_every_weight_is_read_back_also_those_that_were_equal(exports: Exports, file: str) -> None:
    weights = StoredWeights.open(exports.folder / file)
    for name, tensor in exports.plan.module.state_dict().items():
        assert torch.equal(torch.from_numpy(weights[name]), tensor), name
    model = onnx.load(exports.folder / file, load_external_data=False)
    names = [tensor.name for tensor in model.graph.initializer]
    assert {"layers.0.weight.T.bfloat16", "layers.1.weight.T.bfloat16"} <= set(names)
    # Else the exporter stores these twice, and nothing was tested.
    assert not {"gains.1", "ends.1.weight.T"} & set(names)


def test_a_split_graph_that_is_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("animatic_export.graph.to_onnx", lambda _: doubling())
    with pytest.raises(ParityError, match="bf16-weights denoiser is off by"):
        export_graph(toy_plan(toy()), tmp_path, single_file=4096)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_said_so_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        assert (tmp_path / "denoiser.onnx.data").stat().st_size > 0
        raise OSError(errno.ENOSPC, "No space left on device")

    # The data is written by then, and the graph, which refers to it, is not.
    monkeypatch.setattr("animatic_export.external_data.onnx.save", full)
    monkeypatch.setattr("animatic_export.graph.to_onnx", lambda _: doubling())
    with pytest.raises(OSError, match="No space left") as raised:
        export_graph(toy_plan(toy()), tmp_path, single_file=4096)
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def doubling() -> ir.Model:
    """A graph of Toy's input and output that computes something else, with one large weight."""
    shape = ir.Shape(["batch", "tokens", 8])
    latents, velocity = (
        ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
        for name in ("latents", "velocity")
    )
    weight = ir.Value(name="twos", const_value=ir.tensor(np.full((999, 1, 8), 2, np.float32)))
    axes = ir.Value(name="axes", const_value=ir.tensor(np.array([0])))
    two = ir.Node("", "ReduceMean", [weight, axes], [ir.AttrInt64("keepdims", 1)])
    product = ir.Node("", "Mul", [latents, two.outputs[0]], outputs=[velocity])
    graph = ir.Graph(
        [latents],
        [velocity],
        nodes=[two, product],
        initializers=[weight, axes],
        opset_imports={"": 20},
    )
    return ir.Model(graph, ir_version=10)


def test_too_small_a_disk_is_refused_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("animatic_export.external_data.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr("animatic_export.external_data.GB", 1e3)
    monkeypatch.setattr("animatic_export.graph.to_onnx", lambda _: pytest.fail("too late"))
    plan = toy_plan(toy())
    with pytest.raises(
        ExportError, match=r"bf16-weights denoiser needs about 2\d\.\d GB in .* and "
    ):
        export_graph(plan, tmp_path / "staged", single_file=4096)


def test_one_weight_at_a_time_is_held_twice(tmp_path: Path) -> None:
    weights = [np.ones((512, 512), np.float32).T for _ in range(16)]
    values = [
        ir.Value(name=f"w{n}", const_value=ir.tensor(weight)) for n, weight in enumerate(weights)
    ]
    output = ir.Value(name="sum", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([512, 512]))
    nodes = [ir.Node("", "Sum", values, outputs=[output])]
    graph = ir.Graph([], [output], nodes=nodes, initializers=values, opset_imports={"": 20})
    model = store_bfloat16(ir.Model(graph, ir_version=10))
    tracemalloc.start()
    write_model(model, tmp_path / "sum.onnx", single_file=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "sum.onnx.data").stat().st_size == 16 * 512 * 512 * 2
    assert peak < 3 * weights[0].nbytes  # narrowed, then put in order; all of them would be 8
