from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from animatic_training import dataset, stages
from animatic_training.config import load_config
from animatic_training.stages import STAGES, Workplace
from tests.training.toy import TOML

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_training.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    return load_config(str(path))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_rendering_stops_at_once_when_a_shard_cannot_be_rendered(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    begun: list[int] = []

    def render_shard(_config: Config, _folder: Path, shard: int) -> None:
        begun.append(shard)
        if shard == 0:
            raise error
        time.sleep(0.02)

    def threads(workers: int, mp_context: object) -> ThreadPoolExecutor:
        del mp_context
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(dataset, "render_shard", render_shard)
    monkeypatch.setattr(dataset, "ProcessPoolExecutor", threads)
    many = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, shards=50))
    with pytest.raises(type(error)):
        list(dataset.render_all(many, tmp_path / "data", 1))
    time.sleep(0.1)
    assert len(begun) < 10


def test_an_accelerator_renders_the_same_shards(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice is the accelerator's and the device the CPU, which every machine has."""
    monkeypatch.setattr(Workplace, "on_accelerator", True)
    monkeypatch.setattr(dataset, "BATCH", 3)  # the last batch of a shard is smaller
    monkeypatch.setattr(stages, "usable_cores", lambda: pytest.fail("rendered on the cores"))
    place = Workplace(config, tmp_path / "run", torch.device("cpu"))
    STAGES["render"](place)
    for number in (0, 1, 9000):
        dataset.render_shard(config, tmp_path, number)
        ours, theirs = (
            np.load(dataset.clips_path(folder, number)) for folder in (place.data, tmp_path)
        )
        assert ours.shape == theirs.shape == (8, 9, 32, 32, 3)
        assert ours.dtype == np.uint8
        difference = np.abs(ours.astype(int) - theirs)
        assert (difference.max(axis=-1) <= 3).mean() > 0.99
        np.testing.assert_array_equal(
            np.load(dataset.labels_path(place.data, number)),
            np.load(dataset.labels_path(tmp_path, number)),
        )
