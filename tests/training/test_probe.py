from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from animatic_export.blockout.vae import VideoVae
from animatic_training import score_vae
from animatic_training.pixels import PixelShard
from animatic_training.probe import (
    FIRST_SHAPE,
    SHAPE,
    Probe,
    accuracy,
    load_probe,
    read_clips,
    save_probe,
    to_probe,
)
from animatic_training.train_probe import Renders, loss
from animatic_training.world.attributes import CLASSES
from tests.training.toy import read_toml

CPU = torch.device("cpu")
FIRST_PROBE = Path(__file__).parents[1] / "data" / "probe.safetensors"
NAMES = list(CLASSES)


def test_a_probe_says_its_own_shape(tmp_path: Path) -> None:
    small = msgspec.structs.replace(SHAPE, widths=(4, 4), hidden=8, height=32, width=64)
    probe = Probe(small).eval()
    save_probe(probe, tmp_path / "probe.safetensors")
    again = load_probe(tmp_path / "probe.safetensors")
    assert again.shape == small
    pixels = torch.randint(256, (2, 16, 48, 48, 3), dtype=torch.uint8)
    assert read_clips(again, pixels).shape == (2, len(CLASSES))


def test_version_0s_probe_is_still_read() -> None:
    probe = load_probe(FIRST_PROBE)
    assert probe.shape == FIRST_SHAPE
    pixels = torch.zeros(1, 9, 80, 144, 3, dtype=torch.uint8)
    assert read_clips(probe, pixels).shape == (1, 7)


def test_it_sees_the_last_frames_at_its_own_size() -> None:
    pixels = torch.zeros(1, 16, 144, 256, 3, dtype=torch.uint8)
    pixels[0, 3:, :, :, 0] = 255
    seen = to_probe(pixels, CPU)
    assert seen.shape == (1, 13, 3, 144, 256)
    assert (seen[0, :, 0] == 1).all()
    assert to_probe(pixels[:, :, :96, :96], CPU).shape == seen.shape


def test_what_the_second_subject_is_counts_where_there_is_one() -> None:
    labels = np.zeros((4, len(NAMES)), np.int64)
    labels[:2, NAMES.index("relation")] = 1
    readings = labels.copy()
    readings[0, NAMES.index("second")] = 1
    readings[2, NAMES.index("second")] = 1
    shares = accuracy(readings, labels)
    assert shares["second"] == 0.5
    assert shares["subject"] == 1
    assert shares["all"] == 0.5
    assert "second" not in accuracy(readings[2:], labels[2:])


def test_what_passes_is_learnt_from_the_beginnings_of_shots() -> None:
    """Later pieces tell of the subject and not of the camera; the beginnings tell of both."""
    labels = torch.zeros(6, len(NAMES), dtype=torch.int64)
    labels[:3, NAMES.index("colour")] = 1  # the shots that begin
    starts = torch.tensor([0.0, 0.0, 0.0, 2.0, 4.0, 8.0])
    pixels = torch.arange(25, dtype=torch.uint8)[None, :, None, None, None].repeat(6, 1, 4, 4, 3)
    renders = Renders(PixelShard(pixels, labels, starts, torch.zeros(6, 7, 1, 1)))
    rng = np.random.default_rng(0)
    for _ in range(4):
        frames, drawn = renders.draw(8, rng, opening=True)
        assert (frames[:, :, 0, 0, 0] == torch.arange(13)).all()
        assert (drawn[:, NAMES.index("colour")] == 1).all()
    firsts = {int(renders.draw(8, rng, opening=False)[0][0, 0, 0, 0, 0]) for _ in range(20)}
    assert len(firsts) > 5
    logits = [torch.zeros(8, len(CLASSES[name]), requires_grad=True) for name in NAMES]
    _, drawn = renders.draw(8, rng, opening=False)
    loss(logits, drawn, opening=False).backward()
    moved = {name for name, part in zip(NAMES, logits, strict=True) if part.grad is not None}
    assert moved == set(NAMES) - {"camera", "size", "angle", "lens"}


def test_a_flicker_at_the_borders_of_groups_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that darkens every other group by 8 levels errs at borders alone."""
    vae = VideoVae(read_toml(tmp_path).vae)
    pixels = torch.full((1, 25, 32, 32, 3), 100, dtype=torch.uint8)

    def darken(_: VideoVae, clips: torch.Tensor) -> torch.Tensor:
        group = (torch.arange(clips.shape[1]) + 3) // 4
        return clips - (8 * (group % 2)).byte()[None, :, None, None, None]

    monkeypatch.setattr(score_vae, "decode_again", darken)
    scores = score_vae.score_vae(vae, pixels)
    assert scores["vae_step_error_within"] == 0
    assert scores["vae_step_error_border"] == 8
    assert scores["vae_step_error_block"] == 8
    dark = -20 * np.log10(8 / 255)
    assert scores["vae_psnr_place_0"] == pytest.approx(dark + 10 * np.log10(2), abs=0.01)
