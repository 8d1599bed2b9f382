from __future__ import annotations

from typing import Any

import pytest
import torch

from animatic_export.errors import ExportError
from animatic_export.t5.encoder import position_buckets
from animatic_export.typed import typed_module
from tests.export.published import quiet
from tests.export.t5.models import KINDS, TOKENS, ours, prompts, reference, states

TOLERANCE = 1e-5
"""Largest difference of states that are norms of 1 to 4: float32 sums in another order (seen:
3e-6)."""


@pytest.mark.parametrize("kind", KINDS)
# Past the exact distances, past the last bucket (128), and the longest there is.
@pytest.mark.parametrize("length", [1, 7, 40, 200, TOKENS])
def test_states_are_those_of_transformers(kind: str, length: int) -> None:
    theirs = reference(kind)
    ids, mask = prompts(length)
    made = states(ours(theirs), ids, mask)
    assert made.shape == (2, length, 32)
    torch.testing.assert_close(made, states(theirs, ids, mask), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_needs_no_padding(kind: str) -> None:
    theirs = reference(kind)
    ids = torch.zeros(1, TOKENS, dtype=torch.int64)
    ids[:, :9] = prompts(9)[0][:1]
    mask = torch.zeros_like(ids)
    mask[:, :9] = 1
    padded = states(theirs, ids, mask)[:, :9]
    made = states(ours(theirs), ids[:, :9], mask[:, :9])
    torch.testing.assert_close(made, padded, rtol=0, atol=TOLERANCE)


def test_buckets_are_those_of_transformers() -> None:
    with quiet():
        from transformers.models.t5.modeling_t5 import T5Attention
    config = ours(reference("t5")).config
    places = torch.arange(TOKENS)
    bucket: Any = T5Attention._relative_position_bucket
    theirs = bucket(places[None, :] - places[:, None])
    made = position_buckets(config, TOKENS)
    assert torch.equal(made, theirs)
    assert made.unique().tolist() == [n for n in range(32) if n != 16]  # 16: after, by none


@pytest.mark.parametrize("kind", KINDS)
def test_narrow_weights_compute_in_float32(kind: str) -> None:
    theirs = reference(kind, 128, torch.bfloat16)
    encoder = ours(theirs)
    types = {name: parameter.dtype for name, parameter in encoder.named_parameters()}
    assert types["words.weight"] == types["layers.2.down.weight"] == torch.bfloat16
    assert types["positions.0.weight"] == types["layers.0.norm.gain"] == torch.float32
    ids, mask = prompts(40)
    made = states(encoder, ids, mask)
    torch.testing.assert_close(made, states(theirs.float(), ids, mask), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_nearer_than_the_reference_in_it(kind: str) -> None:
    theirs = reference(kind, 128, torch.bfloat16)
    encoder = ours(theirs)
    typed = typed_module(encoder, torch.bfloat16)
    assert {p.dtype for p in typed.parameters() if p.dim() == 2} == {torch.bfloat16}
    ids, mask = prompts(40)
    wanted = states(encoder, ids, mask)
    error = (states(typed, ids, mask) - wanted).norm() / wanted.norm()
    reference_error = (states(theirs, ids, mask).float() - wanted).norm() / wanted.norm()
    assert 1e-4 < error < reference_error < 8e-2


def test_float16_is_refused() -> None:
    half = typed_module(ours(reference("umt5")), torch.float16)
    with pytest.raises(ExportError, match="overflow in fp16 and the picture goes white: ask for"):
        states(half, *prompts(7))


def test_bfloat16_holds_what_float16_does_not() -> None:
    encoder = ours(reference("umt5"))
    encoder.get_parameter("layers.0.down.weight").mul_(
        1e6
    )  # the sum through umt5-xxl's layers passes 65,504 too
    sums: list[torch.Tensor] = []
    typed = typed_module(encoder, torch.bfloat16)
    layer = typed.get_submodule("layers.0")
    layer.register_forward_hook(lambda _module, _given, made: sums.append(made))
    assert states(typed, *prompts(7)).isfinite().all()
    assert sums[0].abs().max() > torch.finfo(torch.float16).max
