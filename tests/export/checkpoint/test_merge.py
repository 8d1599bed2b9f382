from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from animatic.bundle import Adapter
from animatic_export.checkpoint.merge import Merged
from animatic_export.checkpoint.merge import merge as merge_opened
from animatic_export.checkpoint.tensors import Tensors, open_tensors
from animatic_export.errors import LoraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

WIDTH, INNER, RANK = 24, 40, 4
TOLERANCE = 1e-6
"""Weights are below 1 and so are their changes: sums of RANK products, rounded in float32."""

DIFFUSERS_NAMES = {
    "self_attn.q": "attn1.to_q",
    "self_attn.o": "attn1.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "self_attn.norm_q": "attn1.norm_q",
    "modulation": "scale_shift_table",
}
LAYERS = {
    "blocks.0.self_attn.q": (WIDTH, WIDTH),
    "blocks.0.self_attn.o": (WIDTH, WIDTH),
    "blocks.1.ffn.0": (INNER, WIDTH),
    "patch_embedding": (WIDTH, 4, 1, 2, 2),
}
"""The layers of a small Wan by their original names, and their weights' shapes."""


def translate(module: str) -> str:
    """Bring a module's original name to diffusers'; any other comes back."""
    parts = module.split(".", 2)
    if len(parts) == 3 and parts[0] == "blocks" and parts[2] in DIFFUSERS_NAMES:
        return f"blocks.{parts[1]}.{DIFFUSERS_NAMES[parts[2]]}"
    return module


def same(module: str) -> str:
    return module


def merge(
    weights: Tensors, adapters: list[tuple[Path, float]], translate: Callable[[str], str] = same
) -> Merged:
    """Merge LoRAs that are given as files."""
    opened = [(open_tensors(path), strength) for path, strength in adapters]
    return merge_opened(weights, opened, translate)


NAMINGS = {"original": same, "diffusers": translate}


class Counted(Tensors):
    """Tensors in memory that note what is taken of them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.taken: list[str] = []

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self.tensors[name].dtype

    def __getitem__(self, name: str) -> Tensor:
        self.taken.append(name)
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) - 0.5


def base(naming: str = "original", dtype: torch.dtype = torch.float32) -> Counted:
    name_of = NAMINGS[naming]
    tensors: dict[str, Tensor] = {}
    for seed, (layer, shape) in enumerate(LAYERS.items()):
        tensors[f"{name_of(layer)}.weight"] = random(*shape, seed=seed).to(dtype)
        tensors[f"{name_of(layer)}.bias"] = random(shape[0], seed=100 + seed).to(dtype)
    tensors[f"{name_of('blocks.0.self_attn.norm_q')}.weight"] = torch.ones(WIDTH, dtype=dtype)
    tensors[name_of("blocks.0.modulation")] = random(1, 6, WIDTH, seed=9).to(dtype)
    return Counted(tensors)


def factors(layer: str) -> tuple[Tensor, Tensor, float]:
    """down, up and alpha of a layer, each of its own."""
    seed = 10 * (1 + list(LAYERS).index(layer))
    rows, *rest = LAYERS[layer]
    up = random(rows, RANK, *(1 for _ in rest[1:]), seed=seed + 1)
    return random(RANK, *rest, seed=seed), up, 2.0 + seed / 100


def dense(layer: str, strength: float, *, with_alpha: bool = True) -> Tensor:
    """The merged weight in float64, by the definition."""
    down, up, alpha = factors(layer)
    weight = base().tensors[f"{layer}.weight"].double()
    scale = alpha / RANK if with_alpha else 1.0
    delta = up.double().flatten(1) @ down.double().flatten(1)
    return weight + strength * scale * delta.reshape(weight.shape)


FORMATS = {
    "peft": ("transformer.", "diffusers", "lora_A.weight", "lora_B.weight"),
    "peft with the adapter's name": (
        "base_model.model.",
        "diffusers",
        "lora_A.default.weight",
        "lora_B.default.weight",
    ),
    "kohya": ("lora_unet_", "original", "lora_down.weight", "lora_up.weight"),
    "kohya of diffusers": ("lora_unet_", "diffusers", "lora_down.weight", "lora_up.weight"),
    "comfy": ("diffusion_model.", "original", "lora_A.weight", "lora_B.weight"),
    "lightx2v": ("diffusion_model.", "original", "lora_down.weight", "lora_up.weight"),
    "bare": ("", "original", "lora_down.weight", "lora_up.weight"),
}


def write_lora(folder: Path, form: str, *, with_alpha: bool = True) -> Path:
    prefix, naming, down_ending, up_ending = FORMATS[form]
    tensors: dict[str, Tensor] = {}
    for layer in LAYERS:
        name = NAMINGS[naming](layer)
        module = prefix + (name.replace(".", "_") if prefix == "lora_unet_" else name)
        down, up, alpha = factors(layer)
        tensors |= {f"{module}.{down_ending}": down, f"{module}.{up_ending}": up}
        if with_alpha:
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
    return write(folder, tensors)


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    path = folder / "lora.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


def refusal(weights: Tensors, path: Path) -> str:
    with pytest.raises(LoraError) as caught:
        merge(weights, [(path, 1.0)], translate)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("with_alpha", [True, False])
@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_merge_is_the_dense_arithmetic(
    tmp_path: Path, form: str, naming: str, *, with_alpha: bool
) -> None:
    path = write_lora(tmp_path, form, with_alpha=with_alpha)
    weights = base(naming)
    merged = merge(weights, [(path, 0.7)], translate)
    for layer in LAYERS:
        name = NAMINGS[naming](layer)
        found = merged[f"{name}.weight"].double()
        torch.testing.assert_close(
            found, dense(layer, 0.7, with_alpha=with_alpha), rtol=0, atol=TOLERANCE
        )
        assert not found.allclose(weights.tensors[f"{name}.weight"].double(), atol=1e-2)
        assert merged[f"{name}.bias"].equal(weights.tensors[f"{name}.bias"])
    assert list(merged) == list(weights)
    assert len(merged) == len(weights)


def test_loras_add_up_and_are_named_for_the_bundle(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    first, second = write_lora(folders[0], "peft"), write_lora(folders[1], "kohya")
    merged = merge(base(), [(first, 0.5), (second, -0.25)], translate)
    for layer in LAYERS:
        found = merged[f"{layer}.weight"].double()
        torch.testing.assert_close(found, dense(layer, 0.25), rtol=0, atol=TOLERANCE)
    assert merged.adapters == tuple(
        Adapter(
            file="lora.safetensors",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            strength=strength,
        )
        for path, strength in ((first, 0.5), (second, -0.25))
    )


@pytest.mark.parametrize("naming", NAMINGS)
def test_differences_in_full_are_added(tmp_path: Path, naming: str) -> None:
    """As lightx2v's LoRAs have them: of biases, norms, whole weights and bare parameters."""
    shapes = {
        "blocks.0.self_attn.q.diff_b": (WIDTH,),
        "blocks.0.self_attn.norm_q.diff": (WIDTH,),
        "blocks.0.self_attn.o.diff": (WIDTH, WIDTH),
        "patch_embedding.diff": (WIDTH, 4, 1, 2, 2),
        "blocks.0.modulation.diff": (1, 6, WIDTH),
    }
    parameters = (".bias", ".weight", ".weight", ".weight", "")
    tensors = {n: random(*s, seed=50 + i) for i, (n, s) in enumerate(shapes.items())}
    down, up, alpha = factors("blocks.0.self_attn.q")
    pair = {
        "blocks.0.self_attn.q.lora_down.weight": down,
        "blocks.0.self_attn.q.lora_up.weight": up,
        "blocks.0.self_attn.q.alpha": torch.tensor(alpha),
    }
    path = write(tmp_path, {f"diffusion_model.{n}": t for n, t in (tensors | pair).items()})
    weights = base(naming)
    merged = merge(weights, [(path, 0.5)], translate)
    for (name, difference), parameter in zip(tensors.items(), parameters, strict=True):
        module = NAMINGS[naming](name.rpartition(".")[0])
        expected = weights.tensors[module + parameter].double() + 0.5 * difference.double()
        torch.testing.assert_close(
            merged[module + parameter].double(), expected, rtol=0, atol=TOLERANCE
        )
    layer = "blocks.0.self_attn.q"
    found = merged[f"{NAMINGS[naming](layer)}.weight"].double()
    torch.testing.assert_close(found, dense(layer, 0.5), rtol=0, atol=TOLERANCE)


def test_a_pair_and_a_difference_of_one_weight_both_count(tmp_path: Path) -> None:
    layer = "blocks.1.ffn.0"
    down, up, _ = factors(layer)
    difference = random(*LAYERS[layer], seed=77)
    path = write(
        tmp_path,
        {
            f"{layer}.lora_A.weight": down,
            f"{layer}.lora_B.weight": up,
            f"{layer}.diff": difference,
        },
    )
    found = merge(base(), [(path, 1.0)])[f"{layer}.weight"].double()
    expected = dense(layer, 1.0, with_alpha=False) + difference.double()
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_a_narrow_weight_becomes_float32_and_the_others_stay(
    tmp_path: Path, dtype: torch.dtype, wide: torch.dtype
) -> None:
    layer = "blocks.0.self_attn.q"
    down, up, _ = factors(layer)
    path = write(tmp_path, {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up})
    weights = base(dtype=dtype)
    merged = merge(weights, [(path, 1e-3)])
    assert merged.dtype(f"{layer}.weight") == merged[f"{layer}.weight"].dtype == wide
    assert merged.dtype(f"{layer}.bias") == merged[f"{layer}.bias"].dtype == dtype
    narrow = weights.tensors[f"{layer}.weight"].double()
    expected = narrow + 1e-3 * (up.double() @ down.double())
    torch.testing.assert_close(merged[f"{layer}.weight"].double(), expected, rtol=0, atol=TOLERANCE)


def test_one_tensor_is_touched_at_a_time_and_none_before(tmp_path: Path) -> None:
    weights = base()
    merged = merge(weights, [(write_lora(tmp_path, "peft"), 1.0)], translate)
    for name in merged:
        assert name in merged
        assert merged.shape(name) == weights.shape(name)
    assert weights.taken == []
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    _ = merged["blocks.1.ffn.0.weight"]
    assert weights.taken == ["blocks.1.ffn.0.weight"]
    _ = merged["blocks.1.ffn.0.bias"]
    assert weights.taken == ["blocks.1.ffn.0.weight", "blocks.1.ffn.0.bias"]
    assert all(tensor.equal(before[name]) for name, tensor in weights.tensors.items())


def test_no_lora_changes_nothing() -> None:
    weights = base(dtype=torch.bfloat16)
    merged = merge(weights, [])
    assert merged.adapters == ()
    assert all(merged[name] is tensor for name, tensor in weights.tensors.items())


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "generator.model.", "net.", "model."])
def test_a_checkpoint_with_a_prefix_takes_loras_too(tmp_path: Path, prefix: str) -> None:
    prefixed = Counted({prefix + name: tensor for name, tensor in base().tensors.items()})
    merged = merge(prefixed, [(write_lora(tmp_path, "peft"), 1.0)], translate)
    found = merged[f"{prefix}blocks.0.self_attn.q.weight"].double()
    expected = dense("blocks.0.self_attn.q", 1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_a_checkpoint_on_the_disk_takes_loras(tmp_path: Path) -> None:
    save_file(base().tensors, tmp_path / "base.safetensors")
    weights = open_tensors(tmp_path / "base.safetensors")
    merged = merge(weights, [(write_lora(tmp_path, "comfy"), 1.0)])
    found = merged["patch_embedding.weight"].double()
    torch.testing.assert_close(found, dense("patch_embedding", 1.0), rtol=0, atol=TOLERANCE)


def test_a_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "transformer.single_blocks.0.q.lora_A.weight": torch.ones(2, 8),
            "transformer.single_blocks.0.q.lora_B.weight": torch.ones(8, 2),
        },
    )
    message = refusal(base(), path)
    assert "Nothing in" in message
    assert "transformer.single_blocks.0.q.lora_A.weight for one" in message


@pytest.mark.parametrize("form", FORMATS)
def test_a_lora_that_fits_in_part_is_refused(tmp_path: Path, form: str) -> None:
    """Such as one for image-to-video, whose cross-attention has keys of an image as well."""
    path = write_lora(tmp_path, form)
    extra = "blocks.0.cross_attn.k_img"
    prefix, _, down, up = FORMATS[form]
    module = prefix + (extra.replace(".", "_") if prefix == "lora_unet_" else extra)
    tensors = dict(open_tensors(path)) | {
        f"{module}.{down}": torch.ones(2, WIDTH),
        f"{module}.{up}": torch.ones(WIDTH, 2),
        f"{module}.diff_b": torch.ones(WIDTH),
    }
    message = refusal(base(), write(tmp_path, tensors))
    assert f"2 of the {len(LAYERS) + 2} parts of" in message
    assert f"{module}.{down} for one" in message


@pytest.mark.parametrize("form", FORMATS)
def test_a_lora_for_a_larger_model_is_refused(tmp_path: Path, form: str) -> None:
    path = write_lora(tmp_path, form)
    tensors = dict(open_tensors(path))
    name = next(n for n in tensors if "q.lora_down" in n or "q.lora_A" in n)
    tensors[name] = torch.ones(RANK, 5120)
    message = refusal(base(), write(tmp_path, tensors))
    assert message.startswith(f"{name} in ")
    assert f"[{WIDTH}, 5120]" in message
    assert f"blocks.0.self_attn.q.weight has [{WIDTH}, {WIDTH}]" in message


def test_a_difference_of_another_shape_is_refused(tmp_path: Path) -> None:
    """One that would broadcast, too."""
    for shape in ((WIDTH, 36, 1, 2, 2), (1, 1, 1, 1, 1), (WIDTH,)):
        path = write(tmp_path, {"patch_embedding.diff": torch.ones(shape)})
        assert f"is for a weight of {list(shape)}" in refusal(base(), path)


def test_a_difference_of_a_bias_is_not_taken_for_one_of_a_parameter(tmp_path: Path) -> None:
    path = write(tmp_path, {"blocks.0.modulation.diff_b": torch.ones(1, 6, WIDTH)})
    assert "Nothing in" in refusal(base(), path)


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    weights = base()
    name = "blocks.0.self_attn.q.weight"
    weights.tensors[name] = weights.tensors[name].to(torch.float8_e4m3fn)
    assert f"{name} of the checkpoint is quantised" in refusal(
        weights, write_lora(tmp_path, "peft")
    )


def test_two_loras_in_one_file_are_refused(tmp_path: Path) -> None:
    down, up, _ = factors("blocks.0.self_attn.q")
    names = ("diffusion_model.blocks.0.self_attn.q", "transformer.blocks.0.attn1.to_q")
    tensors = {f"{name}.lora_A.weight": down for name in names}
    tensors |= {f"{name}.lora_B.weight": up for name in names}
    message = refusal(base(), write(tmp_path, tensors))
    assert "are both for blocks.0.self_attn.q.weight" in message


def test_two_models_in_one_checkpoint_are_refused(tmp_path: Path) -> None:
    weights = base()
    both = Counted(weights.tensors | {f"model.{n}": t for n, t in weights.tensors.items()})
    assert "are the same to a LoRA" in refusal(both, write_lora(tmp_path, "peft"))


def test_a_flat_name_that_may_mean_two_modules_is_refused(tmp_path: Path) -> None:
    weights = Counted({"a_b.weight": torch.ones(2, 2), "a.b.weight": torch.ones(2, 2)})
    path = write(
        tmp_path,
        {
            "lora_unet_a_b.lora_down.weight": torch.ones(1, 2),
            "lora_unet_a_b.lora_up.weight": torch.ones(2, 1),
        },
    )
    assert "may mean a.b.weight or a_b.weight" in refusal(weights, path)


def test_a_flat_name_of_a_hundred_words_is_refused_at_once(tmp_path: Path) -> None:
    name = "lora_unet_" + "_".join("a" * 100)
    path = write(
        tmp_path,
        {
            f"{name}.lora_down.weight": torch.ones(1, 2),
            f"{name}.lora_up.weight": torch.ones(2, 1),
        },
    )
    assert "Nothing in" in refusal(base(), path)
