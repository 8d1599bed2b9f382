"""The graphs: exported, run by ONNX Runtime, rebuilt from themselves, compiled for a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch

from animatic.bundle import AxisRange
from animatic.engine import OnnxRuntimeEngine
from animatic_export.graph import export_graph
from animatic_export.ltx.graphs import ltx_decoder_plan, ltx_denoiser_plan
from animatic_export.ltx.loading import (
    decoder_again,
    denoiser_again,
    load_decoder,
    load_denoiser,
)
from animatic_export.weights import read_weights, storage_of
from tests.engines.building import needs_compiler
from tests.export.ltx.published import (
    CHANNELS,
    TEXT_WIDTH,
    decoder_shape,
    denoiser_shape,
    relative,
)

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import GraphSpec
    from animatic_engines.messages import Compiled
    from animatic_export.graph import ExportedGraph, GraphPlan

pytestmark = pytest.mark.slow
RANGES = (("batch", 1, 1), ("frames", 1, 5), ("rows", 2, 4), ("columns", 2, 6), ("tokens", 1, 16))


@pytest.fixture(scope="module")
def denoiser_plan(transformer: Any) -> GraphPlan:
    denoiser = load_denoiser(transformer.state_dict(), denoiser_shape(transformer))
    return ltx_denoiser_plan(denoiser, storage_of(torch.float32))


@pytest.fixture(scope="module")
def decoder_plan(vae: Any) -> GraphPlan:
    decoder = load_decoder(vae.state_dict(), decoder_shape(vae))
    return ltx_decoder_plan(decoder, storage_of(torch.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ltx")


@pytest.fixture(scope="module")
def denoiser(denoiser_plan: GraphPlan, folder: Path) -> ExportedGraph:
    return export_graph(denoiser_plan, folder)


@pytest.fixture(scope="module")
def decoder(decoder_plan: GraphPlan, folder: Path) -> ExportedGraph:
    return export_graph(decoder_plan, folder)


def run(folder: Path, spec: GraphSpec, **inputs: torch.Tensor) -> torch.Tensor:
    engine = OnnxRuntimeEngine(folder / spec.file, spec)
    made = engine.run({name: value.numpy() for name, value in inputs.items()})
    engine.close()
    return torch.from_numpy(made[spec.outputs[0].name])


def weights(folder: Path, spec: GraphSpec) -> dict[str, torch.Tensor]:
    model = onnx.load(folder / spec.file)
    return {name: torch.from_numpy(array.copy()) for name, array in read_weights(model).items()}


def compiled(folder: Path, spec: GraphSpec) -> Compiled:
    """Build for an RTX 40, strongly typed, from one latent frame to 9 and 2 cells to 8."""
    needs_compiler()
    from animatic_engines.compiler import compile_graph
    from animatic_engines.messages import CompileJob

    job = CompileJob(
        backend="tensorrt_rtx",
        graph=str(folder / spec.file),
        spec=spec,
        compute_capability=(8, 9),
        profile=tuple(
            AxisRange(axis=axis, minimum=least, optimum=usual, maximum=max(usual, 8))
            for axis, least, usual in RANGES
        ),
        workspace=1 << 30,
        folder=str(folder),
    )
    return compile_graph(job, lambda _step: None)


@pytest.mark.parametrize("size", [(2, 3, 2, 4, 7), (1, 1, 4, 2, 1)])
def test_the_denoiser_runs_at_any_size(
    denoiser_plan: GraphPlan, denoiser: ExportedGraph, folder: Path, size: tuple[int, ...]
) -> None:
    batch, frames, rows, columns, tokens = size
    inputs = {
        "latents": torch.randn(batch, CHANNELS, frames, rows, columns),
        "timesteps": torch.rand(batch, frames) * 1000,
        "text_states": torch.randn(batch, tokens, TEXT_WIDTH),
    }
    made = run(folder, denoiser.spec, **inputs)
    # The highest frequencies turn by 15,708 radians, of which a float32 tells thousandths.
    assert relative(made, denoiser_plan.module(*inputs.values())) < denoiser_plan.tolerance


@pytest.mark.parametrize("size", [(2, 2, 2, 3), (1, 1, 1, 1), (1, 5, 1, 2)])
def test_the_decoder_runs_at_any_size(
    decoder_plan: GraphPlan, decoder: ExportedGraph, folder: Path, size: tuple[int, ...]
) -> None:
    batch, *grid = size
    raw = torch.randn(batch, CHANNELS, *grid)
    made = run(folder, decoder.spec, latents=raw)
    assert made.shape == (batch, 3, 8 * grid[0], 32 * grid[1], 32 * grid[2])
    assert relative(made, decoder_plan.module(raw)) < 1e-5  # sums in other orders


def test_a_bundle_gives_the_networks_back(
    denoiser_plan: GraphPlan,
    decoder_plan: GraphPlan,
    denoiser: ExportedGraph,
    decoder: ExportedGraph,
    folder: Path,
) -> None:
    for exported, plan, again in (
        (denoiser, denoiser_plan, denoiser_again),
        (decoder, decoder_plan, decoder_again),
    ):
        module = again(exported.spec.architecture, weights(folder, exported.spec))
        state = plan.module.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        assert len(module.state_dict()) == len(state)
