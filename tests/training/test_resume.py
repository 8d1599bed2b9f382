"""A stage that is stopped and goes on ends with the very weights of one that was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from animatic_export.blockout.window import WindowDenoiser
from animatic_training import budget
from animatic_training import train_denoiser as train_denoiser_module
from animatic_training.batches import Batches
from animatic_training.budget import Budget, read_checkpoint
from animatic_training.distill import distil, student_file
from animatic_training.objective import FlowObjective
from animatic_training.pixels import PixelShard
from animatic_training.train_denoiser import (
    begin_with,
    reader_weights,
    still_phase,
    train_denoiser,
    window_phase,
)
from animatic_training.train_vae import train_vae
from tests.training.toy import Clock, WordEncoder, latent_set, shake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from animatic_training.batches import Batch
    from animatic_training.config import Config

CPU = torch.device("cpu")
CHECKPOINT_STEPS = 2


def tick(patch: pytest.MonkeyPatch, steps: int, minutes: float) -> None:
    """Let a stage take so many steps, and a checkpoint every other."""
    seconds = 60 * minutes / (steps - 0.5)
    patch.setattr(budget, "time", Clock(seconds))
    patch.setattr(budget, "CHECKPOINT_SECONDS", (CHECKPOINT_STEPS - 0.5) * seconds)


def weights_of(
    train: Callable[[Path], object], path: Path, key: str, minutes: float, stop: int | None
) -> dict[str, torch.Tensor]:
    path.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        tick(patch, 5, minutes)
        if stop is not None:
            left = iter(range(stop))

            def note(_: Budget, **figures: object) -> None:
                del figures
                if next(left, None) is None:
                    raise KeyboardInterrupt

            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(Budget, "note", note)
                with pytest.raises(KeyboardInterrupt):
                    train(path.parent)
            early = read_checkpoint(path)
            assert early is not None
            assert not early["done"]
            assert 0 < early["step"] <= stop
        train(path.parent)
    state = read_checkpoint(path)
    assert state is not None
    assert state["done"]
    assert state["step"] == 5
    weights: dict[str, torch.Tensor] = state[key]
    return weights


def assert_resumes(
    train: Callable[[Path], object], folder: Path, file: str, key: str, minutes: float
) -> None:
    whole = weights_of(train, folder / "whole" / file, key, minutes, None)
    halted = weights_of(train, folder / "halted" / file, key, minutes, 3)
    assert all(torch.equal(whole[name], halted[name]) for name in whole)
    before = (folder / "halted" / file).stat().st_mtime_ns
    train(folder / "halted")  # nothing is left to do
    assert (folder / "halted" / file).stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["still", "piece"])
def test_the_denoiser(config: Config, tmp_path: Path, kind: str) -> None:
    batches = Batches([latent_set(config, kind=kind)], WordEncoder(12, CPU), text_dropout=0.1)
    phase = still_phase(config) if kind == "still" else window_phase(config)

    def train(run: Path) -> None:
        train_denoiser(config, phase, batches, run, CPU, {})

    assert_resumes(train, tmp_path, phase.file, "ema", phase.minutes)


def test_captions_are_read_once_and_tokens_left_out_at_first(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stills = Batches([latent_set(config, kind="still")], WordEncoder(12, CPU))
    pieces = Batches([latent_set(config)], WordEncoder(12, CPU))
    read, looked = [], []

    def forward(own: FlowObjective, batch: Batch, noise: Tensor, level: Tensor, kept: Any) -> Any:
        looked.append(kept is None)
        return flow(own, batch, noise, level, kept)

    flow = FlowObjective.forward
    monkeypatch.setattr(train_denoiser_module, "learn_to_read", lambda *_: read.append(True))
    monkeypatch.setattr(FlowObjective, "forward", forward)
    phase = still_phase(config)
    tick(monkeypatch, 8, phase.minutes)
    begun = train_denoiser(config, phase, stills, tmp_path, CPU, {}).state_dict()
    assert (len(read), looked) == (1, [False] * 6 + [True] * 2)
    train_denoiser(config, phase, stills, tmp_path, CPU, {})  # it is done
    train_denoiser(config, window_phase(config), pieces, tmp_path, CPU, {})
    folders = [tmp_path / name for name in ("begun", "partly")]
    for folder in folders:
        folder.mkdir()
    train_denoiser(config, phase, stills, folders[0], CPU, begun)
    assert len(read) == 1
    without = {name: weight for name, weight in begun.items() if name != "pool.queries"}
    train_denoiser(config, phase, stills, folders[1], CPU, without)
    assert len(read) == 2


def test_how_latents_vary_is_measured_once(config: Config, tmp_path: Path) -> None:
    stills = Batches([latent_set(config, kind="still")], WordEncoder(12, CPU))
    pieces = Batches([latent_set(config)], WordEncoder(12, CPU))
    with pytest.MonkeyPatch.context() as patch:
        tick(patch, 1, config.train.still_minutes)
        first = train_denoiser(config, still_phase(config), stills, tmp_path, CPU, {}).state_dict()
        tick(patch, 1, config.train.minutes)
        then = train_denoiser(config, window_phase(config), pieces, tmp_path, CPU, first)
    cells = stills.cells()
    assert cells.shape[1] == config.window.latent_channels
    measured = (cells @ first["spectrum.basis"]).var(0)
    torch.testing.assert_close(first["spectrum.variances"], measured, rtol=1e-3, atol=1e-3)
    for name in ("spectrum.basis", "spectrum.variances"):
        assert torch.equal(then.state_dict()[name], first[name])


def test_the_reader_may_be_begun_with_too(config: Config) -> None:
    trained, fresh = (FlowObjective(WindowDenoiser(config.window), 1.0) for _ in range(2))
    shake(trained)
    assert begin_with(fresh, reader_weights(trained.state_dict())) == {
        f"reader.{name}" for name in trained.reader.state_dict()
    }
    for ours, theirs in zip(fresh.reader.parameters(), trained.reader.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not fresh.denoiser.out.weight.any()


@pytest.mark.parametrize("method", ["dmd", "perflow"])
def test_distillation(config: Config, tmp_path: Path, method: str) -> None:
    batches = Batches([latent_set(config)], WordEncoder(12, CPU))
    teacher = WindowDenoiser(config.window)
    shake(teacher)

    def train(run: Path) -> None:
        distil(config, method, teacher, batches, run)

    assert_resumes(train, tmp_path, student_file(method), "ema", config.distill.minutes)


def test_the_vae(config: Config, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 25, 32, 64, 3), dtype=torch.uint8, generator=generator)
    shard = PixelShard(pixels, torch.zeros(4, 13), torch.zeros(4), torch.zeros(4, 7, 2, 4))

    def train(run: Path) -> None:
        train_vae(config, [shard], run, CPU, {})

    assert_resumes(train, tmp_path, "vae.pt", "model", config.vae_training.minutes)


def test_training_begins_with_what_fits(config: Config, tmp_path: Path) -> None:
    batches = Batches([latent_set(config, kind="still")], WordEncoder(12, CPU))
    beginning = WindowDenoiser(config.window)
    shake(beginning)
    weights = beginning.state_dict() | {"embed.weight": torch.zeros(3, 3), "another": torch.ones(1)}
    with pytest.MonkeyPatch.context() as patch:
        tick(patch, 1, config.train.still_minutes)
        made = train_denoiser(config, still_phase(config), batches, tmp_path, CPU, weights)
    key = "blocks.1.up.weight"
    own, theirs = made.state_dict()[key], weights[key]
    assert torch.nn.functional.cosine_similarity(own.flatten(), theirs.flatten(), dim=0) > 0.99
