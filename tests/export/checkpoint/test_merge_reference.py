"""LoRAs merged here against diffusers' own reading of the same files."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from animatic_export.checkpoint.merge import merge
from animatic_export.checkpoint.tensors import open_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WIDTH, INNER, RANK, BLOCKS = 16, 32, 4, 2
TOLERANCE = 1e-6
"""As in test_merge: diffusers' factors are multiplied in float64, ours in float32."""
NAMES = {
    f"{attention}.{layer}": f"{ours}.{theirs}"
    for attention, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
    for layer, theirs in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
} | {"ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2"}
"""The linears of a Wan block: original name -> diffusers'."""
SHAPES = {"ffn.0": (INNER, WIDTH), "ffn.2": (WIDTH, INNER)}


def translate(module: str) -> str:
    parts = module.split(".", 2)
    if len(parts) == 3 and parts[2] in NAMES:
        return f"blocks.{parts[1]}.{NAMES[parts[2]]}"
    return module


def lora(prefix: str, separator: str, *, with_biases: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for block in range(BLOCKS):
        for layer in NAMES:
            rows, columns = SHAPES.get(layer, (WIDTH, WIDTH))
            module = prefix + f"blocks.{block}.{layer}".replace(".", separator)
            tensors[f"{module}.lora_down.weight"] = torch.rand(RANK, columns, generator=generator)
            tensors[f"{module}.lora_up.weight"] = torch.rand(rows, RANK, generator=generator) - 0.5
            tensors[f"{module}.alpha"] = torch.tensor(1.0 + block)
            if with_biases:
                tensors[f"{module}.diff_b"] = torch.rand(rows, generator=generator)
    return tensors


@pytest.mark.slow  # diffusers takes seconds to import
@pytest.mark.parametrize(
    ("prefix", "separator", "converter", "with_biases"),
    [
        ("lora_unet_", "_", "_convert_musubi_wan_lora_to_diffusers", False),
        ("diffusion_model.", ".", "_convert_non_diffusers_wan_lora_to_diffusers", True),
    ],
)
def test_a_merge_is_what_diffusers_reads(
    tmp_path: Path, prefix: str, separator: str, converter: str, *, with_biases: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.loaders import lora_conversion_utils
    tensors = lora(prefix, separator, with_biases=with_biases)
    save_file(tensors, tmp_path / "lora.safetensors")
    read = getattr(lora_conversion_utils, converter)({n: t.clone() for n, t in tensors.items()})

    weights: dict[str, Tensor] = {}
    for block in range(BLOCKS):
        for layer, name in NAMES.items():
            rows, columns = SHAPES.get(layer, (WIDTH, WIDTH))
            weights[f"blocks.{block}.{name}.weight"] = torch.rand(rows, columns)
            weights[f"blocks.{block}.{name}.bias"] = torch.rand(rows)
    save_file(weights, tmp_path / "base.safetensors")

    base = open_tensors(tmp_path / "base.safetensors")
    merged = merge(base, [(open_tensors(tmp_path / "lora.safetensors"), 0.5)], translate)
    for module in (name.removesuffix(".weight") for name in weights if name.endswith(".weight")):
        down = read.pop(f"transformer.{module}.lora_A.weight").double()
        up = read.pop(f"transformer.{module}.lora_B.weight").double()
        bias = read.pop(f"transformer.{module}.lora_B.bias") if with_biases else torch.zeros(())
        for name, change in ((f"{module}.weight", up @ down), (f"{module}.bias", bias.double())):
            expected = weights[name].double() + 0.5 * change
            torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=TOLERANCE)
    assert not read  # every part that diffusers reads was compared
