"""inspect, doctor and bench on models with tiers, guidance, two decoders, context, costly text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from animatic.bundle import Adapter, AxisRange, FileRef
from animatic.store import open_bundle, write_bundle
from tests.runtime.tiny_bundle import write_causal_bundle, write_choosy_bundle
from tests.runtime.tiny_roles import add_engines, add_graphs, write_costly_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runtime.command_line import Run

replace = msgspec.structs.replace


@pytest.fixture
def choosy(tmp_path: Path) -> Path:
    return write_choosy_bundle(tmp_path / "choosy")


@pytest.fixture
def causal(tmp_path: Path) -> Path:
    return write_causal_bundle(tmp_path / "causal")


@pytest.fixture
def costly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle with a costly text encoder; what the command keeps of its states is nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield write_costly_bundle(tmp_path / "costly")
    assert not list((tmp_path / "cache").rglob("*.npy"))


def lines(run: Run, bundle: Path) -> list[str]:
    result = run("inspect", str(bundle))
    assert (result.code, result.err) == (0, "")
    return [" ".join(line.split()) for line in result.out.splitlines()]


def test_inspect_shows_what_a_shot_may_choose(run: Run, choosy: Path) -> None:
    bundle = open_bundle(choosy).bundle
    adapter = Adapter(file="fast.safetensors", sha256="ab" * 32, strength=0.75)
    merged = replace(bundle.provenance, adapters=(adapter,))
    text = replace(bundle.text, states_length=32)
    write_bundle(choosy, replace(bundle, provenance=merged, text=text))
    shown = lines(run, choosy)
    for line in (
        "adapter fast.safetensors (abababababab), strength 0.75, merged into the denoiser",
        "tier preview: 32x16, 2 steps, tiny_decoder",
        "tier final: 64x48, 4 steps, vae_decoder",
        "decoder vae_decoder, latent frame by latent frame",
        "decoder tiny_decoder, latent frame by latent frame, the usual one",
        "text up to 16 tokens, their states padded to 32",
        "sampler unipc, 4 steps, sigmas 0.999999, 0.75, 0.5, 0.25, timesteps 999, 750, 500, 250",
        "or 2 steps, sigmas 1, 0.5",
        "guidance 4, away from 'blurred'; the denoiser runs twice a step",
    ):
        assert line in shown
    assert not any(line.startswith("context") for line in shown)


def test_inspect_shows_context_and_the_memory_of_states(run: Run, causal: Path) -> None:
    add_graphs(causal, "fp16", ("denoiser",))
    add_engines(causal, roles=("denoiser",))
    bundle = open_bundle(causal).bundle
    wide = [
        replace(
            graph,
            inputs=tuple(
                replace(t, shape=("batch", 4096, "rows", "columns")) if t.name == "state_0" else t
                for t in graph.inputs
            ),
        )
        if graph.role == "denoiser"
        else graph
        for graph in bundle.graphs
    ]
    profile = tuple(
        AxisRange(axis=axis, minimum=1, optimum=1, maximum=most)
        for axis, most in (("batch", 1), ("columns", 8), ("rows", 12))
    )
    engine = replace(bundle.engines[0], profile=profile)
    write_bundle(causal, replace(bundle, graphs=tuple(wide), engines=(engine,)))
    shown = lines(run, causal)
    for line in (
        "frames 9, and any number of blocks of 12 more, at 8/1 per second",
        "context blocks of 3 latent frames, each run once more at timestep 0",
        "guidance none; the denoiser runs once a step",
        "and 1 state carried from call to call, 0.8 MiB at 64x48",  # 4096 * 6 * 8 * 4 bytes
        # 4096 * 12 * 8 * 4 bytes, twice.
        f"engine denoiser: rtx-40 fp16, tensorrt_rtx, 3.0 MiB for states: {engine.file}",
    ):
        assert line in shown


def test_inspect_counts_weights_that_lie_beside_a_graph(run: Run, costly: Path) -> None:
    bundle = open_bundle(costly).bundle
    (costly / "denoiser.onnx.data").write_bytes(bytes(3 << 20))
    data = FileRef(file="denoiser.onnx.data", sha256="0" * 64)
    denoiser = replace(bundle.graph("denoiser"), external_data=(data,))
    graphs = tuple(denoiser if g.role == "denoiser" else g for g in bundle.graphs)
    write_bundle(costly, replace(bundle, graphs=graphs))
    shown = lines(run, costly)
    assert "graph denoiser: denoiser.onnx, float32, 3.0 MiB" in shown
    assert "text up to 16 tokens; costly: loaded for new prompts only, on the processor" in shown
    (costly / "denoiser.onnx.data").unlink()
    assert "graph denoiser: denoiser.onnx, float32, missing" in lines(run, costly)


def test_doctor_takes_the_quickest_way(run: Run, choosy: Path) -> None:
    found = json.loads(run("doctor", "--bundle", str(choosy), "--json").out)["inference"]
    assert (found["tier"], found["size"], found["steps"]) == ("preview", "32x16", 2)
    assert (found["decoder"], found["frames"]) == ("tiny_decoder", 5)


def test_doctor_runs_a_costly_text_encoder(run: Run, costly: Path) -> None:
    for _ in range(2):
        report = json.loads(run("doctor", "--bundle", str(costly), "--json").out)
        assert report["ok"]
        assert "tier" not in report["inference"]
    (costly / "text_encoder.onnx").unlink()
    report = json.loads(run("doctor", "--bundle", str(costly), "--json").out)
    assert "text_encoder.onnx of the bundle is missing" in report["inference"]["error"]


def test_bench_measures_a_tier(run: Run, choosy: Path) -> None:
    result = run("bench", "--bundle", str(choosy), "--tier", "preview", "--runs", "1")
    assert result.code == 0, result.err
    report = json.loads(result.out.splitlines()[-1])
    assert (report["tier"], report["size"], report["steps"]) == ("preview", "32x16", 2)
    assert (report["guidance"], report["decoder"]) == (4, "tiny_decoder")
    assert set(report["precision"]) == {"text_encoder", "denoiser", "tiny_decoder"}
    assert set(report["stage_share"]) == {"text", "denoise", "decode"}
    assert "gflop_per_clip" not in report  # which is of the usual clip


@pytest.mark.slow
def test_bench_runs_a_costly_text_encoder_every_time(run: Run, costly: Path) -> None:
    result = run("bench", "--bundle", str(costly), "--runs", "1")
    assert result.code == 0, result.err
    report = json.loads(result.out.splitlines()[-1])
    assert "tier" not in report
    assert report["stage_share"]["text"] > 0


def test_bench_knows_the_tiers_before_it_measures(run: Run, choosy: Path) -> None:
    result = run("bench", "--bundle", str(choosy), "--tier", "draft")
    assert (result.code, result.out) == (1, "")
    assert result.err == "animatic: This model has no such tier; choose preview or final.\n"
