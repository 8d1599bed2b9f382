"""Blockout's graphs for three generations of cards, compiled by the real TensorRT-RTX."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import onnx
import pytest

from animatic.store import open_bundle
from animatic_engines.layers import NARROW, Layer, arithmetic, kind_of
from tests.engines.building import build, needs_compiler

if TYPE_CHECKING:
    from animatic_engines.build import Outcome

pytestmark = pytest.mark.slow
TARGETS = ("rtx-30", "rtx-40", "rtx-50")
# Attentions of each graph. The text encoder has six layers and the denoiser six blocks; the
# denoiser's seventh is the pooling of a prompt, whose one query is a constant: it has no kernel.
ATTENTIONS = {"text_encoder": 6, "denoiser": 6, "vae_decoder": 0}
POOLING = "1 of 7 attentions are not one fused kernel: "


@pytest.fixture(scope="module")
def bundle(typed_blockout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blockout with typed graphs, a copy to build into."""
    needs_compiler()
    root = tmp_path_factory.mktemp("blockout") / "blockout"
    return Path(shutil.copytree(typed_blockout, root))


def layers_of(root: Path, outcome: Outcome) -> list[Layer]:
    path = root / outcome.entry.file.replace(".plan", ".layers.json")
    return msgspec.json.decode(path.read_bytes(), type=list[Layer])


def table(outcomes: list[Outcome]) -> str:
    """Sizes and times, for the log of the tests."""
    return "\n".join(
        f"{o.entry.target:<8}{o.entry.role:<14}{o.entry.precision:<6}"
        f"{o.sidecar.plan_bytes / 1e6:8.1f} MB{o.sidecar.seconds:8.1f} s"
        f"{(o.sidecar.peak_rss or 0) / 1e6:8.0f} MB  {o.sidecar.layers.words}"
        for o in outcomes
    )


def check_attention(outcome: Outcome) -> None:
    """Every attention is one kernel in half precision, but for the pooling."""
    expected = ATTENTIONS[outcome.entry.role]
    assert outcome.sidecar.layers.attentions == ({"float16": expected} if expected else {})
    said = [warning for warning in outcome.sidecar.warnings if "attention" in warning]
    assert [warning.startswith(POOLING) for warning in said] == [True] * len(said)
    assert len(said) <= (1 if outcome.entry.role == "denoiser" else 0)


def convolutions(graph: Path) -> tuple[int, int]:
    """How many convolutions of a graph read dequantised weights, and how many there are."""
    nodes = onnx.load(graph).graph.node
    narrow = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    found = [node for node in nodes if node.op_type == "Conv"]
    return sum(node.input[1] in narrow for node in found), len(found)


@pytest.mark.parametrize("target", TARGETS)
def test_blockout_in_half_precision(bundle: Path, target: str) -> None:
    outcomes = build(bundle, precision="fp16", target=target)
    print("\n" + table(outcomes))  # noqa: T201
    assert [o.entry.role for o in outcomes] == ["text_encoder", "denoiser", "vae_decoder"]
    for outcome in outcomes:
        check_attention(outcome)
        layers = outcome.sidecar.layers
        assert "int8" not in layers.gemms
        assert set(layers.convolutions) <= {"float16"}
    assert outcomes[2].sidecar.layers.convolutions["float16"] > 0
    # The denoiser's time embedding is an island of float32; all that is large is in half.
    assert outcomes[1].sidecar.layers.gemms["float16"] >= 24
    assert outcomes[0].sidecar.layers.gemms["float16"] >= 24
    open_bundle(bundle)


@pytest.mark.parametrize("target", TARGETS)
def test_blockout_in_8_bits(bundle: Path, target: str) -> None:
    outcomes = build(bundle, precision="int8", target=target)
    print("\n" + table(outcomes))  # noqa: T201
    kinds = [(o.entry.role, o.entry.precision) for o in outcomes]
    assert kinds == [("text_encoder", "fp16"), ("denoiser", "int8"), ("vae_decoder", "int8")]
    for outcome in outcomes[1:]:
        check_attention(outcome)
        # Nothing that the graph quantises is computed in anything wider.
        assert not [warning for warning in outcome.sidecar.warnings if "quantised" in warning]
        narrow = [
            layer
            for layer in layers_of(bundle, outcome)
            if kind_of(layer) in {"gemm", "convolution"} and arithmetic(layer) in NARROW
        ]
        assert narrow
    # What stays: the pooling of the prompt and the float32 island of the time embedding.
    gemms = outcomes[1].sidecar.layers.gemms
    assert gemms["int8"] > 4 * (gemms.get("float16", 0) + gemms.get("float32", 0))
    # Of the convolutions just those that the calibration left in half, which are a few at most.
    quantised, all_of_them = convolutions(bundle / open_bundle(bundle).bundle.graph(*kinds[2]).file)
    made = outcomes[2].sidecar.layers.convolutions
    assert (made["int8"], sum(made.values())) == (quantised, all_of_them)
    assert quantised >= 17
    half = {o.entry.role: o for o in build(bundle, precision="fp16", target=target)}
    for outcome in outcomes[1:]:
        assert outcome.sidecar.plan_bytes < half[outcome.entry.role].sidecar.plan_bytes
    open_bundle(bundle)


def test_all_of_it_again_is_no_work(bundle: Path) -> None:
    for precision in ("fp16", "int8"):
        for target in TARGETS:
            assert not any(o.built for o in build(bundle, precision=precision, target=target))
