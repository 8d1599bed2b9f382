"""Scores of a model: what the probe reads off its clips, and how its seams hold.

A clip counts for an attribute only if the probe reads just what the prompt asked. All shots are of
the usual size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from animatic_training.coding import decode, encode
from animatic_training.probe import accuracy, read_clips
from animatic_training.prompts import SCORE_SEED, ScorePrompt, labels_of
from animatic_training.shots import Model, Shots
from animatic_training.windows import still_position

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.probe import Probe
    from animatic_training.text import CaptionEncoder

BATCH: Final = 24
"""Shots made at once."""
LONG_BLOCKS: Final = 4
STILL_FRAME: Final = 8
"""The frame for which a picture is given in the middle of a block."""


@dataclass(frozen=True)
class Jury:
    """What scores a model."""

    vae: VideoVae
    probe: Probe
    encoder: CaptionEncoder
    grid: tuple[int, int, int]
    """Channels, rows and columns of the usual size's latents."""

    def shots(self, model: Model, prompts: Sequence[ScorePrompt], number: int) -> Shots:
        """Begin one batch of shots."""
        captions = [prompt.text for prompt in prompts]
        return Shots(model, self.encoder, captions, self.grid, SCORE_SEED + number)


def _batches(prompts: Sequence[ScorePrompt]) -> Iterator[tuple[int, Sequence[ScorePrompt]]]:
    for first in range(0, len(prompts), BATCH):
        yield first, prompts[first : first + BATCH]


def score_clips(jury: Jury, model: Model, prompts: Sequence[ScorePrompt]) -> dict[str, float]:
    """Return the probe's accuracy per attribute over first blocks."""
    readings = torch.cat(
        [
            torch.from_numpy(
                read_clips(jury.probe, decode(jury.vae, jury.shots(model, part, number).opening()))
            )
            for number, part in _batches(prompts)
        ]
    )
    return accuracy(readings.numpy(), labels_of(prompts))


def score_long(jury: Jury, model: Model, prompts: Sequence[ScorePrompt]) -> dict[str, float]:
    """Score shots of four blocks: accuracy at blocks 2 to 4, and the jump at their seams.

    A seam is how far the first frame of a block is from the frame before it, over the mean distance
    of neighbouring frames: 1 is no jump.
    """
    readings: dict[int, list[Tensor]] = {n: [] for n in range(2, LONG_BLOCKS + 1)}
    seams = []
    for number, part in _batches(prompts):
        shots = jury.shots(model, part, number)
        latents = shots.opening()
        for _ in range(LONG_BLOCKS - 1):
            latents = torch.cat([latents, shots.further(latents)], dim=2)
        pixels = decode(jury.vae, latents)
        steps = distances(pixels)
        for block, own in readings.items():
            end = 16 * block - 3  # 13 frames, and 16 for every further block
            own.append(torch.from_numpy(read_clips(jury.probe, pixels[:, :end])))
            seams.append(steps[:, end - 17] / steps.mean(1).clamp(min=1e-6))
    labels = labels_of(prompts)
    scores = {"seam": float(torch.cat(seams).mean())}
    for block, own in readings.items():
        shares = accuracy(torch.cat(own).numpy(), labels)
        scores |= {f"block{block}_{name}": share for name, share in shares.items()}
    return scores


def score_loop(jury: Jury, model: Model, prompts: Sequence[ScorePrompt]) -> dict[str, float]:
    """Score loops of two blocks: how far the last frame is from the first, as `score_long`."""
    ratios = []
    for number, part in _batches(prompts):
        shots = jury.shots(model, part, number)
        opening = shots.opening()
        # What the loop leads to is its own beginning, seen as four frames of a shot that runs.
        shown = decode(jury.vae, opening)
        towards = encode(jury.vae, torch.cat([shown[:, :1], shown[:, :4]], dim=1))[:, :, 1:]
        pixels = decode(jury.vae, torch.cat([opening, shots.further(opening, towards)], dim=2))
        closing = distances(torch.stack([pixels[:, -1], pixels[:, 0]], dim=1))[:, 0]
        ratios.append(closing / distances(pixels).mean(1).clamp(min=1e-6))
    return {"gap": float(torch.cat(ratios).mean())}


def score_given(
    jury: Jury, model: Model, prompts: Sequence[ScorePrompt], pixels: Tensor
) -> dict[str, float]:
    """Score given pictures by PSNR in dB, with what the VAE alone leaves of them.

    `pixels` uint8 [N, F, H, W, 3] are renders of what the prompts say. One picture is given for the
    first frame, or one for the middle of the block.
    """
    errors: dict[str, list[Tensor]] = {}
    for number, part in _batches(prompts):
        own = pixels[number : number + len(part)]
        first, middle = own[:, :1], own[:, STILL_FRAME : STILL_FRAME + 1]
        picture, still = encode(jury.vae, first), encode(jury.vae, middle)
        place = float(still_position(torch.tensor(STILL_FRAME)))
        begun = decode(jury.vae, jury.shots(model, part, number).opening(picture))
        passed = decode(jury.vae, jury.shots(model, part, number).opening(still=(still, place)))
        shown = {
            "first_frame": (begun[:, 0], first),
            "middle_frame": (passed[:, STILL_FRAME], middle),
            "first_frame_ceiling": (decode(jury.vae, picture)[:, 0], first),
            "middle_frame_ceiling": (decode(jury.vae, still)[:, 0], middle),
        }
        for name, (made, wanted) in shown.items():
            difference = made.float() - wanted[:, 0].to(made.device).float()
            errors.setdefault(name, []).append((difference / 255).square().mean((1, 2, 3)))
    return {
        f"{name}_psnr": float(-10 * torch.log10(torch.cat(parts)).mean())
        for name, parts in errors.items()
    }


def distances(pixels: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring frames, [B, F - 1], in levels of 255."""
    return pixels.float().diff(dim=1).abs().mean((2, 3, 4))
