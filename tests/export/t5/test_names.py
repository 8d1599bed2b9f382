from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.t5.config import read_config
from animatic_export.t5.names import load_encoder
from tests.export.t5.models import TOKENS, ours, prompts, reference, states

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.t5.encoder import T5Encoder

QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"
OURS = "layers.1.query.weight"


def published(width: int = 32, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return dict(reference("umt5", width, dtype).state_dict())


def load(tensors: dict[str, Tensor], dtype: torch.dtype | None = None) -> T5Encoder:
    width = len(tensors["encoder.final_layer_norm.weight"])
    return load_encoder(
        tensors, read_config(reference("umt5", width).config.to_dict()), TOKENS, dtype
    )


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_embedding_has_two_names(name: str) -> None:
    tensors = published()
    words = tensors.pop("shared.weight")
    tensors.pop("encoder.embed_tokens.weight", None)
    assert torch.equal(load(tensors | {name: words}).get_parameter("words.weight"), words)


def test_the_decoder_of_a_whole_model_is_passed_over() -> None:
    tensors = published()
    tensors |= {"decoder.final_layer_norm.weight": torch.ones(32), "lm_head.weight": torch.ones(2)}
    ids, mask = prompts(7)
    assert torch.equal(states(load(tensors), ids, mask), states(load(published()), ids, mask))


def test_nothing_is_copied() -> None:
    tensors = published(128, torch.bfloat16)
    encoder = load(tensors)
    assert encoder.get_parameter(OURS).data_ptr() == tensors[QUERY].data_ptr()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_float32_that_is_bfloat16_is_stored_as_such() -> None:
    narrow = published(128, torch.bfloat16)
    wide = {name: tensor.float() for name, tensor in narrow.items()}
    encoder = load(wide)
    assert encoder.dtype == encoder.get_parameter(OURS).dtype == torch.bfloat16
    assert torch.equal(encoder.get_parameter(OURS), narrow[QUERY])
    wide[QUERY][0, 0] += 2**-20
    assert load(wide).get_parameter(OURS).dtype == torch.float32


def test_types_that_differ_lose_nothing() -> None:
    tensors = published(128, torch.float16)
    tensors["encoder.final_layer_norm.weight"] = torch.full([128], 1 + 2**-20)
    encoder = load(tensors)
    assert encoder.dtype == torch.float32
    assert torch.equal(encoder.get_parameter(OURS), tensors[QUERY].float())


def test_a_type_that_is_asked_for() -> None:
    tensors = published(128)
    encoder = load(tensors, torch.bfloat16)
    assert torch.equal(encoder.get_parameter(OURS), tensors[QUERY].bfloat16())
    gain = tensors["encoder.final_layer_norm.weight"]
    assert torch.equal(encoder.get_parameter("norm.gain"), gain.bfloat16().float())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (QUERY, None, rf"has no tensor {QUERY}, which this text encoder has: give .*, whole\."),
        (QUERY, torch.ones(3, 3), r"q\.weight is \[3, 3\] and this text encoder has \[48, 32\]"),
        (QUERY, torch.ones(48, 32).to(torch.float8_e4m3fn), "is float8_e4m3fn: .* not quantised"),
        (
            "encoder.block.0.layer.1.DenseReluDense.wi.weight",
            torch.ones(2),
            r"has a tensor .*\.wi\.weight, which this text encoder does not have",
        ),
    ],
)
def test_another_checkpoint_is_refused(name: str, tensor: Tensor | None, message: str) -> None:
    tensors = published()
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(CheckpointError, match=message):
        load(tensors)


def test_of_t5_only_the_first_layer_has_positions() -> None:
    encoder = ours(reference("t5"))
    assert len(encoder.positions) == 1
    with pytest.raises(CheckpointError, match=r"block\.1\..*relative_attention_bias\.weight"):
        load({n: t for n, t in published().items() if "1.layer.0.SelfAttention.rel" not in n})
