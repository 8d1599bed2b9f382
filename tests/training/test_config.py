from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic_training.config import ConfigError, load_config
from tests.training.toy import TOML

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["v1", "v1-cpu"])
def test_the_shipped_configurations_load(name: str) -> None:
    config = load_config(name)
    assert [(size.width, size.height) for size in config.sizes] == [
        (256, 144),
        (192, 192),
        (144, 256),
        (304, 128),
    ]
    assert sum(size.share for size in config.sizes) == pytest.approx(1)
    assert config.sizes[0].grid == (9, 16)
    assert config.window.latent_channels == config.vae.latent_channels
    assert [len(schedule) for schedule in config.distill.schedules] == [4, 2, 1]
    assert config.denoiser.width // config.denoiser.heads % 2 == 0  # channels turn in pairs


def test_a_file_loads_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    assert load_config(str(path)).sizes[0].grid == (2, 4)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("width = 64\nheight", "width = 72\nheight", "72x32 pixels must be multiples of 16"),
        ("crop = 32", "crop = 48", "a crop of 48 does not fit 64x32"),
        ("crop = 32", "crop = 24", "crop must be a multiple of 16"),
        ("frames = 9", "frames = 10", "frames must be 1 more than a multiple of 4"),
        ("frames = 9", "frames = 29", "at most 25"),
        ("teacher_substeps = [1, 2]", "teacher_substeps = [1]", "one number of teacher substeps"),
        ("schedules = [[1.0, 0.625]", "schedules = [[0.9, 0.625]", "must descend from 1"),
        ("schedule_shares = [0.7, 0.3]", "schedule_shares = [0.7]", "one share for each schedule"),
        ("heads = 2", "heads = 5", "width must be a multiple of its heads"),
        ("spatial_factor = 16", "spatial_factor = 8", "factors are 16 and 4"),
        ("widths = [48, 48, 48, 48]", "widths = [40, 48, 48, 48]", "shortcuts must divide 12"),
        ("minutes = 0.004", "minutes = 0.0", "minutes above 0"),
        ("views = 2", "views = 3", "views must divide the denoiser's batches"),
        ("views = 2", "views = 0", "views must divide the denoiser's batches"),
        ("still_batch = 8", "still_batch = 7", "views must divide the denoiser's batches"),
        ("token_share = 0.5", "token_share = 0.0", "above 0 and at most 1"),
        ("token_share = 0.5", "token_share = 1.5", "above 0 and at most 1"),
        ("pixel_shards = 2", "pixel_shards = 4", "kept as pixels, no more than there are"),
        ("held_out_shards = 1", "held_out_shards = 0", "one be held out"),
        ("share = 0.6", "share = 0.0", "every share must be above 0"),
        ('init = "nothing"', 'init = "noise"', "Invalid enum value 'noise' - at `\\$.init`"),
        ("height = 32", "height = 32\nzoom = 2", "unknown field `zoom` - at `\\$.sizes"),
        ("height = 32", "", "missing required field `height` - at `\\$.sizes"),
        ("[data]", "[data", "not valid: "),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in TOML
    path = tmp_path / "wrong.toml"
    path.write_text(TOML.replace(before, after, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(path))
    text = str(caught.value)
    assert text.startswith("The ")
    assert text.endswith(".")
    assert "\n" not in text


def test_a_name_that_is_not_shipped_is_refused() -> None:
    with pytest.raises(ConfigError, match="named 'v99': give toy, v1 or v1-cpu, or"):
        load_config("v99")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no configuration file .*none\.toml"):
        load_config(str(tmp_path / "none.toml"))
