from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import torch

from animatic_export.errors import ExportError
from animatic_export.wan.config import CausalConfig
from animatic_export.wan.loading import load_causal_denoiser
from tests.export.wan.self_forcing import SelfForcing
from tests.export.wan.toy import CONFIG, inputs, original_weights, reference, relative_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from animatic_export.wan.causal import CausalWanDenoiser

BLOCK: Final = 3
TIMESTEPS: Final = (1000.0, 625.0, 0.0)
"""Two steps of a block, then the run on its clean latents."""


def causal(window: int) -> CausalWanDenoiser:
    return load_causal_denoiser(
        original_weights(), CausalConfig(denoiser=CONFIG, block=BLOCK, window=window)
    )


def nothing_kept(denoiser: CausalWanDenoiser, latents: Tensor) -> tuple[Tensor, ...]:
    batch, _, _, rows, columns = latents.shape
    shape = (batch, denoiser.causal.window, rows, columns, CONFIG.width // 4)
    return tuple(torch.zeros(shape) for _ in range(2 * CONFIG.layers))


def runs(blocks: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Every run of a clip: its block's place, latents and timesteps, which differ by frame."""
    for block in range(blocks):
        for step, timestep in enumerate(TIMESTEPS):
            latents, _ = inputs(2, 16, BLOCK, 4, 6, seed=10 * block + step)
            frames = torch.tensor([1.0, 0.9, 0.8]) if timestep else torch.ones(BLOCK)
            yield block * BLOCK, latents, timestep * frames.expand(2, -1)


@torch.no_grad()
def test_blocks_are_those_of_self_forcing_when_old_frames_are_forgotten() -> None:
    denoiser = causal(window=2 * BLOCK)
    theirs = SelfForcing(original_weights(), CONFIG, window=2 * BLOCK)
    _, text = inputs(2, 16, BLOCK, 4, 6)
    kept = nothing_kept(denoiser, torch.zeros(2, 16, BLOCK, 4, 6))
    shapes = [memory.shape for memory in kept]
    for position, latents, timesteps in runs(blocks=5):
        velocity, *kept = denoiser(latents, timesteps, text, torch.tensor([position]), *kept)
        expected = theirs.run(latents, timesteps, text, position)
        # In float32, but for its timesteps' and places' angles in float64: that is 4e-6. A frame
        # too many or too few is off by 1e-2.
        assert relative_error(velocity, expected) < 1e-5
        assert [memory.shape for memory in kept] == shapes


class Blockwise:
    """diffusers' own attention, of which a frame does not see what comes after its block."""

    def __init__(self, processor: Any, tokens: int) -> None:
        self.processor = processor
        self.block = BLOCK * tokens

    def __call__(self, attn: Any, x: Tensor, text: Tensor | None, _: None, rotary: Any) -> Tensor:
        mask = None
        if text is None:
            block = torch.arange(x.shape[1]) // self.block
            mask = block[:, None] >= block[None]
        mixed: Tensor = self.processor(attn, x, text, mask, rotary)
        return mixed


@torch.no_grad()
def test_blocks_are_those_of_the_whole_clip_under_a_causal_mask() -> None:
    """While all is kept: the reference sees every frame at once, the past ones clean."""
    denoiser = causal(window=4 * BLOCK)
    whole = reference()
    for block in whole.blocks:
        block.attn1.processor = Blockwise(block.attn1.processor, tokens=6)
    _, text = inputs(2, 16, BLOCK, 4, 6)
    kept = nothing_kept(denoiser, torch.zeros(2, 16, BLOCK, 4, 6))
    past: list[Tensor] = []
    for position, latents, timesteps in runs(blocks=3):
        velocity, *kept = denoiser(latents, timesteps, text, torch.tensor([position]), *kept)
        each = torch.cat([torch.zeros(2, position), timesteps], dim=1)
        of_tokens = each.repeat_interleave(6, dim=1)
        expected = whole(torch.cat([*past, latents], dim=2), of_tokens, text).sample
        assert relative_error(velocity, expected[:, :, position:]) < 1e-5
        if not timesteps.any():
            past.append(latents)


@torch.no_grad()
def test_what_is_not_yet_written_is_not_seen() -> None:
    denoiser = causal(window=3 * BLOCK)
    latents, text = inputs(1, 16, BLOCK, 4, 4)
    given = (latents, torch.full((1, BLOCK), 700.0), text, torch.tensor([0]))
    empty = nothing_kept(denoiser, latents)
    rubbish = [torch.randn_like(memory) * 5 for memory in empty]
    assert torch.equal(denoiser(*given, *empty)[0], denoiser(*given, *rubbish)[0])


@pytest.mark.parametrize("window", [0, 2, 7])
def test_a_window_that_does_not_hold_whole_blocks_is_refused(window: int) -> None:
    message = f"A window of {window} latent frames does not hold whole blocks of 3: choose a mul"
    with pytest.raises(ExportError, match=message):
        CausalConfig(denoiser=CONFIG, window=window)
