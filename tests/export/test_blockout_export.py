from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from animatic import Pipeline, Shot
from animatic.store import open_bundle
from animatic_export.blockout.config import DenoiserConfig, VaeConfig
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.minilm import load_minilm, minilm_folder
from animatic_export.blockout.vae import VideoVae
from animatic_export.cli import command

if TYPE_CHECKING:
    from pathlib import Path

VAE = VaeConfig(spatial_factor=16, temporal_factor=4, latent_channels=8, widths=(48, 48, 48, 48))
DENOISER = DenoiserConfig(
    latent_channels=8,
    frames=3,
    rows=2,
    columns=3,
    width=32,
    depth=2,
    heads=2,
    text_width=384,
    text_queries=2,
)
SIGMAS = [1.0, 0.75, 0.5]
CLIP = {"width": 48, "height": 32, "frames": 9, "fps": 8}


def write_checkpoint(path: Path) -> tuple[VideoVae, Denoiser]:
    """A tiny untrained Blockout; the zero-initialised layers are given weights, so all counts."""
    torch.manual_seed(0)
    vae, denoiser = VideoVae(VAE), Denoiser(DENOISER)
    for parameter in [*vae.parameters(), *denoiser.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    tensors = {f"vae.{n}": t.half() for n, t in vae.state_dict().items()}
    tensors |= {f"denoiser.{n}": t.half() for n, t in denoiser.state_dict().items()}
    metadata = {
        "format": "blockout-1",
        "vae": msgspec.json.encode(VAE).decode(),
        "denoiser": msgspec.json.encode(DENOISER).decode(),
        "clip": json.dumps(CLIP),
        "sigmas": json.dumps(SIGMAS),
        "scores": json.dumps({"student_all": 0.5}),
    }
    save_file(tensors, path, metadata)
    vae.load_state_dict({n: t.half().float() for n, t in vae.state_dict().items()})
    denoiser.load_state_dict({n: t.half().float() for n, t in denoiser.state_dict().items()})
    return vae.eval(), denoiser.eval()


def export(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "There is no checkpoint"), (b"\x08\0\0\0\0\0\0\0{}", "truncated or not")],
)
def test_a_bad_checkpoint_is_refused_and_nothing_is_left(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    checkpoint = tmp_path / "c.safetensors"
    if content is not None:
        checkpoint.write_bytes(content[:6])
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert sentence in result.output
    assert [p.name for p in tmp_path.iterdir() if p != checkpoint] == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    save_file({"x": torch.zeros(1)}, checkpoint, {"format": "pt"})
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert "not a Blockout checkpoint" in result.output


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious").touch()
    result = export(
        "blockout", "--checkpoint", str(tmp_path / "c"), "--out", str(tmp_path / "b"), "--force"
    )
    assert result.exit_code == 1
    assert (tmp_path / "b" / "precious").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's exporter warns of its own internals
def test_an_exported_bundle_makes_the_clip_that_torch_makes(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "c.safetensors", tmp_path / "bundle"
    vae, denoiser = write_checkpoint(checkpoint)
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(out))
    assert result.exit_code == 0, result.output
    opened = open_bundle(out)
    assert opened.bundle.provenance.source == "c.safetensors"
    assert opened.bundle.scores["student_all"] == 0.5
    assert opened.bundle.scores["gflop_per_clip"] > 0
    assert sorted(p.name for p in out.iterdir()) == [
        "bundle.json",
        "denoiser.onnx",
        "licences",
        "text_encoder.onnx",
        "tokenizer.json",
        "vae_decoder.onnx",
    ]

    shot = Shot("a red truck drives left", seed=5)
    with Pipeline.open(out) as pipeline:
        made = pipeline.clip(shot)
        wanted = torch_clip(pipeline, vae, denoiser, shot)
    assert made.shape == wanted.shape == (9, 32, 48, 3)
    assert made.std() > 1
    assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1

    # A second export needs --force, and leaves the bundle whole.
    again = export("blockout", "--checkpoint", str(checkpoint), "--out", str(out))
    assert again.exit_code == 1
    assert "--force" in again.output


@torch.no_grad()
def torch_clip(pipeline: Pipeline, vae: VideoVae, denoiser: Denoiser, shot: Shot) -> np.ndarray:
    """The same chain in torch: whole-clip decode, one Euler loop; text states are the bundle's."""
    from animatic.noise import NoiseStream

    states = torch.from_numpy(pipeline._encode(shot.prompt)["text_states"])
    shape = (1, VAE.latent_channels, DENOISER.frames, DENOISER.rows, DENOISER.columns)
    x = torch.from_numpy(NoiseStream(shot.seed, 0).initial(0, shape))
    for now, following in zip(SIGMAS, [*SIGMAS[1:], 0.0], strict=True):
        times = torch.full((1, DENOISER.frames), 1000 * now)
        x = x + (following - now) * denoiser(x, times, states)
    video = vae.decode(vae.denormalise(x)).clamp(0, 1)
    pixels: np.ndarray = (video[0].permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return pixels


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_text_encoder_keeps_its_token_states_in_8_bits(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from animatic.engine import OnnxRuntimeEngine
    from animatic_export.blockout.graphs import text_encoder_plan
    from animatic_export.graph import export_graph

    model = load_minilm(minilm_folder() / "model.safetensors")
    exported = export_graph(text_encoder_plan(model), tmp_path)
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    engine = OnnxRuntimeEngine(tmp_path / exported.spec.file, exported.spec)
    for prompt in (
        "a red truck drives left through a desert at sunset, slow dolly in",
        "EXT. CANYON - DUSK. A stallion gallops toward the camera. Crane up.",
        "x",
    ):
        ids = np.array([tokenizer.encode(prompt).ids])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        made = engine.run(feeds)["text_states"][0]
        with torch.no_grad():
            wanted = model(*(torch.from_numpy(v) for v in feeds.values()))[0].numpy()
        cosine = (made * wanted).sum(1) / np.linalg.norm(made, axis=1)
        assert (cosine / np.linalg.norm(wanted, axis=1)).min() >= 0.999


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_bundle_can_be_read_back_into_torch(tmp_path: Path) -> None:
    from animatic_export.blockout.from_bundle import read_decoder, read_denoiser

    checkpoint, out = tmp_path / "c.safetensors", tmp_path / "bundle"
    vae, denoiser = write_checkpoint(checkpoint)
    assert export("blockout", "--checkpoint", str(checkpoint), "--out", str(out)).exit_code == 0
    opened = open_bundle(out)
    again = read_denoiser(opened)
    assert again.config == denoiser.config
    for ours, theirs in (
        (again.state_dict(), denoiser.state_dict()),
        (read_decoder(opened).state_dict(), vae.decoder.state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name
