"""bfloat16 where a processor has units for it, and float32 elsewhere."""

from __future__ import annotations

import pytest
import torch

from animatic_training.arithmetic import autocast, fast_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("has", ["_is_amx_tile_supported", "_is_avx512_bf16_supported", None])
def test_units_decide(monkeypatch: pytest.MonkeyPatch, has: str | None) -> None:
    monkeypatch.undo()  # the float32 of every other test
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == has)
    wanted = torch.float32 if has is None else torch.bfloat16
    assert fast_dtype(CPU) == wanted
    with autocast(CPU):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == wanted
