"""Every stage of training, end to end, at a size of no use: does it run, learn, and hand on?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from animatic_training import budget, score, text
from animatic_training.budget import Budget, read_checkpoint, write_checkpoint
from animatic_training.latents import as_stills, load_latents, vae_digest
from animatic_training.pieces import piece_shards
from animatic_training.pixels import open_pixels
from animatic_training.stages import STAGES, StageError, Workplace
from animatic_training.world.attributes import CLASSES
from tests.training.toy import Clock, WordEncoder, read_toml

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drawn_here")]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """One run, on which the tests of this file build in their order."""
    folder = tmp_path_factory.mktemp("run")
    return Workplace(read_toml(folder), folder, CPU, "dmd", part_bytes=500_000)


@pytest.fixture(autouse=True)
def _toy_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "time", Clock(0.05))  # seconds that a step takes
    for module in (text, score):
        monkeypatch.setattr(module, "CaptionEncoder", WordEncoder)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What every step of the stage notes."""
    noted: list[dict[str, float]] = []

    def note(_: Budget, **values: float | Tensor) -> None:
        noted.append({name: torch.as_tensor(own).detach().item() for name, own in values.items()})

    monkeypatch.setattr(Budget, "note", note)
    return noted


def progress(figures: list[dict[str, float]], name: str, count: int = 4) -> tuple[float, float]:
    """Return the mean of a figure over the first steps and over the last."""
    values = [step[name] for step in figures if name in step]
    assert all(math.isfinite(value) for value in values)
    return float(np.mean(values[:count])), float(np.mean(values[-count:]))


def scores(place: Workplace) -> dict[str, float]:
    found: dict[str, float] = json.loads((place.run / "scores.json").read_text())
    assert all(math.isfinite(value) for value in found.values())
    return found


def test_what_is_missing_is_named(place: Workplace) -> None:
    with pytest.raises(StageError, match=r"lacks the rendered shards \[9000\]: run .* `render`"):
        STAGES["vae"](place)
    with pytest.raises(StageError, match="run the stage `vae` first"):
        STAGES["latents"](place)


def test_render(place: Workplace) -> None:
    STAGES["render"](place)
    pixels, labels = place.held_out()
    assert pixels.shape == (5, 25, 32, 64, 3)  # of six the five that begin their shots
    assert labels.shape == (5, len(CLASSES))
    assert len(place.pixel_shards()) == 2
    kept = place.data / "pixels-0000.npy"
    before = kept.stat().st_mtime_ns
    (place.data / "shots-0001.safetensors").unlink()
    lost = (place.data / "pixels-0001.npy").read_bytes()
    STAGES["render"](place)
    assert kept.stat().st_mtime_ns == before
    assert (place.data / "pixels-0001.npy").read_bytes() == lost


def test_vae(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["vae"](place)
    first, last = progress(figures, "psnr", 6)
    assert last > first
    state: Any = read_checkpoint(place.run / "vae.pt")
    assert state["step"] == len(figures)
    assert (state["model"]["std"] > 0).all()
    assert (state["model"]["std"] != 1).any()
    assert {"vae_psnr", "vae_psnr_place_3", "vae_step_error_block"} <= set(scores(place))


def test_a_stage_that_is_not_finished_is_not_built_on(place: Workplace) -> None:
    path = place.run / "vae.pt"
    whole = path.read_bytes()
    state: Any = read_checkpoint(path)
    try:
        write_checkpoint(path, state | {"done": False})
        with pytest.raises(StageError, match=r"vae\.pt is not finished: run the stage `vae`"):
            STAGES["latents"](place)
    finally:
        path.write_bytes(whole)


def test_latents(place: Workplace) -> None:
    with pytest.raises(StageError, match=r"no latents of the shards .* Run the stage `latents`"):
        place.batches("piece")
    STAGES["latents"](place)
    digest, shards = vae_digest(place.vae()), piece_shards(place.config)
    sets = load_latents(place.config, place.data, shards, digest, CPU)
    assert sum(len(data) for data in sets) <= 2 * 18
    latents = torch.cat([data.latents.float().transpose(0, 1).flatten(1) for data in sets], dim=1)
    assert latents.mean(1).abs().max() < 1
    assert (latents.std(1) - 1).abs().max() < 1
    data = sets[0]
    half = len(open_pixels(place.data, shards[0], CPU).pixels)
    assert not torch.equal(data.latents[0], data.latents[half])  # its mirror image
    assert 0 < data.shares.max() <= 1


def test_a_pieces_pictures_do_as_stills(place: Workplace) -> None:
    digest = vae_digest(place.vae())
    data = load_latents(place.config, place.data, piece_shards(place.config), digest, CPU)[0]
    alone = as_stills(data)
    assert len(alone) == 3 * len(data)
    assert torch.equal(alone.latents[3, :, 0], data.latents[1, :, 0])
    assert torch.equal(alone.latents[5, :, 0], data.stills[1, 1])
    latent = -(-int(data.still_frames[1, 1]) // 4)
    assert torch.equal(alone.shares[5, 0], data.shares[1, latent])
    assert torch.equal(alone.labels[3:6], data.labels[1].expand(3, -1))


def test_stills(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["stills"](place)
    first, last = progress(figures, "flow", 6)
    assert last < 0.95 * first
    first, last = progress(figures, "reading", 6)
    assert last < first


def test_denoiser(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["denoiser"](place)
    first, last = progress(figures, "flow", 6)
    assert last < 1.05 * first  # it has learnt pictures already
    assert figures


@pytest.mark.parametrize("method", ["dmd", "perflow"])
def test_distill(place: Workplace, figures: list[dict[str, float]], method: str) -> None:
    STAGES["distill"](replace(place, method=method))
    names = {name for step in figures for name in step}
    lessons = {"steps1_1.00", "steps2_1.00", "steps2_0.62"}
    assert names == {"critic", "student"} if method == "dmd" else names <= lessons
    assert all(math.isfinite(value) for step in figures for value in step.values())


def test_probe(place: Workplace, figures: list[dict[str, float]]) -> None:
    STAGES["probe"](place)
    lasting = set(CLASSES) - {"camera", "size", "angle", "lens"}
    assert {frozenset(step) for step in figures} == {frozenset(CLASSES), frozenset(lasting)}
    assert {f"probe_renders_{name}" for name in ("subject", "lens", "all")} <= set(scores(place))
    assert "probe_decoded_all" in scores(place)


def test_score(place: Workplace) -> None:
    STAGES["score"](place)
    found = scores(place)
    for model in ("teacher", "dmd2", "dmd1", "perflow2", "perflow1"):
        assert all(0 <= found[f"{model}_{name}"] <= 1 for name in (*list(CLASSES)[:10], "all"))
    for model in ("teacher", "dmd2", "perflow2"):
        assert {f"{model}_words_all", f"{model}_long_seam", f"{model}_long_block4_all"} <= set(
            found
        )
        assert {f"{model}_loop_gap", f"{model}_given_middle_frame_psnr"} <= set(found)
        # What is given goes through the decoder and nothing else.
        ceiling = found[f"{model}_given_first_frame_ceiling_psnr"]
        assert found[f"{model}_given_first_frame_psnr"] == pytest.approx(ceiling, abs=0.01)
    with pytest.MonkeyPatch.context() as patch:  # what is scored is not scored again
        patch.setattr(score, "score_clips", pytest.fail)
        STAGES["score"](place)


def test_checkpoint(place: Workplace) -> None:
    from animatic_export.blockout.checkpoint import WINDOW_FORMAT, read_checkpoint
    from animatic_export.blockout.window_release import WindowRelease

    STAGES["checkpoint"](place)
    path = place.run / "blockout.safetensors"
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == WINDOW_FORMAT
        assert file.get_tensor("vae.mean").dtype == torch.float16
    release = read_checkpoint(path)
    assert isinstance(release, WindowRelease)
    assert release.schedules == place.config.distill.schedules
    assert release.shot.sizes == ((64, 32), (48, 48))
    assert release.text_max_tokens == 12
    student = place.student("dmd").state_dict()
    weight = "blocks.1.up.weight"
    assert torch.equal(release.denoiser.state_dict()[weight], student[weight].half().float())
    parts = sorted(place.run.glob("blockout.safetensors.*"))
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) <= 500_000
    assert not list(place.run.glob("*.tmp"))


def test_another_run_may_begin_where_this_one_ended(place: Workplace) -> None:
    other = replace(place, beginning=place.run)
    teacher: Any = read_checkpoint(place.run / "denoiser.pt")
    weights = other.weights("denoiser")
    assert torch.equal(weights["embed.weight"], teacher["ema"]["embed.weight"])
    assert set(other.weights("vae")) == set(place.vae().state_dict())
    assert place.weights("denoiser") == {}
