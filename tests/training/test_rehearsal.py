"""A rehearsal is the run itself, shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from animatic_training import budget, plan, rehearsal, stages
from animatic_training.cli import command
from animatic_training.config import load_config
from animatic_training.pieces import piece_shards
from animatic_training.plan import Cost
from animatic_training.rehearsal import rehearsed
from tests.training.toy import TOML, Clock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["v1", "v1-cpu"])
def test_what_is_rehearsed_has_the_real_shapes(name: str) -> None:
    whole = load_config(name)
    short = rehearsed(whole)
    assert short.window == whole.window
    assert short.vae == whole.vae
    assert {shard.size(short) for shard in piece_shards(short)} == set(whole.sizes)
    for stage in ("vae_training", "probe", "train", "distill"):
        ours, theirs = (msgspec.structs.asdict(getattr(c, stage)) for c in (short, whole))
        assert {key for key in ours if ours[key] != theirs[key]} <= {"minutes", "still_minutes"}
        assert ours["minutes"] < theirs["minutes"]


@pytest.mark.usefixtures("drawn_here")
@pytest.mark.slow
def test_a_rehearsal_says_how_fast_a_stage_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(0.5)
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(rehearsal, "SECONDS", dict.fromkeys(rehearsal.SECONDS, 2.0))
    monkeypatch.setattr(rehearsal, "PIECES", 2)
    monkeypatch.setattr(plan, "costs", lambda *_: [Cost("vae", 3e12, "vae", 2, 1.0)])
    (tmp_path / "toy.toml").write_text(TOML)
    arguments = ["--config", str(tmp_path / "toy.toml"), "--run", str(tmp_path / "run")]
    chosen = ["--rehearse", "--stage", "render", "--stage", "vae"]
    for _ in range(2):  # from nothing each time
        result = CliRunner().invoke(command, [*arguments, *chosen])
        assert result.exit_code == 0, result.output
        machine, render, vae = result.stdout.splitlines()
        assert machine.startswith("torch ")
        assert render.startswith("render ")
        # Two steps a second of 3 TFLOP and 2 crops; what is planned is an H100's.
        assert "2.00 steps/s" in vae
        assert vae.endswith("4 seen/s    6.00 of 148 TFLOP/s")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["rehearsal"]


@pytest.mark.usefixtures("drawn_here")
def test_a_stage_that_fails_does_not_hide_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    met: list[object] = []
    monkeypatch.setattr(plan, "costs", lambda *_: [])
    monkeypatch.setitem(stages.STAGES, "latents", fail)
    monkeypatch.setitem(stages.STAGES, "score", met.append)
    (tmp_path / "toy.toml").write_text(TOML)
    arguments = ["--config", str(tmp_path / "toy.toml"), "--run", str(tmp_path / "run")]
    chosen = ["--rehearse", "--stage", "latents", "--stage", "score"]
    result = CliRunner().invoke(command, [*arguments, *chosen])
    assert result.exit_code == 1
    assert len(met) == 1
    assert result.output.endswith("The stages latents failed: their tracebacks are above.\n")
