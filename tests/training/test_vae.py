from __future__ import annotations

import pytest
import torch
from torch import Tensor

from animatic_export.blockout.config import VaeConfig
from animatic_export.blockout.vae import (
    Decoder,
    Encoder,
    MemoryBlock,
    VideoVae,
    group_frames,
    ungroup_frames,
)
from tests.training.toy import assert_near, shake

CHANNELS, HEIGHT, WIDTH = 8, 32, 48


def config(factor: int) -> VaeConfig:
    width = 12 * factor
    return VaeConfig(
        spatial_factor=16, temporal_factor=factor, latent_channels=CHANNELS, widths=(width,) * 4
    )


@pytest.fixture(params=[2, 4])
def vae(request: pytest.FixtureRequest) -> VideoVae:
    """A VAE whose every branch is awake."""
    made = VideoVae(config(request.param))
    shake(made)
    return made.eval()


def clip(vae: VideoVae, groups: int = 3) -> Tensor:
    frames = 1 + (groups - 1) * vae.factor
    return torch.rand(2, frames, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_ungrouping_undoes_grouping(factor: int) -> None:
    video = torch.rand(2, 1 + 3 * factor, 3, 4, 6)
    groups = group_frames(video, factor)
    assert groups.shape == (2, 4, 3 * factor, 4, 6)
    torch.testing.assert_close(ungroup_frames(groups, factor), video)
    for copy in groups[:, 0].unflatten(1, (factor, 3)).unbind(1):
        torch.testing.assert_close(copy, video[:, 0])


@torch.no_grad()
def test_shapes(vae: VideoVae) -> None:
    video = clip(vae)
    mean, logvar = vae.encode(video)
    assert mean.shape == logvar.shape == (2, CHANNELS, 3, HEIGHT // 16, WIDTH // 16)
    assert logvar.min() >= -12
    assert logvar.max() <= 4
    assert vae.decode(mean).shape == video.shape


@torch.no_grad()
def test_a_fresh_vae_starts_calm() -> None:
    """Its shortcuts alone keep the picture's range, and the latents' noise starts small."""
    vae = VideoVae(config(4)).eval()
    video = clip(vae)
    mean, logvar = vae.encode(video)
    assert logvar.mean() == pytest.approx(-4, abs=0.5)
    made = vae.decode(mean)
    assert made.min() > -0.5
    assert made.max() < 1.5


@torch.no_grad()
@pytest.mark.parametrize("group", [1, 2])
def test_latents_do_not_know_the_future(vae: VideoVae, group: int) -> None:
    video = clip(vae)
    changed = video.clone()
    changed[:, 1 + (group - 1) * vae.factor :] += 0.3
    (before, _), (after, _) = vae.encode(video), vae.encode(changed)
    assert_near(after[:, :, :group], before[:, :, :group])
    assert (after[:, :, group] - before[:, :, group]).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("group", [1, 2])
def test_frames_do_not_know_later_latents(vae: VideoVae, group: int) -> None:
    latents, _ = vae.encode(clip(vae))
    changed = latents.clone()
    changed[:, :, group] += 0.3
    before, after = vae.decode(latents), vae.decode(changed)
    first = 1 + (group - 1) * vae.factor
    assert_near(after[:, :first], before[:, :first])
    assert (after[:, first] - before[:, first]).abs().max() > 0.01


@torch.no_grad()
def test_the_past_is_remembered(vae: VideoVae) -> None:
    video = clip(vae)
    changed = video.clone()
    changed[:, 0] += 0.3
    latents, other = vae.encode(video)[0], vae.encode(changed)[0]
    assert (latents[:, :, 1] - other[:, :, 1]).abs().max() > 1e-3
    moved = latents.clone()
    moved[:, :, 0] += 0.3
    later = slice(1, 1 + vae.factor)
    assert (vae.decode(latents)[:, later] - vae.decode(moved)[:, later]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_streaming_gives_what_the_whole_clip_gives(vae: VideoVae, half: str) -> None:
    network: Encoder | Decoder
    if half == "encoder":
        network, scales = vae.encoder, [8, 16]
        groups = group_frames(clip(vae) * 2 - 1, vae.factor)
    else:
        network, scales = vae.decoder, [16, 16, 8, 4]
        groups = vae.encode(clip(vae))[0].transpose(1, 2)
    blocks = [layer for layer in network.layers if isinstance(layer, MemoryBlock)]
    memories = [
        torch.zeros(len(groups), block.width, HEIGHT // scale, WIDTH // scale)
        for block, scale in zip(blocks, scales, strict=True)
    ]
    made = []
    for group in groups.unbind(1):
        shapes = [memory.shape for memory in memories]
        out, memories = network.step(group, memories)
        assert [memory.shape for memory in memories] == shapes
        made.append(out)
    assert_near(torch.stack(made, dim=1), network(groups))


def test_normalise_gives_zero_mean_and_unit_variance() -> None:
    vae = VideoVae(config(2))
    latents = 3 * torch.randn(64, CHANNELS, 3, 2, 3) + 5
    vae.mean.copy_(latents.mean((0, 2, 3, 4)))
    vae.std.copy_(latents.std((0, 2, 3, 4)))
    normal = vae.normalise(latents)
    assert_near(normal.mean((0, 2, 3, 4)), torch.zeros(CHANNELS))
    assert_near(normal.std((0, 2, 3, 4)), torch.ones(CHANNELS))
    assert_near(vae.denormalise(normal), latents)
    assert {"mean", "std"} <= set(vae.state_dict())
