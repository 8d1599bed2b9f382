"""Every stage of training, end to end, at a size of no use: does it run, learn, stop and go on?"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from animatic_export.blockout.checkpoint import FORMAT
from animatic_training import budget, distill, score, stages, train_denoiser
from animatic_training.budget import Budget, read_checkpoint, write_checkpoint
from animatic_training.config import load_config
from animatic_training.latents import latents_path
from animatic_training.stages import STAGES, StageError, Workplace
from animatic_training.world.attributes import CLASSES, ShotAttributes
from tests.training.toy import TOML, Clock, WordEncoder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TICK = 0.05
"""Seconds that a step takes on the tests' clock: 0.02 minutes are some 20 steps."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """One run, on which the tests of this file build in their order."""
    folder = tmp_path_factory.mktemp("run")
    config = folder / "toy.toml"
    config.write_text(TOML)
    return Workplace(load_config(str(config)), folder, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _toy_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "time", Clock(TICK))
    monkeypatch.setattr(budget, "CHECKPOINT_SECONDS", 0.1)
    monkeypatch.setattr(stages, "usable_cores", lambda: 1)
    for module in (train_denoiser, distill, score):
        monkeypatch.setattr(module, "CaptionEncoder", WordEncoder)
    monkeypatch.setattr(stages, "SCORED_PROMPTS", 3)
    monkeypatch.setattr(score, "TEACHER_STEPS", 2)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What every step of the stage notes."""
    noted: list[dict[str, float]] = []
    monkeypatch.setattr(Budget, "note", lambda _, **values: noted.append(values))
    return noted


def progress(figures: list[dict[str, float]], name: str, count: int = 4) -> tuple[float, float]:
    """Return the mean of a figure over the first steps and over the last."""
    values = [step[name] for step in figures if name in step]
    assert all(math.isfinite(value) for value in values)
    return float(np.mean(values[:count])), float(np.mean(values[-count:]))


def checkpoint(place: Workplace, name: str) -> dict[str, Any]:
    path: Path = place.run / name
    state = read_checkpoint(path)
    assert state is not None
    return state


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, seeds: list[int]) -> None:
    left = iter(range(steps))

    def note(_: Budget, **values: float) -> None:
        del values
        seeds.append(torch.initial_seed())
        if next(left, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(Budget, "note", note)


def run_interrupted(place: Workplace, stage: str, file: str) -> None:
    """Stop a stage in the middle, let it go on, and see that no step was taken twice.

    Nor may the same noise come again, nor the half-trained file pass as finished.
    """
    seeds: list[int] = []
    (place.run / file).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 8, seeds)
        with pytest.raises(KeyboardInterrupt):
            STAGES[stage](place)
    early = checkpoint(place, file)
    assert 5 <= early["step"] <= 8
    assert not early["done"]
    steps: list[dict[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "note", lambda _, **values: steps.append(values))
        STAGES[stage](place)
    assert torch.initial_seed() not in seeds
    late = checkpoint(place, file)
    assert late["done"]
    assert late["step"] == early["step"] + len(steps)
    assert late["used"] >= early["used"] + 0.9 * TICK * len(steps)


def test_what_is_missing_is_named(place: Workplace) -> None:
    with pytest.raises(StageError, match="run the stage `vae` first"):
        STAGES["latents"](place)


def test_render(place: Workplace) -> None:
    STAGES["render"](place)
    assert sorted(file.name for file in place.data.iterdir()) == [
        "clips-0000.npy",
        "clips-0001.npy",
        "clips-9000.npy",
        "labels-0000.npy",
        "labels-0001.npy",
        "labels-9000.npy",
    ]
    for number in (0, 1, 9000):
        clips = np.load(place.data / f"clips-{number:04d}.npy")
        labels = np.load(place.data / f"labels-{number:04d}.npy")
        assert clips.shape == (8, 9, 32, 32, 3)
        assert clips.dtype == np.uint8
        assert labels.shape == (8, len(CLASSES))
        shots = [ShotAttributes(*row) for row in labels.tolist()]
        assert {shot.held_out for shot in shots} == {number == 9000}


def test_render_goes_on_with_what_is_missing(place: Workplace) -> None:
    kept, lost = place.data / "clips-0000.npy", place.data / "labels-0001.npy"
    before, pixels = kept.stat().st_mtime_ns, np.load(place.data / "clips-0001.npy")
    lost.unlink()
    STAGES["render"](place)
    assert lost.exists()
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.load(place.data / "clips-0001.npy"), pixels)


def test_vae(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["vae"](place)
    first, last = progress(figures, "psnr", 8)
    assert last > first + 0.5
    state = checkpoint(place, "vae.pt")
    assert state["step"] == len(figures)
    assert (state["model"]["std"] > 0).all()
    assert (state["model"]["std"] != 1).any()
    assert "vae_psnr" in json.loads((place.run / "scores.json").read_text())


def test_vae_resumes(place: Workplace) -> None:
    run_interrupted(place, "vae", "vae.pt")


def test_a_vae_that_is_done_is_skipped(place: Workplace) -> None:
    before = (place.run / "vae.pt").read_bytes(), (place.run / "vae.pt").stat().st_mtime_ns
    STAGES["vae"](place)
    after = (place.run / "vae.pt").read_bytes(), (place.run / "vae.pt").stat().st_mtime_ns
    assert after == before


def test_a_stage_that_is_not_finished_is_not_built_on(place: Workplace) -> None:
    whole = (place.run / "vae.pt").read_bytes()
    state = checkpoint(place, "vae.pt")
    older = {name: value for name, value in state.items() if name != "done"}
    try:
        write_checkpoint(place.run / "vae.pt", state | {"done": False})
        with pytest.raises(StageError, match=r"vae\.pt is not finished: run the stage `vae`"):
            STAGES["latents"](place)
        write_checkpoint(place.run / "vae.pt", older)
        place.vae()  # a run from before the key: its minutes are used
        write_checkpoint(place.run / "vae.pt", older | {"used": 0.5 * state["used"]})
        with pytest.raises(StageError, match="not finished"):
            place.vae()
    finally:
        (place.run / "vae.pt").write_bytes(whole)


def test_latents(place: Workplace) -> None:
    STAGES["latents"](place)
    vae = place.vae()
    latents, second = (np.load(latents_path(place.data, n, vae)) for n in (0, 1))
    assert latents.shape == (16, *place.config.latent_shape)  # every clip, and its mirror image
    assert latents.dtype == np.float16
    both = np.concatenate([latents, second]).astype(np.float32)
    assert np.abs(both.mean((0, 2, 3, 4))).max() < 0.5
    assert np.abs(both.std((0, 2, 3, 4)) - 1).max() < 0.5


def test_every_rendered_shard_must_have_latents(place: Workplace) -> None:
    path = latents_path(place.data, 1, place.vae())
    hidden = path.rename(path.with_suffix(".hidden"))
    with pytest.raises(StageError, match=r"no latents of the shards \[1\].*stage `latents` first"):
        STAGES["denoiser"](place)
    hidden.rename(path)


def test_denoiser(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["denoiser"](place)
    first, last = progress(figures, "flow")
    assert last < 0.9 * first
    first, last = progress(figures, "reading", 10)
    assert last < first
    assert checkpoint(place, "denoiser.pt")["step"] == len(figures)


def test_denoiser_resumes(place: Workplace) -> None:
    run_interrupted(place, "denoiser", "denoiser.pt")
    before = (place.run / "denoiser.pt").stat().st_mtime_ns
    STAGES["denoiser"](place)
    assert (place.run / "denoiser.pt").stat().st_mtime_ns == before


def test_half_a_teacher_is_not_distilled(place: Workplace) -> None:
    whole = (place.run / "denoiser.pt").read_bytes()
    write_checkpoint(place.run / "denoiser.pt", checkpoint(place, "denoiser.pt") | {"done": False})
    with pytest.raises(StageError, match=r"denoiser\.pt is not finished: run the stage `denoiser`"):
        STAGES["distill"](place)
    (place.run / "denoiser.pt").write_bytes(whole)


def test_distill(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["distill"](place)
    windows = len(place.config.distill.sigmas)
    assert {name for step in figures for name in step} == {f"window{n}" for n in range(windows)}
    progress(figures, "window0")
    assert checkpoint(place, "student.pt")["step"] == len(figures)


def test_distill_resumes(place: Workplace) -> None:
    run_interrupted(place, "distill", "student.pt")


def test_probe(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["probe"](place)
    assert set(figures[0]) == set(CLASSES)
    assert progress(figures, "time")[1] >= progress(figures, "time")[0]
    assert (place.run / "probe.safetensors").exists()
    scores = json.loads((place.run / "scores.json").read_text())
    assert {f"probe_renders_{name}" for name in (*CLASSES, "all")} <= set(scores)


def test_probe_resumes(place: Workplace) -> None:
    run_interrupted(place, "probe", "probe.pt")


def test_score(place: Workplace) -> None:
    STAGES["score"](place)
    scores = json.loads((place.run / "scores.json").read_text())
    assert {f"{who}_{name}" for who in ("teacher", "student") for name in CLASSES} <= set(scores)
    assert all(0 <= scores[f"student_{name}"] <= 1 for name in CLASSES)


def test_checkpoint(place: Workplace) -> None:
    STAGES["checkpoint"](place)
    with safe_open(place.run / "blockout.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert metadata["format"] == FORMAT
        assert json.loads(metadata["sigmas"]) == list(place.config.distill.sigmas)
        assert json.loads(metadata["clip"])["frames"] == 9
        assert {name.split(".")[0] for name in file.keys()} == {"vae", "denoiser"}  # noqa: SIM118
        assert file.get_tensor("vae.mean").dtype == torch.float16
    assert not list(place.run.glob("*.tmp"))
