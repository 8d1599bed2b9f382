"""What another machine goes on from: weights and clock, in small parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from animatic_training import budget
from animatic_training.batches import Batches
from animatic_training.budget import Stopped, read_checkpoint, write_checkpoint
from animatic_training.distill import distil
from animatic_training.handover import hand_over, take_up
from animatic_training.parts import PartsError
from animatic_training.stages import STAGES, StageError, Workplace
from animatic_training.train_denoiser import train_denoiser, window_phase
from tests.training.toy import Clock, WordEncoder, latent_set, shake

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_training.config import Config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _steps_of_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "time", Clock(0.5))


@pytest.fixture
def batches(config: Config) -> Batches:
    return Batches([latent_set(config)], WordEncoder(12, CPU))


def state_of(path: Path) -> dict[str, Any]:
    state = read_checkpoint(path)
    assert state is not None
    return state


def test_a_denoiser_that_was_stopped_goes_on_elsewhere(
    config: Config, batches: Batches, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    phase, steps = window_phase(config), iter([False, True])
    with pytest.raises(Stopped):
        train_denoiser(config, phase, batches, here, CPU, {}, stop=lambda: next(steps))
    hand_over(here, "denoiser.pt", 200_000)
    parts = list((here / "handover").iterdir())
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) <= 200_000
    assert take_up(here / "handover", there) == ["denoiser.pt"]
    assert take_up(here / "handover", there) == []  # what is there is not written over
    before, after = state_of(here / "denoiser.pt"), state_of(there / "denoiser.pt")
    assert (after["step"], after["done"]) == (2, False)
    assert after["used"] == before["used"]
    reader = "reader.heads.0.weight"
    for ours, theirs in (
        (after["ema"]["embed.weight"], before["ema"]["embed.weight"]),
        (after["objective"]["denoiser.embed.weight"], before["ema"]["embed.weight"]),
        (after["objective"][reader], before["objective"][reader]),
    ):
        assert torch.equal(ours, theirs.half().float())
    train_denoiser(config, phase, batches, there, CPU, {})
    assert state_of(there / "denoiser.pt")["done"]


@pytest.mark.parametrize("method", ["dmd", "perflow"])
def test_a_student_that_was_stopped_goes_on_elsewhere(
    config: Config, batches: Batches, tmp_path: Path, method: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    teacher = WindowDenoiser(config.window)
    shake(teacher)
    with pytest.raises(Stopped):
        distil(config, method, teacher, batches, here, stop=lambda: True)
    file = f"student-{method}.pt"
    hand_over(here, file, 10_000_000)
    assert take_up(here / "handover", there) == [file]
    distil(config, method, teacher, batches, there)
    assert state_of(there / file)["done"]


def test_a_vae_is_handed_over_with_its_statistics(config: Config, tmp_path: Path) -> None:
    vae = VideoVae(config.vae)
    vae.std.fill_(0.5)
    state = {"model": vae.state_dict(), "used": 9.0, "step": 4, "done": True}
    write_checkpoint(tmp_path / "vae.pt", state)
    hand_over(tmp_path, "vae.pt", 100_000)
    (tmp_path / "vae.pt").unlink()
    assert take_up(tmp_path / "handover", tmp_path) == ["vae.pt"]
    taken = state_of(tmp_path / "vae.pt")
    vae.load_state_dict(taken["model"])
    assert (vae.std == 0.5).all()
    assert (taken["used"], taken["step"], taken["done"]) == (9.0, 4, True)


def test_a_denoiser_needs_no_stills_any_more(config: Config, tmp_path: Path) -> None:
    place = Workplace(config, tmp_path, CPU, "dmd")
    with pytest.raises(StageError):
        STAGES["stills"](place)
    write_checkpoint(tmp_path / "denoiser.pt", {"used": 9.0, "step": 4, "done": False})
    STAGES["stills"](place)  # which would lack its VAE
    with pytest.raises(StageError, match=r"vae\.pt"):
        STAGES["denoiser"](place)


def test_a_part_that_did_not_come_is_named(config: Config, tmp_path: Path) -> None:
    state = {"model": VideoVae(config.vae).state_dict(), "used": 9.0, "step": 4, "done": True}
    write_checkpoint(tmp_path / "vae.pt", state)
    hand_over(tmp_path, "vae.pt", 100_000)
    (tmp_path / "vae.pt").unlink()
    (tmp_path / "handover" / "vae.handover.01").unlink()
    with pytest.raises(PartsError, match=r"lacks the parts vae\.handover\.01: fetch"):
        take_up(tmp_path / "handover", tmp_path)
