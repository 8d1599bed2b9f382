from __future__ import annotations

import shutil
import weakref
from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto
from torch import nn

from animatic.store import open_bundle, shipped_bundle_path
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan
from animatic_export.blockout.recipe import BlockoutRecipe
from animatic_export.blockout.vae import VideoVae
from animatic_export.cli import command
from animatic_export.errors import ExportError, ParityError
from animatic_export.graph import ExportedGraph, GraphPlan, export_graph
from animatic_export.typed import typed_module, typed_plan
from animatic_export.typed_graphs import add_typed_graphs
from tests.export.toy import DENOISER, VAE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import Role
    from animatic.store import OpenBundle


def plan_of_denoiser() -> GraphPlan:
    torch.manual_seed(0)
    denoiser = Denoiser(DENOISER).eval().requires_grad_(requires_grad=False)
    for parameter in denoiser.parameters():  # the zeros of the start would hide every error
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    return denoiser_plan(denoiser)


def plan_of_decoder() -> GraphPlan:
    torch.manual_seed(0)
    decoder = VideoVae(VAE).decoder.eval().requires_grad_(requires_grad=False)
    return decoder_plan(decoder, 2, 3, scale=16, factor=4)


def test_only_matrices_outside_the_islands_change_their_type() -> None:
    module = plan_of_denoiser().module
    half = typed_module(module, torch.float16)
    types = {name: p.dtype for name, p in half.named_parameters()}
    assert types["blocks.0.qkv.weight"] == types["embed.bias"] == torch.float16
    assert types["modulation.weight"] == types["time.0.weight"] == torch.float32
    assert types["blocks.0.offset"] == types["frame_position"] == torch.float32
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_weight_that_changes_its_type_is_not_copied_in_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = plan_of_denoiser().module
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    copied: set[str] = set()
    deepcopy: Callable[[nn.Parameter, dict[int, object]], object] = nn.Parameter.__deepcopy__

    def watched(self: nn.Parameter, memo: dict[int, object]) -> object:
        copied.add(names[id(self)])
        return deepcopy(self, memo)

    monkeypatch.setattr(nn.Parameter, "__deepcopy__", watched)
    half = typed_module(module, torch.float16)
    floats = {n for n, p in half.named_parameters() if p.dtype == torch.float32}
    assert copied == floats
    places = {p.data_ptr() for p in module.parameters()}
    assert not places & {p.data_ptr() for p in half.parameters()}


def test_a_weight_that_has_the_type_already_is_shared() -> None:
    layer = nn.Linear(3, 2, dtype=torch.bfloat16)
    assert typed_module(layer, torch.bfloat16) is not layer
    shared = typed_module(nn.Sequential(layer), torch.bfloat16)
    assert next(shared.parameters()) is next(layer.parameters())


def test_only_one_role_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(shipped_bundle_path(), tmp_path / "blockout")
    before: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    load = BlockoutRecipe.plan

    def loading(recipe: BlockoutRecipe, opened: OpenBundle, role: Role) -> GraphPlan:
        alive.append(sum(module() is not None for module in before))
        return load(recipe, opened, role)

    def export(plan: GraphPlan, _folder: Path) -> ExportedGraph:
        assert plan.reference is not None
        before.extend((weakref.ref(plan.module), weakref.ref(plan.reference)))
        return ExportedGraph(open_bundle(root, verify=False).bundle.graph(plan.role), 0.0)

    monkeypatch.setattr(BlockoutRecipe, "plan", loading)
    monkeypatch.setattr("animatic_export.typed_graphs.export_graph", export)
    monkeypatch.setattr("animatic_export.typed_graphs.add_graphs", lambda *_: None)
    monkeypatch.setattr("animatic_export.typed_graphs._is_whole", lambda *_: False)
    add_typed_graphs(root, "bf16")
    assert alive == [0] * 3


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ExportError, match="ask for fp16 or bf16"):
        typed_plan(plan_of_denoiser(), "int8", "")


def test_states_are_narrow_and_the_rest_keeps_its_types() -> None:
    plan = typed_plan(plan_of_decoder(), "fp16", "origin")
    assert {t.dtype for t in plan.inputs if t.name.startswith("state")} == {"float16"}
    assert {t.dtype for t in plan.outputs if t.name.startswith("next")} == {"float16"}
    assert {t.dtype for t in (*plan.inputs, *plan.outputs) if "state" not in t.name} == {"float32"}
    assert plan.file == "vae_decoder.fp16.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("make", [plan_of_denoiser, plan_of_decoder])
def test_every_product_is_computed_in_half(tmp_path: Path, make: object, precision: str) -> None:
    assert callable(make)
    plan = typed_plan(make(), precision, "origin")
    exported = export_graph(plan, tmp_path)
    assert 0 < exported.error < plan.tolerance
    assert exported.spec.made_from == "origin"
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / plan.file), data_prop=True)
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    types |= {v.name: v.type.tensor_type.elem_type for v in model.graph.output}
    narrow = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    products = [n for n in model.graph.node if n.op_type in {"MatMul", "Gemm", "Conv"}]
    wide = [node for node in products if types[node.output[0]] != narrow]
    # The islands: the timestep's two layers and the two modulations; a decoder has none.
    assert len(wide) == (4 if plan.role == "denoiser" else 0)
    assert len(products) > len(wide)


@pytest.mark.slow
def test_a_typed_graph_that_is_off_is_found_out(tmp_path: Path) -> None:
    plan = typed_plan(plan_of_decoder(), "fp16", "")
    with torch.no_grad():
        next(plan.module.parameters()).mul_(3)
    with pytest.raises(ParityError, match="fp16 vae_decoder is off by"):
        export_graph(plan, tmp_path)


def test_the_built_in_model_is_not_exported_over_itself() -> None:
    words = ["blockout", "--precision", "fp16", "--out", str(shipped_bundle_path())]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 1
    assert "is the built-in model itself: choose another --out" in result.output


@pytest.mark.slow
def test_a_damaged_typed_graph_is_exported_again_and_alone(
    half_blockout: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(half_blockout, tmp_path / "blockout")
    before = open_bundle(root).bundle
    damaged = root / before.graph("vae_decoder", "fp16").file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert add_typed_graphs(root, "fp16").keys() == {"vae_decoder"}
    assert {graph.file for graph in open_bundle(root).bundle.graphs} == {
        graph.file for graph in before.graphs
    }
