from __future__ import annotations

from typing import Any

import msgspec
import pytest

from animatic_export.errors import CheckpointError
from animatic_export.t5.config import T5Config, read_config
from tests.export.published import quiet

# What google/umt5-xxl's config.json has, which Wan 2.1's text_encoder is.
UMT5_XXL: dict[str, Any] = {
    "architectures": ["UMT5EncoderModel"],
    "model_type": "umt5",
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "tie_word_embeddings": False,
}


def test_umt5_has_a_table_for_each_layer() -> None:
    assert read_config(UMT5_XXL) == T5Config(
        vocabulary=256384,
        width=4096,
        head_width=64,
        inner=10240,
        layers=24,
        heads=64,
        positions=24,
    )


def test_t5_has_one_table() -> None:
    config = read_config(UMT5_XXL | {"model_type": "t5"})
    assert (config.positions, config.layers) == (1, 24)


@pytest.mark.parametrize("kind", ["umt5", "t5"])
def test_what_is_left_out_is_as_in_transformers(kind: str) -> None:
    with quiet():
        from transformers import T5Config as Other
        from transformers import UMT5Config
    short = {
        name: UMT5_XXL[name]
        for name in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    }
    theirs = (UMT5Config if kind == "umt5" else Other)(**short, feed_forward_proj="gated-gelu")
    given = {**short, "model_type": kind, "feed_forward_proj": "gated-gelu"}
    assert read_config(given) == read_config(theirs.to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "is a bert and not a T5: give the text encoder of Wan"),
        ({"feed_forward_proj": "relu"}, "umt5 whose MLPs are relu and not gated-gelu"),
        ({"model_type": "t5", "feed_forward_proj": None}, "t5 whose MLPs are relu"),
        ({"d_model": "wide"}, "config.json is not that of a T5"),
    ],
)
def test_another_model_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_config(UMT5_XXL | change)


def test_a_config_survives_a_graphs_account() -> None:
    config = read_config(UMT5_XXL)
    assert msgspec.json.decode(msgspec.json.encode(config), type=T5Config) == config
