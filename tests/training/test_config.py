from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic_training.config import ConfigError, load_config
from tests.training.toy import TOML

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shipped_configuration_loads() -> None:
    config = load_config("v0")
    assert config.latent_shape == (64, 3, 5, 9)
    shape = config.denoiser_config
    assert (shape.frames, shape.rows, shape.columns) == (3, 5, 9)
    assert shape.latent_channels == config.vae.latent_channels
    assert list(config.distill.sigmas) == sorted(config.distill.sigmas, reverse=True)
    assert config.distill.sigmas[0] == 1.0


def test_a_file_loads_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    assert load_config(str(path)).latent_shape == (8, 3, 2, 2)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("width = 32\nheight", "width = 40\nheight", "40x32 pixels must be multiples of 16"),
        ("height = 32", "height = 20", "32x20 pixels must be multiples of 16"),
        ("frames = 9", "frames = 10", "10 frames must be 1 more than a multiple of .* 4"),
        ("sigmas = [1.0, 0.625]", "sigmas = [1.0]", "one number of teacher substeps for each"),
        ("fps = 8", "fps = 12", "moves at 8 frames a second .* fps cannot be 12"),
        ("heads = 2", "heads = 3", "width must be a multiple of its heads"),
        ("spatial_factor = 16", "spatial_factor = 8", "spatial factor is 16"),
        ("widths = [48, 48, 48, 48]", "widths = [40, 48, 48, 48]", "shortcuts must divide 12"),
        ("sigmas = [1.0, 0.625]", "sigmas = [0.9, 0.625]", "must descend from 1"),
        ("minutes = 0.04", "minutes = 0.0", "minutes above 0"),
        ("clips_per_shard = 8", "clips_per_shard = 3", "at least one batch"),
        ("fps = 8", "fps = 8\nzoom = 2", "unknown field `zoom` - at `\\$.clip`"),
        ("fps = 8", "", "missing required field `fps` - at `\\$.clip`"),
        ("fps = 8", 'fps = "8"', "Expected `int`, got `str` - at `\\$.clip.fps`"),
        ("widths = [48, 48, 48, 48]", "widths = [48, 48]", "length 4.* - at `\\$.vae.widths`"),
        ("[clip]", "[clip", "not valid: "),
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
    with pytest.raises(ConfigError, match=r"no configuration named 'v99': give one of \['v0'"):
        load_config("v99")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no configuration file .*none\.toml"):
        load_config(str(tmp_path / "none.toml"))
