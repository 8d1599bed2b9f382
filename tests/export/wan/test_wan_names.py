from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.transformer import half_split
from animatic_export.wan.config import WAN_1_3B, WAN_14B, WanConfig
from animatic_export.wan.names import canonical, left_out, load_denoiser_weights
from tests.export.wan.toy import CONFIG, diffusers_model, diffusers_weights, original_weights

if TYPE_CHECKING:
    from torch import Tensor


def same(ours: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return ours.keys() == others.keys() and all(torch.equal(ours[n], others[n]) for n in ours)


def test_both_namings_are_the_same_model() -> None:
    original = original_weights()
    weights = load_denoiser_weights(original, CONFIG)
    assert same(weights, load_denoiser_weights(diffusers_weights(original), CONFIG))
    # diffusers' table was made for other models too: what it gives is this one's, all of it.
    assert diffusers_weights(original).keys() == diffusers_model().state_dict().keys()


@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "generator.", "model.diffusion_model.", "generator.model."]
)
def test_prefixes_of_trainers_are_left_out(prefix: str) -> None:
    original = original_weights()
    given = {prefix + name: tensor for name, tensor in original.items()}
    assert same(load_denoiser_weights(given, CONFIG), load_denoiser_weights(original, CONFIG))


def test_wrappers_within_names_are_left_out() -> None:
    original = original_weights()
    given = {
        "model._fsdp_wrapped_module."
        + name.replace(".self_attn.", "._checkpoint_wrapped_module.self_attn."): tensor
        for name, tensor in original.items()
    }
    assert same(load_denoiser_weights(given, CONFIG), load_denoiser_weights(original, CONFIG))


def test_rcm_has_a_linear_layer_of_patches_and_counts_its_training() -> None:
    original = original_weights()
    given = {f"net.{name}": tensor for name, tensor in original.items()}
    given["net.patch_embedding.weight"] = original["patch_embedding.weight"].reshape(32, 64)
    given["net.accum_video_sample_counter"] = torch.tensor(7)
    assert same(load_denoiser_weights(given, CONFIG), load_denoiser_weights(original, CONFIG))


def test_fastwan_gates_of_sparse_attention_are_passed_over() -> None:
    original = original_weights()
    given = diffusers_weights(original)
    for layer in range(CONFIG.layers):
        given[f"blocks.{layer}.to_gate_compress.weight"] = torch.zeros(32, 32)
        given[f"blocks.{layer}.to_gate_compress.bias"] = torch.zeros(32)
    assert (left_out(original), left_out(given)) == (0, 2 * CONFIG.layers)
    assert same(load_denoiser_weights(given, CONFIG), load_denoiser_weights(original, CONFIG))


def test_turbodiffusions_sparse_attention_is_refused_as_such() -> None:
    name = "blocks.0.self_attn.attn_op.local_attn.proj_l.weight"
    given = {f"net.{n}": t for n, t in (original_weights() | {name: torch.zeros(16, 16)}).items()}
    with pytest.raises(CheckpointError, match=f"{name}: .* sparse attention that is not computed"):
        load_denoiser_weights(given, CONFIG)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_quantised_weights_are_refused(dtype: torch.dtype) -> None:
    name = "blocks.1.self_attn.k.weight"
    given = original_weights()
    given[name] = given[name].to(dtype)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"{name} is {kind}: give .* float32, not quantised"):
        load_denoiser_weights(given, CONFIG)


def test_what_is_no_wan_transformer_is_refused() -> None:
    given = {f"critic.{name}": tensor for name, tensor in original_weights().items()}
    message = r"has no tensor patch_embedding\.weight: give the transformer of a Wan 2\.1"
    with pytest.raises(CheckpointError, match=message):
        load_denoiser_weights(given, CONFIG)


def test_a_missing_tensor_is_named() -> None:
    given = original_weights()
    del given["blocks.1.cross_attn.v.bias"]
    message = (
        r"has no tensor blocks\.1\.cross_attn\.v\.bias, which a Wan 2\.1 of 2 layers and width 32 "
        "has: give a text-to-video checkpoint of that model, whole"
    )
    with pytest.raises(CheckpointError, match=message):
        load_denoiser_weights(given, CONFIG)


def test_a_tensor_too_many_is_named() -> None:
    given = original_weights()
    given["blocks.0.cross_attn.k_img.weight"] = torch.zeros(32, 32)
    with pytest.raises(CheckpointError, match=r"has a tensor blocks\.0\.cross_attn\.k_img\.weight"):
        load_denoiser_weights(given, CONFIG)


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("blocks.0.self_attn.k.weight", (48, 32), r"is \[48, 32\] and a .* has \[32, 32\]"),
        ("patch_embedding.weight", (32, 36, 1, 2, 2), r"has \[32, 16, 1, 2, 2\]"),
        ("blocks.1.modulation", (1, 2, 32), r"has \[1, 6, 32\]"),
        ("head.head.bias", (16,), r"has \[64\]: give a text-to-video checkpoint of that model"),
    ],
)
def test_a_wrong_shape_is_named(name: str, shape: tuple[int, ...], wanted: str) -> None:
    given = original_weights() | {name: torch.zeros(shape)}
    with pytest.raises(CheckpointError, match=wanted):
        load_denoiser_weights(given, CONFIG)


@pytest.mark.parametrize("config", [WAN_1_3B, WAN_14B])
def test_the_real_models_have_these_names_and_shapes(config: WanConfig) -> None:
    with torch.device("meta"):
        published = diffusers_model(config)
    weights = load_denoiser_weights(published.state_dict(), config)
    count = sum(tensor.numel() for tensor in weights.values())
    assert count == sum(parameter.numel() for parameter in published.parameters())
    assert count == {30: 1_418_996_800, 40: 14_288_491_584}[config.layers]


def test_a_module_has_one_name_in_both_namings() -> None:
    original = {name.removesuffix(".weight").removesuffix(".bias") for name in original_weights()}
    theirs = {canonical(name) for name in original}
    assert len(theirs) == len(original)
    # Of diffusers' names none is another's original.
    assert {canonical(name) for name in theirs} == theirs
    published = diffusers_weights(original_weights())
    assert theirs == {name.removesuffix(".weight").removesuffix(".bias") for name in published}


class Lazy(Mapping[str, "Tensor"]):
    """Loads a tensor when it is asked for, counts how often, and how many are alive at once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.asked: list[str] = []
        self.alive = self.most = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name].bfloat16()
        self.asked.append(name)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(tensor, self._gone)
        return tensor

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_published_tensors_are_loaded_once_and_one_at_a_time() -> None:
    lazy = Lazy(original_weights())
    weights = load_denoiser_weights(lazy, CONFIG)
    assert sorted(lazy.asked) == sorted(lazy.tensors)
    assert (lazy.most, lazy.alive) == (1, 0)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_turning_halves_is_turning_neighbours() -> None:
    """What `half_split` moves to the halves of each head are the published pairs."""
    rows = torch.arange(16)
    assert half_split(rows, 2).tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
