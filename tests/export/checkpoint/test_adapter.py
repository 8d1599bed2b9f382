from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from animatic_export.checkpoint.adapter import parse_adapter, read_layers
from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import LoraError

if TYPE_CHECKING:
    from pathlib import Path

DOWN, UP = torch.ones(4, 8), torch.ones(6, 4)
PAIR = {"transformer.a.lora_A.weight": DOWN, "transformer.a.lora_B.weight": UP}


def write(folder: Path, tensors: dict[str, torch.Tensor], metadata: Any = None) -> Path:
    path = folder / "lora.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata)
    return path


def scale(path: Path) -> float:
    (layer,) = read_layers(open_tensors(path))
    return layer.scale


def refusal(path: Path) -> str:
    with pytest.raises(LoraError) as caught:
        read_layers(open_tensors(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("style.safetensors", ("style.safetensors", 1.0)),
        ("style.safetensors:0.8", ("style.safetensors", 0.8)),
        ("style.safetensors:-1", ("style.safetensors", -1.0)),
        ("style.safetensors:.5", ("style.safetensors", 0.5)),
        ("style.safetensors:1e-2", ("style.safetensors", 0.01)),
        ("style.safetensors:0", ("style.safetensors", 0.0)),
        (r"C:\loras\style.safetensors", (r"C:\loras\style.safetensors", 1.0)),
        (r"C:\loras\style.safetensors:0.8", (r"C:\loras\style.safetensors", 0.8)),
        ("C:/loras/style.safetensors:2", ("C:/loras/style.safetensors", 2.0)),
        ("/a:b/style.safetensors", ("/a:b/style.safetensors", 1.0)),
        ("me/loras:style.safetensors", ("me/loras:style.safetensors", 1.0)),
        ("me/loras@v2:deep/style.safetensors:0.3", ("me/loras@v2:deep/style.safetensors", 0.3)),
    ],
)
def test_an_adapter_is_a_file_and_a_strength(text: str, expected: tuple[str, float]) -> None:
    assert parse_adapter(text) == expected


def test_a_file_whose_name_ends_like_a_strength_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "lora:2").touch()
    assert parse_adapter(f"{tmp_path}/lora:2") == (f"{tmp_path}/lora:2", 1.0)
    assert parse_adapter(f"{tmp_path}/lora:3") == (f"{tmp_path}/lora", 3.0)


@pytest.mark.parametrize(
    "text", ["", ":", ":1", "a.safetensors:", "a.safetensors:strong", "a.safetensors:0,8"]
)
def test_no_strength_is_a_sentence(text: str) -> None:
    with pytest.raises(LoraError, match="write FILE or FILE:STRENGTH"):
        parse_adapter(text)


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "1e999"])
def test_a_strength_is_finite(strength: str) -> None:
    with pytest.raises(LoraError, match="write FILE or FILE:STRENGTH"):
        parse_adapter(f"a.safetensors:{strength}")


def test_without_alpha_the_scale_is_one(tmp_path: Path) -> None:
    assert scale(write(tmp_path, PAIR)) == 1


@pytest.mark.parametrize("alpha", [torch.tensor(8.0), torch.tensor([8.0]).bfloat16()])
def test_alpha_counts_by_rank(tmp_path: Path, alpha: torch.Tensor) -> None:
    assert scale(write(tmp_path, PAIR | {"transformer.a.alpha": alpha})) == 2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"lora_alpha": 8, "r": 4}, 2.0),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"lora_alpha": 8, "alpha_pattern": {"b": 3, "a": 2.0}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"b": 3}}, 2.0),
        ({"r": 4}, 1.0),
    ],
)
def test_alpha_may_stand_in_pefts_configuration(
    tmp_path: Path, config: dict[str, Any], expected: float
) -> None:
    """As diffusers writes it into the header, and as peft writes it beside."""
    named = {f"transformer.{name}": value for name, value in config.items()}
    path = write(tmp_path, PAIR, {"lora_adapter_metadata": json.dumps(named)})
    assert scale(path) == expected
    tensors = {n.replace("transformer", "base_model.model"): t for n, t in PAIR.items()}
    (tmp_path / "peft").mkdir()
    beside = write(tmp_path / "peft", tensors).rename(
        tmp_path / "peft" / "adapter_model.safetensors"
    )
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps(config))
    assert scale(beside) == expected


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"lora_alpha": "x"}', '{"alpha_pattern": {"(": 1}}', "\xff"]
)
def test_a_malformed_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, PAIR, {"lora_adapter_metadata": text})
    assert "configuration" in refusal(path)


def test_a_dora_is_refused(tmp_path: Path) -> None:
    config = json.dumps({"transformer.use_dora": True})
    assert "DoRA" in refusal(write(tmp_path, PAIR, {"lora_adapter_metadata": config}))
    assert "a.dora_scale" in refusal(write(tmp_path, PAIR | {"a.dora_scale": DOWN}))


@pytest.mark.parametrize(
    "name",
    ["a.hada_w1_a", "a.lokr_w1", "a.weight", "alpha", "a.lora_magnitude_vector", "a.lora_B.bias"],
)
def test_what_is_not_known_is_named_and_not_skipped(tmp_path: Path, name: str) -> None:
    message = refusal(write(tmp_path, PAIR | {name: torch.ones(1)}))
    assert message.startswith(f"{name} in ")


@pytest.mark.parametrize(
    "names",
    [
        ["a.lora_A.weight"],
        ["a.lora_up.weight"],
        ["a.alpha"],
        ["a.alpha", "a.diff"],
    ],
)
def test_half_a_pair_is_refused(tmp_path: Path, names: list[str]) -> None:
    message = refusal(write(tmp_path, dict.fromkeys(names, torch.ones(2, 2))))
    assert f"has {', '.join(names)} and not all of" in message


def test_two_names_of_one_half_are_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, PAIR | {"transformer.a.lora_down.weight": DOWN}))
    assert "which say the same" in message


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ((4, 8), (6, 5)),
        ((4,), (6, 4)),
        ((4, 8), (6,)),
        ((0, 8), (6, 0)),
        ((4, 8), (6, 4, 2)),
    ],
)
def test_a_pair_that_does_not_multiply_is_refused(
    tmp_path: Path, down: tuple[int, ...], up: tuple[int, ...]
) -> None:
    path = write(tmp_path, {"a.lora_A.weight": torch.ones(down), "a.lora_B.weight": torch.ones(up)})
    message = refusal(path)
    assert f"a.lora_A.weight {list(down)} and a.lora_B.weight {list(up)}" in message


@pytest.mark.parametrize("alpha", [torch.tensor(torch.nan), torch.ones(2)])
def test_alpha_is_one_finite_number(tmp_path: Path, alpha: torch.Tensor) -> None:
    message = refusal(write(tmp_path, PAIR | {"transformer.a.alpha": alpha}))
    assert "transformer.a.alpha" in message
