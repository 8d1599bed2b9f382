from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from animatic.engine import OnnxRuntimeEngine
from animatic_export.errors import CheckpointError
from animatic_export.graph import ExportedGraph, export_graph
from animatic_export.taehv.graph import TinyDecoderGraph, tiny_decoder_again, tiny_decoder_plan
from animatic_export.taehv.names import load_taehv
from animatic_export.weights import read_weights, storage_of
from tests.export.taehv_reference import LTX, WAN, reference

if TYPE_CHECKING:
    from pathlib import Path

SIZES: Final = ((2, 3, 5), (1, 5, 4))
"""Clips, rows and columns of latents."""


def statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean = tuple(0.3 * (n % 5 - 2) for n in range(channels))
    return mean, tuple(1 + 0.5 * (n % 3) for n in range(channels))


def clip(channels: int, clips: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Normalised latents of four frames, and raw ones."""
    generator = torch.Generator().manual_seed(rows)
    latents = torch.randn(clips, channels, 4, rows, columns, generator=generator)
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in statistics(channels))
    return latents, latents * std + mean


def streamed(graph: TinyDecoderGraph, raw: Tensor) -> Tensor:
    clips, _, frames, *grid = raw.shape
    memories = [torch.zeros(clips, count, *grid) for count in graph.decoder.state_channels()]
    made = []
    for n in range(frames):
        pictures, *memories = graph(raw[:, :, n : n + 1], *memories)
        made.append(pictures)
    return torch.cat(made, dim=2)[:, :, graph.decoder.config.temporal_factor - 1 :]


def played(exported: ExportedGraph, folder: Path, raw: Tensor) -> Tensor:
    engine = OnnxRuntimeEngine(folder / exported.spec.file, exported.spec, threads=1)
    frames = [raw[:, :, n : n + 1].numpy() for n in range(raw.shape[2])]
    made = [engine.run({"latents": frame})["frames"] for frame in frames]
    engine.close()
    return torch.from_numpy(np.concatenate(made, axis=2)[:, :, made[0].shape[2] - 1 :])


@torch.no_grad()
@pytest.mark.parametrize(("family", "factors"), [(WAN, (8, 4)), (LTX, (32, 8))])
def test_streamed_frames_are_those_of_the_whole_clip(
    family: tuple[int, tuple[int, ...], int], factors: tuple[int, int]
) -> None:
    theirs, channels = reference(family), family[0]
    decoder = load_taehv(theirs.state_dict() | {"encoder.0.weight": torch.zeros(1)})
    assert (decoder.config.spatial_factor, decoder.config.temporal_factor) == factors
    graph = TinyDecoderGraph(decoder, *statistics(channels))
    for clips, rows, columns in SIZES:
        latents, raw = clip(channels, clips, rows, columns)
        expected = theirs(latents)
        frames, height, width = 1 + 3 * factors[1], rows * factors[0], columns * factors[0]
        assert expected.shape == (clips, 3, frames, height, width)
        assert expected.std() > 0.1
        # Sums in another order, in float32, of frames in [0, 1]; a wrong memory is off by 0.3.
        assert (streamed(graph, raw) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_of_frames_that_are_not_wanted_the_last_is_taken() -> None:
    """As `patch_tgrow_layers` of taehv.py: a growth of 2 where this decoder has none."""
    theirs = reference(WAN)
    tensors = theirs.state_dict()
    name = "decoder.7.conv.weight"
    tensors[name] = torch.cat([torch.zeros_like(tensors[name]), tensors[name]])
    patched, plain = load_taehv(tensors).state_dict(), load_taehv(theirs.state_dict()).state_dict()
    assert all(torch.equal(patched[name], plain[name]) for name in plain)


def test_other_decoders_are_refused() -> None:
    tensors = reference(WAN).state_dict()

    def refused(changed: dict[str, Tensor], sentence: str) -> None:
        with pytest.raises(CheckpointError, match=sentence):
            load_taehv(tensors | changed)

    refused({"decoder.0.weight": torch.zeros(512, 48, 1, 1)}, "a `super` variant: give one with")
    for channels in (48, 32, 24):
        first = torch.zeros(32, channels, 3, 3)
        refused({"decoder.1.weight": first}, f"for latents of {channels} channels")
    refused({"decoder.22.weight": torch.zeros(12, 16, 3, 3)}, "gives 12 channels and not 3")
    refused(
        {"decoder.23.weight": torch.zeros(1)}, r"has a tensor decoder\.23\.weight, which a TAEHV"
    )
    refused(
        {"decoder.13.conv.weight": torch.zeros(24, 24, 1, 1)},
        r"13\.conv\.weight is \[24, 24, 1, 1\] and",
    )
    with pytest.raises(CheckpointError, match=r"has no convolution decoder\.1\.weight"):
        load_taehv({"post_quant_conv.weight": torch.zeros(1)})


@pytest.mark.slow
@torch.no_grad()
def test_the_graph_plays_the_reference_at_two_sizes(tmp_path: Path) -> None:
    theirs = reference(LTX)
    half = storage_of(torch.float16)
    plan = tiny_decoder_plan(load_taehv(theirs.state_dict()), half, *statistics(128))
    exported = export_graph(plan, tmp_path)
    for size in SIZES:
        latents, raw = clip(128, *size)
        off = played(exported, tmp_path, raw) - theirs(latents)
        assert off.abs().max() <= 1e-5  # as above; the weights lose nothing in float16
    weights = read_weights(onnx.load(tmp_path / exported.spec.file))
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    again = tiny_decoder_again(exported.spec.architecture, tensors, half)
    assert replace(again, module=plan.module, examples=plan.examples) == plan
    for name, tensor in plan.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor)
