"""Whole calibrations of the photoreal families, in miniature: their own graphs, random weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import open_bundle
from animatic.text_cache import SWITCH
from tests.calibration.calibrating import PROMPTS, read_report
from tests.calibration.photoreal import FAMILIES, calibrated_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_calibration.report import Report

pytestmark = pytest.mark.slow  # torch exports six graphs

LAYERS = {
    # Two blocks of q, k, v, proj, text_query, text k and v, text_proj, up and down; patch, out and
    # the text's two.
    "wan": {"denoiser": 24, "tiny_decoder": 33, "vae_decoder": 18},
    "causal": {"denoiser": 24, "vae_decoder": 18},
    "ltx": {"denoiser": 24, "vae_decoder": 13},
}
ENDS = {"patch", "embed", "text.0", "out", "first", "last"}
"""What stays high, as layers are not measured one by one."""


@pytest.fixture(params=list(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def root(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated_bundle(kind, tmp_path_factory)


@pytest.fixture
def report(root: Path) -> Report:
    return read_report(root)


def test_clips_stay_near_float32(report: Report) -> None:
    """Random weights hide nothing: their activations have no outliers, int8 is near at once."""
    assert report.measured["fp16"].worst_psnr_db > 50
    assert report.measured["int8"].worst_psnr_db > 30
    assert not report.shortfall
    for measured in report.measured_apart.values():
        assert measured["fp16"].worst_psnr_db > measured["int8"].worst_psnr_db > 30


def test_every_layer_is_found_and_all_but_the_ends_become_narrow(
    kind: str, report: Report, root: Path
) -> None:
    assert Counter(layer.graph for layer in report.layers) == LAYERS[kind]
    kept = {layer.name for layer in report.layers if layer.kept}
    assert kept == ENDS & {layer.name for layer in report.layers}
    for role in LAYERS[kind]:
        nodes = onnx.load(root / f"{role}.int8.onnx").graph.node
        narrow = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        products = [node for node in nodes if node.op_type in {"MatMul", "Gemm", "Conv"}]
        quantised = sum(set(node.input[:2]) <= narrow for node in products)
        assert quantised == sum(layer.graph == role and not layer.kept for layer in report.layers)


def test_every_call_is_heard(kind: str, report: Report) -> None:
    family, prompts = FAMILIES[kind], len(PROMPTS.calibration)
    steps = len(family.sampler.sigmas)
    if kind == "wan":
        # With and without the prompt at each step; either decoder draws three latent frames.
        clip = "64x48, 9 frames, 4 steps, drawn by the tiny_decoder"
        calls = {"denoiser": 2 * steps, "tiny_decoder": 3, "vae_decoder": 3}
    elif kind == "causal":
        # The first block is handed on to the second.
        clip = "64x48, 13 frames, 2 steps, drawn by the vae_decoder"
        calls = {"denoiser": 2 * steps + 1, "vae_decoder": 4}
    else:
        clip = "96x64, 9 frames, 4 steps, drawn by the vae_decoder"
        calls = {"denoiser": steps, "vae_decoder": 1}
    assert report.clip == clip
    assert report.calls == {role: prompts * count for role, count in calls.items()}


def test_states_and_attention_stay_in_half_precision(root: Path) -> None:
    bundle = open_bundle(root).bundle  # verified
    for graph in bundle.graphs:
        if graph.precision != "int8":
            continue
        source = bundle.graph(graph.role, "fp16")
        assert (graph.inputs, graph.outputs, graph.states) == (
            source.inputs,
            source.outputs,
            source.states,
        )
        before, after = (onnx.load(root / g.file).graph for g in (source, graph))
        assert list(after.input) == list(before.input)
        assert list(after.output) == list(before.output)
        counts = [Counter(node.op_type for node in g.node) for g in (before, after)]
        assert counts[0]["Softmax"] == counts[1]["Softmax"]
        assert counts[0]["Cast"] == counts[1]["Cast"]


def test_the_pipeline_plays_it(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    family = FAMILIES[kind]
    shot = Shot("a red truck", size=family.sizes[-1], frames=family.frames[-1], seed=3)
    clips = []
    for precision in (None, "int8"):
        with Pipeline.open(root, device="cpu", precision=precision) as pipeline:
            clips.append(pipeline.clip(shot))
    width, height = family.sizes[-1]
    assert clips[0].shape == (family.frames[-1], height, width, 3)
    # ONNX Runtime's fused int8 kernels saturate without VNNI: only that it is the same picture.
    error = np.square(clips[0].astype(float) - clips[1]).mean()
    assert 10 * np.log10(255**2 / error) > 15
